"""What clients ask of a running network: the CLI, the Python API, the gateway.

Rule module. A request travels as `[cookie, message]` to the coordinator's control socket and is answered by one reply with the
same cookie, or by Refused. Replies may come late: `Advance` is answered when its goal is reached. Reads of the state are those
of `subnet.protocol`, passed on to a node.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import wire
from ic_types.canister_rename import CanisterRename
from ic_types.messages import CallerInfo
from ic_types.principal import CanisterId, Principal, SubnetId
from subnet.protocol import NetworkRecord, Refusal

CONTROL_SOCKET = "control"
"""Name of the control socket in the socket folder."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The network can't do it; `exit_code` as the CLI's (1 failed, 2 bad input, 3 divergence)."""

    message: str
    exit_code: int = 1


@wire.message
@dataclass(frozen=True, slots=True)
class Done:
    """It is done, there is nothing to tell."""


@wire.message
@dataclass(frozen=True, slots=True)
class Describe:
    """What the network consists of; answered by Description as soon as the keys are dealt."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class CanisterName:
    """A canister of the topology."""

    name: str
    canister_id: CanisterId
    subnet: SubnetId


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Names and ids; they don't change while the network runs."""

    name: str
    seed: int
    identity_seed: int
    registry: NetworkRecord
    canisters: tuple[CanisterName, ...]
    identities: tuple[str, ...]
    """Names of the topology's identities; keys follow from identity_seed."""
    genesis_time_ns: int
    block_interval_ns: int
    out_dir: str | None = None
    ingress_ttl_ns: int = 300_000_000_000
    """How far ahead of the network's time a call may expire on every subnet."""
    live: bool = False
    """Time follows the wall clock."""
    any_expiry: bool = False
    url: str = ""
    """Where its gateway serves HTTP; empty without one."""
    max_ingress_bytes: tuple[int, ...] = ()
    """Largest envelope of a call per subnet of the registry, in its order."""
    moved: tuple[tuple[CanisterId, SubnetId], ...] = ()
    """Ids of renamed canisters, which subnets host though they lie in the ranges of others."""


@wire.message
@dataclass(frozen=True, slots=True)
class GetTime:
    """What time it is for the network; answered by NetworkTime at once."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTime:
    """Answer to GetTime."""

    height: int
    """Last certified."""
    now_ns: int
    """With which expiries are compared."""
    healthy: bool
    """Rounds can be made."""


@wire.message
@dataclass(frozen=True, slots=True)
class GetStatus:
    """How far the network is; answered by NetworkStatus at once."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One replica node."""

    index: int
    pid: int
    phase: str
    """starting, catching_up, live or dead."""
    height: int
    restarts: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetStatus:
    """One subnet after its last round."""

    subnet_id: SubnetId
    name: str
    subnet_type: str
    height: int
    state_hash: bytes
    nodes: tuple[NodeStatus, ...]
    totals: dict[str, int]
    """Sums of the nodes' round counters since genesis: messages, instructions, ..."""
    pool: int
    """Ingress messages that wait for a batch."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStatus:
    """Where a network stands."""

    phase: str
    """starting, replaying, installing, running, idle, failed or stopping."""
    height: int
    time_ns: int
    """Batch time of the last round."""
    wall_ns: int
    """Since the coordinator started; of no influence on anything."""
    subnets: tuple[SubnetStatus, ...]
    submitted: int
    replied: int
    rejected: int
    pending: int
    workload_rounds: int
    """Rounds that the workload's phases last, answers not counted."""
    workload_start: int
    """First height of the workload; 0 while canisters are installed."""
    installed: int
    """Canisters of the topology that are installed."""
    workload_done: bool
    problem: str = ""
    """Why the network stopped making rounds; empty if it didn't."""
    exit_code: int = 0


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Put signed envelopes into the ingress pool; answered by Submitted, one result each, in order.

    A node of the subnet is asked first whether it would take each call in (`canister_inspect_message` included).
    """

    envelopes: tuple[bytes, ...]
    effective_canister_id: CanisterId | None = None
    """Where a management call goes that names no canister in its argument; by default the root subnet."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitResult:
    """An envelope was accepted, or why not: it is malformed (`problem`), or the subnet doesn't take it in (`refusal`)."""

    message_id: bytes
    """Empty with a problem."""
    problem: str = ""
    refusal: Refusal | None = None


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """Answer to Submit."""

    results: tuple[SubmitResult, ...]


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class GetRequests:
    """What became of these messages; answered by RequestStatuses at once."""

    message_ids: tuple[bytes, ...]


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStatus:
    """An ingress message and its outcome."""

    message_id: bytes
    status: str
    """unknown, received (in the pool), processing (in a batch), replied, rejected or expired."""
    submitted_height: int = 0
    answered_height: int = 0
    reply: bytes = b""
    reject_code: int = 0
    reject_message: str = ""
    error_code: str = ""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStatuses:
    """Answer to GetRequests."""

    requests: tuple[RequestStatus, ...]


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """Make rounds until the first of these goals is reached; answered by Advanced."""

    rounds: int | None = None
    to_height: int | None = None
    until_idle: bool = False
    """Until no work is left: workload over, pool and streams empty, nothing a node could do without new input."""
    until_answered: tuple[bytes, ...] = ()
    """Until all of these messages have an outcome."""
    until_installed: bool = False
    """Until the topology's canisters are installed."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """The goal is reached."""

    height: int
    time_ns: int
    idle: bool
    """No work is left."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query on the last certified height; answered by the node's QueryReply."""

    sender: Principal
    receiver: CanisterId
    method: str
    arg: bytes
    node_index: int = 0
    """Which node answers; 0 = any."""
    effective_id: Principal | None = None
    """Canister or subnet of the URL, whose subnet is asked; by default the receiver's."""
    request_id: bytes = b""
    """Of the signed request; the node signs its answer to it."""
    caller_info: CallerInfo | None = None


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A signed call as an agent sent it; answered by CallAnswer."""

    envelope: bytes
    effective_id: Principal
    """Canister or subnet of the URL."""
    at_subnet: bool = False
    wait: bool = False
    """Answer when the outcome is certified instead of at once; the client gives up waiting when it likes."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswer:
    """What became of a Call so far."""

    status: str
    """accepted (it is in the pool or further), certified (it has an outcome), rejected (before it got anywhere) or refused."""
    message_id: bytes = b""
    subnet: SubnetId = Principal(b"")
    certificate: bytes = b""
    """Of the outcome, without delegation."""
    reject_code: int = 0
    reject_message: str = ""
    error_code: str = ""
    http_status: int = 400
    """Of a refused call, whose envelope is wrong."""
    problem: str = ""


@wire.message
@dataclass(frozen=True, slots=True)
class GetDelegations:
    """The root subnet's word on the others; answered by Delegated once there is one."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class InspectNode:
    """Ask a node about its state, see subnet.protocol.Inspect; answered by Inspected."""

    subnet: SubnetId
    what: str
    path: tuple[bytes, ...] = ()
    node_index: int = 0
    """0 = any live node."""


@wire.message
@dataclass(frozen=True, slots=True)
class GetSummary:
    """The run in figures; answered by SummaryReply."""


@wire.message
@dataclass(frozen=True, slots=True)
class SummaryReply:
    """What the coordinator contributes to summary.json, as JSON."""

    body: bytes


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class KillNode:
    """End a node process with SIGKILL, as a crash would; it is started again. Answered by Done."""

    subnet: SubnetId
    node_index: int


@wire.message
@dataclass(frozen=True, slots=True)
class RenameCanister:
    """Put it into the next batches of all subnets. Answered by Done."""

    rename: CanisterRename


@wire.message
@dataclass(frozen=True, slots=True)
class GetProcesses:
    """All processes of the network; answered by the zygote's Children."""


@wire.message
@dataclass(frozen=True, slots=True)
class StopNetwork:
    """Stop cleanly: answered by Done, then everything ends."""

    reason: str
