"""One round of execution: subnet messages, tasks, iterations of parallel cores, local induction, charging, priorities.

Rule module. Not in the spec: the replica's round. `execute_round(world)` is a generator that yields Steps and is sent results:

- an Effect (RunMessage, ...): carry it out, send its result;
- `Parallel(cores)`: drive these generators, each of which yields Effects and returns a Core, in whatever interleaving; send the
  list of returned Cores in the generators' order. They share nothing that changes, so the interleaving can't show.

It returns a RoundSummary. `drive(round, execute)` is the plain driver: one effect at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from ic_types import trace
from ic_types.messages import Response
from ic_types.principal import CanisterId
from scheduler import callbacks, charging, long_executions, message_execution, round_schedule, system_tasks
from scheduler.canister import Canister
from scheduler.core import Core
from scheduler.effects import Effect, EffectResult, Effects
from scheduler.message_inputs import Lookahead
from scheduler.priority import Front
from scheduler.round_limits import RoundLimits, heap_delta_limit, start_limits
from scheduler.world import World


@dataclass(frozen=True, slots=True, eq=False)
class Parallel:
    """Generators that may run side by side, one per scheduler core."""

    cores: tuple[Effects[Core], ...]


@dataclass(slots=True)
class RoundSummary:
    """Counters of one round; not state."""

    messages: int = 0
    slices: int = 0
    instructions: int = 0
    iterations: int = 0
    subnet_messages: int = 0
    aborted: int = 0
    heap_delta: int = 0


@dataclass(slots=True)
class Progress:
    """What a round remembers from iteration to iteration."""

    summary: RoundSummary = field(default_factory=RoundSummary)
    executed: dict[CanisterId, None] = field(default_factory=dict)
    """Fully executed canisters."""
    front: Front = field(default_factory=lambda: Front(False, {}))
    """Idle canisters that count as executed."""
    ended_long: dict[CanisterId, None] = field(default_factory=dict)
    tasked: list[Canister] = field(default_factory=list)
    """Canisters that got a heartbeat or timer task."""


Step: TypeAlias = Effect | Parallel
StepResult: TypeAlias = EffectResult | list[Core]
Round: TypeAlias = Generator[Step, StepResult, RoundSummary]


def execute_round(world: World) -> Round:
    """Execute one round; see the module's docstring for how to drive it."""
    progress = Progress()
    if world.scheduler.heap_delta_estimate < heap_delta_limit(world):
        budget = start_limits(world.limits)
        used = yield from _effects(world.continue_install(budget.instructions))
        if used is not None:
            budget.subnet_instructions = max(budget.subnet_instructions - used, 0)
        yield from _inner_round(world, budget, progress)
    yield from _finish_round(world, progress)
    return progress.summary


def _effects(rule: Effects[int | None]) -> Generator[Step, StepResult, int | None]:
    """A rule of single effects as a part of the round."""
    result = yield from cast("Generator[Step, StepResult, int | None]", rule)
    return result


def _inner_round(world: World, budget: RoundLimits, progress: Progress) -> Generator[Step, StepResult, None]:
    """Iterate: subnet messages, schedule, cores, local induction, until budget or work ends."""
    summary = progress.summary
    while True:
        while (used := (yield from _effects(world.execute_subnet_message(budget.subnet_instructions)))) is not None:
            budget.subnet_instructions -= used
            summary.subnet_messages += 1
        if budget.instructions <= 0:
            break
        note_touched(world)
        first = summary.iterations == 0
        if first:
            progress.tasked = system_tasks.enqueue_tasks(world)
            progress.front = round_schedule.idle_front(world)
        schedule = round_schedule.build(world, progress.ended_long)
        if not schedule.long and not schedule.new:
            break
        trace.emit("scheduler.round_schedule.build", b"", f"{len(schedule.long)} long, {len(schedule.new)} new")
        cores = yield Parallel(tuple(_core_generators(world, schedule, budget.instructions, first=first)))
        used_most = _merge(world, budget, cast("list[Core]", cores), progress)
        progress.ended_long.update((i, None) for i in schedule.long if world.canisters[i].long_execution is None)
        summary.iterations += 1
        budget.instructions -= used_most
        budget.instructions -= world.limits.instruction_overhead_per_canister_finalization * len(world.canisters)
        if used_most == 0 or budget.heap_delta_left <= 0:
            break
        world.induct_locally()
    system_tasks.drop_leftover_tasks(world, progress.tasked)


def _core_generators(world: World, schedule: round_schedule.RoundSchedule, budget: int, *, first: bool) -> list[Effects[Core]]:
    cores, limits = schedule.cores, world.limits
    memory, callbacks_left = world.available_memory(), world.available_callbacks() // cores
    generators = []
    for ids in round_schedule.assign_cores(schedule):
        if not ids:
            continue
        core = Core(
            time=world.time,
            round_number=world.round_number,
            limits=limits,
            fees=world.fees,
            batch_size=world.batch_size,
            memory_available=memory // cores,
            memory_usage=max(limits.subnet_memory_capacity - memory, 0) // cores,
            message_memory_available=world.available_message_memory() // cores,
            callbacks_available=callbacks_left,
            instructions_left=budget,
        )
        generators.append(run_core(core, [world.canisters[i] for i in ids], first_iteration=first))
    return generators


def _merge(world: World, budget: RoundLimits, cores: list[Core], progress: Progress) -> int:
    """Take over what the cores did, in core order; returns the most instructions that any of them used."""
    summary = progress.summary
    used_most = 0
    for core in cores:
        used_most = max(used_most, budget.instructions - core.instructions_left)
        budget.heap_delta_left -= core.heap_delta
        world.scheduler.heap_delta_estimate += core.heap_delta
        world.tally.merge(core.tally)
        for message_id in core.processing:
            world.mark_processing(message_id)
        world.user_responses.extend(core.user_responses)
        for canister_id in core.touched:
            world.touch(canister_id)
        progress.executed.update((canister_id, None) for canister_id in core.fully_executed)
        summary.messages += core.messages
        summary.slices += core.slices
        summary.instructions += core.instructions
        summary.heap_delta += core.heap_delta
    return used_most


def note_touched(world: World) -> None:
    """Bring the scheduler's indexes up to date with whatever happened to canisters."""
    for canister_id in world.take_touched():
        canister = world.canisters.get(canister_id)
        if canister is not None:
            world.scheduler.note(canister)
            world.scheduler.charges.settle(world, canister)


def run_core(core: Core, canisters: list[Canister], *, first_iteration: bool) -> Effects[Core]:
    """Run the canisters of one core in order, each for as long as it has work and the budget lasts."""
    for rank, canister in enumerate(canisters):
        if core.instructions_left <= 0 or core.heap_delta >= core.limits.max_heap_delta_per_iteration:
            break
        core.touched[canister.canister_id] = None
        yield from run_canister(core, canister)
        if round_schedule.is_fully_executed(canister, first_on_core=first_iteration and rank == 0):
            core.fully_executed.append(canister.canister_id)
    return core


def run_canister(core: Core, canister: Canister) -> Effects[None]:
    """Run tasks and messages of one canister until it has none, the budget ends, or a long message took a slice."""
    lookahead, limits, before = Lookahead(), core.limits, core.instructions
    while core.instructions_left > 0 and core.heap_delta < limits.max_heap_delta_per_iteration:
        long = canister.long_execution
        message = long.message if long is not None else system_tasks.next_task(core, canister) or canister.queues.pop_input()
        if message is None:
            break
        if type(message) is Response:
            yield from callbacks.execute_response(core, canister, message, lookahead)
        else:
            yield from message_execution.execute_call(core, canister, message, lookahead)  # type: ignore[arg-type]
        core.instructions_left -= limits.instruction_overhead_per_execution
        if long is not None or canister.long_execution is not None:
            break
    if core.instructions > before:
        core.instructions_left -= limits.instruction_overhead_per_canister


def _finish_round(world: World, progress: Progress) -> Generator[Step, StepResult, None]:
    """Rate-limit debits, resource charges, priorities, and what may stay paused."""
    note_touched(world)
    limits, scheduler = world.limits, world.scheduler
    for canister_id in sorted(scheduler.indebted):
        canister = world.canisters[canister_id]
        canister.heap_delta_debit = type(canister.heap_delta_debit)(
            max(canister.heap_delta_debit - limits.heap_delta_rate_limit, 0)
        )
        canister.install_debit = type(canister.install_debit)(max(canister.install_debit - limits.install_code_rate_limit, 0))
        world.touch(canister_id)
        scheduler.note(canister)
    charging.charge_at_end_of_round(world)
    round_schedule.charge_executed(world, progress.front, progress.executed)
    if world.is_checkpoint:
        scheduler.heap_delta_estimate = 0
    for canister in round_schedule.paused_to_abort(world):
        yield from cast("Generator[Step, StepResult, None]", long_executions.abort(world, canister))
        world.touch(canister.canister_id)
        progress.summary.aborted += 1
    note_touched(world)


def drive(rounds: Round, execute: Callable[[Effect], EffectResult]) -> RoundSummary:
    """Drive a round with one effect at a time; cores run one after the other."""
    result: StepResult = None
    while True:
        try:
            step = rounds.send(result)
        except StopIteration as stop:
            return cast("RoundSummary", stop.value)
        if type(step) is Parallel:
            result = [drive_rule(core, execute) for core in step.cores]
        else:
            result = execute(cast("Effect", step))


def drive_rule(rule: Effects[Core], execute: Callable[[Effect], EffectResult]) -> Core:
    """Drive one rule to its end."""
    result: EffectResult = None
    while True:
        try:
            effect = rule.send(result)
        except StopIteration as stop:
            return cast("Core", stop.value)
        result = execute(effect)
