"""Loopback and slices: induction, signals, garbage collection, rejects."""

from __future__ import annotations

import pytest

from ic_types.messages import Refund, Response
from ic_types.principal import MANAGEMENT_CANISTER
from ic_types.reject import RejectCode
from ic_types.units import Cycles, StreamIndex
from message_routing.lost_cycles import LossCause
from tests.support.routing_world import (
    FakeSlice,
    FakeStatus,
    RoutingWorld,
    canister_id,
    rejects_of,
    request,
    response,
    subnet_id,
)
from xnet.header import RejectReason, RejectSignal, StreamHeader
from xnet.stream import Stream


def network() -> tuple[RoutingWorld, RoutingWorld]:
    """Two subnets with three canisters each."""
    return RoutingWorld(0), RoutingWorld(1)


def exchange(left: RoutingWorld, right: RoutingWorld) -> None:
    """Both build their streams and receive all that the other has."""
    for world in (left, right):
        world.build()
    to_left, to_right = left.slice_from(right), right.slice_from(left)
    left.receive(to_left)
    right.receive(to_right)


def slice_of(*messages: object, begin: int = 0) -> FakeSlice:
    """Messages with a header that signals nothing."""
    header = StreamHeader(begin=StreamIndex(begin), end=StreamIndex(begin + len(messages)), signals_end=StreamIndex(0))
    return FakeSlice(header, StreamIndex(begin), messages)


def test_a_call_to_another_subnet_comes_back_answered() -> None:
    """Request out, response back, streams empty after the signals have gone both ways."""
    left, right = network()
    caller, callee = left.canister(0), right.canister(0)
    left.call(caller, callee.canister_id, cycles=10)
    exchange(left, right)
    right.take_input(callee, accept=3)
    exchange(left, right)
    left.take_input(caller)
    assert caller.balance == 10**15 - 3
    exchange(left, right)
    exchange(left, right)
    assert not left.streams[right.own].messages
    assert not right.streams[left.own].messages
    assert left.streams[right.own].signals_end == 1
    for world in (left, right):
        world.check()
        assert world.balance_sheet() == 3 * 10**15


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ("missing", RejectCode.DESTINATION_INVALID, "not found"),
        ("stopped", RejectCode.CANISTER_ERROR, "is stopped"),
        ("stopping", RejectCode.CANISTER_ERROR, "is stopping"),
        ("full", RejectCode.SYS_TRANSIENT, "input queue is full"),
        ("memory", RejectCode.CANISTER_ERROR, "Out of memory"),
    ],
)
def test_undeliverable_requests_come_back_as_rejects(change: str, code: RejectCode, text: str) -> None:
    """By a reject signal; the sender's own subnet makes the response and gives all cycles back."""
    left, right = network()
    caller, callee = left.canister(0), right.canister(0)
    if change == "missing":
        del right.canisters.known[callee.canister_id]
    elif change == "full":
        callee.queues.capacity = 0
    elif change == "memory":
        right.memory.available = 0
    else:
        callee.status = FakeStatus(change)
    left.call(caller, callee.canister_id, cycles=10)
    exchange(left, right)
    assert [signal.index for signal in right.streams[left.own].reject_signals] == [0]
    exchange(left, right)
    left.take_input(caller)
    (why,) = rejects_of(caller)
    assert why.code is code
    assert text in why.message
    assert caller.balance == 10**15
    exchange(left, right)
    assert not right.streams[left.own].reject_signals
    assert left.flow.returned == 10


def test_loopback_messages_are_delivered_or_rejected_at_once() -> None:
    """No signal stays."""
    world = RoutingWorld()
    caller = world.canister(0)
    world.canister(1).status = FakeStatus("stopped")
    world.call(caller, canister_id(0, 1), cycles=5)
    world.call(caller, canister_id(0, 2), cycles=5)
    world.build()
    assert len(world.streams[world.own].messages) == 2
    world.receive()
    assert not world.streams[world.own].messages
    assert not world.streams[world.own].reject_signals
    assert world.canister(2).queues.has_input()
    world.take_input(caller)
    assert rejects_of(caller)[0].code is RejectCode.CANISTER_ERROR
    assert world.balance_sheet() == 3 * 10**15


def test_management_calls_arrive_through_the_loopback_stream() -> None:
    """In the round after the one that made them."""
    world = RoutingWorld()
    world.call(world.canister(0), MANAGEMENT_CANISTER)
    world.build()
    assert not world.management_queues.has_input()
    world.receive()
    assert world.management_queues.has_input()


def test_answers_of_another_subnets_management_canister_are_accepted() -> None:
    """Under `aaaaa-aa` or the subnet's id, as the caller asked."""
    left, right = network()
    caller = left.canister(0)
    left.resolve = lambda request: right.own
    for name in (MANAGEMENT_CANISTER, right.own):
        made = left.call(caller, name)
        assert made is not None
        exchange(left, right)
        queued = right.management_queues.pop_input()
        assert queued == made
        right.management_queues.push_output_response(response(made))
        exchange(left, right)
        left.take_input(caller)
    assert len(caller.outcomes) == 2
    assert left.lost.total() == 0


def test_a_sender_from_the_wrong_subnet_is_refused() -> None:
    """Requests get a reject signal; responses are accepted and their cycles lost."""
    world = RoutingWorld(0, subnets=3)
    stranger, here = canister_id(2, 0), canister_id(0, 0)
    forged = response(request(here, stranger, 1), refund=9)
    world.receive((subnet_id(1), slice_of(request(stranger, here, 1), forged)))
    stream = world.streams[subnet_id(1)]
    assert list(stream.reject_signals) == [RejectSignal(StreamIndex(0), RejectReason.CANISTER_MIGRATING)]
    assert stream.signals_end == 2
    assert world.lost.by_cause == {LossCause.WRONG_SUBNET: 9}
    assert not world.canister(0).queues.has_input()


def test_messages_for_canisters_hosted_elsewhere_are_refused() -> None:
    """Requests, refunds and best-effort responses get a reject signal, guaranteed responses are lost."""
    world = RoutingWorld(0, subnets=3)
    sender, elsewhere = canister_id(1, 0), canister_id(2, 0)
    best_effort = request(elsewhere, sender, 1, deadline_s=1100)
    messages = [
        request(sender, elsewhere, 1),
        Refund(recipient=elsewhere, amount=Cycles(3)),
        response(best_effort, refund=4),
        response(request(elsewhere, sender, 2), refund=5),
    ]
    world.receive((subnet_id(1), slice_of(*messages)))
    assert [signal.index for signal in world.streams[subnet_id(1)].reject_signals] == [0, 1, 2]
    assert world.lost.by_cause == {LossCause.NO_ROUTE: 5}


def test_refunds_are_credited_or_lost() -> None:
    """If the recipient exists."""
    world = RoutingWorld()
    known, gone = canister_id(0, 0), canister_id(0, 99)
    world.receive(
        (subnet_id(1), slice_of(*(Refund(recipient=who, amount=Cycles(7)) for who in (known, gone)))),
    )
    assert world.canister(0).balance == 10**15 + 7
    assert world.lost.by_cause == {LossCause.RECIPIENT_GONE: 7}


def test_responses_that_nobody_waits_for_are_lost() -> None:
    """Guaranteed ones; a late best-effort response gives its refund to the caller."""
    world = RoutingWorld()
    here, there = canister_id(0, 0), canister_id(1, 0)
    late = response(request(here, there, 5, deadline_s=900), refund=6)
    world.receive((subnet_id(1), slice_of(response(request(here, there, 5), refund=5), late)))
    assert world.lost.by_cause == {LossCause.UNEXPECTED_RESPONSE: 5}
    assert world.canister(0).balance == 10**15 + 6
    assert not world.canister(0).queues.has_input()


def test_refused_responses_are_sent_to_where_their_receiver_is_now() -> None:
    """Even for a reason that no honest subnet gives."""
    left = RoutingWorld(0, subnets=3)
    stream = left.streams.setdefault(subnet_id(1), Stream())
    answer = response(request(canister_id(2, 0), canister_id(0, 0), 1), refund=3)
    stream.push(answer)
    signals = (RejectSignal(StreamIndex(0), RejectReason.CANISTER_MIGRATING),)
    header = StreamHeader(begin=StreamIndex(0), end=StreamIndex(0), signals_end=StreamIndex(1), reject_signals=signals)
    left.receive((subnet_id(1), FakeSlice(header, StreamIndex(0), ())))
    assert list(left.streams[subnet_id(2)].messages) == [answer]
    assert (left.flow.returned, left.flow.sent) == (3, 3)


def test_slices_are_taken_in_order_of_their_subnet() -> None:
    """Whatever order the batch has them in."""
    world = RoutingWorld(0, subnets=3)
    here = canister_id(0, 0)
    slices = [(subnet_id(n), slice_of(request(canister_id(n, 0), here, n))) for n in (2, 1)]
    world.receive(*slices)
    first = world.canister(0).queues.peek_inputs(1)[0]
    assert not isinstance(first, Response)
    assert first.sender == canister_id(1, 0)


def test_a_gap_in_a_slice_stops_the_node() -> None:
    """Slices are checked before; one that doesn't fit here is a bug."""
    world = RoutingWorld()
    with pytest.raises(AssertionError, match="expected 0"):
        world.receive((subnet_id(1), slice_of(request(canister_id(1, 0), canister_id(0, 0), 1), begin=4)))
