"""Requests and replies between the coordinator and the replica nodes.

Rule module. The coordinator sends a request to every node of a subnet; each answers with one reply with the same height or
cookie. A batch is everything a round depends on: state(h) = f(state(h-1), batch(h)).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types import wire
from ic_types.canister_rename import CanisterRename
from ic_types.chain_keys.registry import ChainKeyRecord
from ic_types.consensus_calls import ConsensusAnswer, OutcallRequest, SignatureRequest
from ic_types.messages import CallerInfo, Ingress
from ic_types.principal import CanisterId, NodeId, Principal, SubnetId
from ic_types.query_statistics import QueryStatsPayload
from subnet.account import SubnetAccount


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetRecord:
    """What every node knows of every subnet of the network."""

    subnet_id: SubnetId
    name: str
    subnet_type: str
    public_key: bytes
    """Threshold public key, 96 bytes in G2."""
    nodes: tuple[NodeId, ...]
    node_keys: tuple[bytes, ...] = ()
    """Ed25519 keys of the nodes in DER, in their order."""
    range_start: CanisterId
    range_end: CanisterId
    admins: tuple[Principal, ...] = ()
    """Subnet admins; a subnet that has any charges nothing."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """The registry: all subnets, the root first."""

    subnets: tuple[SubnetRecord, ...]
    root: SubnetId
    chain_keys: tuple[ChainKeyRecord, ...] = ()


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Everything a node process is started with."""

    subnet: SubnetId
    subnet_name: str
    node_index: int
    """1 .. n, also the x-coordinate of its key share."""
    node_id: NodeId
    network: NetworkRecord
    limits: SubnetLimits
    fees: CyclesCostSchedule
    genesis_time_ns: int
    key_share: bytes
    """Secret scalar, 32 bytes big-endian."""
    node_secret: bytes = b""
    """Ed25519 secret, 32 bytes, with which this node signs answers to queries; empty: it signs none."""
    threshold: int
    coordinator_endpoint: str
    socket_dir: str
    compiler_endpoint: str
    cache_dir: str
    log_path: str | None = None
    batch_size: int = 100
    """Inputs sent to a sandbox at once; never changes a result."""
    reuse_instances: bool = True
    max_sandboxes: int = 500
    max_in_flight: int = 4
    """Sandboxes of this node that compute at once (from --jobs)."""
    rehash_rounds: int = 100
    """Every page is re-read and re-hashed at least once in so many rounds."""
    trace: bool = False
    check_invariants: bool = False
    """Tell after every round what the invariants are checked with."""
    faults: tuple[str, ...] = ()
    """`flip:...@height` and `forge:...@height` plans for this node."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedSlice:
    """A slice of a stream with its proof: the only thing that crosses from subnet to subnet."""

    source: SubnetId
    witness: bytes
    """CBOR hash tree that reveals /streams/<destination>: header and messages."""
    certificate_signature: bytes
    """Threshold signature of the source subnet over the root of the witness, 48 bytes."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Input of one round of one subnet."""

    height: int
    time_ns: int
    randomness: bytes
    """32 bytes from the combined random-tape signature of this height."""
    ingress: tuple[Ingress, ...] = ()
    slices: tuple[CertifiedSlice, ...] = ()
    answers: tuple[ConsensusAnswer, ...] = ()
    """To what the management canister asked of consensus."""
    query_stats: QueryStatsPayload | None = None
    """Of one node, as a block carries its maker's."""
    is_checkpoint: bool = False
    replica_version: str = ""
    renames: tuple[CanisterRename, ...] = ()
    """The same for all subnets at a height."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHead:
    """Where a stream stands after a round; tells the coordinator where slices are to be fetched."""

    peer: SubnetId
    begin: int
    end: int
    signals_end: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class IngressOutcome:
    """A message reached a terminal status in this round."""

    message_id: bytes
    status: str
    """replied or rejected."""
    reply: bytes = b""
    reject_code: int = 0
    reject_message: str = ""
    error_code: str = ""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """A node's answer to a batch."""

    height: int
    state_hash: bytes
    """Over everything that is state."""
    root_hash: bytes
    """Root of the certified tree."""
    certification_share: bytes
    """This node's share of the signature over root_hash."""
    tape_share: bytes
    """This node's share of the random tape of height + 1."""
    heads: tuple[StreamHead, ...]
    outcomes: tuple[IngressOutcome, ...]
    signature_requests: tuple[SignatureRequest, ...] = ()
    """Made in this round; answered by a later batch."""
    outcall_requests: tuple[OutcallRequest, ...] = ()
    has_work: bool
    """Another round would do something even without new input; heartbeats and timers don't count."""
    next_due_ns: int
    """Earliest timer, deadline or heartbeat; 0 = none."""
    stats: dict[str, int]
    """Counters of this round by name, see `subnet.node.replica`."""
    query_stats: QueryStatsPayload | None = None
    """What this node would put into the next batch."""
    trace: tuple[tuple[str, bytes, str], ...] = ()
    stage_ns: dict[str, int]
    """Wall time per stage on this node, for benchmarks; never feeds a decision."""
    stage_cpu_ns: dict[str, int] = field(default_factory=dict)
    """CPU time of the node's own thread per stage."""
    account: SubnetAccount | None = None
    """For the check of the invariants, if the node is asked for it."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFailure:
    """The node can't go on (as a crashed replica would); it exits after this."""

    height: int
    reason: str


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReady:
    """A started node introduces itself; it is at `height` and wants the next batch."""

    subnet: SubnetId
    node_index: int
    pid: int
    height: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRequest:
    """Make a slice for `peer` starting at these indices."""

    peer: SubnetId
    message_begin: int
    signals_begin: int
    max_bytes: int
    max_messages: int | None = None
    """At most so many messages, even if more would fit; None for no bound."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Certify:
    """The combined signature over the root hash of `height`; the node answers with Slices if any are asked for."""

    height: int
    signature: bytes
    slices: tuple[SliceRequest, ...] = ()
    delegation: bytes = b""
    """Certificate of the root subnet for this subnet's key and all its canister ranges; empty for the root and at first."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """Witnesses made for a Certify, in its order; None where the stream has nothing new."""

    height: int
    slices: tuple[CertifiedSlice | None, ...]


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest:
    """A non-replicated query on the last certified height; answered by QueryReply."""

    cookie: int
    sender: Principal
    receiver: CanisterId
    method: str
    arg: bytes
    request_id: bytes = b""
    """Of the signed request: the node signs its answer to it; empty: the answer isn't signed."""
    caller_info: CallerInfo | None = None


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class QueryReply:
    """Reply or reject of a query."""

    cookie: int
    status: str
    """replied or rejected."""
    reply: bytes = b""
    reject_code: int = 0
    reject_message: str = ""
    error_code: str = ""
    height: int = 0
    """The certified height that it was run on."""
    time_ns: int = 0
    """Batch time of that height."""
    node_index: int = 0
    """Which node answers; 0: none could."""
    signature: bytes = b""
    """Of the node over this answer, Ed25519. Spec: "Request: Query call"."""
    node_id: NodeId = Principal(b"")


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceRequest:
    """Would the subnet take in these calls of users, by its last certified height? Answered by Acceptance."""

    cookie: int
    calls: tuple[Ingress, ...]


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a call isn't taken in: a `non_replicated_rejection` of the HTTP interface."""

    reject_code: int
    reject_message: str
    error_code: str


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Answer to AcceptanceRequest, in its order; None for a call that may enter the pool."""

    cookie: int
    refusals: tuple[Refusal | None, ...]
    node_index: int = 0
    height: int = 0


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadState:
    """Certify parts of the state to a user; answered by StateRead once the newest state is certified."""

    cookie: int
    sender: Principal
    paths: tuple[tuple[bytes, ...], ...]
    effective_id: Principal
    """Canister or subnet of the URL."""
    at_subnet: bool = False
    version: int = 3
    """Of the endpoint; decides where canister ranges are shown."""
    targets: tuple[CanisterId, ...] | None = None
    """Canisters that the sender's delegations allow; None: all."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class StateRead:
    """Answer to ReadState: a certificate without delegation, or why it is refused."""

    cookie: int
    subnet: SubnetId = Principal(b"")
    certificate: bytes = b""
    http_status: int = 200
    problem: str = ""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """Ask a node of the root subnet for its word on all subnets; answered by Delegated."""

    cookie: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetDelegation:
    """Certificates of the root subnet for another subnet's key, with its canister ranges in several forms."""

    subnet: SubnetId
    plain: bytes
    """Without ranges, for answers about the subnet itself."""
    flat: bytes
    """All ranges in one leaf, for canisters and older agents."""
    shards: tuple[tuple[bytes, bytes], ...]
    """Label and certificate of each shard of ranges, ascending."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Delegated:
    """Answer to Delegate."""

    cookie: int
    time_ns: int
    subnets: tuple[SubnetDelegation, ...]


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Inspect:
    """Ask a node about its state; `path` is a list of labels, see subnet.node.inspection. Answered by Inspected."""

    cookie: int
    what: str
    """canisters, cycles, digests, read_state, logs, processes, statistics."""
    path: tuple[bytes, ...] = ()


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """Answer to Inspect: CBOR."""

    cookie: int
    body: bytes


@wire.message
@dataclass(frozen=True, slots=True)
class Stop:
    """End the node process cleanly; its sandboxes end with it."""

    reason: str
