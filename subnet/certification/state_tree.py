"""The certified state tree of a subnet, kept up to date part by part.

Rule module. Spec: interface spec, "The system state tree"; streams, metadata and metrics as the replica certifies them (version
22). The node tells what changed; the root then costs only that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cbor2

from ic_types import bls
from ic_types.cbor import SELF_DESCRIBED
from ic_types.fixed_map import FixedMap
from ic_types.hash_tree import HashTree
from ic_types.leb128 import encode_nat
from ic_types.merkle import MerkleMap
from ic_types.principal import CanisterId, NodeId, Principal, SubnetId
from ic_types.reject import ErrorCode, RejectCode
from ic_types.units import Cycles, TimeNs
from xnet.encoding import encode_header
from xnet.stream import Stream

TIME, METADATA, CANISTER, REQUEST_STATUS = b"time", b"metadata", b"canister", b"request_status"
STREAMS, SUBNET, CANISTER_RANGES = b"streams", b"subnet", b"canister_ranges"
BOUNDARY_NODES = b"api_boundary_nodes"
RANGES_PER_SHARD = 5
NEVER = TimeNs(0)
_LOW = (1 << 64) - 1

Range = tuple[CanisterId, CanisterId]
"""First and last canister id of a range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetMetrics:
    """What `/subnet/<own>/metrics` holds."""

    canisters: int
    canister_state_bytes: int
    consumed_cycles: Cycles
    update_transactions: int


class StateTree:
    """The certified tree; its content is a function of the state, so it is no state itself."""

    __slots__ = ("_canisters", "_ranges", "_requests", "_streams", "_subnets", "map")

    def __init__(self) -> None:
        self.map = MerkleMap()
        """The whole tree."""
        self._canisters = self.map.child(CANISTER)
        self._ranges = self.map.child(CANISTER_RANGES)
        self._requests = self.map.child(REQUEST_STATUS)
        self._streams = self.map.child(STREAMS)
        self._subnets = self.map.child(SUBNET)

    def root(self) -> bytes:
        """Root digest, 32 bytes: what the subnet's nodes sign."""
        return self.map.root()

    def witness(self, paths: Iterable[tuple[bytes, ...]]) -> HashTree:
        """The tree pruned to these paths and `/time`."""
        return self.map.witness([(TIME,), *paths])

    def set_time(self, time: TimeNs) -> None:
        """`/time`: nanoseconds since 1970 of the batch."""
        self.map.set(TIME, encode_nat(time))

    def set_metadata(self, previous_root: bytes | None) -> None:
        """`/metadata`: root of the height before, which chains the heights."""
        self.map.set(METADATA, cbor2.dumps({} if previous_root is None else {1: list(previous_root)}))

    # --- canisters

    def set_canister(
        self,
        canister_id: CanisterId,
        *,
        controllers: Sequence[Principal],
        module_hash: bytes | None,
        certified_data: bytes = b"",
        created: TimeNs = NEVER,
        last_install: TimeNs = NEVER,
        metadata: Mapping[str, bytes] | None = None,
    ) -> None:
        """`/canister/<id>`: of an empty canister (`module_hash` None) controllers and creation alone.

        `metadata`: sections by name.
        """
        place = self._canisters.child(bytes(canister_id))
        place.set(b"controllers", SELF_DESCRIBED + cbor2.dumps([bytes(controller) for controller in controllers]))
        if created:
            place.set(b"canister_creation_timestamp", encode_nat(created))
        if module_hash is None:
            for label in (b"module_hash", b"certified_data", b"metadata", b"last_install_timestamp"):
                place.delete(label)
            return
        place.set(b"module_hash", module_hash)
        place.set(b"certified_data", certified_data)
        if last_install:
            place.set(b"last_install_timestamp", encode_nat(last_install))
        if metadata:
            _update(place.child(b"metadata"), {name.encode(): content for name, content in metadata.items()})
        else:
            place.delete(b"metadata")

    def set_certified_data(self, canister_id: CanisterId, data: bytes) -> None:
        """`/canister/<id>/certified_data` of a canister with code that is in the tree."""
        place = self._canisters.get(bytes(canister_id))
        assert isinstance(place, MerkleMap), f"canister {canister_id} is not in the certified tree"
        assert b"module_hash" in place, f"canister {canister_id} has no code, so it has no certified data"
        place.set(b"certified_data", data)

    def delete_canister(self, canister_id: CanisterId) -> None:
        """The canister is gone."""
        self._canisters.delete(bytes(canister_id))

    # --- ingress history

    def set_request_status(
        self,
        message_id: bytes,
        status: str,
        *,
        reply: bytes | None = None,
        reject_code: RejectCode | None = None,
        reject_message: str = "",
        error_code: ErrorCode | None = None,
    ) -> None:
        """`/request_status/<id>`: a reply goes with `replied`, code and text of a reject with `rejected`."""
        assert (reply is not None) == (status == "replied"), f"status {status} with reply {reply!r}"
        assert (reject_code is not None) == (status == "rejected"), f"status {status} with reject code {reject_code}"
        fields: tuple[tuple[bytes, bytes], ...] = ((b"status", status.encode()),)
        if reply is not None:
            fields = ((b"reply", reply), *fields)
        if reject_code is not None:
            fields = ((b"reject_code", encode_nat(reject_code)), (b"reject_message", reject_message.encode()), *fields)
            if error_code is not None:
                fields = ((b"error_code", error_code.text.encode()), *fields)
        self._requests.set(message_id, FixedMap(fields))

    def delete_request_status(self, message_id: bytes) -> None:
        """The subnet forgets the request."""
        self._requests.delete(message_id)

    # --- streams

    def set_stream(self, peer: SubnetId, stream: Stream) -> None:
        """`/streams/<peer>`: header and messages; never told of the loopback stream. Messages are taken over by reference."""
        place = self._streams.child(bytes(peer))
        place.set(b"header", encode_header(stream.header()))
        place.set(b"messages", stream.tree)

    def delete_stream(self, peer: SubnetId) -> None:
        """The peer is gone."""
        self._streams.delete(bytes(peer))

    # --- the network

    def set_subnet(self, subnet_id: SubnetId, *, public_key: bytes, subnet_type: str, ranges: Sequence[Range]) -> None:
        """`/subnet/<id>` and `/canister_ranges/<id>`; `public_key` are the 96 bytes of a BLS key, `ranges` are in order."""
        place = self._subnets.child(bytes(subnet_id))
        place.set(b"public_key", bls.to_der(public_key))
        place.set(b"type", subnet_type.encode())
        place.set(b"canister_ranges", encode_ranges(ranges))
        shards = {} if ranges else {bytes(Principal.canister(0)): encode_ranges(())}
        for start in range(0, len(ranges), RANGES_PER_SHARD):
            shard = ranges[start : start + RANGES_PER_SHARD]
            shards[bytes(shard[0][0])] = encode_ranges(shard)
        _update(self._ranges.child(bytes(subnet_id)), shards)

    def ranges_of(self, subnet_id: SubnetId) -> MerkleMap | None:
        """Shards of a subnet's canister ranges by first canister id."""
        shards = self._ranges.get(bytes(subnet_id))
        return shards if isinstance(shards, MerkleMap) else None

    def set_node(self, subnet_id: SubnetId, node_id: NodeId, public_key_der: bytes) -> None:
        """`/subnet/<id>/node/<node>/public_key`: Ed25519 in DER; the own subnet's nodes only."""
        nodes = self._subnets.child(bytes(subnet_id)).child(b"node")
        nodes.child(bytes(node_id)).set(b"public_key", public_key_der)

    def set_boundary_node(self, node_id: NodeId, *, domain: str, ipv4: str, ipv6: str) -> None:
        """`/api_boundary_nodes/<node>`."""
        place = self.map.child(BOUNDARY_NODES).child(bytes(node_id))
        for label, text in ((b"domain", domain), (b"ipv4_address", ipv4), (b"ipv6_address", ipv6)):
            place.set(label, text.encode())

    def set_metrics(self, own: SubnetId, metrics: SubnetMetrics) -> None:
        """`/subnet/<own>/metrics`."""
        consumed = {0: metrics.consumed_cycles & _LOW, 1: metrics.consumed_cycles >> 64}
        fields = {0: metrics.canisters, 1: metrics.canister_state_bytes, 2: consumed, 3: metrics.update_transactions}
        self._subnets.child(bytes(own)).set(b"metrics", cbor2.dumps(fields))


def encode_ranges(ranges: Sequence[Range]) -> bytes:
    """CBOR of canister ranges. Spec: "Canister ranges"."""
    return SELF_DESCRIBED + cbor2.dumps([[bytes(first), bytes(last)] for first, last in ranges])


def _update(place: MerkleMap, fields: Mapping[bytes, bytes]) -> None:
    """Make these the fields of a map; what stays the same costs nothing."""
    for label, value in fields.items():
        place.set(label, value)
    if len(place) > len(fields):
        for label in [label for label, _ in place.items() if label not in fields]:
            place.delete(label)
