"""Cycles that cross the border of a subnet, and those under way inside it: what conservation is checked with.

Rule module. Not in the spec. For every subnet, exactly:

    minted + received + returned - sent - burned - lost = balances + reserved + prepaid + in queues + owed refunds + loopback

and over all subnets, sent - received - returned is what is in streams between them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types.messages import Refund, Request, StreamMessage
from ic_types.units import Cycles
from message_routing.queues import CanisterQueues
from xnet.stream import Stream


@dataclass(slots=True)
class CyclesFlow:
    """Totals since genesis; state of the subnet."""

    sent: int = 0
    """Attached to messages put into streams to other subnets."""
    received: int = 0
    """Attached to messages of other subnets that were accepted, delivered or not."""
    returned: int = 0
    """Attached to own messages that another subnet refused."""

    def to_canonical(self) -> tuple[object, ...]:
        """The hashable form."""
        return (self.sent, self.received, self.returned)


def cycles_of(message: StreamMessage) -> Cycles:
    """What a message carries."""
    if isinstance(message, Request):
        return message.payment
    return message.amount if isinstance(message, Refund) else message.refund


def cycles_in_queues(queues: CanisterQueues) -> Cycles:
    """What all queued requests and responses carry; costs their number."""
    total = 0
    for peer in queues.peers.values():
        total += sum(cycles_of(message) for message in peer.inputs.values())
        total += sum(cycles_of(message) for message, _ in peer.outputs.values())
    return Cycles(total)


def cycles_in_stream(stream: Stream) -> Cycles:
    """What all messages of a stream carry."""
    return Cycles(sum(cycles_of(message) for message in stream.messages))
