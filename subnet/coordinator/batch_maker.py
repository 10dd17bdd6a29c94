"""Batches: what each subnet gets in a round, and what it needs of other subnets' streams for the next.

Rule module. Made from the ingress pool, the certified slices at hand, the batch time and the random tape; in virtual time
all of it is decided by what came before, so a continued run makes the batches that the undisturbed one would have made.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import trace
from ic_types.canister_rename import CanisterRename
from ic_types.consensus_calls import ConsensusAnswer
from ic_types.principal import SubnetId
from ic_types.units import StreamIndex
from subnet.coordinator.ingress_pool import IngressPool, PooledMessage
from subnet.coordinator.network_state import Network, Subnet
from subnet.protocol import Batch, CertifiedSlice, SliceRequest
from xnet.payload_selection import StreamPosition, fitting, wanted_slices

REPLICA_VERSION = "icsim"
"""What `subnet_info` tells; the same for every version of this program, so that runs can be replayed by later ones."""
MAX_BATCH_BYTES = 4 << 20
"""Ingress and slices together; the replica's block payload."""


@dataclass(frozen=True, slots=True)
class MadeBatch:
    """A batch and the pool's messages that are in it."""

    batch: Batch
    taken: list[PooledMessage]

    @property
    def is_empty(self) -> bool:
        """Whether nothing from outside is in it."""
        batch = self.batch
        return not (batch.ingress or batch.slices or batch.answers or batch.query_stats or batch.renames)


def empty_batch(subnet: Subnet, height: int, time_ns: int, randomness: bytes) -> Batch:
    """The batch of a round without input."""
    return Batch(
        height=height,
        time_ns=time_ns,
        randomness=randomness,
        is_checkpoint=height % subnet.plan.limits.checkpoint_interval == 0,
        replica_version=REPLICA_VERSION,
    )


def make_batch(
    subnet: Subnet,
    height: int,
    time_ns: int,
    pool: IngressPool,
    slices: tuple[CertifiedSlice, ...],
    answers: tuple[ConsensusAnswer, ...] = (),
    renames: tuple[CanisterRename, ...] = (),
) -> MadeBatch:
    """The next round's batch; slices and answers come first, ingress messages get the room that is left."""
    left = MAX_BATCH_BYTES - sum(len(one.witness) for one in slices) - sum(len(one.reply) for one in answers)
    taken = pool.take(subnet.place, left)
    batch = Batch(
        height=height,
        time_ns=time_ns,
        randomness=subnet.randomness,
        ingress=tuple(one.ingress for one in taken),
        slices=slices,
        answers=answers,
        query_stats=subnet.query_stats,
        is_checkpoint=height % subnet.plan.limits.checkpoint_interval == 0,
        replica_version=REPLICA_VERSION,
        renames=renames,
    )
    for one in taken:
        trace.emit("subnet.coordinator.batch_maker.make_batch", one.ingress.message_id)
    return MadeBatch(batch, taken)


def slice_requests(network: Network, height: int) -> dict[int, list[tuple[int, SliceRequest]]]:
    """What to ask each subnet for once this height is certified: per source, the receiving subnet and the request."""
    asked: dict[int, list[tuple[int, SliceRequest]]] = {}
    for receiver in network.subnets:
        incoming = _streams_to(network, receiver.record.subnet_id)
        if not incoming:
            continue
        outgoing = {peer: _position(receiver, peer) for peer in receiver.heads}
        limit = receiver.plan.subnet_type == "system"
        for wanted in wanted_slices(outgoing, incoming, rotation=height, limit_messages=limit):
            request = SliceRequest(
                peer=receiver.record.subnet_id,
                message_begin=wanted.message_begin,
                signals_begin=wanted.signals_begin,
                max_bytes=receiver.plan.limits.max_slice_bytes,
                max_messages=wanted.max_messages,
            )
            asked.setdefault(network.by_id[wanted.peer], []).append((receiver.place, request))
    return asked


def fitting_slices(network: Network, receiver: Subnet, slices: list[CertifiedSlice], height: int) -> tuple[CertifiedSlice, ...]:
    """Those slices that go into the receiver's next batch, in the order of its rotation; the others are asked for again."""
    peers = sorted(_streams_to(network, receiver.record.subnet_id))
    ordered = sorted(slices, key=lambda one: (peers.index(one.source) - height) % len(peers))
    budget = receiver.plan.limits.max_slice_bytes
    count = fitting([len(one.witness) for one in ordered], max(budget, len(ordered[0].witness)) if ordered else 0)
    return tuple(ordered[:count])


def is_quiet(network: Network) -> bool:
    """Whether no subnet has work left, and no message and no signal is on its way between subnets."""
    if any(subnet.has_work or subnet.slices for subnet in network.subnets):
        return False
    return not slice_requests(network, network.height)


def _streams_to(network: Network, receiver: SubnetId) -> dict[SubnetId, StreamPosition]:
    return {
        source.record.subnet_id: _position(source, receiver)
        for source in network.subnets
        if receiver in source.heads and source.record.subnet_id != receiver
    }


def _position(subnet: Subnet, peer: SubnetId) -> StreamPosition:
    head = subnet.heads[peer]
    return StreamPosition(StreamIndex(head.begin), StreamIndex(head.end), StreamIndex(head.signals_end))
