"""The canister record: settings, balances, queues, call contexts, code and memory in one place.

Rule module. Spec: abstract behaviour, "State", `CanState` and the per-canister maps of the IC state. Everything here is
state and is hashed, except what a comment calls local.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from ic_types.fast_init import fast_init
from ic_types.messages import CallerInfo, Ingress, Request, Response
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal
from ic_types.reject import Reject
from ic_types.units import CallbackId, CallContextId, Cycles, NumBytes, NumInstructions, TimeNs
from message_routing.queues import CanisterQueues
from sandbox.execution_state import ExecutionState
from sandbox.protocol import Closure, EntryPoint
from scheduler.canister_history import CanisterHistory
from scheduler.canister_log import CanisterLog
from scheduler.chunk_store import EMPTY_STORE, ChunkStore
from scheduler.snapshots import NO_SNAPSHOTS, LowMemoryHook, Snapshots


class RunStatus(Enum):
    """Spec: `Running | Stopping | Stopped`."""

    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


@fast_init
@dataclass(frozen=True, slots=True)
class IngressOrigin:
    """`From_user`: the call context answers an ingress message."""

    message_id: bytes
    sender: Principal
    caller_info: CallerInfo | None = None


@fast_init
@dataclass(frozen=True, slots=True)
class CanisterOrigin:
    """`From_canister`: the call context answers a request."""

    caller: CanisterId
    callback_id: CallbackId
    deadline_s: int


@dataclass(frozen=True, slots=True)
class SystemOrigin:
    """`From_system`: heartbeat, global timer or low-memory hook; nobody to answer to."""

    task: EntryPoint


CallOrigin: TypeAlias = IngressOrigin | CanisterOrigin | SystemOrigin


@dataclass(slots=True)
class CallContext:
    """An open call. Spec: `CallCtxt`."""

    context_id: CallContextId
    origin: CallOrigin
    available_cycles: Cycles
    """Attached and neither accepted nor refunded yet."""
    created: TimeNs
    responded: bool = False
    deleted: bool = False
    """The canister was uninstalled; callbacks aren't invoked any more."""
    instructions: NumInstructions = NumInstructions(0)
    """Of all messages of this context so far, for performance_counter(1)."""
    outstanding_calls: int = 0
    call_tree_depth: int = 0
    call_tree_start: TimeNs = TimeNs(0)


@fast_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """What to do when the response of one outgoing call arrives."""

    callback_id: CallbackId
    context_id: CallContextId
    callee: CanisterId
    on_reply: Closure
    on_reject: Closure
    on_cleanup: Closure | None
    cycles_sent: Cycles
    prepaid_execution: Cycles
    prepaid_transmission: Cycles
    wasm64: bool
    """Price class that the prepayment was made at."""
    deadline_s: int = 0


@dataclass(frozen=True, slots=True)
class SystemTask:
    """A heartbeat, timer or hook waiting in the task queue."""

    entry: EntryPoint


@dataclass(slots=True)
class LongExecution:
    """A message that didn't finish in its slice: paused in a sandbox, or aborted and to be run again."""

    message: Ingress | Request | Response | SystemTask
    prepaid: Cycles
    """Cycles withdrawn for the whole message before its first slice."""
    paused: bool
    """False once aborted; then it starts again from its first instruction, already paid for."""
    started_round: int
    context_id: CallContextId | None = None
    slices: int = 0
    """Slices finished, all of them re-run at once when a new sandbox has to catch up."""
    instructions: NumInstructions = NumInstructions(0)
    started_time: TimeNs = TimeNs(0)
    """`ic0.time` stays that of the round in which the message started."""
    ingress_debit: Cycles = Cycles(0)
    """Induction fees of ingress that arrived meanwhile; applied when this ends or is aborted."""
    uncharged_until: TimeNs = TimeNs(0)
    """Rounds that ended while this was paused are no charge points for memory and compute."""


@dataclass(slots=True)
class Settings:
    """What update_settings can change."""

    controllers: tuple[Principal, ...]
    """Sorted, without repeats."""
    compute_allocation: int = 0
    memory_allocation: int = 0
    freezing_threshold_s: int = 2_592_000
    reserved_cycles_limit: Cycles = Cycles(5_000_000_000_000)
    wasm_memory_limit: int = 3 << 30
    wasm_memory_threshold: int = 0
    log_memory_limit: int = 4096
    """Bytes that the lines of the log may take."""
    log_visibility: str = "controllers"
    """controllers, public or allowed_viewers; so are the other visibilities."""
    environment_variables: tuple[tuple[str, str], ...] = ()
    log_viewers: tuple[Principal, ...] = ()
    snapshot_visibility: str = "controllers"
    snapshot_viewers: tuple[Principal, ...] = ()
    status_visibility: str = "controllers"
    status_viewers: tuple[Principal, ...] = ()
    minimum_incoming_call_cycles: Cycles = Cycles(0)


@dataclass(frozen=True, slots=True)
class StopCall:
    """A stop_canister call that waits for the canister to stop."""

    origin: CallOrigin
    refund: Cycles
    time: TimeNs
    respondent: CanisterId = MANAGEMENT_CANISTER
    """The name under which the caller called the management canister."""


@dataclass(slots=True)
class LongInstall:
    """An install_code that didn't finish in its slice; the canister runs nothing else meanwhile."""

    message: Ingress | Request
    prepaid: Cycles
    paused: bool
    """False once aborted; then it starts again from its first step, already paid for."""
    started_round: int
    started_time: TimeNs
    slices: int = 0
    instructions: NumInstructions = NumInstructions(0)


@dataclass(slots=True)
class Metrics:
    """Counters of one canister, state like everything else here."""

    messages_executed: int = 0
    instructions: int = 0
    cycles_burned: int = 0
    """Fees, instructions and `cycles_burn`: cycles that left circulation here."""
    burned_by: dict[str, int] = field(default_factory=dict)
    """The same by cause, see `cycles_account.BurnCause`."""


@dataclass(slots=True)
class QueryStats:
    """Statistics of queries: of one, of a node's in an epoch, or all that the subnet has agreed on. Spec: `query_stats`."""

    calls: int = 0
    instructions: int = 0
    request_bytes: int = 0
    response_bytes: int = 0

    def add(self, other: QueryStats, times: int = 1) -> None:
        """Count others too, so many times."""
        self.calls += other.calls * times
        self.instructions += other.instructions * times
        self.request_bytes += other.request_bytes * times
        self.response_bytes += other.response_bytes * times


@dataclass(slots=True)
class Canister:
    """Everything a subnet knows about one of its canisters."""

    canister_id: CanisterId
    settings: Settings
    balance: Cycles
    created: TimeNs
    queues: CanisterQueues
    reserved_balance: Cycles = Cycles(0)
    status: RunStatus = RunStatus.RUNNING
    stop_calls: list[StopCall] = field(default_factory=list)
    version: int = 0
    execution: ExecutionState | None = None
    """None while empty."""
    certified_data: bytes = b""
    global_timer: TimeNs = TimeNs(0)
    """Absolute; 0 = off."""
    contexts: dict[CallContextId, CallContext] = field(default_factory=dict)
    """In order of creation."""
    callbacks: dict[CallbackId, Callback] = field(default_factory=dict)
    next_context_id: int = 1
    next_callback_id: int = 1
    tasks: list[SystemTask] = field(default_factory=list)
    """This round's heartbeat and timer, front first; empty between rounds."""
    low_memory_hook: LowMemoryHook = LowMemoryHook.CONDITION_NOT_SATISFIED
    """Ready: canister_on_low_wasm_memory runs before anything else of the canister."""
    next_scheduled: int = 0
    """Rotation: 0 global timer, 1 heartbeat, 2 message."""
    long_execution: LongExecution | None = None
    long_install: LongInstall | None = None
    accumulated_priority: int = 0
    """Own difference from the shared value (see scheduler.priority); 1 % = 1_000_000."""
    executed_rounds: int = 0
    last_charged: TimeNs = TimeNs(0)
    """When memory and compute were last paid for."""
    heap_delta_debit: NumBytes = NumBytes(0)
    install_debit: NumInstructions = NumInstructions(0)
    logs: CanisterLog = field(default_factory=CanisterLog)
    history: CanisterHistory = CanisterHistory()
    chunk_store: ChunkStore = EMPTY_STORE
    snapshots: Snapshots = NO_SNAPSHOTS
    next_snapshot: int = 0
    """Number of the next snapshot."""
    last_install: TimeNs = TimeNs(0)
    metrics: Metrics = field(default_factory=Metrics)
    query_totals: QueryStats = field(default_factory=QueryStats)
    """Aggregated over epochs, see `subnet.state.query_records`."""

    @property
    def message_memory(self) -> NumBytes:
        """Bytes of queued messages and reserved responses, billed apart from other memory."""
        return self.queues.message_memory()

    def has_work(self) -> bool:
        """Something of this canister can run or be refused: a long message, a task, the low-memory hook or an input."""
        if self.long_execution is not None or self.tasks or self.queues.has_input():
            return True
        return self.low_memory_hook is LowMemoryHook.READY and self.status is RunStatus.RUNNING

    def memory_usage(self) -> int:
        """Bytes billed besides message memory: heap, stable memory, code, custom sections, and what the canister has stored."""
        return (0 if self.execution is None else self.execution.memory_bytes()) + self.stored_bytes()

    def stored_bytes(self) -> int:
        """Bytes billed for history, chunk store and snapshots."""
        return self.history.memory_bytes + self.chunk_store.memory_bytes + self.snapshots.memory_bytes


@fast_init
@dataclass(frozen=True, slots=True)
class UserResponse:
    """Outcome of an ingress message that the ingress history has to learn."""

    message_id: bytes
    outcome: bytes | Reject
    """Reply bytes, or why it failed."""
