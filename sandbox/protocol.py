"""What nodes and sandboxes tell each other about messages: inputs, contexts and answers.

Rule module. `sandbox.requests` has the requests and replies that carry them. Nothing a sandbox sends is believed before
`sandbox.answer_check` has seen it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types import wire
from ic_types.messages import CallerInfo
from ic_types.principal import CanisterId, Principal, SubnetId


class EntryPoint(Enum):
    """What is run; the letter in the spec's System API table is in the comment."""

    START = "start"  # s
    INIT = "init"  # I
    POST_UPGRADE = "post_upgrade"  # I
    PRE_UPGRADE = "pre_upgrade"  # G
    UPDATE = "update"  # U
    QUERY = "query"  # RQ or NRQ, by `replicated`
    COMPOSITE_QUERY = "composite_query"  # CQ
    REPLY = "reply"  # Ry, or CRy in a composite query
    REJECT = "reject"  # Rt, or CRt
    CLEANUP = "cleanup"  # C, or CC
    INSPECT_MESSAGE = "inspect_message"  # F
    HEARTBEAT = "heartbeat"  # T
    GLOBAL_TIMER = "global_timer"  # T
    ON_LOW_WASM_MEMORY = "on_low_wasm_memory"  # T

    __hash__ = object.__hash__  # not in Python: every message is looked up by it a dozen times


@wire.message
@dataclass(frozen=True, slots=True)
class Closure:
    """A callback: index into the function table and the environment passed to it (u32 or u64)."""

    function: int
    env: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionInput:
    """The part of a message that is fixed before earlier messages of the batch settle."""

    entry: EntryPoint
    method: str = ""
    """Exported method name without its prefix (update and query kinds, and the method asked about by inspect_message)."""
    closure: Closure | None = None
    """The function to call, of REPLY, REJECT and CLEANUP."""
    caller: Principal = Principal(b"")
    caller_info: CallerInfo | None = None
    """What a canister that signs for the caller says about it; of users only."""
    arg: bytes = b""
    """Argument, or reply data of a REPLY."""
    reject_code: int = 0
    reject_message: str = ""
    cycles_refunded: int = 0
    deadline_ns: int = 0
    """`msg_deadline` of the call being served; 0 for guaranteed response."""
    replicated: bool = True
    composite: bool = False
    """Callback of a composite query."""
    time_ns: int = 0
    instruction_limit: int = 0
    """For the whole message."""
    slice_limit: int = 0
    """Equal to instruction_limit where slicing isn't allowed (queries, inspect, cleanup)."""
    data_certificate: bytes | None = None
    """Only for non-replicated queries."""
    already_responded: bool = False
    """The call context has responded before this callback, so msg_reply and msg_reject trap."""
    may_reply: bool = True
    """False for entry points and call contexts that have nobody to answer to (system tasks and their callbacks)."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """The part of a message that depends on how earlier messages settled."""

    balance: int
    """Cycles, after the prepayment of this execution."""
    reserved_balance: int = 0
    cycles_available: int = 0
    """Still acceptable in the call context."""
    call_context_instructions: int = 0
    """Instructions of earlier messages of the call context, for performance_counter(1)."""
    canister_version: int = 0
    global_timer: int = 0
    status: int = 1
    """`ic0.canister_status`: 1 running, 2 stopping, 3 stopped."""
    controllers: tuple[Principal, ...] = ()
    environment_variables: tuple[tuple[str, str], ...] = ()
    memory_usage: int = 0
    """Bytes billed to the canister besides message memory, at the start of the message."""
    message_memory: int = 0
    memory_allocation: int = 0
    compute_allocation: int = 0
    freezing_threshold_s: int = 0
    subnet_memory_available: int = 1 << 62
    """Bytes the canister may still grow on this core in this iteration."""
    subnet_memory_usage: int = 0
    """A core's share of the subnet's memory in use, in bytes: the fuller, the more cycles are reserved for growing."""
    reserved_cycles_limit: int = 1 << 127
    message_memory_available: int = 1 << 62
    """Bytes of guaranteed-response memory that calls may still take on this core in this iteration."""
    wasm_memory_limit: int = 0  # 0 = none
    output_slots: tuple[tuple[CanisterId, int], ...] = ()
    """Free request slots towards peers with fewer than the full queue capacity."""
    callbacks_available: int = 1 << 62  # further calls that the canister may open
    call_tree_depth: int = 0
    log_bytes: int = 4096
    """Size of the canister's log; the node opens a sandbox anew when it changes, since charges depend on it."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What stays the same for a sandbox's whole life."""

    canister_id: CanisterId
    subnet_id: SubnetId
    root_key: bytes
    """DER public key of the root subnet."""
    subnet_type: str
    limits: SubnetLimits
    fees: CyclesCostSchedule
    signing_fees: dict[str, int] = field(default_factory=dict)  # cycles for a signature, by the text of the chain key
    log_bytes: int = 4096
    """See ExecutionContext."""


@wire.message
@dataclass(frozen=True, slots=True)
class Pages:
    """Written 4 KiB pages, ascending; a sandbox's content is in the shared buffer, what the node believes has it inline."""

    indices: tuple[int, ...] = ()
    content: bytes = b""
    """len(indices) * 4096 bytes, or empty when `buffer_offset` is set."""
    buffer_offset: int | None = None
    """Where the content starts in the buffer memfd that both sides map."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingCall:
    """A call made by `call_perform`; cycles and payload are still to be checked by the node."""

    callee: bytes
    method: str
    arg: bytes
    cycles: int
    on_reply: Closure
    on_reject: Closure
    on_cleanup: Closure | None = None
    timeout_s: int | None = None
    """Set for a bounded-wait call (seconds asked for)."""


@wire.message
@dataclass(frozen=True, slots=True)
class ReplyData:
    """`msg_reply` was called."""

    data: bytes


@wire.message
@dataclass(frozen=True, slots=True)
class RejectMessage:
    """`msg_reject` was called."""

    message: str


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The message ended without a trap."""

    instructions: int
    """Counted by the module's counter in this message, all slices; heap dirty pages are charged by the node on top."""
    slice_instructions: int
    """The part of it in the last slice."""
    response: ReplyData | RejectMessage | None = None
    calls: tuple[OutgoingCall, ...] = ()
    cycles_accepted: int = 0
    cycles_burned: int = 0
    certified_data: bytes | None = None
    global_timer: int | None = None
    """New absolute timer (ns, 0 = off), or None if not set."""
    accepted: bool = False
    """inspect_message called accept_message."""
    globals: tuple[int, ...] = ()
    """Bits of every mutable global of the module, in ModuleInfo order."""
    heap_pages: int = 0
    """Heap size in Wasm pages after the message."""
    stable_pages: int = 0
    heap: Pages = Pages()
    stable: Pages = Pages()
    stable_dirty_marks: int = 0
    """Stable OS pages marked written (already charged inside the module)."""
    logs: tuple[bytes, ...] = ()
    lines_dropped: int = 0
    """Lines of this message that made room for those in `logs`; they have numbers too."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Trapped:
    """The message failed; nothing of it stays but instructions and logs."""

    instructions: int
    slice_instructions: int
    error_code: int
    """An ErrorCode: 502, 503, 504, 507, 513, 520, 522, 524, 532, 534, 536, 539 ..."""
    message: str
    """Description without the canister-id prefix that the node adds."""
    logs: tuple[bytes, ...] = ()
    lines_dropped: int = 0
    """Lines of this message that made room for those in `logs`; they have numbers too."""
    heap_touched: tuple[int, ...] = ()
    """OS pages this message wrote, for the reset."""
    stable_touched: tuple[int, ...] = ()
    heap: Pages = Pages()
    """Written heap pages: the dirty-page charge applies to failed messages too."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """The slice ended before the message did."""

    slice_instructions: int
    instructions: int
    """Of all slices of this message so far."""


Answer: TypeAlias = Finished | Trapped | Paused


class Stop(Enum):
    """Why a sandbox answered when it did."""

    END = "end"
    """All inputs of the request are answered, or at least one, if the batch got long; the others are forgotten."""
    TRAPPED = "trapped"
    """The last answer is a trap; nothing runs before the reset."""
    PAUSED = "paused"
    """The last answer is a pause; Resume or Abort follows."""
    SETTLE = "settle"
    """The message after the last answer needs its context; Settled or Abort follows."""
    SKIPPED = "skipped"
    """Nothing was run: the Execute before wasn't answered to its end."""
