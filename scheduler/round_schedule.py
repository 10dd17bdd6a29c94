"""Which canisters run in an iteration, in which order, on which core.

Rule module. Not in the spec: the replica's policy. This file is the policy: order, cores for long executions, who counts as
fully executed. Execution itself is in `scheduler.round`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ic_types.principal import CanisterId
from scheduler.canister import Canister
from scheduler.priority import FULL_ROUND, PERCENT, Front
from scheduler.world import World


@dataclass(frozen=True, slots=True)
class RoundSchedule:
    """Canisters with work in order, fixed for the round; those that get work later join as new ones."""

    long: tuple[CanisterId, ...]
    new: tuple[CanisterId, ...]
    cores: int
    long_cores: int
    """Cores that the first long executions have for themselves."""


def is_schedulable(world: World, canister: Canister) -> bool:
    """It has something to run, isn't in a long install and isn't over its heap delta rate."""
    if canister.long_install is not None or canister.heap_delta_debit >= world.limits.heap_delta_rate_limit:
        return False
    return canister.has_work()


def build(world: World, ended_long: dict[CanisterId, None]) -> RoundSchedule:
    """Order the canisters that have work now.

    `ended_long`: those whose long execution ended in this round; they don't start another message in it.
    """
    scheduler, long, new = world.scheduler, [], []
    for canister_id in sorted(scheduler.active):
        canister = world.canisters[canister_id]
        if canister_id in ended_long or not is_schedulable(world, canister):
            continue
        if canister.long_execution is not None:
            long.append(long_order(world, canister))
        else:
            new.append(scheduler.priority.key(canister))
    long.sort()
    new.sort()
    cores = world.limits.scheduler_cores
    long_ids = tuple([key[3] for key in long])
    return RoundSchedule(long_ids, tuple([key[1] for key in new]), cores, min(long_execution_cores(world), len(long_ids)))


def long_execution_cores(world: World) -> int:
    """Cores set aside for long executions: as many as their canisters are entitled to, rounded up, always fewer than all."""
    scheduler, cores = world.scheduler, world.limits.scheduler_cores
    if not scheduler.long or cores < 2:
        return 0
    capacity = (cores - 1) * FULL_ROUND
    free = (capacity - scheduler.priority.total_allocation * PERCENT) // max(len(scheduler.priority), 1)
    entitled = 0
    for canister_id in scheduler.long:
        entitled += world.canisters[canister_id].settings.compute_allocation * PERCENT + free
    return min(-(-entitled // FULL_ROUND), cores - 1)


def assign_cores(schedule: RoundSchedule) -> list[list[CanisterId]]:
    """First long executions one per long core, then new ones round robin over the other cores, then the rest over all."""
    cores: list[list[CanisterId]] = [[] for _ in range(schedule.cores)]
    first, count = schedule.long_cores, schedule.cores
    for core, canister_id in enumerate(schedule.long[:first]):
        cores[core].append(canister_id)
    at = first
    for canister_id in schedule.new:
        cores[at].append(canister_id)
        at = at + 1 if at + 1 < count else first
    for canister_id in schedule.long[first:]:
        cores[at].append(canister_id)
        at = (at + 1) % count
    return cores


def is_fully_executed(canister: Canister, *, first_on_core: bool) -> bool:
    """Whether this visit counts as a full round: first on its core, a slice of a long message, or nothing left to do."""
    return first_on_core or canister.long_execution is not None or not canister.has_work()


def long_order(world: World, canister: Canister) -> tuple[int, int, int, CanisterId]:
    """Sort key of long executions: more rounds executed, higher priority, earlier start, lower id come first."""
    long = canister.long_execution
    assert long is not None
    priority = world.scheduler.priority.priority(canister)
    return (-max(canister.executed_rounds, 1), -priority, long.started_round, canister.canister_id)


def paused_to_abort(world: World) -> list[Canister]:
    """Paused executions beyond what may stay paused after this round, in canister order; all of them at a checkpoint."""
    canisters = [world.canisters[canister_id] for canister_id in sorted(world.scheduler.long)]
    paused = [c for c in canisters if c.long_execution is not None and c.long_execution.paused]
    keep = 0 if world.is_checkpoint else world.limits.max_paused_executions
    if len(paused) <= keep:
        return []
    paused.sort(key=lambda canister: long_order(world, canister))
    return sorted(paused[keep:], key=lambda canister: canister.canister_id)


def idle_front(world: World) -> Front:
    """Idle canisters before the first that has something to start; they count as executed, having had their chance.

    The replica does so lest idle canisters save up priority. Taken once, when a round's first schedule is made.
    """
    scheduler, first = world.scheduler, None
    for canister_id in scheduler.active:
        canister = world.canisters[canister_id]
        if canister.long_execution is None and canister.long_install is None:
            key = scheduler.priority.key(canister)
            first = key if first is None or key < first else first
    return scheduler.priority.front(first, {**scheduler.active, **scheduler.installing}, world.canisters)


def charge_executed(world: World, front: Front, executed: Iterable[CanisterId]) -> None:
    """End of round: those who had execution pay for it unless a long execution goes on; what is free is handed out."""
    priority = world.scheduler.priority
    for canister_id in priority.end_round(front, executed, world.canisters):
        world.touch(canister_id)
    if world.round_number % world.limits.priority_reset_interval == 0:
        priority.reset(world.canisters)
        for canister_id in priority.ids():
            world.touch(canister_id)
