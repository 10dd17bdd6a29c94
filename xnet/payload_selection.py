"""Which slices a subnet asks its peers for, and how many of them fit a batch.

Rule module. Not in the spec; the replica's rules for building XNet payloads. Nothing is asked for that wouldn't bring new
messages or signals, so an idle network exchanges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ic_types.principal import SubnetId
from ic_types.units import StreamIndex

MIN_BYTES_LEFT: Final = 1024
"""No further slice is taken when less than this is left."""
SYSTEM_STREAM_MESSAGES: Final = 100


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Where a stream stands: its messages and how far it signals the reverse stream."""

    begin: StreamIndex = StreamIndex(0)
    end: StreamIndex = StreamIndex(0)
    signals_end: StreamIndex = StreamIndex(0)


@dataclass(frozen=True, slots=True)
class WantedSlice:
    """Ask `peer` for its stream to us from these indices."""

    peer: SubnetId
    message_begin: StreamIndex
    signals_begin: StreamIndex
    max_messages: int | None = None


NOTHING_YET: Final = StreamPosition()


def wanted_slices(
    outgoing: Mapping[SubnetId, StreamPosition],
    incoming: Mapping[SubnetId, StreamPosition],
    *,
    rotation: int = 0,
    limit_messages: bool = False,
) -> list[WantedSlice]:
    """What to ask for, given our streams to our peers and theirs to us; peers in order, starting with the `rotation`-th.

    With `limit_messages` (system subnets) no more is taken than keeps our reverse stream within its limit.
    """
    peers = sorted(incoming)
    start = rotation % len(peers) if peers else 0
    wanted = []
    for peer in peers[start:] + peers[:start]:
        ours, theirs = outgoing.get(peer, NOTHING_YET), incoming[peer]
        room = max(0, SYSTEM_STREAM_MESSAGES - (ours.end - ours.begin)) if limit_messages else None
        has_messages = theirs.end > ours.signals_end and room != 0
        if has_messages or theirs.signals_end > ours.begin:
            wanted.append(WantedSlice(peer, ours.signals_end, ours.begin, room))
    return wanted


def fitting(sizes: Sequence[int], max_bytes: int) -> int:
    """How many of these slices, taken from the first on, fit into a batch of so many bytes."""
    left = max_bytes
    for count, size in enumerate(sizes):
        if left < MIN_BYTES_LEFT or size > left:
            return count
        left -= size
    return len(sizes)
