"""Charging canisters for memory and compute, and uninstalling those that can't pay.

Rule module. Spec: abstract behaviour, "Canister out of cycles" and "Time progressing, cycle consumption ..."; amounts and the
interval of ten seconds are the replica's.

The plain rule charges every canister at the end of the first round that is ten seconds or more after its last charge. One
that nothing happens to has the same costs all the time, so its charges are made up for (`settle`) when something touches it,
at the prices of the last round that touched it, and only touched canisters are charged at the end of a round. A heap holds the
time up to which each canister's cycles last for sure; then it is looked at, so none runs out unnoticed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from configs.fees import SECONDS_PER_DAY, CyclesCostSchedule
from ic_types.principal import CanisterId
from ic_types.reject import Reject
from ic_types.units import NS_PER_SECOND, Cycles, TimeNs
from scheduler import call_context_rules, cycles_account, error_texts
from scheduler.canister import Canister
from scheduler.chunk_store import EMPTY_STORE
from scheduler.cycles_account import Account, BurnCause, burn
from scheduler.snapshots import NO_SNAPSHOTS
from scheduler.timeline import INTERVAL_NS, Timeline
from scheduler.world import World

MAX_RUNS = 10_000
"""Of the timeline; then all canisters are settled, so that irregular batch times don't pile up."""

DailyCosts: TypeAlias = tuple[tuple[BurnCause, int], ...]


def daily_costs(canister: Canister, fees: CyclesCostSchedule) -> DailyCosts:
    """What a day costs, in the order in which it is paid."""
    return (
        (BurnCause.MEMORY, cycles_account.memory_cost_per_day(canister, fees)),
        (BurnCause.MESSAGE_MEMORY, cycles_account.message_memory_cost_per_day(canister, fees)),
        (BurnCause.COMPUTE, cycles_account.compute_cost_per_day(canister, fees)),
    )


@dataclass(slots=True)
class Charges:
    """When each canister has to pay; `timeline` is state, the rest an index that can be rebuilt."""

    timeline: Timeline = field(default_factory=Timeline)
    _costs: dict[CanisterId, DailyCosts] = field(default_factory=dict)
    """As of the end of the last round that touched the canister."""
    _heap: list[tuple[int, CanisterId]] = field(default_factory=list)
    _queued: dict[CanisterId, int] = field(default_factory=dict)
    """Earliest heap entry of each canister."""
    _fresh: dict[CanisterId, bool] = field(default_factory=dict)
    """Settled or new in this round and looked at when it ends; whether anything was charged."""

    def settle(self, account: Account, canister: Canister) -> None:
        """Make up for the charges until the end of the last round; call before cycles or costs of the canister change."""
        if canister.canister_id in self._fresh:
            return
        self._fresh[canister.canister_id] = False
        long, costs = canister.long_execution, self._costs.get(canister.canister_id)
        if costs is None or (long is not None and long.paused):
            return
        not_before = TimeNs(0) if long is None else long.uncharged_until
        for seconds, times, until in self.timeline.points(canister.last_charged, not_before):
            for cause, per_day in costs:
                amount = per_day * seconds // SECONDS_PER_DAY * times
                take(account, canister, min(amount, canister.balance + canister.reserved_balance), cause)
            canister.last_charged = until
            self._fresh[canister.canister_id] = True

    def take_due(self, now: TimeNs) -> list[CanisterId]:
        """Take out the canisters whose cycles may not last until now."""
        due = []
        while self._heap and self._heap[0][0] < now:
            time, canister_id = heapq.heappop(self._heap)
            if self._queued.get(canister_id) == time:
                del self._queued[canister_id]
                due.append(canister_id)
        return due

    def take_fresh(self) -> list[tuple[CanisterId, bool]]:
        """Take out the canisters that were settled in this round, ascending, and whether that charged anything."""
        fresh, self._fresh = sorted(self._fresh.items()), {}
        return fresh

    def watch(self, canister: Canister, costs: DailyCosts) -> None:
        """Remember these costs and until when the canister can pay them for sure."""
        self._costs[canister.canister_id] = costs
        per_day = sum(cost for _, cost in costs)
        if per_day == 0:
            return
        seconds = (canister.balance + canister.reserved_balance) * SECONDS_PER_DAY // per_day
        due = canister.last_charged + seconds * NS_PER_SECOND
        queued = self._queued.get(canister.canister_id)
        if queued is None or due < queued:
            self._queued[canister.canister_id] = due
            heapq.heappush(self._heap, (due, canister.canister_id))

    def join(self, canister: Canister) -> None:
        """A new canister; its costs are taken at the end of this round."""
        self._fresh[canister.canister_id] = False

    def forget(self, canister_id: CanisterId) -> None:
        """The canister is gone."""
        self._costs.pop(canister_id, None)
        self._queued.pop(canister_id, None)
        self._fresh.pop(canister_id, None)

    def rebuild(self, canisters: Iterable[Canister], fees: CyclesCostSchedule) -> None:
        """Make the index anew between two rounds."""
        self._costs, self._heap, self._queued, self._fresh = {}, [], {}, {}
        for canister in canisters:
            self.watch(canister, daily_costs(canister, fees))


def charge_at_end_of_round(world: World) -> None:
    """Charge everyone who is due: touched canisters now, the others when they are touched or may run out."""
    charges = world.scheduler.charges
    for canister_id in charges.take_due(world.time):
        canister = world.canisters.get(canister_id)
        if canister is not None:
            charges.settle(world, canister)
    for canister_id, charged in charges.take_fresh():
        canister = world.canisters.get(canister_id)
        if canister is not None:
            if charged:
                world.touch(canister_id)
            charge_if_due(world, canister)
            charges.watch(canister, daily_costs(canister, world.fees))
    for canister_id in sorted(world.scheduler.long):
        long = world.canisters[canister_id].long_execution
        if long is not None and long.paused:
            long.uncharged_until = world.time
            world.touch(canister_id)
    charges.timeline.append(world.time)
    if len(charges.timeline) > MAX_RUNS:
        settle_all(world, world.canisters)
        charges.timeline.clear()


def charge_if_due(world: World, canister: Canister) -> None:
    """Charge at this round's prices if ten seconds have passed and no message of the canister is paused."""
    long = canister.long_execution
    if world.time < canister.last_charged + INTERVAL_NS or (long is not None and long.paused):
        return
    world.touch(canister.canister_id)
    seconds = (world.time - canister.last_charged) // NS_PER_SECOND
    canister.last_charged = world.time
    for cause, per_day in daily_costs(canister, world.fees):
        if not take(world, canister, per_day * seconds // SECONDS_PER_DAY, cause):
            uninstall(world, canister)
            return


def settle_all(world: World, canisters: Mapping[CanisterId, Canister]) -> None:
    """Make up for everyone's charges (rare: costs what exists)."""
    for canister_id in sorted(canisters):
        world.scheduler.charges.settle(world, canisters[canister_id])


def pay_ingress(world: World, canister: Canister, raw_bytes: int) -> Reject | None:
    """Charge the induction fee of an ingress message, after what the canister owes for memory and compute."""
    world.scheduler.charges.settle(world, canister)
    return cycles_account.charge_ingress(world, canister, raw_bytes)


def paid_up(canister: Canister, timeline: Timeline, fees: CyclesCostSchedule, now: TimeNs) -> Canister:
    """The canister as it would be if its charges up to `now` were made up for; itself if there are none, else a copy."""
    long = canister.long_execution
    if now < canister.last_charged + INTERVAL_NS or (long is not None and long.paused):
        return canister
    balance, reserved, last = int(canister.balance), int(canister.reserved_balance), canister.last_charged
    per_day = [cost for _, cost in daily_costs(canister, fees)]
    for seconds, times, until in timeline.points(last, TimeNs(0) if long is None else long.uncharged_until):
        if until > now:  # by the round that isn't certified yet
            times -= 1
        owed = sum(cost * seconds // SECONDS_PER_DAY * times for cost in per_day)
        taken = min(owed, reserved)
        reserved, balance, last = reserved - taken, max(balance - (owed - taken), 0), until
    return replace(canister, balance=Cycles(balance), reserved_balance=Cycles(reserved), last_charged=last)


def take(account: Account, canister: Canister, amount: int, cause: BurnCause) -> bool:
    """Burn this amount, reserved cycles first, whatever the freezing threshold says; False if there is less."""
    if canister.balance + canister.reserved_balance < amount:
        return False
    reserved = min(amount, canister.reserved_balance)
    canister.reserved_balance = Cycles(canister.reserved_balance - reserved)
    canister.balance = Cycles(canister.balance - (amount - reserved))
    if amount:
        burn(account, canister, amount, cause)
    return True


def uninstall(world: World, canister: Canister) -> None:
    """Remove the code of a canister that is out of cycles.

    Spec: "Canister out of cycles". State after: empty, open calls rejected, version + 1, no timer, logs, certified data,
    snapshots, chunks, history (but its length) or allocations; what is left of the balance is burned.
    """
    left = canister.balance + canister.reserved_balance
    canister.balance = canister.reserved_balance = Cycles(0)
    if left:
        burn(world, canister, left, BurnCause.UNINSTALL)
    canister.execution = None
    canister.certified_data = b""
    canister.logs.clear()
    canister.history = canister.history.cleared()
    canister.chunk_store, canister.snapshots = EMPTY_STORE, NO_SNAPSHOTS
    canister.global_timer = TimeNs(0)
    canister.version += 1
    canister.settings.memory_allocation = 0
    world.scheduler.priority.set_allocation(canister, 0)
    call_context_rules.delete_all(canister, error_texts.uninstalled(), world)
    world.uninstalled(canister)
    world.touch(canister.canister_id)
