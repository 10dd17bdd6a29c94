"""Order, cores and budgets of a round, as text tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.limits import SubnetLimits
from ic_types.principal import CanisterId, Principal
from sandbox.protocol import EntryPoint
from scheduler import round_schedule
from scheduler.canister import Canister
from scheduler.priority import PERCENT
from scheduler.round import drive, execute_round
from scheduler.round_limits import heap_delta_limit, start_limits
from scheduler.round_schedule import RoundSchedule, assign_cores
from tests.support.fake_executor import FakeWorld, call, dirty, reply, work

LIMITS = SubnetLimits(
    instructions_per_round=149,
    instructions_per_slice=50,
    instructions_per_install_slice=50,
    instructions_per_message=1000,
    instruction_overhead_per_execution=0,
    instruction_overhead_per_canister=0,
    instruction_overhead_per_canister_finalization=0,
    scheduler_cores=2,
)
"""Rounds of 100 instructions per core, slices of 50, no overheads."""


def ids(names: str) -> tuple[CanisterId, ...]:
    """One canister id per letter."""
    return tuple(Principal.canister(ord(name)) for name in names.replace(" ", ""))


def names(found: list[CanisterId]) -> str:
    """The letters again."""
    return "".join(chr(i.canister_index() or 0) for i in found)


@pytest.mark.parametrize(
    ("long", "new", "cores", "long_cores", "table"),
    [
        ("", "abcde", 2, 0, "ace | bd"),
        ("abc", "defgh", 3, 1, "ac | dfh | egb"),
        ("ab", "", 4, 2, "a | b |  | "),
        ("abc", "", 3, 1, "a | b | c"),
        ("a", "bcd", 2, 1, "a | bcd"),
        ("abcd", "e", 2, 0, "ebd | ac"),
        ("", "abc", 1, 0, "abc"),
    ],
)
def test_cores(long: str, new: str, cores: int, long_cores: int, table: str) -> None:
    """First long executions on cores of their own, new ones round robin on the others, remaining long ones over all."""
    found = assign_cores(RoundSchedule(ids(long), ids(new), cores, long_cores))
    assert [names(core) for core in found] == [part.strip() for part in table.split("|")]


def world_of(count: int, **limits: int) -> tuple[FakeWorld, list[Canister]]:
    """So many canisters on a subnet with two cores."""
    world = FakeWorld(limits=replace(LIMITS, **limits), interval_ns=1000)
    return world, [world.add_canister() for _ in range(count)]


def ran(world: FakeWorld, canisters: list[Canister]) -> str:
    """Who ran since the last look, in order, as letters a, b, c ..."""
    letters = {c.canister_id: chr(97 + k) for k, c in enumerate(canisters)}
    text = "".join(letters[canister_id] for canister_id, _, _ in world.executor.executed)
    world.executor.executed.clear()
    return text


@pytest.mark.parametrize(
    ("loads", "rounds"),
    [
        # instructions of each message, a canister's messages separated by spaces; then who ran, round by round
        (["10 10 10", "10"], ["aaab"]),  # each canister goes on as long as it has work
        (["60 60 60", "60"], ["aab", "a"]),  # the message that crosses the budget still runs
        (["100", "100", "100", "100"], ["ab", "cd"]),  # one full budget per core
        (["40 40 40 40", "10", "10"], ["aaab", "ca"]),  # c behind a on core 0 isn't reached; it is first then
        (["10", "10", "10", "10"], ["acbd"]),  # a and c share core 0
    ],
)
def test_budget_table(loads: list[str], rounds: list[str]) -> None:
    """Cores take canisters in order, each for as long as it has work and the budget lasts."""
    world, canisters = world_of(len(loads), instructions_per_slice=50)
    world.limits = replace(world.limits, instructions_per_message=100, instructions_per_slice=100, instructions_per_round=199)
    for canister, load in zip(canisters, loads, strict=True):
        for part in load.split():
            world.ingress(canister, [work(int(part)), reply()])
    found = []
    for _ in rounds:
        world.run_round()
        found.append(ran(world, canisters))
    assert found == rounds


def test_everyone_gets_a_turn() -> None:
    """Under full load canisters of equal standing run equally often."""
    world, canisters = world_of(5)
    world.limits = replace(world.limits, instructions_per_slice=100, instructions_per_round=199, instructions_per_message=100)
    for canister in canisters:
        for _ in range(40):
            world.ingress(canister, [work(100), reply()])
    counts = dict.fromkeys("abcde", 0)
    for _ in range(50):
        world.run_round()
        for letter in ran(world, canisters):
            counts[letter] += 1
    assert set(counts.values()) == {20}


def test_compute_allocation_gives_its_share() -> None:
    """A canister with 50 % runs first in half of the rounds at least, however many compete."""
    world = FakeWorld(limits=replace(LIMITS, instructions_per_slice=100, instructions_per_round=199), interval_ns=1000)
    canisters = [world.add_canister(compute_allocation=50 if i == 0 else 0) for i in range(11)]
    for canister in canisters:
        for _ in range(110):
            world.ingress(canister, [work(100), reply()])
    for _ in range(100):
        world.run_round()
    assert ran(world, canisters).count("a") >= 50


def test_new_work_of_this_round_runs_in_it() -> None:
    """Messages between canisters of the subnet are delivered between iterations."""
    world, (a, b, c) = world_of(3)
    world.ingress(
        a,
        [
            work(1),
            call(
                b.canister_id,
                [work(1), call(c.canister_id, [work(1), reply()], on_reply=[work(1), reply()])],
                on_reply=[reply()],
            ),
        ],
    )
    summary = world.run_round()
    assert ran(world, [a, b, c]) == "abcba"
    assert summary.iterations == 5


def test_round_ends_when_its_budget_does() -> None:
    """The budget of all iterations together is that of the busiest cores."""
    world, (a, b) = world_of(2)
    again = call(b.canister_id, [work(30), reply()], on_reply=[reply()])
    world.ingress(a, [work(40), call(b.canister_id, [work(30), reply()], on_reply=[work(40), again])])
    world.run_round()
    assert ran(world, [a, b]) == "aba"
    world.run_round()
    assert ran(world, [a, b]) == "ba"


def test_overheads_count_against_the_round() -> None:
    """Each execution and each canister costs the round something, and every canister of the subnet per iteration."""
    world, (a, _) = world_of(2, instruction_overhead_per_execution=30, instruction_overhead_per_canister=5)
    for _ in range(4):
        world.ingress(a, [work(10), reply()])
    world.run_round()
    assert ran(world, [a]) == "aaa"


def test_long_executions_keep_their_order_by_rounds() -> None:
    """Those that have executed more rounds go first, then those of higher priority."""
    world, canisters = world_of(4, max_paused_executions=10)
    for canister in canisters:
        world.ingress(canister, [work(900), reply()])
        world.touch(canister.canister_id)
    world.run_round()
    canisters[3].executed_rounds += 1
    schedule = round_schedule.build(world, {})
    assert schedule.long[0] == canisters[3].canister_id
    assert schedule.long_cores == 1


def test_heap_delta_stops_the_core_and_the_round() -> None:
    """Writing more than the limit of an iteration ends the round."""
    world, (a, b) = world_of(2, max_heap_delta_per_iteration=2 * 4096)
    for canister in (a, b):
        for _ in range(3):
            world.ingress(canister, [work(1), dirty(2), reply()])
    world.run_round()
    assert ran(world, [a, b]) == "ab"
    assert world.scheduler.heap_delta_estimate == 4 * 4096


def test_heap_delta_rate_limits_one_canister() -> None:
    """A canister over its rate waits until its debit is below the limit again."""
    world, (a, b) = world_of(2, heap_delta_rate_limit=2 * 4096)
    for _ in range(2):
        world.ingress(a, [work(1), dirty(5), reply()])
    world.ingress(b, [work(1), reply()])
    world.limits = replace(world.limits, dirty_page_overhead=0)
    world.run_round()
    assert ran(world, [a, b]) == "aab"
    assert a.heap_delta_debit == 8 * 4096
    for left in (6, 4, 2, 0):
        world.ingress(a, [work(1), reply()])
        world.run_round()
        assert a.heap_delta_debit == left * 4096
        assert ran(world, [a, b]) == ""
    world.run_round()
    assert ran(world, [a, b]) == "aaaa"


def test_heap_delta_capacity_holds_messages_back() -> None:
    """Near the capacity no message runs until the next checkpoint."""
    world, (a,) = world_of(1)
    world.scheduler.heap_delta_estimate = heap_delta_limit(world)
    message_id = world.ingress(a, [reply()])
    world.run_round()
    assert world.outcome(message_id) is None
    world.is_checkpoint = True
    world.run_round()
    world.run_round()
    assert world.outcome(message_id) == b""


@pytest.mark.parametrize(("round_number", "gib"), [(0, 32), (250, 86), (499, 139), (500, 32)])
def test_heap_delta_limit_grows_towards_the_checkpoint(round_number: int, gib: int) -> None:
    """140 GiB in all, 32 GiB right after a checkpoint."""
    world = FakeWorld(round_number=round_number)
    assert heap_delta_limit(world) >> 30 == gib


def test_application_subnet_budgets() -> None:
    """4 B per round less a slice of 2 B, and a 16th for the management canister."""
    budget = start_limits(SubnetLimits())
    assert (budget.instructions, budget.subnet_instructions) == (2_000_000_001, 250_000_000)


def test_subnet_messages_run_until_their_budget_is_used() -> None:
    """Management messages go first and have a budget of their own."""
    world, (a,) = world_of(1, instructions_per_round=160)
    spent = []

    def message() -> Any:
        spent.append(6)
        return 6
        yield

    world.subnet_messages = [message] * 3
    message_id = world.ingress(a, [reply()])
    assert world.run_round().subnet_messages == 2
    assert world.outcome(message_id) == b""
    assert world.run_round().subnet_messages == 1


def test_idle_canisters_are_never_looked_at() -> None:
    """A round's canister lookups follow who has work."""
    world, canisters = world_of(200)
    world.run_round()
    looked: list[CanisterId] = []

    class Watched(dict[CanisterId, Canister]):
        """Notes every lookup."""

        def __getitem__(self, canister_id: CanisterId) -> Canister:
            looked.append(canister_id)
            return super().__getitem__(canister_id)

    world.canisters = Watched(world.canisters)
    world.induct_locally = lambda: None  # type: ignore[method-assign]
    for _ in range(5):
        world.ingress(canisters[7], [work(1), reply()])
        looked.clear()
        drive(execute_round(world), world.executor)
        world.round_number += 1
    assert set(looked) <= {c.canister_id for c in canisters[:8]}  # the others stand before them all, and are charged at once


def test_canister_in_a_long_install_runs_nothing() -> None:
    """While code is being installed neither messages nor tasks of the canister run."""
    world = FakeWorld()
    canister = world.add_canister(entry_points=["heartbeat"])
    world.executor.tasks[canister.canister_id, EntryPoint.HEARTBEAT] = [work(1)]
    canister.long_install = object()  # type: ignore[assignment]
    world.ingress(canister, [reply()])
    world.run_round()
    assert world.executor.executed == []


def test_allocation_of_long_execution_cores() -> None:
    """Long executions get as many cores as their share of the capacity, rounded up, never all."""
    world, canisters = world_of(8, scheduler_cores=4)
    for count, cores in [(0, 0), (1, 1), (2, 1), (3, 2), (6, 3), (8, 3)]:
        world.scheduler.long = {c.canister_id: None for c in canisters[:count]}
        assert round_schedule.long_execution_cores(world) == cores
    assert PERCENT == 1_000_000
