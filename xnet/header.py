"""Stream headers and signals: what two subnets tell each other beside the messages.

Rule module. Not in the spec, which leaves transport open; indices and reasons are the replica's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ic_types.units import StreamIndex


class RejectReason(IntEnum):
    """Why a message of a stream was refused by the receiving subnet."""

    CANISTER_MIGRATING = 0
    CANISTER_NOT_FOUND = 1
    CANISTER_STOPPED = 2
    CANISTER_STOPPING = 3
    QUEUE_FULL = 4
    OUT_OF_MEMORY = 5
    UNKNOWN = 6


@dataclass(frozen=True, slots=True)
class RejectSignal:
    """The message at this index of the reverse stream was refused."""

    index: StreamIndex
    reason: RejectReason


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHeader:
    """A stream without its messages: what the other side needs to know."""

    begin: StreamIndex
    """Index of the first message that is still here."""
    end: StreamIndex
    """Index that the next message will get."""
    signals_end: StreamIndex
    """Index of the message expected next from the reverse stream."""
    reject_signals: tuple[RejectSignal, ...] = ()
    """In ascending order of indices, all below signals_end."""
    flags: int = 0
