"""Garbage collection of a stream by what the other side has signalled.

Rule module. Not in the spec; the replica's rules. A message leaves once it is signalled for; a refused request comes back to be
answered here, a refused response or refund to be routed again.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types.messages import StreamMessage
from ic_types.units import StreamIndex
from xnet.header import RejectReason, StreamHeader
from xnet.stream import Stream


@dataclass(frozen=True, slots=True)
class Refused:
    """A message of ours that the other subnet refused."""

    index: StreamIndex
    message: StreamMessage
    reason: RejectReason


def collect_garbage(stream: Stream, header: StreamHeader) -> list[Refused]:
    """Drop messages signalled for in the other side's header, and signals it needs no more; gives the refused, in order.

    The header has been checked (`slice_check.check_indices`), and so can't signal for messages we don't have.
    """
    gone = stream.discard_messages_before(header.signals_end)
    stream.discard_signals_before(header.begin)
    if not header.reject_signals:
        return []
    reasons = {signal.index: signal.reason for signal in header.reject_signals}
    return [Refused(index, message, reasons[index]) for index, message in gone if index in reasons]


def take_loopback(stream: Stream) -> list[tuple[StreamIndex, StreamMessage]]:
    """Take all messages out of the loopback stream; their signals are settled at once, so none stay."""
    gone = stream.discard_messages_before(stream.end)
    stream.signals_end = stream.begin
    return gone
