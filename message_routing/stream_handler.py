"""Takes messages out of streams: the own loopback stream first, then slices of other subnets, with signals both ways.

Rule module. Spec leaves transport open; this is the replica's protocol. Slices were verified before and fit the own streams;
every message gets a signal. A request that can't be delivered is rejected by its sender's subnet when the signal arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ic_types import trace
from ic_types.messages import Refund, Request, Response, StreamMessage
from ic_types.principal import MANAGEMENT_CANISTER, SubnetId
from ic_types.reject import Reject, RejectCode
from ic_types.units import StreamIndex
from message_routing.cycles_flow import CyclesFlow, cycles_of
from message_routing.delivery import (
    Delivery,
    Refusal,
    deliver_refund,
    deliver_request,
    deliver_response,
    needed_bytes,
)
from message_routing.local_reject import reject_response
from message_routing.lost_cycles import LossCause
from xnet.garbage_collection import collect_garbage, take_loopback
from xnet.header import RejectReason, StreamHeader
from xnet.stream import Stream

Streams = dict[SubnetId, Stream]

REASON: Mapping[Refusal, RejectReason] = {
    Refusal.NOT_FOUND: RejectReason.CANISTER_NOT_FOUND,
    Refusal.STOPPED: RejectReason.CANISTER_STOPPED,
    Refusal.STOPPING: RejectReason.CANISTER_STOPPING,
    Refusal.QUEUE_FULL: RejectReason.QUEUE_FULL,
    Refusal.OUT_OF_MEMORY: RejectReason.OUT_OF_MEMORY,
}


class Slice(Protocol):
    """Consecutive messages of another subnet's stream to this one, with the stream's header."""

    @property
    def header(self) -> StreamHeader:
        """The header that was certified with the messages."""

    @property
    def begin(self) -> StreamIndex:
        """Index of the first message; the header's end if there is none."""

    @property
    def messages(self) -> Sequence[StreamMessage]:
        """The messages; may be none when only signals are new."""


@dataclass(slots=True)
class StreamPort:
    """What stream handling needs of the subnet."""

    delivery: Delivery
    streams: Streams
    flow: CyclesFlow


@dataclass(slots=True)
class StreamCounts:
    """What came in; counters for tables, not state."""

    requests: int = 0
    responses: int = 0
    refunds: int = 0
    refused: int = 0

    def count(self, message: StreamMessage) -> None:
        """Count a message by its kind."""
        if isinstance(message, Request):
            self.requests += 1
        elif isinstance(message, Response):
            self.responses += 1
        else:
            self.refunds += 1


def reject_for(reason: RejectReason, request: Request) -> Reject:
    """What the sender of a refused request learns."""
    receiver = request.receiver
    match reason:
        case RejectReason.CANISTER_MIGRATING:
            return Reject(RejectCode.SYS_TRANSIENT, "Canister migration in progress")
        case RejectReason.CANISTER_NOT_FOUND:
            return Reject(RejectCode.DESTINATION_INVALID, f"Canister {receiver} not found")
        case RejectReason.CANISTER_STOPPED:
            return Reject(RejectCode.CANISTER_ERROR, f"Canister {receiver} is stopped")
        case RejectReason.CANISTER_STOPPING:
            return Reject(RejectCode.CANISTER_ERROR, f"Canister {receiver} is stopping")
        case RejectReason.QUEUE_FULL:
            return Reject(RejectCode.SYS_TRANSIENT, f"Canister {receiver} input queue is full")
        case RejectReason.OUT_OF_MEMORY:
            text = f"Cannot induct request. Out of memory: requested {needed_bytes(request)}"
            return Reject(RejectCode.CANISTER_ERROR, text)
        case _:
            return Reject(RejectCode.SYS_FATAL, "Inducting request failed due to an unknown error")


def process_streams(port: StreamPort, slices: Iterable[tuple[SubnetId, Slice]]) -> StreamCounts:
    """One round's worth of streams: loopback, garbage collection by all slices, then induction, ascending by subnet."""
    induct_loopback(port)
    ordered = sorted(slices, key=lambda item: item[0])
    for peer, piece in ordered:
        settle_signals(port, peer, piece)
    counts = StreamCounts()
    for peer, piece in ordered:
        induct_slice(port, peer, piece, counts)
    return counts


def induct_loopback(port: StreamPort) -> int:
    """Deliver what is in the loopback stream now; a refused request is rejected at once."""
    stream = port.streams.get(port.delivery.routing.own_subnet)
    if stream is None or not stream.messages:
        return 0
    waiting = take_loopback(stream)
    for _, message in waiting:
        trace.emit("message_routing.stream_handler.induct_loopback", _receiver(message))
        if isinstance(message, Request):
            refused = deliver_request(port.delivery, message, local=True)
            if refused is not None:
                _reject(port, message, REASON[refused])
        elif isinstance(message, Response):
            deliver_response(port.delivery, message, local=True)
        else:
            deliver_refund(port.delivery, message)
    return len(waiting)


def settle_signals(port: StreamPort, peer: SubnetId, piece: Slice) -> None:
    """Drop own messages that the slice has signals for, and signals that the peer needs no more; answer refused requests."""
    stream = port.streams.setdefault(peer, Stream())
    for refused in collect_garbage(stream, piece.header):
        message = refused.message
        port.flow.returned += cycles_of(message)
        if isinstance(message, Request):
            _reject(port, message, refused.reason)
        else:
            _reroute(port, message)


def induct_slice(port: StreamPort, peer: SubnetId, piece: Slice, counts: StreamCounts) -> None:
    """Deliver the slice's messages and signal for each."""
    stream = port.streams.setdefault(peer, Stream())
    assert not piece.messages or stream.signals_end == piece.begin, (
        f"slice of {peer} starts at {piece.begin}, expected {stream.signals_end}"
    )
    for message in piece.messages:
        trace.emit("message_routing.stream_handler.induct_slice", _receiver(message))
        reason = _induct(port, peer, message)
        if reason is None:
            stream.accept()
            port.flow.received += cycles_of(message)
            counts.count(message)
        else:
            stream.reject(reason)
            counts.refused += 1


def _induct(port: StreamPort, peer: SubnetId, message: StreamMessage) -> RejectReason | None:
    """Deliver one message of another subnet; the reason of the reject signal, or None to accept."""
    delivery, routing = port.delivery, port.delivery.routing
    if isinstance(message, Request):
        if routing.route(message.sender) != peer or not routing.is_local(message.receiver):
            return RejectReason.CANISTER_MIGRATING
        refused = deliver_request(delivery, message, local=False)
        return None if refused is None else REASON[refused]
    if isinstance(message, Refund):
        if not routing.is_local(message.recipient):
            return RejectReason.CANISTER_MIGRATING
        deliver_refund(delivery, message)
        return None
    if message.respondent != MANAGEMENT_CANISTER and routing.route(message.respondent) != peer:
        delivery.lost.add(LossCause.WRONG_SUBNET, message.refund)
        return None
    if not routing.is_local(message.originator):
        if message.deadline_s:
            return RejectReason.CANISTER_MIGRATING
        delivery.lost.add(LossCause.NO_ROUTE, message.refund)
        return None
    deliver_response(delivery, message, local=False)
    return None


def _reject(port: StreamPort, request: Request, reason: RejectReason) -> None:
    """Answer an own request that was refused."""
    local = port.delivery.routing.is_local(request.receiver)
    deliver_response(port.delivery, reject_response(request, reject_for(reason, request)), local=local)


def _reroute(port: StreamPort, message: Response | Refund) -> None:
    """Send a refused response or refund to wherever its receiver is hosted now."""
    routing = port.delivery.routing
    host = routing.route(_receiver(message))  # type: ignore[arg-type]
    if host is None:
        port.delivery.lost.add(LossCause.NO_ROUTE, cycles_of(message))
        return
    if host != routing.own_subnet:
        port.flow.sent += cycles_of(message)
    port.streams.setdefault(host, Stream()).push(message)


def _receiver(message: StreamMessage) -> bytes:
    if isinstance(message, Request):
        return message.receiver
    return message.originator if isinstance(message, Response) else message.recipient
