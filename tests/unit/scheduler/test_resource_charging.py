"""Memory and compute charges: made up for later, equal to charging everyone every round."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.fees import SECONDS_PER_DAY, CyclesCostSchedule
from ic_types.principal import Principal
from ic_types.reject import ErrorCode
from ic_types.units import NS_PER_SECOND, Cycles, TimeNs
from scheduler.canister import Canister
from scheduler.charging import charge_at_end_of_round, daily_costs, pay_ingress
from scheduler.cycles_account import BurnCause
from scheduler.timeline import Timeline
from tests.support.fake_executor import FakeWorld, call, certify, log, reply, set_timer, work

FEES = CyclesCostSchedule()
SECOND = NS_PER_SECOND


def end_rounds(world: FakeWorld, count: int, step_s: int = 1) -> None:
    """Let rounds pass in which nothing runs."""
    world.interval_ns = step_s * SECOND
    for _ in range(count):
        world.run_round()


@pytest.mark.parametrize(
    ("step_s", "rounds", "charged_s"), [(1, 10, 0), (1, 11, 10), (1, 30, 20), (4, 4, 12), (15, 5, 60), (7, 10, 56)]
)
def test_untouched_canister_owes_for_whole_intervals(step_s: int, rounds: int, charged_s: int) -> None:
    """Charges happen at ends of rounds ten or more seconds apart; the first round ends when the canister is made."""
    world = FakeWorld(fees=FEES, interval_ns=step_s * SECOND)
    canister = world.add_canister()
    end_rounds(world, rounds, step_s)
    assert canister.balance == 10**15
    world.scheduler.charges.settle(world, canister)
    assert canister.last_charged == (1_000 + charged_s) * SECOND
    day = sum(cost for _, cost in daily_costs(canister, FEES))
    assert 0 <= day * charged_s // SECONDS_PER_DAY - (10**15 - canister.balance) <= 3 * rounds


def test_idle_canisters_are_not_touched() -> None:
    """A rich idle canister isn't looked at, however many rounds pass."""
    world = FakeWorld(fees=FEES)
    for _ in range(50):
        world.add_canister()
    end_rounds(world, 3)
    world.take_touched()
    end_rounds(world, 100)
    assert world.take_touched() == []


def test_induction_fee_comes_after_what_is_owed() -> None:
    """A fee can't be paid with cycles that the last ten seconds have used up."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister(compute_allocation=50)
    end_rounds(world, 12)
    owed = FEES.compute_percent_per_second * 50 * 10
    canister.balance = Cycles(owed)
    refused = pay_ingress(world, canister, 1)
    assert refused is not None
    assert refused.error_code is ErrorCode.CANISTER_OUT_OF_CYCLES


def test_reserved_cycles_are_used_first() -> None:
    """Charges take the reserved balance before the main one."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister(compute_allocation=1)
    canister.reserved_balance = Cycles(60_000_000)
    end_rounds(world, 11)
    world.touch(canister.canister_id)
    world.run_round()
    assert canister.reserved_balance == 0
    assert canister.balance < 10**15


def test_canister_that_cannot_pay_is_uninstalled() -> None:
    """Code, timer, logs, certified data and allocations go; open calls are rejected; the rest of the balance is burned."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister(10**12, compute_allocation=10)
    message_id = world.ingress(canister, [certify(b"c"), set_timer(10**18), log(b"l"), call(Principal.canister(77))])
    world.run_round()
    version = canister.version
    before = world.all_cycles()
    end_rounds(world, 1, step_s=10**8)
    end_rounds(world, 1)
    assert canister.execution is None
    assert (canister.certified_data, list(canister.logs), canister.global_timer) == (b"", [], 0)
    assert (canister.balance, canister.reserved_balance, canister.version) == (0, 0, version + 1)
    assert (canister.settings.compute_allocation, canister.settings.memory_allocation) == (0, 0)
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_REJECTED_MESSAGE
    assert world.tally.burned[BurnCause.UNINSTALL] > 0
    assert world.all_cycles() == before
    assert world.scheduler.priority.total_allocation == 0


@pytest.mark.spec("time-progressing", condition=6)
def test_paused_message_puts_charges_off() -> None:
    """While a message is paused nothing is charged; the next charge covers the whole time."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    world.ingress(canister, [work(9 * 10**9), reply()])
    end_rounds(world, 4, step_s=30)
    assert canister.last_charged == 1_000 * SECOND
    end_rounds(world, 1, step_s=30)
    assert canister.long_execution is None
    assert canister.last_charged == 1_120 * SECOND


def test_timeline_stays_short_with_equal_steps() -> None:
    """Equal steps are one run; a jump starts another."""
    timeline = Timeline()
    for time in [*range(100, 200, 5), *range(1000, 1010), 1010]:
        timeline.append(TimeNs(time))
        timeline.append(TimeNs(time))
    assert len(timeline) <= 3


def naive_points(times: list[int], last: int, not_before: int) -> list[tuple[int, int]]:
    """(seconds, time) of every charge, one round at a time."""
    points = []
    for time in times:
        if time >= last + 10 * SECOND and time > not_before:
            points.append(((time - last) // SECOND, time))
            last = time
    return points


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 3, 5, 10, 11, 60]), st.integers(0, 999), st.integers(1, 40)), max_size=6),
    st.integers(0, 100),
    st.integers(0, 300),
)
@settings(deadline=None)
def test_charge_points_equal_the_plain_rule(steps: list[tuple[int, int, int]], last_s: int, blocked_s: int) -> None:
    """Runs of rounds give the charges that looking at every round gives."""
    timeline, times, now = Timeline(), [], 0
    for seconds, rest, count in steps:
        for _ in range(count):
            now += seconds * SECOND + rest
            timeline.append(TimeNs(now))
            times.append(now)
    found, last = [], last_s * SECOND
    for seconds, count, until in timeline.points(TimeNs(last), TimeNs(blocked_s * SECOND)):
        found += [seconds] * count
        last = until
    plain = naive_points(sorted(set(times)), last_s * SECOND, blocked_s * SECOND)
    assert found == [seconds for seconds, _ in plain]
    assert last == (plain[-1][1] if plain else last_s * SECOND)


@dataclass
class Plain:
    """A canister as the plain rule sees it."""

    balance: int
    last: int
    alive: bool = True


def plain_round(plain: dict[Principal, Plain], world: FakeWorld) -> None:
    """Charge every canister, at today's costs."""
    for canister_id, state in plain.items():
        if world.time < state.last + 10 * SECOND:
            continue
        seconds, state.last = (world.time - state.last) // SECOND, world.time
        costs = daily_costs(world.canisters[canister_id], FEES) if state.alive else ()
        for _, day in costs:
            if state.balance < day * seconds // SECONDS_PER_DAY:
                state.alive, state.balance = False, 0
                break
            state.balance -= day * seconds // SECONDS_PER_DAY


STEPS = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["nothing", "nothing", "touch", "deposit", "grow", "allocate"]),
    st.sampled_from([SECOND, SECOND, 3 * SECOND + 7, 10 * SECOND, 100 * SECOND]),
    st.integers(1, 15),
)


@given(st.lists(STEPS, max_size=25), st.lists(st.sampled_from([10**5, 10**9, 3 * 10**9, 10**12]), min_size=3, max_size=3))
@settings(deadline=None, max_examples=150)
def test_lazy_charges_equal_the_plain_rule(steps: list[tuple[int, str, int, int]], balances: list[int]) -> None:
    """Balances after settling, and the round in which a canister runs out, are those of charging everyone every round."""
    world = FakeWorld(fees=FEES)
    canisters = [world.add_canister(balance, compute_allocation=i) for i, balance in enumerate(balances)]
    plain = {c.canister_id: Plain(c.balance, c.last_charged) for c in canisters}
    for which, action, step, rounds in steps:
        canister = canisters[which]
        apply(world, canister, plain[canister.canister_id], action)
        world.interval_ns = step
        for _ in range(rounds):
            plain_round(plain, world)
            world.run_round()
            for c in canisters:
                assert (c.execution is not None) == plain[c.canister_id].alive
    for canister in canisters:
        world.scheduler.charges.settle(world, canister)
        expected = plain[canister.canister_id]
        assert canister.balance == expected.balance
        if expected.alive:
            assert canister.last_charged == expected.last


def apply(world: FakeWorld, canister: Canister, plain: Plain, action: str) -> None:
    """Do something to a canister between two rounds."""
    if action == "nothing" or canister.execution is None:
        return
    world.scheduler.charges.settle(world, canister)
    world.touch(canister.canister_id)
    if action == "deposit":
        canister.balance = Cycles(canister.balance + 12_345)
        plain.balance += 12_345
    elif action == "grow":
        canister.execution.heap.wasm_pages += 1000
    elif action == "allocate":
        world.scheduler.priority.set_allocation(canister, (canister.settings.compute_allocation + 3) % 7)


def test_irregular_times_are_settled_before_they_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the timeline has too many runs everyone is settled and it starts again."""
    monkeypatch.setattr("scheduler.charging.MAX_RUNS", 5)
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    for step in (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23):
        end_rounds(world, 1, step)
        assert len(world.scheduler.charges.timeline) <= 5
    charge_at_end_of_round(world)
    assert canister.balance < 10**15
