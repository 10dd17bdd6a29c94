"""Live time: rounds at once when something comes, one per interval otherwise; jumps of the clock; replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from subnet import control_protocol as cp
from subnet.coordinator.round_clock import IDLE_INTERVAL_NS, RESTING_AFTER_NS, RESTING_INTERVAL_NS, RoundClock
from tests.support.fake_network import CLIENT, FakeNetwork
from tests.support.plans import small_plan

START = 1_800_000_000_000_000_000
SECOND = 10**9


def live(folder: Path, **settings: object) -> FakeNetwork:
    """A network of fake nodes whose wall clock the test moves; its nodes run."""
    made = FakeNetwork(small_plan(1, 2, 1), folder, live=True, wall=START, **settings)
    made.settle()
    return made


def pass_time(network: FakeNetwork, seconds: float, *, wall: float | None = None) -> None:
    """Both clocks go on, the wall clock otherwise if told so; the loop of the process follows."""
    network.ports.time += seconds
    network.ports.wall += int((seconds if wall is None else wall) * SECOND)
    if network.coordinator.wait_ns() == 0:
        network.coordinator.advance()
    network.settle()


def test_idle_network_makes_a_round_per_interval(tmp_path: Path) -> None:
    """No client asks for rounds, yet time stays fresh; when nobody asks for anything it rests."""
    network = live(tmp_path)
    pass_time(network, 1)
    height = network.coordinator.network.height
    for _ in range(5):
        pass_time(network, 1)
    assert network.coordinator.network.height == height + 5
    assert network.coordinator.network.now == network.ports.wall
    pass_time(network, 0.25)
    assert network.coordinator.network.height == height + 5
    assert network.coordinator.wait_ns() == 0.75 * SECOND
    network.close()


def test_a_call_gets_its_round_at_once(tmp_path: Path) -> None:
    """And its answer is certified without any time passing."""
    network = live(tmp_path)
    pass_time(network, 1)
    height = network.coordinator.network.height
    first = network.coordinator.network.subnets[0].record.range_start
    call = cp.Call(envelope=network.envelope("reply", b"x"), effective_id=first, wait=True)
    answer = network.ask(call)
    assert isinstance(answer, cp.CallAnswer)
    assert (answer.status, answer.certificate) == ("certified", b"certificate at %d" % (height + 1))
    again = network.ask(call)
    assert isinstance(again, cp.CallAnswer)
    assert again.status == "certified", "what is answered already is certified at once"
    network.close()


def test_asynchronous_and_wrong_calls(tmp_path: Path) -> None:
    """Accepted at once; at the wrong canister, or of a canister of no subnet, refused."""
    network = live(tmp_path)
    pass_time(network, 1)
    first = network.coordinator.network.subnets[0].record.range_start
    other = network.coordinator.network.subnets[1].record.range_start
    raw = network.envelope("reply", b"x")
    accepted = network.ask(cp.Call(envelope=raw, effective_id=first))
    assert isinstance(accepted, cp.CallAnswer)
    assert accepted.status == "accepted"
    assert accepted.subnet == network.coordinator.network.subnets[0].record.subnet_id
    for effective, words in ((other, "does not match effective canister id"), (type(first)(b"none"), "does not belong")):
        refused = network.ask(cp.Call(envelope=raw, effective_id=effective))
        assert isinstance(refused, cp.CallAnswer)
        assert (refused.status, refused.http_status, words in refused.problem) == ("refused", 400, True)
    network.close()


def test_clock_jumps_forward(tmp_path: Path) -> None:
    """A laptop that slept: one round later it is now; a call signed before has expired, one signed now has not."""
    network = live(tmp_path)
    pass_time(network, 1)
    stale = network.envelope("reply", b"x")
    pass_time(network, 1, wall=3600)
    assert network.coordinator.network.now == network.ports.wall
    first = network.coordinator.network.subnets[0].record.range_start
    refused = network.ask(cp.Call(envelope=stale, effective_id=first))
    assert isinstance(refused, cp.CallAnswer)
    assert "Invalid request expiry: " in refused.problem
    fresh = network.ask(cp.Call(envelope=network.envelope("reply", b"y"), effective_id=first, wait=True))
    assert isinstance(fresh, cp.CallAnswer)
    assert fresh.status == "certified"
    network.close()


def test_clock_jumps_back(tmp_path: Path) -> None:
    """Time never goes back: rounds go on at their pace, each a little later than the one before."""
    network = live(tmp_path)
    pass_time(network, 1)
    before, height = network.coordinator.network.now, network.coordinator.network.height
    pass_time(network, 1, wall=-3600)
    pass_time(network, 1)
    assert network.coordinator.network.now == before + 2
    assert network.coordinator.network.height == height + 2
    pass_time(network, 1, wall=3700)
    assert network.coordinator.network.now == network.ports.wall
    network.close()


def test_live_run_is_replayed_and_continued(tmp_path: Path) -> None:
    """The journal holds every batch's time, so the same batches are made again; a continued run goes on from there."""
    network = live(tmp_path)
    for seconds in (1, 1.5, 1, 7):
        pass_time(network, seconds)
    network.submit("reply", b"x")
    pass_time(network, 1)
    hashes, now = network.hashes(), network.coordinator.network.now
    network.close()
    replayed = FakeNetwork(
        network.plan, tmp_path / "replay", out_dir=None, mode="replay", replay_dir=str(tmp_path / "run"), live=True
    )
    replayed.settle()
    assert replayed.ask(cp.Advance(until_idle=True)) == cp.Advanced(height=len(hashes), time_ns=now, idle=True)
    assert replayed.coordinator.failure is None
    replayed.close()
    continued = FakeNetwork(network.plan, tmp_path, mode="resume")
    continued.settle()
    continued.rounds(2)
    assert continued.coordinator.network.now == now + 2 * network.plan.block_interval_ns
    assert continued.hashes()[: len(hashes)] == hashes
    continued.close()


def test_virtual_network_makes_the_rounds_that_a_call_needs(tmp_path: Path) -> None:
    """Nobody advances it, yet the call is answered; afterwards time stands still."""
    network = FakeNetwork(small_plan(1, 2, 1), tmp_path)
    network.settle()
    first = network.coordinator.network.subnets[0].record.range_start
    answer = network.ask(cp.Call(envelope=network.envelope("reply", b"x"), effective_id=first, wait=True))
    assert isinstance(answer, cp.CallAnswer)
    assert answer.status == "certified"
    height = network.coordinator.network.height
    network.ports.time += 100
    assert network.coordinator.wait_ns() is None
    network.settle()
    assert network.coordinator.network.height == height
    network.close()


def test_a_network_that_has_failed_says_so(tmp_path: Path) -> None:
    """Calls are refused with the reason, which the gateway makes a 503 of; nothing waits for a round that never comes."""
    network = live(tmp_path)
    pass_time(network, 1)
    network.coordinator.fail("nodes differ", 3)
    first = network.coordinator.network.subnets[0].record.range_start
    refused = network.ask(cp.Call(envelope=network.envelope("reply", b"x"), effective_id=first, wait=True))
    assert isinstance(refused, cp.Refused)
    assert "nodes differ" in refused.message
    assert refused.exit_code != 2
    told = network.ask(cp.GetTime())
    assert isinstance(told, cp.NetworkTime)
    assert not told.healthy
    assert network.coordinator.wait_ns() is None
    network.close()


def test_delegations_are_told_and_renewed(tmp_path: Path) -> None:
    """Nodes and gateways get them; when they are old, the root subnet is asked again."""
    network = live(tmp_path)
    network.desk.serve(CLIENT, cp.GetDelegations())
    pass_time(network, 1)
    told = [message for _, message in network.ports.replies if type(message).__name__ == "Delegated"]
    assert len(told) == 1
    first = told[0]
    assert network.coordinator.network.subnets[1].delegation == first.subnets[0].flat  # type: ignore[attr-defined]
    pass_time(network, 700)
    pass_time(network, 1)
    second = network.ask(cp.GetDelegations())
    assert second.time_ns >= first.time_ns + 700 * SECOND  # type: ignore[attr-defined]
    network.close()


@pytest.mark.parametrize(
    ("now", "due", "asked", "wait"),
    [
        (0, (), 0, IDLE_INTERVAL_NS),
        (0, (0, 0), 0, IDLE_INTERVAL_NS),
        (0, (START + SECOND // 2,), 0, SECOND // 2),
        (0, (START - 5,), 0, SECOND // 10),
        (0, (START + 5 * SECOND,), 0, IDLE_INTERVAL_NS),
        (RESTING_AFTER_NS + 1, (), 0, RESTING_INTERVAL_NS),
        (RESTING_AFTER_NS + 1, (START + 2 * SECOND,), 0, 2 * SECOND),
        (RESTING_AFTER_NS + 1, (), RESTING_AFTER_NS, IDLE_INTERVAL_NS),
    ],
)
def test_how_long_a_quiet_network_waits(now: int, due: tuple[int, ...], asked: int, wait: int) -> None:
    """Timers are kept to the nanosecond but come no closer than the block interval; who rests wakes for them."""
    tick = asked
    clock = RoundClock(SECOND // 10, wall=lambda: START, monotonic=lambda: tick)
    clock.asked()
    tick = now
    clock.round_begins()
    assert clock.wait_ns(START, due) == wait
