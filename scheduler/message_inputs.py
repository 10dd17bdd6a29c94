"""What a sandbox is told about a message: the part fixed beforehand, and the part that depends on earlier messages.

Rule module. Spec: abstract behaviour, "Message execution" (`Env`, the arguments of `Mod`). One builder serves the message that
runs next and those offered to run ahead, so that a prediction is right exactly when its input equals the one built in the end.
"""

from __future__ import annotations

from typing import NamedTuple

from ic_types.messages import CanisterInput, Ingress, Request, Response
from ic_types.reject import Reject, Reply
from ic_types.units import NS_PER_SECOND, WASM_PAGE_BYTES
from sandbox.execution_state import ExecutionState
from sandbox.protocol import Closure, EntryPoint, ExecutionContext, ExecutionInput
from scheduler import error_texts
from scheduler.call_context_rules import Call, caller_of
from scheduler.canister import (
    Callback,
    CallContext,
    Canister,
    CanisterOrigin,
    IngressOrigin,
    RunStatus,
    SystemOrigin,
    SystemTask,
)
from scheduler.core import Core

CLEANUP_PERCENT = 5
"""Of a callback's instruction limit, kept back for its cleanup callback. Not in the spec: the replica's figure."""

RESPONSE_ENTRIES = frozenset((EntryPoint.REPLY, EntryPoint.REJECT, EntryPoint.CLEANUP))
"""They may use the memory that the subnet keeps free for them."""

STATUS_NUMBER = {RunStatus.RUNNING: 1, RunStatus.STOPPING: 2, RunStatus.STOPPED: 3}
"""`ic0.canister_status`."""


class Method(NamedTuple):
    """Which function a call runs, and how long it may."""

    entry: EntryPoint
    instruction_limit: int
    slice_limit: int


class MethodTable:
    """Exported methods of one module by name; built once per module."""

    __slots__ = ("composite_queries", "entry_points", "queries", "updates")

    def __init__(self, execution: ExecutionState) -> None:
        module = execution.module
        self.updates = frozenset(module.updates)
        self.queries = frozenset(module.queries)
        self.composite_queries = frozenset(module.composite_queries)
        self.entry_points = frozenset(module.entry_points)


_tables: dict[int, tuple[object, MethodTable]] = {}


def method_table(execution: ExecutionState) -> MethodTable:
    """The module's methods, cached: modules don't change once compiled."""
    module = execution.module
    found = _tables.get(id(module))
    if found is not None and found[0] is module:
        return found[1]
    if len(_tables) > 10_000:
        _tables.clear()
    table = MethodTable(execution)
    _tables[id(module)] = (module, table)
    return table


def update_method(core: Core, entry: EntryPoint = EntryPoint.UPDATE) -> Method:
    """Limits of everything that may be sliced."""
    limits = core.limits
    limit = limits.instructions_per_message
    return Method(entry, limit, min(limits.instructions_per_slice, limit))


def find_method(core: Core, canister: Canister, call: Call) -> Method:
    """The method a call runs; a name that isn't exported counts as an update until it is refused."""
    if type(call) is SystemTask:
        return update_method(core, call.entry)
    assert type(call) is Ingress or type(call) is Request
    if canister.execution is not None:
        table = method_table(canister.execution)
        if call.method not in table.updates and call.method in table.queries:
            limit = core.limits.instructions_per_query
            return Method(EntryPoint.QUERY, limit, limit)
    return update_method(core)


def unwelcome(canister: Canister, call: Call) -> Reject | None:
    """Why a call by another canister is turned away for its few cycles, or None. Spec: "Calls with insufficient cycles ..."."""
    minimum = canister.settings.minimum_incoming_call_cycles
    if minimum and type(call) is Request and call.payment < minimum and call.sender != canister.canister_id:
        return error_texts.too_few_cycles(canister.canister_id, call.payment, minimum)
    return None


def refusal(canister: Canister, call: Call) -> Reject | None:
    """Why the call can't be started, or None. Conditions: the canister is Running, has code and exports the method."""
    if canister.status is not RunStatus.RUNNING:
        return error_texts.not_running(canister.canister_id, stopped=canister.status is RunStatus.STOPPED)
    if canister.execution is None:
        return error_texts.no_module(canister.canister_id)
    table = method_table(canister.execution)
    if type(call) is SystemTask:
        name = f"canister_{call.entry.value}"
        return None if name in table.entry_points else error_texts.method_not_found(canister.canister_id, "system", name)
    assert type(call) is Ingress or type(call) is Request
    if call.method in table.updates or call.method in table.queries:
        return None
    if call.method in table.composite_queries:
        return error_texts.composite_query_in_replicated_mode()
    return error_texts.method_not_found(canister.canister_id, "update", call.method)


def over_memory_limit(canister: Canister, method: Method) -> Reject | None:
    """IC0539 if an update starts on a heap that is larger than the canister's own limit: callbacks and tasks may grow it so.

    Spec: "Message execution", `Wasm_memory_limit`; the System API keeps the message itself from growing the heap so far.
    """
    limit, execution = canister.settings.wasm_memory_limit, canister.execution
    if not limit or method.entry is not EntryPoint.UPDATE or execution is None:
        return None
    heap = execution.heap.wasm_pages * WASM_PAGE_BYTES
    return error_texts.over_memory_limit(canister.canister_id, limit, heap) if heap > limit else None


def call_input(call: Call, method: Method, time_ns: int) -> ExecutionInput:
    """Input of a message that opens a call context."""
    if type(call) is SystemTask:
        return ExecutionInput(
            entry=call.entry,
            time_ns=time_ns,
            instruction_limit=method.instruction_limit,
            slice_limit=method.slice_limit,
            may_reply=False,
        )
    assert type(call) is Ingress or type(call) is Request
    return ExecutionInput(
        entry=method.entry,
        method=call.method,
        caller=call.sender,
        caller_info=call.caller_info if type(call) is Ingress else None,
        arg=call.arg,
        # queries have no deadline, even when they are called replicated
        deadline_ns=call.deadline_s * NS_PER_SECOND if type(call) is Request and method.entry is EntryPoint.UPDATE else 0,
        time_ns=time_ns,
        instruction_limit=method.instruction_limit,
        slice_limit=method.slice_limit,
    )


def cleanup_reserve(core: Core) -> int:
    """Instructions of a callback's limit that are kept back for its cleanup."""
    return core.limits.instructions_per_message * CLEANUP_PERCENT // 100


def callback_input(core: Core, response: Response, callback: Callback, context: CallContext, time_ns: int) -> ExecutionInput:
    """Input of a reply or reject callback."""
    limit = core.limits.instructions_per_message - cleanup_reserve(core)
    origin, payload = context.origin, response.payload
    replied = type(payload) is Reply
    return ExecutionInput(
        entry=EntryPoint.REPLY if replied else EntryPoint.REJECT,
        closure=callback.on_reply if replied else callback.on_reject,
        caller=caller_of(origin),
        caller_info=origin.caller_info if type(origin) is IngressOrigin else None,
        arg=payload.data if type(payload) is Reply else b"",
        reject_code=int(payload.code) if type(payload) is Reject else 0,
        reject_message=payload.message if type(payload) is Reject else "",
        cycles_refunded=min(response.refund, callback.cycles_sent),
        deadline_ns=origin.deadline_s * NS_PER_SECOND if type(origin) is CanisterOrigin else 0,
        time_ns=time_ns,
        instruction_limit=limit,
        slice_limit=min(core.limits.instructions_per_slice, limit),
        already_responded=context.responded,
        may_reply=type(origin) is not SystemOrigin,
    )


def cleanup_input(response: Response, closure: Closure, context: CallContext, time_ns: int, limit: int) -> ExecutionInput:
    """Input of a cleanup callback; it is never paused."""
    origin = context.origin
    return ExecutionInput(
        entry=EntryPoint.CLEANUP,
        closure=closure,
        caller=caller_of(origin),
        caller_info=origin.caller_info if type(origin) is IngressOrigin else None,
        reject_code=int(response.payload.code) if type(response.payload) is Reject else 0,
        deadline_ns=origin.deadline_s * NS_PER_SECOND if type(origin) is CanisterOrigin else 0,
        time_ns=time_ns,
        instruction_limit=limit,
        slice_limit=limit,
        already_responded=context.responded,
        may_reply=False,
    )


def execution_context(core: Core, canister: Canister, context: CallContext, entry: EntryPoint) -> ExecutionContext:
    """The part that earlier messages of the canister can change."""
    settings, limits = canister.settings, core.limits
    reserve = limits.response_memory_reserve // limits.scheduler_cores if entry in RESPONSE_ENTRIES else 0
    callbacks = max(limits.callback_quota - len(canister.callbacks), core.callbacks_available - core.callbacks_created, 0)
    return ExecutionContext(
        balance=canister.balance,
        reserved_balance=canister.reserved_balance,
        cycles_available=context.available_cycles,
        call_context_instructions=context.instructions,
        canister_version=canister.version,
        global_timer=0 if entry is EntryPoint.GLOBAL_TIMER else canister.global_timer,
        status=STATUS_NUMBER[canister.status],
        controllers=settings.controllers,
        environment_variables=settings.environment_variables,
        memory_usage=canister.memory_usage(),
        message_memory=canister.message_memory,
        memory_allocation=settings.memory_allocation,
        compute_allocation=settings.compute_allocation,
        freezing_threshold_s=settings.freezing_threshold_s,
        subnet_memory_available=max(core.memory_available + reserve, 0),
        subnet_memory_usage=core.memory_usage,
        reserved_cycles_limit=settings.reserved_cycles_limit,
        message_memory_available=max(core.message_memory_available, 0),
        wasm_memory_limit=settings.wasm_memory_limit if entry is EntryPoint.UPDATE else 0,
        output_slots=canister.queues.limited_slots(),
        callbacks_available=callbacks,
        call_tree_depth=context.call_tree_depth,
        log_bytes=settings.log_memory_limit,
    )


class Prepared(NamedTuple):
    """A queued message that was looked at in advance."""

    message: CanisterInput
    method: Method | None
    """Of a call that can be started; nothing that happens on a core takes that back."""
    input: ExecutionInput | None
    """None: it wouldn't run."""


class Lookahead:
    """Inputs of the messages that a canister will probably run next, made once per batch."""

    __slots__ = ("_ahead", "_ahead_at", "_at", "_prepared")

    def __init__(self) -> None:
        self._prepared: list[Prepared] = []
        self._at = 0
        self._ahead: tuple[ExecutionInput, ...] = ()
        self._ahead_at = 0

    def take(self, message: CanisterInput) -> Prepared | None:
        """What was prepared for this message if it was foreseen; otherwise everything prepared is dropped."""
        if self._at < len(self._prepared):
            prepared = self._prepared[self._at]
            if prepared.message is message:
                self._at += 1
                self._ahead_at += prepared.input is not None
                return prepared
            self._prepared, self._at, self._ahead, self._ahead_at = [], 0, (), 0
        return None

    def upcoming(self, core: Core, canister: Canister) -> tuple[ExecutionInput, ...]:
        """Inputs that follow the current message; looked up again only when all prepared ones are used."""
        if self._at == len(self._prepared) and core.batch_size > 1 and canister.queues.has_input():
            messages = canister.queues.peek_inputs(core.batch_size - 1)
            self._prepared = [prepare(core, canister, message) for message in messages]
            self._ahead = tuple([prepared.input for prepared in self._prepared if prepared.input is not None])
            self._at = self._ahead_at = 0
        return self._ahead[self._ahead_at :]


def prepare(core: Core, canister: Canister, message: CanisterInput) -> Prepared:
    """The input that a queued message would have if it ran now."""
    if type(message) is Response:
        callback = canister.callbacks.get(message.callback_id)
        context = None if callback is None else canister.contexts.get(callback.context_id)
        if callback is None or context is None or context.deleted or canister.execution is None:
            return Prepared(message, None, None)
        return Prepared(message, None, callback_input(core, message, callback, context, core.time))
    assert type(message) is Ingress or type(message) is Request
    if refusal(canister, message) is not None or unwelcome(canister, message) is not None:
        return Prepared(message, None, None)
    method = find_method(core, canister, message)
    if over_memory_limit(canister, method) is not None:
        return Prepared(message, None, None)
    return Prepared(message, method, call_input(message, method, core.time))
