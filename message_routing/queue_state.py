"""What a canister's queues hold: peers, ingress, rotations, memory counters; with its canonical form and its invariants.

Rule module. `message_routing.queues` has the operations.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from configs.limits import MAX_RESPONSE_BYTES
from ic_types.messages import Ingress, Request, Response
from ic_types.principal import CanisterId, Principal
from ic_types.units import CallbackId, NumBytes, TimeNs
from message_routing.input_schedule import InputClass, Rotation
from message_routing.message_size import digest, memory_bytes

QUEUE_CAPACITY: Final = 500

Canonical = tuple[object, ...]
"""Nested tuples of int, bytes, str and None: the form that is hashed."""


@dataclass(slots=True)
class PeerQueues:
    """The pair of queues between a canister and one peer; keys are sequence numbers, in order."""

    inputs: OrderedDict[int, Request | Response] = field(default_factory=OrderedDict)
    outputs: OrderedDict[int, tuple[Request | Response, TimeNs]] = field(default_factory=OrderedDict)
    """Messages with the time at which they are timed out (0 = never)."""
    input_requests: int = 0
    input_slots: int = 0
    """Response slots of the input queue, reserved or filled."""
    output_requests: int = 0
    output_slots: int = 0
    """Response slots of the output queue, reserved or filled."""
    scheduled: InputClass | None = None
    """The rotation that the peer stands in."""
    noted: int = 0
    """Local: output messages up to this number have their deadline noted already (see `timeouts`)."""

    def is_idle(self) -> bool:
        """Nothing queued and nothing reserved."""
        return not (self.input_slots or self.output_slots or self.inputs or self.outputs)


@dataclass(slots=True)
class MessageMemory:
    """Counters of message memory; guaranteed calls reserve a largest response at both ends, best-effort ones only use bytes."""

    reserved: int = 0
    """Guaranteed-response slots that are reserved and not filled."""
    response_bytes: int = 0
    excess_bytes: int = 0
    """Bytes of guaranteed requests beyond the largest response."""
    best_effort_bytes: int = 0

    def count(self, message: Request | Response, sign: int) -> None:
        """A message entered (+1) or left (-1) a queue."""
        size = memory_bytes(message)
        if message.deadline_s:
            self.best_effort_bytes += sign * size
        elif type(message) is Response:
            self.response_bytes += sign * size
        elif size > MAX_RESPONSE_BYTES:
            self.excess_bytes += sign * (size - MAX_RESPONSE_BYTES)

    def guaranteed_bytes(self) -> NumBytes:
        """Memory of guaranteed-response messages and reservations."""
        return NumBytes(self.reserved * MAX_RESPONSE_BYTES + self.response_bytes + self.excess_bytes)


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """What waits where, for tables and tests."""

    ingress: int
    input_requests: int
    input_responses: int
    output_requests: int
    output_responses: int
    open_slots: int
    """Response slots reserved and not filled, both directions."""
    guaranteed_bytes: NumBytes
    best_effort_bytes: NumBytes


class QueueState:
    """The record behind `CanisterQueues`."""

    __slots__ = (
        "best_effort_responses",
        "by_effective_id",
        "capacity",
        "digests",
        "ingress",
        "ingress_rotation",
        "memory",
        "next_class",
        "output_count",
        "peers",
        "rotations",
        "sequence",
    )

    def __init__(self, capacity: int = QUEUE_CAPACITY, *, by_effective_id: bool = False) -> None:
        """`by_effective_id`: rotate over the effective canisters of ingress, as the management canister's queues do."""
        self.capacity = capacity
        self.by_effective_id = by_effective_id
        self.peers: dict[CanisterId, PeerQueues] = {}
        self.ingress: dict[Principal | None, OrderedDict[bytes, Ingress]] = {}
        self.ingress_rotation: Rotation[Principal | None] = Rotation()
        self.rotations: tuple[Rotation[Principal], None, Rotation[Principal]] = (Rotation(), None, Rotation())
        self.next_class = 0
        self.sequence = 1
        """Names queued messages; order is state, the numbers aren't."""
        self.output_count = 0
        self.memory = MessageMemory()
        self.best_effort_responses: dict[CallbackId, int] = {}
        """Queued best-effort responses: callback to sequence number."""
        self.digests: dict[int, bytes] = {}  # local: digests of messages that stayed over a round

    def guaranteed_memory(self) -> NumBytes:
        """Bytes of guaranteed-response message memory, reservations included."""
        return self.memory.guaranteed_bytes()

    def best_effort_places(self) -> Iterator[tuple[int, int, bool, CanisterId]]:
        """Bytes, sequence number, whether it is an input, and the peer of every best-effort message that takes memory."""
        for peer_id, peer in self.peers.items():
            for sequence, message in peer.inputs.items():
                if message.deadline_s and (size := memory_bytes(message)):
                    yield size, sequence, True, peer_id
            for sequence, (message, _) in peer.outputs.items():
                if message.deadline_s:
                    yield memory_bytes(message), sequence, False, peer_id

    def best_effort_memory(self) -> NumBytes:
        """Bytes of best-effort messages."""
        return NumBytes(self.memory.best_effort_bytes)

    def message_memory(self) -> NumBytes:
        """All message memory: what the canister is billed for."""
        return NumBytes(self.memory.guaranteed_bytes() + self.memory.best_effort_bytes)

    def statistics(self) -> QueueStatistics:
        """Counts over all queues; costs the number of peers."""
        pairs = self.peers.values()
        requests_in, requests_out = sum(p.input_requests for p in pairs), sum(p.output_requests for p in pairs)
        responses_in, responses_out = sum(len(p.inputs) for p in pairs), sum(len(p.outputs) for p in pairs)
        return QueueStatistics(
            ingress=sum(map(len, self.ingress.values())),
            input_requests=requests_in,
            input_responses=responses_in - requests_in,
            output_requests=requests_out,
            output_responses=responses_out - requests_out,
            open_slots=sum(p.input_slots + p.output_slots for p in pairs)
            - (responses_in - requests_in)
            - (responses_out - requests_out),
            guaranteed_bytes=self.guaranteed_memory(),
            best_effort_bytes=self.best_effort_memory(),
        )

    def to_canonical(self) -> Canonical:
        """The hashable form: messages by digest, peers ascending, rotations in order."""
        local, _, remote = self.rotations
        peers = tuple(self._canonical_peer(peer_id, self.peers[peer_id]) for peer_id in sorted(self.peers))
        ingress = tuple((key, tuple(self.ingress[key])) for key in self.ingress_rotation.turns)
        return (self.next_class, tuple(local.turns), tuple(remote.turns), ingress, peers)

    def _canonical_peer(self, peer_id: CanisterId, peer: PeerQueues) -> Canonical:
        known = self.digests
        inputs, outputs = [], []
        for sequence, message in peer.inputs.items():
            if sequence not in known:
                known[sequence] = digest(message)
            inputs.append(known[sequence])
        for sequence, (message, due) in peer.outputs.items():
            if sequence not in known:
                known[sequence] = digest(message)
            outputs.append((known[sequence], due))
        slots = (peer.input_slots, peer.output_slots)
        return (peer_id, slots, tuple(inputs), tuple(outputs))

    def check_invariants(self) -> None:
        """Counters equal what they count, slots hold, rotations name exactly the senders with something queued."""
        memory, outputs = MessageMemory(), 0
        scheduled: dict[CanisterId, InputClass] = {}
        for peer_id, peer in self.peers.items():
            assert not peer.is_idle(), f"the idle pair of {peer_id} wasn't forgotten"
            ins, outs = list(peer.inputs.values()), [message for message, _ in peer.outputs.values()]
            for message in ins + outs:
                memory.count(message, 1)
            outputs += len(outs)
            assert peer.input_requests == sum(type(m) is Request for m in ins) <= self.capacity
            assert peer.output_requests == sum(type(m) is Request for m in outs) <= self.capacity
            assert len(ins) - peer.input_requests <= peer.input_slots <= self.capacity
            assert len(outs) - peer.output_requests <= peer.output_slots <= self.capacity
            assert (peer.scheduled is not None) == bool(ins), f"{peer_id} is in a rotation without input, or not with it"
            if peer.scheduled is not None:
                scheduled[peer_id] = peer.scheduled
        for input_class in (InputClass.LOCAL, InputClass.REMOTE):
            rotation = self.rotations[input_class]
            assert rotation is not None
            expected = sorted(peer_id for peer_id, kind in scheduled.items() if kind is input_class)
            assert sorted(rotation.turns) == expected, "a rotation differs from the senders with input"
        assert sorted(map(str, self.ingress_rotation.turns)) == sorted(map(str, self.ingress))
        assert all(self.ingress.values()), "an empty ingress queue wasn't forgotten"
        assert outputs == self.output_count
        memory.reserved = self.memory.reserved
        assert memory == self.memory, "message memory counters drifted"
        assert memory.reserved >= 0
