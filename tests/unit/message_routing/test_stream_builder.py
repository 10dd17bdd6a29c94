"""Outputs into streams: turns, limits, local rejects, refunds."""

from __future__ import annotations

from ic_types.messages import Request
from ic_types.principal import MANAGEMENT_CANISTER
from ic_types.reject import ErrorCode, RejectCode, Reply, reject
from ic_types.units import Cycles
from message_routing.lost_cycles import LossCause
from message_routing.stream_builder import StreamBuilding, build_streams
from tests.support.routing_world import RoutingWorld, canister_id, rejects_of, request, response, subnet_id


def senders(world: RoutingWorld, to: int) -> list[tuple[bytes, bytes]]:
    """Who sends to whom in the stream to a subnet, in order."""
    return [(m.sender, m.receiver) for m in world.streams[subnet_id(to)].messages if isinstance(m, Request)]


def test_canisters_and_their_queues_take_turns() -> None:
    """One message per canister, and per queue of a canister."""
    world = RoutingWorld(0)
    a, b = world.canister(0), world.canister(1)
    x, y = canister_id(1, 0), canister_id(1, 1)
    for receiver in (x, x, y):
        world.call(a, receiver)
    world.call(b, x)
    counts = world.build()
    assert senders(world, 1) == [(a.canister_id, x), (b.canister_id, x), (a.canister_id, y), (a.canister_id, x)]
    assert counts.requests == 4
    assert world.flow.sent == 0


def test_a_full_stream_holds_up_only_its_own_queues() -> None:
    """Others go on; what stays is routed once there is room."""
    world = RoutingWorld(0, subnets=3, max_stream_messages=2)
    for n in range(2):
        for _ in range(2):
            world.call(world.canister(n), canister_id(1, 0))
    world.call(world.canister(0), canister_id(2, 0))
    world.build()
    assert len(world.streams[subnet_id(1)].messages) == 2
    assert len(world.streams[subnet_id(2)].messages) == 1
    world.streams[subnet_id(1)].discard_messages_before(world.streams[subnet_id(1)].end)
    world.build()
    assert len(world.streams[subnet_id(1)].messages) == 2
    assert not any(c.queues.has_output() for c in world.canisters.known.values())


def test_streams_stop_at_their_byte_limit() -> None:
    """The message that crosses it is the last."""
    world = RoutingWorld(0, max_stream_bytes=1000)
    for _ in range(4):
        world.call(world.canister(0), canister_id(1, 0), arg=bytes(600))
    world.build()
    assert len(world.streams[subnet_id(1)].messages) == 2


def test_streams_to_system_subnets_are_kept_short() -> None:
    """Twice the limit of what they take in."""
    world = RoutingWorld(0, system_stream_messages=1)
    for _ in range(5):
        world.call(world.canister(0), canister_id(1, 0))
    port = StreamBuilding(
        canisters=world.canisters,
        management_queues=world.management_queues,
        routing=world.routing,
        streams=world.streams,
        refunds=world.refunds,
        deadlines=world.deadlines,
        lost=world.lost,
        flow=world.flow,
        limits=world.limits,
        system_subnets=frozenset({subnet_id(1)}),
        resolve=world.resolve,
    )
    build_streams(port)
    assert len(world.streams[subnet_id(1)].messages) == 2
    build_streams(port)
    assert len(world.streams[subnet_id(1)].messages) == 2


def test_the_loopback_stream_has_no_limits() -> None:
    """Messages to the own subnet always leave."""
    world = RoutingWorld(0, max_stream_messages=1)
    for _ in range(5):
        world.call(world.canister(0), canister_id(0, 1))
    world.build()
    assert len(world.streams[world.own].messages) == 5


def test_requests_without_route_or_too_large_are_rejected_here() -> None:
    """With all their cycles; local ones may be larger."""
    world = RoutingWorld(0, max_payload=100)
    caller = world.canister(0)
    world.call(caller, canister_id(7, 0), cycles=1)
    world.call(caller, canister_id(1, 0), cycles=2, arg=bytes(100))
    world.call(caller, canister_id(0, 1), arg=bytes(100))
    counts = world.build()
    assert counts.refused == 2
    while caller.queues.has_input():
        world.take_input(caller)
    no_route, too_large = sorted(rejects_of(caller), key=lambda why: why.code)
    assert no_route.code is RejectCode.DESTINATION_INVALID
    assert no_route.message == f"No route to canister {canister_id(7, 0)}"
    assert too_large.code is RejectCode.CANISTER_ERROR
    assert caller.balance == 10**15
    assert len(world.streams[world.own].messages) == 1


def test_management_calls_that_cannot_be_resolved_are_rejected() -> None:
    """With the resolver's reason."""
    world = RoutingWorld(0)
    world.resolve = lambda request: reject(ErrorCode.CANISTER_METHOD_NOT_FOUND, "no such method")  # type: ignore[assignment,return-value]
    world.call(world.canister(0), MANAGEMENT_CANISTER, cycles=3)
    world.build()
    world.take_input(world.canister(0))
    assert rejects_of(world.canister(0))[0].message == "no such method"


def test_oversized_responses_become_rejects() -> None:
    """The refund stays."""
    world = RoutingWorld(0, max_payload=100)
    asked = request(canister_id(1, 0), canister_id(0, 0), 1, cycles=9)
    queues = world.canister(0).queues
    queues.push_input_request(asked, local=False)
    queues.pop_input()
    queues.push_output_response(response(asked, Reply(bytes(101)), refund=9))
    world.canisters.touch(canister_id(0, 0))
    world.build()
    (sent,) = world.streams[subnet_id(1)].messages
    assert sent.refund == 9  # type: ignore[union-attr]
    assert sent.payload.code is RejectCode.CANISTER_ERROR  # type: ignore[union-attr]


def test_responses_without_route_lose_their_cycles() -> None:
    """Counted by cause."""
    world = RoutingWorld(0)
    asked = request(canister_id(7, 0), canister_id(0, 0), 1)
    queues = world.canister(0).queues
    queues.push_input_request(asked, local=False)
    queues.pop_input()
    queues.push_output_response(response(asked, refund=4))
    world.canisters.touch(canister_id(0, 0))
    world.build()
    assert world.lost.by_cause == {LossCause.NO_ROUTE: 4}


def test_refunds_go_first_but_take_half_a_stream_at_most() -> None:
    """Largest first; the rest waits; own canisters get theirs through the loopback stream."""
    world = RoutingWorld(0, max_stream_messages=4)
    for n, amount in enumerate((5, 7, 6)):
        world.refunds.add(canister_id(1, n), amount)
    world.refunds.add(canister_id(0, 0), 1)
    world.refunds.add(canister_id(9, 0), 2)
    world.call(world.canister(0), canister_id(1, 0))
    world.build()
    first, second, third = world.streams[subnet_id(1)].messages
    assert [first.amount, second.amount] == [7, 6]  # type: ignore[union-attr]
    assert isinstance(third, Request)
    assert world.refunds.total() == 5
    assert world.lost.by_cause == {LossCause.NO_ROUTE: 2}
    world.receive()
    assert world.canister(0).balance == 10**15 + 1
    assert world.flow.sent == Cycles(13)


def test_answers_of_the_management_canister_are_routed_too() -> None:
    """Its own queues take part in the rotation."""
    world = RoutingWorld(0)
    asked = request(canister_id(1, 0), world.own, 1)
    world.management_queues.push_input_request(asked, local=False)
    world.management_queues.pop_input()
    world.management_queues.push_output_response(response(asked))
    assert world.build().responses == 1
    assert not world.management_queues.peers
