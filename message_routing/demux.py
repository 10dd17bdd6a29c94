"""Turns a batch into queued messages: streams first, then ingress in the order of the block.

Rule module. Spec: abstract behaviour, where messages enter the IC state; the order is the replica's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ic_types import trace
from ic_types.messages import Ingress
from ic_types.principal import SubnetId
from ic_types.units import TimeNs
from message_routing.induction import IngressInduction, induct_ingress
from message_routing.stream_handler import Slice, StreamCounts, StreamPort, process_streams


@dataclass(slots=True)
class DemuxCounts:
    """What a batch brought; counters for tables, not state."""

    ingress: int = 0
    duplicates: int = 0
    streams: StreamCounts = field(default_factory=StreamCounts)


def demux(
    streams: StreamPort,
    induction: IngressInduction,
    slices: Iterable[tuple[SubnetId, Slice]],
    ingress: Iterable[Ingress],
    now: TimeNs,
) -> DemuxCounts:
    """Induct everything of one batch; `slices` are verified and decoded, by source subnet."""
    counts = DemuxCounts(streams=process_streams(streams, slices))
    for message in ingress:
        trace.emit("message_routing.demux.demux", message.message_id)
        if induct_ingress(induction, message, now):
            counts.ingress += 1
        else:
            counts.duplicates += 1
    return counts
