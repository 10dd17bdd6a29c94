"""Requests, best-effort messages and callbacks whose time is over."""

from __future__ import annotations

from ic_types.messages import Response
from ic_types.reject import ErrorCode, RejectCode
from ic_types.units import TimeNs
from message_routing.local_induction import induct_on_same_subnet
from tests.support.routing_world import SECOND, START, RoutingWorld, canister_id, rejects_of, subnet_id
from xnet.stream import Stream

NOW_S = START // SECOND


def stuck(**limits: int) -> RoutingWorld:
    """A subnet whose stream to the other is full."""
    return RoutingWorld(0, **{"max_stream_messages": 0, **limits})


def after(world: RoutingWorld, seconds: int) -> int:
    """Let time pass, then expire."""
    world.time = TimeNs(START + seconds * SECOND + 1)
    return world.expire()


def test_requests_that_stay_in_their_queue_are_rejected_after_300_seconds() -> None:
    """SYS_TRANSIENT, all cycles back."""
    world = stuck()
    world.streams[subnet_id(1)] = Stream()
    caller = world.canister(0)
    world.call(caller, canister_id(1, 0), cycles=8)
    world.build()
    assert world.deadlines.next_due() == START + 300 * SECOND
    world.time = TimeNs(START + 300 * SECOND)
    assert world.expire() == 0
    assert after(world, 300) == 1
    world.take_input(caller)
    (why,) = rejects_of(caller)
    assert (why.code, why.message) == (RejectCode.SYS_TRANSIENT, "Request timed out.")
    assert caller.balance == 10**15
    assert not caller.queues.peers
    assert world.deadlines.next_due() is None


def test_later_requests_of_the_queue_expire_at_their_own_time() -> None:
    """One note per time and queue."""
    world = stuck()
    world.streams[subnet_id(1)] = Stream()
    caller = world.canister(0)
    for seconds in (0, 10, 10):
        world.time = TimeNs(START + seconds * SECOND)
        world.call(caller, canister_id(1, 0))
        world.build()
    assert [after(world, seconds) for seconds in (299, 300, 310, 311)] == [0, 1, 2, 0]


def test_best_effort_requests_in_output_queues_expire_at_their_deadline() -> None:
    """The reject doesn't come twice though the callback expires at the same time."""
    world = stuck()
    world.streams[subnet_id(1)] = Stream()
    caller = world.canister(0)
    world.call(caller, canister_id(1, 0), cycles=8, deadline_s=NOW_S + 20)
    world.build()
    assert after(world, 20) == 1
    world.take_input(caller)
    assert rejects_of(caller)[0].code is RejectCode.SYS_TRANSIENT
    assert not caller.queues.has_input()
    assert world.balance_sheet() == 3 * 10**15


def test_the_callback_of_a_best_effort_call_expires() -> None:
    """SYS_UNKNOWN without a refund; the callee's late answer brings the cycles."""
    left, right = RoutingWorld(0), RoutingWorld(1)
    caller, callee = left.canister(0), right.canister(0)
    left.call(caller, callee.canister_id, cycles=8, deadline_s=NOW_S + 20)
    left.build()
    right.receive(right.slice_from(left))
    assert after(left, 20) == 1
    left.take_input(caller)
    (why,) = rejects_of(caller)
    assert (why.code, why.error_code) == (RejectCode.SYS_UNKNOWN, ErrorCode.DEADLINE_EXPIRED)
    assert caller.balance == 10**15 - 8
    right.take_input(callee, accept=3)
    right.build()
    left.receive(left.slice_from(right))
    assert not caller.queues.has_input()
    assert caller.balance == 10**15 - 3


def test_a_response_in_time_outlives_the_deadline() -> None:
    """Inbound responses don't expire."""
    world = RoutingWorld()
    caller, callee = world.canister(0), world.canister(1)
    world.call(caller, callee.canister_id, deadline_s=NOW_S + 20)
    induct_on_same_subnet(world.delivery)
    world.take_input(callee)
    induct_on_same_subnet(world.delivery)
    assert after(world, 30) == 0
    assert isinstance(world.take_input(caller), Response)
    assert rejects_of(caller) == []


def test_best_effort_requests_in_input_queues_are_dropped() -> None:
    """Their cycles go back by a refund, the caller's callback expires by itself."""
    world = RoutingWorld()
    caller, callee = world.canister(0), world.canister(1)
    world.call(caller, callee.canister_id, cycles=8, deadline_s=NOW_S + 20)
    induct_on_same_subnet(world.delivery)
    assert after(world, 20) == 2
    assert not callee.queues.has_input()
    assert world.refunds.total() == 8
    world.build()
    world.receive()
    assert caller.balance == 10**15
    world.take_input(caller)
    assert rejects_of(caller)[0].error_code is ErrorCode.DEADLINE_EXPIRED
    assert not callee.queues.peers
    world.check()


def test_best_effort_responses_in_output_queues_are_dropped() -> None:
    """With a refund to the caller."""
    left, right = RoutingWorld(0), stuck()
    right = RoutingWorld(1, max_stream_messages=0)
    left.call(left.canister(0), canister_id(1, 0), cycles=8, deadline_s=NOW_S + 20)
    left.build()
    right.receive(right.slice_from(left))
    right.take_input(right.canister(0))
    right.build()
    assert after(right, 20) == 1
    assert not right.canister(0).queues.has_output()
    assert right.refunds.total() == 8
    assert not right.canister(0).queues.peers


def test_notes_of_what_went_on_its_way_are_stale() -> None:
    """A request that left before its time, a canister that is gone."""
    world = RoutingWorld()
    caller, callee = world.canister(0), world.canister(1)
    world.call(caller, callee.canister_id, deadline_s=NOW_S + 20)
    induct_on_same_subnet(world.delivery)
    world.take_input(callee)
    induct_on_same_subnet(world.delivery)
    world.take_input(caller)
    del world.canisters.known[callee.canister_id]
    assert after(world, 20) == 0
    assert len(caller.outcomes) == 1
