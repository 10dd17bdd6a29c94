"""Moves what is left in output queues into streams, a turn per canister and queue, within the streams' limits.

Rule module. Spec leaves transport open; this is the replica's protocol. A request that can't go anywhere is rejected here; what
a full stream has no room for stays in its queue and may time out there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from configs.limits import SubnetLimits
from ic_types import trace
from ic_types.messages import Refund, Request, Response, StreamMessage
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, SubnetId
from ic_types.reject import Reject, RejectCode
from message_routing.cycles_flow import CyclesFlow, cycles_of
from message_routing.local_reject import push_local_reject
from message_routing.lost_cycles import LossCause, LostCycles
from message_routing.message_size import payload_bytes
from message_routing.queues import CanisterQueues
from message_routing.receivers import Canisters
from message_routing.refunds import RefundPool
from message_routing.routing_table import RoutingTable
from message_routing.stream_handler import StreamCounts, Streams
from message_routing.timeouts import Deadlines
from xnet.stream import Stream

Resolver = Callable[[Request], SubnetId | Reject]
"""Which subnet's management canister a call to `aaaaa-aa` is for."""


@dataclass(slots=True)
class StreamBuilding:
    """What building streams needs of the subnet."""

    canisters: Canisters
    management_queues: CanisterQueues
    routing: RoutingTable
    streams: Streams
    refunds: RefundPool
    deadlines: Deadlines
    lost: LostCycles
    flow: CyclesFlow
    limits: SubnetLimits
    system_subnets: frozenset[SubnetId]
    """Streams to these are kept short."""
    resolve: Resolver


@dataclass(slots=True)
class _Turn:
    """One canister's place in the rotation."""

    owner: CanisterId
    queues: CanisterQueues
    peers: deque[CanisterId]


@dataclass(slots=True)
class _Limits:
    """How full the streams are, counted once per build."""

    port: StreamBuilding
    canister_messages: dict[SubnetId, int] = field(default_factory=dict)
    """Requests and responses in streams to system subnets."""

    def is_full(self, destination: SubnetId, *, refund: bool = False) -> bool:
        """No further message fits; the loopback stream has no limits."""
        if destination == self.port.routing.own_subnet:
            return False
        stream, limits = self.port.streams.get(destination), self.port.limits
        if stream is None:
            return False
        if len(stream.messages) >= limits.max_stream_messages or stream.byte_count >= limits.max_stream_bytes:
            return True
        if refund or destination not in self.port.system_subnets:
            return False
        return self._count(destination, stream) >= 2 * limits.system_stream_messages

    def added(self, destination: SubnetId) -> None:
        """A request or response went into the stream."""
        if destination in self.canister_messages:
            self.canister_messages[destination] += 1

    def _count(self, destination: SubnetId, stream: Stream) -> int:
        if destination not in self.canister_messages:
            self.canister_messages[destination] = sum(not isinstance(m, Refund) for m in stream.messages)
        return self.canister_messages[destination]


def build_streams(port: StreamBuilding) -> StreamCounts:
    """Route refunds, then one message per turn until every queue is empty or waits for a full stream."""
    trace.emit("message_routing.stream_builder.build_streams", port.routing.own_subnet)
    counts, limits = StreamCounts(), _Limits(port)
    _route_refunds(port, limits, counts)
    turns = deque(
        _Turn(canister.canister_id, canister.queues, deque(canister.queues.output_peers()))
        for canister in port.canisters.outputs.ascending(port.canisters.get)
    )
    if port.management_queues.has_output():
        peers = deque(port.management_queues.output_peers())
        turns.append(_Turn(port.routing.own_subnet, port.management_queues, peers))
    while turns:
        turn = turns.popleft()
        peer = turn.peers.popleft()
        if _route_head(port, turn, peer, limits, counts):
            if turn.queues.peek_output(peer) is not None:
                turn.peers.append(peer)
        else:
            port.deadlines.add_output_queue(turn.owner, turn.queues, peer)
        if turn.peers:
            turns.append(turn)
    return counts


def _route_refunds(port: StreamBuilding, limits: _Limits, counts: StreamCounts) -> None:
    most, routed = port.limits.max_stream_messages // 2, dict[SubnetId, int]()
    for refund in port.refunds.pending() if len(port.refunds) else ():
        destination = port.routing.route(refund.recipient)
        if destination is None:
            port.refunds.paid(refund)
            port.lost.add(LossCause.NO_ROUTE, refund.amount)
        elif routed.get(destination, 0) < most and not limits.is_full(destination, refund=True):
            port.refunds.paid(refund)
            _push(port, destination, refund)
            routed[destination] = routed.get(destination, 0) + 1
            counts.count(refund)


def _route_head(port: StreamBuilding, turn: _Turn, peer: CanisterId, limits: _Limits, counts: StreamCounts) -> bool:
    """Route or reject the next message of a queue; False when its stream is full."""
    queues = turn.queues
    message = queues.peek_output(peer)
    assert message is not None, "an empty output queue is in the rotation"
    destination = _destination(port, message)
    if not isinstance(destination, Reject) and destination is not None and limits.is_full(destination):
        return False
    message = queues.pop_output(peer)
    if turn.queues is not port.management_queues:
        port.canisters.touch(turn.owner)
    if isinstance(message, Request):
        why = _refusal(port, message, destination)
        if why is not None:
            counts.refused += 1
            if not push_local_reject(queues, message, why, local=port.routing.is_local(peer)):
                port.refunds.add(message.sender, message.payment)
            return True
        if message.deadline_s:
            port.deadlines.add_callback(message)
    elif destination is None:
        port.lost.add(LossCause.NO_ROUTE, message.refund)
        return True
    else:
        message = _fitting(port, message, destination)
    assert destination is not None, "a message without destination"
    assert not isinstance(destination, Reject), "a refused message is routed"
    _push(port, destination, message)
    limits.added(destination)
    counts.count(message)
    trace.emit("message_routing.stream_builder.build_streams", peer)
    return True


def _destination(port: StreamBuilding, message: Request | Response) -> SubnetId | Reject | None:
    if isinstance(message, Response):
        return port.routing.route(message.originator)
    if message.receiver == MANAGEMENT_CANISTER:
        return port.resolve(message)
    return port.routing.route(message.receiver)


def _refusal(port: StreamBuilding, request: Request, destination: SubnetId | Reject | None) -> Reject | None:
    """Why a request is rejected here, or None."""
    if isinstance(destination, Reject):
        return destination
    if destination is None:
        return Reject(RejectCode.DESTINATION_INVALID, f"No route to canister {request.receiver}")
    size, most = payload_bytes(request), port.limits.max_payload
    if destination != port.routing.own_subnet and size > most:
        return Reject(RejectCode.CANISTER_ERROR, f"Request payload size ({size}) exceeds maximum allowed size: {most}.")
    return None


def _fitting(port: StreamBuilding, response: Response, destination: SubnetId | Reject) -> Response:
    """The response, or a reject in its place when it is too large for another subnet."""
    size, most = payload_bytes(response), port.limits.max_payload
    if destination == port.routing.own_subnet or size <= most:
        return response
    text = f"Response payload size ({size}) exceeds maximum allowed size: {most}."
    return replace(response, payload=Reject(RejectCode.CANISTER_ERROR, text))


def _push(port: StreamBuilding, destination: SubnetId, message: StreamMessage) -> None:
    if destination != port.routing.own_subnet:
        port.flow.sent += cycles_of(message)
    stream = port.streams.get(destination)
    if stream is None:
        stream = port.streams[destination] = Stream()
    stream.push(message)
