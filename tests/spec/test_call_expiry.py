"""Abstract behaviour, "Call expiry" and "Dropping expired messages": by deadline, or under memory pressure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.limits import MESSAGE_STRUCT_BYTES, SubnetLimits
from ic_types.candid import encoder
from ic_types.messages import Refund, Request, Response
from ic_types.principal import MANAGEMENT_CANISTER
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from ic_types.units import TimeNs
from message_routing.local_induction import induct_on_same_subnet
from message_routing.shedding import shed_best_effort
from sandbox.protocol import EntryPoint
from scheduler.canister import RunStatus
from subnet.management import candid_types
from tests.support.fake_executor import FakeWorld, Script, accept, call, raw_call, reply, work
from tests.support.routing_world import SECOND, START, FakeCanister, RoutingWorld, canister_id, rejects_of, subnet_id
from tests.support.script_subnets import SHORT_SLICES, ScriptNetwork, ScriptSubnet

NOW_S = START // SECOND
SLOW: Script = [work(1000), accept(3), reply(b"late")]
"""Ten rounds of subnets with short slices."""


def reject_seen(subnet: ScriptSubnet) -> tuple[int, str, int]:
    """Code, message and refund of the only reject callback that ran."""
    (seen,) = [one for one in subnet.executor.inputs if one.entry is EntryPoint.REJECT]
    return seen.reject_code, seen.reject_message, seen.cycles_refunded


# --- by deadline


@pytest.mark.spec("call-expiry", condition=(3, 4, 5, 6, 7))
@pytest.mark.spec("message-timeout", condition=5)
def test_call_in_progress_expires() -> None:
    """The caller learns SYS_UNKNOWN without cycles; the callee goes on, accepts cycles, and its late reply brings the rest."""
    network = ScriptNetwork("a", "b", limits=SHORT_SLICES)
    a, b = network["a"], network["b"]
    caller, callee = a.add(), b.add()
    message = a.message(
        caller.canister_id, [call(callee.canister_id, SLOW, cycles=8, timeout_s=3, on_reject=[reply(b"unknown")])]
    )
    network.round(a=[message])
    network.rounds(3)
    assert a.status(message) == "processing"  # the deadline is now
    network.round()
    assert a.outcome(message) == b"unknown"
    assert reject_seen(a) == (RejectCode.SYS_UNKNOWN, "Call deadline has expired.", 0)
    assert caller.balance == 10**15 - 8
    network.rounds(12)
    assert (caller.balance, callee.balance) == (10**15 - 3, 10**15 + 3)
    assert (caller.contexts, caller.callbacks, len(a.executor.inputs)) == ({}, {}, 2)
    network.check()


@pytest.mark.spec("call-expiry", condition=1)
@pytest.mark.parametrize("local", [True, False])
def test_guaranteed_response_calls_do_not_expire(local: bool) -> None:
    """They wait for as long as it takes."""
    network = ScriptNetwork("a", "b", limits=SHORT_SLICES)
    a = network["a"]
    caller, callee = a.add(), (a if local else network["b"]).add()
    message = a.message(caller.canister_id, [work(1), call(callee.canister_id, SLOW, on_reply=[reply(b"done")])])
    network.round(a=[message])
    outcomes = []
    for _ in range(16):
        network.round(seconds=100)
        outcomes.append(a.outcome(message))
    assert next(one for one in outcomes if one is not None) == b"done"


@pytest.mark.spec("call-expiry", condition=2)
@pytest.mark.parametrize(("timeout_s", "waits_s"), [(40, 40), (300, 300), (10**6, 300)])
def test_deadline(timeout_s: int, waits_s: int) -> None:
    """The time of the caller's round plus the timeout, at most 300 s, without fractions of a second."""
    world = FakeWorld(time=TimeNs(START + 999_999_999))
    canister = world.add_canister()
    world.ingress(canister, [call(canister_id(1, 0), timeout_s=timeout_s)])
    world.run_round()
    assert world.requests[0].deadline_s == NOW_S + waits_s
    (callback,) = canister.callbacks.values()
    assert callback.deadline_s == NOW_S + waits_s


@pytest.mark.spec("call-expiry", condition=8)
def test_call_that_waits_for_a_stop_expires() -> None:
    """SYS_UNKNOWN; the canister goes on stopping, and the late answer is dropped."""
    network = ScriptNetwork("a", "b", limits=SHORT_SLICES)
    a, b = network["a"], network["b"]
    caller, busy, callee = a.add(), a.add(), b.add()
    busy.settings.controllers = (caller.canister_id,)
    network.round(a=[a.message(busy.canister_id, [call(callee.canister_id, SLOW, on_reply=[reply()])])])
    arg = encoder.encode([candid_types.CANISTER_ID], [{"canister_id": busy.canister_id}])
    stop = raw_call(MANAGEMENT_CANISTER, "stop_canister", arg, timeout_s=3, on_reject=[reply(b"unknown")])
    message = a.message(caller.canister_id, [stop])
    network.round(a=[message])
    network.rounds(4)
    assert a.outcome(message) == b"unknown"
    assert reject_seen(a)[0] == RejectCode.SYS_UNKNOWN
    assert busy.status is RunStatus.STOPPING
    network.rounds(12)
    assert busy.status is RunStatus.STOPPED
    assert (caller.callbacks, caller.queues.has_input()) == ({}, False)
    network.check()


@pytest.mark.spec("message-timeout", condition=(1, 2, 3, 6))
def test_expired_request_never_runs() -> None:
    """A request that waits in its callee's queue beyond the deadline is dropped; the cycles come back by themselves."""
    network = ScriptNetwork("a", "b", limits=SHORT_SLICES)
    a, b = network["a"], network["b"]
    caller, callee = a.add(), b.add()
    network.round(b=[b.message(callee.canister_id, [work(1000), reply()])])
    message = a.message(caller.canister_id, [call(callee.canister_id, cycles=8, timeout_s=3, on_reject=[reply(b"unknown")])])
    network.round(a=[message])
    network.rounds(7)
    assert a.outcome(message) == b"unknown"
    assert not callee.queues.peers
    assert caller.balance == 10**15
    network.rounds(6)
    assert len(b.executor.executed) == 1
    network.check()


@pytest.mark.spec("message-timeout", condition=(1, 2, 3, 6))
def test_expired_request_of_the_same_subnet() -> None:
    """The refund takes the loopback stream."""
    world = RoutingWorld()
    caller, callee = world.canister(0), world.canister(1)
    world.call(caller, callee.canister_id, cycles=8, deadline_s=NOW_S + 20)
    induct_on_same_subnet(world.delivery)
    world.time = TimeNs(START + 20 * SECOND + 1)
    assert world.expire() == 2
    assert not callee.queues.peers
    world.build()
    world.receive()
    assert caller.balance == 10**15
    world.check()


@pytest.mark.spec("message-timeout", condition=4)
def test_expired_response_is_dropped() -> None:
    """A response that can't leave before the deadline is dropped; its cycles are owed to the caller."""
    left, right = RoutingWorld(0), RoutingWorld(1, max_stream_messages=0)
    left.call(left.canister(0), canister_id(1, 0), cycles=8, deadline_s=NOW_S + 20)
    left.build()
    right.receive(right.slice_from(left))
    right.take_input(right.canister(0))
    right.build()
    right.time = TimeNs(START + 20 * SECOND + 1)
    assert right.expire() == 1
    assert not right.canister(0).queues.peers
    assert right.refunds.pending() == [Refund(recipient=canister_id(0, 0), amount=right.refunds.total())]
    assert right.refunds.total() == 8


@pytest.mark.spec("call-expiry", condition=6)
def test_answered_call_does_not_expire() -> None:
    """A response that is queued when the deadline passes stays the only one."""
    world = RoutingWorld()
    caller, callee = world.canister(0), world.canister(1)
    world.call(caller, callee.canister_id, deadline_s=NOW_S + 20)
    induct_on_same_subnet(world.delivery)
    world.take_input(callee)
    induct_on_same_subnet(world.delivery)
    world.time = TimeNs(START + 30 * SECOND)
    assert world.expire() == 0
    assert isinstance(world.take_input(caller), Response)
    assert (rejects_of(caller), caller.queues.has_input()) == ([], False)


@pytest.mark.spec("call-expiry", condition=6)
def test_answered_call_does_not_expire_beside_an_open_one() -> None:
    """The slot of another open call to the same callee isn't taken for a second answer."""
    world = RoutingWorld()
    caller, callee = world.canister(0), world.canister(1)
    for deadline in (20, 90):
        world.call(caller, callee.canister_id, deadline_s=NOW_S + deadline)
    induct_on_same_subnet(world.delivery)
    world.take_input(callee)
    induct_on_same_subnet(world.delivery)
    world.time = TimeNs(START + 30 * SECOND)
    assert world.expire() == 0
    assert caller.queues.statistics().input_responses == 1
    world.check()


# --- under memory pressure


def shed(world: RoutingWorld, capacity: int) -> int:
    """Shed what is above these bytes."""
    held = [(one.canister_id, one.queues.best_effort_memory()) for one in world.canisters.known.values()]
    return shed_best_effort(world.canisters, [row for row in held if row[1]], capacity, world.routing, world.refunds)


def best_effort(world: RoutingWorld, sender: FakeCanister, size: int, *, to: int = 1, cycles: int = 0) -> Request:
    """A bounded-wait call to another subnet whose message takes so many bytes."""
    arg = bytes(size - MESSAGE_STRUCT_BYTES - len("go"))
    made = world.call(sender, canister_id(to, 0), arg=arg, deadline_s=NOW_S + 100, cycles=cycles)
    assert made is not None
    return made


def sizes(canister: FakeCanister) -> list[int]:
    """Bytes of the requests in a canister's output queues."""
    return sorted(size for size, _, is_input, _ in canister.queues.best_effort_places() if not is_input)


@pytest.mark.spec("call-expiry", condition=10)
@pytest.mark.parametrize(("capacity", "count"), [(3000, 0), (2999, 1)])
def test_shedding_begins_above_the_capacity(capacity: int, count: int) -> None:
    """Exactly full is not too full."""
    world = RoutingWorld()
    for size in (1000, 2000):
        best_effort(world, world.canister(0), size)
    assert shed(world, capacity) == count
    assert sizes(world.canister(0)) == ([1000, 2000] if count == 0 else [1000])


@pytest.mark.spec("call-expiry", condition=(10, 11))
def test_shedding_takes_the_largest_of_who_holds_most() -> None:
    """Not the largest of all: the canister that holds most loses its largest message, again and again until all fits."""
    world = RoutingWorld()
    one, two, three = (world.canister(k) for k in range(3))
    best_effort(world, one, 5000)
    for size in (2500, 2400, 2300):
        best_effort(world, two, size)
    best_effort(world, three, 4900)
    assert shed(world, 17_100 - 1) == 1
    assert (sizes(one), sizes(two), sizes(three)) == ([5000], [2300, 2400], [4900])
    world.check()


@pytest.mark.spec("call-expiry", condition=11)
def test_shedding_looks_again_who_holds_most() -> None:
    """After it has lost a message a canister may hold less than another, which is next."""
    world = RoutingWorld()
    one, two, three = (world.canister(k) for k in range(3))
    best_effort(world, one, 5000)
    for size in (2500, 2400, 2300):
        best_effort(world, two, size)
    best_effort(world, three, 4900)
    assert shed(world, 17_100 - 4_000) == 2
    assert (sizes(one), sizes(two), sizes(three)) == ([], [2300, 2400], [4900])
    world.check()


@pytest.mark.spec("call-expiry", condition=11)
def test_shedding_among_equals() -> None:
    """The higher canister id, the younger message."""
    world = RoutingWorld()
    low, high = world.canister(0), world.canister(2)
    first = best_effort(world, high, 1000)
    best_effort(world, high, 1000, cycles=3)
    for _ in range(2):
        best_effort(world, low, 1000)
    assert shed(world, 3999) == 1
    assert len(sizes(low)) == 2
    assert high.queues.peek_output(canister_id(1, 0)) == first
    world.take_input(high)
    assert high.balance == 10**15


@pytest.mark.spec("call-expiry", condition=12)
def test_shed_request_is_rejected() -> None:
    """SYS_TRANSIENT with all cycles; no refund beside that."""
    world = RoutingWorld()
    caller = world.canister(0)
    best_effort(world, caller, 5000, cycles=9)
    assert shed(world, 1000) == 1
    world.take_input(caller)
    (why,) = rejects_of(caller)
    assert (why.code, why.message) == (RejectCode.SYS_TRANSIENT, "Request timed out.")
    assert (caller.balance, world.refunds.total()) == (10**15, 0)
    assert not caller.queues.peers
    world.check()


@pytest.mark.spec("call-expiry", condition=13)
def test_shed_response_leaves_a_reject() -> None:
    """SYS_UNKNOWN, IC0602, in the place of the response; the cycles are owed apart; it takes no memory any more."""
    world = RoutingWorld()
    caller, callee = world.canister(0), world.canister(1)
    for _ in range(2):
        world.call(caller, callee.canister_id, cycles=5, deadline_s=NOW_S + 100)
    induct_on_same_subnet(world.delivery)
    for size in (5000, 10):
        world.take_input(callee, accept=1, payload=Reply(bytes(size)))
    induct_on_same_subnet(world.delivery)
    assert shed(world, 1000) == 1
    assert world.refunds.total() == 4
    world.check()
    assert shed(world, 0) == 1
    assert caller.queues.best_effort_memory() == 0
    world.take_input(caller)
    world.take_input(caller)
    expected = Reject(RejectCode.SYS_UNKNOWN, "Response was dropped.", ErrorCode.RESPONSE_DROPPED)
    assert rejects_of(caller) == [expected, expected]
    assert caller.balance == 10**15 - 10
    world.build()
    world.receive()
    assert caller.balance == 10**15 - 2
    assert not caller.queues.peers


@pytest.mark.spec("message-timeout", condition=2)
def test_shed_messages_elsewhere_are_refunded() -> None:
    """A request in an input queue, and a response in an output queue: gone, and their cycles are owed to the caller."""
    world = RoutingWorld()
    caller, callee = world.canister(0), world.canister(1)
    for _ in range(2):
        world.call(caller, callee.canister_id, cycles=5, arg=bytes(2000), deadline_s=NOW_S + 100)
    induct_on_same_subnet(world.delivery)
    world.take_input(callee, payload=Reply(bytes(3000)))
    assert shed(world, 0) == 2
    assert world.refunds.total() == 10
    assert not callee.queues.peers
    world.check()


@pytest.mark.spec("call-expiry", condition=9)
def test_guaranteed_messages_are_not_shed() -> None:
    """However large; they don't count either."""
    world = RoutingWorld()
    caller = world.canister(0)
    world.call(caller, canister_id(1, 0), arg=bytes(10_000))
    best_effort(world, caller, 1000)
    assert shed(world, 999) == 1
    assert isinstance(caller.queues.peek_output(canister_id(1, 0)), Request)
    assert caller.queues.statistics().output_requests == 1
    assert world.streams.get(subnet_id(1)) is None


@pytest.mark.spec("call-expiry", condition=(10, 12))
def test_shedding_at_the_end_of_a_round() -> None:
    """A subnet with memory for one small message: what can't leave is shed when the round is over, and the caller told."""
    limits = replace(SHORT_SLICES, best_effort_memory=1000, max_stream_messages=0)
    network = ScriptNetwork("a", "b", limits=limits)
    a, b = network["a"], network["b"]
    b.state.limits = SubnetLimits()
    caller, callee = a.add(), b.add()
    network.round()
    message = a.message(
        caller.canister_id,
        [call(callee.canister_id, [log_line(900)], timeout_s=100, cycles=4, on_reject=[reply(b"shed")])],
    )
    network["a"].state.streams.setdefault(b.own.subnet_id, a.stream_to(b))
    counts = a.round(message)
    assert (counts.routed.requests, counts.shed) == (0, 1)
    network.rounds(2)
    assert a.outcome(message) == b"shed"
    assert reject_seen(a) == (RejectCode.SYS_TRANSIENT, "Request timed out.", 4)
    network.check()


def log_line(size: int) -> tuple[str, bytes]:
    """An operation that is so large."""
    return ("log", bytes(size))
