"""What no honest sandbox can get wrong: form, bounds and sums of an answer.

Rule module. A lie within these bounds on one node shows as a divergence between nodes; one outside of them shows here, costs
the sandbox its life and never touches state. Spec: canister interface, System imports (who may answer, call, accept cycles).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from configs.limits import SubnetLimits, request_memory
from ic_types.errors import SandboxFailure
from ic_types.fast_init import fast_init
from ic_types.reject import ErrorCode
from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sandbox.module_info import ModuleInfo
from sandbox.protocol import (
    Answer,
    Closure,
    EntryPoint,
    ExecutionContext,
    ExecutionInput,
    Finished,
    OutgoingCall,
    Pages,
    Paused,
    ReplyData,
    Stop,
    Trapped,
)

_PAGES_PER_WASM_PAGE: Final = WASM_PAGE_BYTES // OS_PAGE_BYTES
_MAX_METHOD: Final = 20_000
_MAX_PRINCIPAL: Final = 29
_MAX_TRAP_MESSAGE: Final = 1 << 16
_LOG_RECORD: Final = 64
"""More than a record costs besides its content."""
_BITS: Final = {"i32": 32, "f32": 32, "i64": 64, "f64": 64, "v128": 128}
_CAN_ANSWER: Final = frozenset(
    (EntryPoint.UPDATE, EntryPoint.QUERY, EntryPoint.COMPOSITE_QUERY, EntryPoint.REPLY, EntryPoint.REJECT)
)
_CAN_CALL: Final = frozenset(
    (
        EntryPoint.UPDATE,
        EntryPoint.COMPOSITE_QUERY,
        EntryPoint.REPLY,
        EntryPoint.REJECT,
        EntryPoint.HEARTBEAT,
        EntryPoint.GLOBAL_TIMER,
        EntryPoint.ON_LOW_WASM_MEMORY,
    )
)
ALLOWED_ERRORS: Final = frozenset(
    (
        ErrorCode.CANISTER_TRAPPED,
        ErrorCode.CANISTER_CALLED_TRAP,
        ErrorCode.CANISTER_CONTRACT_VIOLATION,
        ErrorCode.CANISTER_OUT_OF_MEMORY,
        ErrorCode.CANISTER_FUNCTION_NOT_FOUND,
        ErrorCode.INSUFFICIENT_CYCLES_IN_CALL,
        ErrorCode.CANISTER_WASM_ENGINE_ERROR,
        ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED,
        ErrorCode.CANISTER_MEMORY_ACCESS_LIMIT_EXCEEDED,
        ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW,
        ErrorCode.RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_GROW,
        ErrorCode.INSUFFICIENT_CYCLES_IN_MESSAGE_MEMORY_GROW,
        ErrorCode.CANISTER_METHOD_NOT_FOUND,
        ErrorCode.CANISTER_WASM_MEMORY_LIMIT_EXCEEDED,
    )
)


@fast_init
@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer is held against."""

    message: ExecutionInput
    context: ExecutionContext
    module: ModuleInfo
    heap_pages: int
    """Committed size before the message, in Wasm pages."""
    stable_pages: int
    limits: SubnetLimits
    tracking: bool
    """False in a query sandbox, where nothing of a message stays."""
    instructions_before: int = 0
    """Of the finished slices of this message."""


def check_answer(answer: Answer, asked: Asked) -> None:
    """Accept an answer or condemn its sandbox.

    Raises: SandboxFailure naming the first thing that no honest sandbox could have answered.
    """
    _check_instructions(answer, asked)
    if type(answer) is Finished:
        _check_memory(answer, asked)
        if answer.response is not None or answer.accepted:
            _check_response(answer, asked)
        if answer.calls or answer.cycles_accepted or answer.cycles_burned:
            _check_cycles(answer, asked.context)
        if answer.calls:
            _check_calls(answer.calls, asked)
        if answer.certified_data is not None or answer.global_timer is not None:
            _check_system_state(answer, asked.message)
        if answer.logs or answer.lines_dropped:
            _check_logs(answer, asked.context.log_bytes)
    elif isinstance(answer, Trapped):
        _check_trap(answer, asked)


def check_stop(answers: tuple[Answer, ...], stop: Stop, asked: int, *, behind: bool = False) -> None:
    """The reason for stopping fits the answers: only the last may be a trap or a pause; only what ran `behind` may be skipped.

    Raises: SandboxFailure.
    """
    if stop is Stop.END and asked == 1 and len(answers) == 1 and type(answers[0]) is Finished:
        return
    if stop is Stop.SKIPPED and behind and not answers:
        return
    last = {Stop.TRAPPED: Trapped, Stop.PAUSED: Paused}.get(stop, Finished)
    fits = all(type(answer) is Finished for answer in answers[:-1]) and all(type(answer) is last for answer in answers[-1:])
    if stop is Stop.SETTLE:
        fits = fits and len(answers) < asked
    elif stop is Stop.SKIPPED:
        fits = False
    else:
        fits = fits and 1 <= len(answers) <= asked
    if not fits:
        kinds = ", ".join(type(answer).__name__ for answer in answers[-3:])
        raise _refuse(f"stop {stop.value} after {len(answers)} answers of {asked} asked ({kinds})")


def _refuse(what: str) -> SandboxFailure:
    return SandboxFailure(f"impossible answer: {what}")


def _check_instructions(answer: Answer, asked: Asked) -> None:
    limit, total, last = asked.message.instruction_limit, answer.instructions, answer.slice_instructions
    if not 0 <= total <= limit or not asked.instructions_before <= total:
        raise _refuse(f"{total} instructions of {limit} allowed, {asked.instructions_before} of them in earlier slices")
    if last < 0 or (total != asked.instructions_before + last and total != limit):
        raise _refuse(f"{last} instructions in the last slice, {asked.instructions_before} before it, {total} in all")
    if isinstance(answer, Paused):
        if not 0 < asked.message.slice_limit < limit:
            raise _refuse("a pause where slicing isn't allowed")
        if asked.instructions_before == 0 and last <= asked.message.slice_limit:
            raise _refuse(f"a pause after {last} instructions of a slice of {asked.message.slice_limit}")
        if last == 0:
            raise _refuse("a pause after an empty slice")


# --- memory


def _check_memory(answer: Finished, asked: Asked) -> None:
    heap, stable, module = answer.heap_pages, answer.stable_pages, asked.module
    if not asked.tracking:
        if answer.heap.indices or answer.stable.indices:
            raise _refuse("written pages of a query")
        return
    globals_ = answer.globals
    if len(globals_) != len(module.globals):
        raise _refuse(f"{len(globals_)} globals of {len(module.globals)}")
    for value, info in zip(globals_, module.globals, strict=True):
        if value >> _BITS[info.kind]:
            raise _refuse(f"global {info.export} of type {info.kind} with value {value}")
    if heap != asked.heap_pages or stable != asked.stable_pages:
        _check_growth(heap, stable, asked)
    if answer.heap.indices:
        check_pages("heap", answer.heap, heap)
    if answer.stable.indices:
        check_pages("stable memory", answer.stable, stable)
    if not 0 <= answer.stable_dirty_marks <= stable * _PAGES_PER_WASM_PAGE:
        raise _refuse(f"{answer.stable_dirty_marks} stable pages marked written in a stable memory of {stable} Wasm pages")


def _check_growth(heap: int, stable: int, asked: Asked) -> None:
    if not asked.heap_pages <= heap <= max(asked.module.heap_pages_max, asked.heap_pages):
        raise _refuse(f"heap of {heap} Wasm pages; it had {asked.heap_pages} and may have {asked.module.heap_pages_max}")
    most = asked.limits.max_stable_memory // WASM_PAGE_BYTES
    if not asked.stable_pages <= stable <= most:
        raise _refuse(f"stable memory of {stable} Wasm pages; it had {asked.stable_pages} and may have {most}")
    context = asked.context
    grown = (heap - asked.heap_pages + stable - asked.stable_pages) * WASM_PAGE_BYTES
    if grown > context.subnet_memory_available + max(context.memory_allocation - context.memory_usage, 0):
        raise _refuse(f"memory grown by {grown} bytes where {context.subnet_memory_available} are available")


def check_pages(name: str, pages: Pages, wasm_pages: int) -> None:
    """Indices ascend within the memory, and each has its content.

    Raises: SandboxFailure.
    """
    check_indices(name, pages.indices, wasm_pages)
    if len(pages.content) != len(pages.indices) * OS_PAGE_BYTES or pages.buffer_offset is not None:
        raise _refuse(f"{len(pages.content)} bytes of content for {len(pages.indices)} pages of the {name}")


def check_indices(name: str, indices: Sequence[int], wasm_pages: int) -> None:
    """Indices ascend within the memory.

    Raises: SandboxFailure.
    """
    if not indices:
        return
    if indices[0] < 0 or indices[-1] >= wasm_pages * _PAGES_PER_WASM_PAGE:
        raise _refuse(f"pages {indices[0]} to {indices[-1]} in a {name} of {wasm_pages} Wasm pages")
    before = -1
    for page in indices:
        if page <= before:
            raise _refuse(f"page {page} of the {name} after page {before}")
        before = page


# --- what the canister asked for


def _check_response(answer: Finished, asked: Asked) -> None:
    message = asked.message
    if answer.accepted and message.entry is not EntryPoint.INSPECT_MESSAGE:
        raise _refuse(f"a message accepted in {message.entry.value}")
    if answer.response is None:
        return
    if not message.may_reply or message.already_responded or message.entry not in _CAN_ANSWER:
        raise _refuse(f"a response in {message.entry.value} that may not respond")
    limit = asked.limits.max_payload if message.replicated else asked.limits.max_query_reply
    response = answer.response
    size = len(response.data) if isinstance(response, ReplyData) else len(response.message.encode())
    if size > limit:
        raise _refuse(f"a response of {size} bytes where {limit} are allowed")


def _check_cycles(answer: Finished, context: ExecutionContext) -> None:
    accepted, burned = answer.cycles_accepted, answer.cycles_burned
    if not 0 <= accepted <= context.cycles_available:
        raise _refuse(f"{accepted} cycles accepted of {context.cycles_available} available")
    attached = 0
    for call in answer.calls:
        if call.cycles < 0:
            raise _refuse(f"{call.cycles} cycles attached to a call")
        attached += call.cycles
    if burned < 0 or burned + attached > context.balance + accepted:
        raise _refuse(f"{burned} cycles burned and {attached} attached with a balance of {context.balance + accepted}")


def _check_calls(calls: tuple[OutgoingCall, ...], asked: Asked) -> None:
    message, context, limits = asked.message, asked.context, asked.limits
    if message.entry not in _CAN_CALL:
        raise _refuse(f"a call made in {message.entry.value}")
    if len(calls) > context.callbacks_available:
        raise _refuse(f"{len(calls)} calls where {context.callbacks_available} more may be open")
    guaranteed = [len(call.method.encode()) + len(call.arg) for call in calls if call.timeout_s is None]
    if sum(request_memory(size, best_effort=False) for size in guaranteed) > context.message_memory_available:
        raise _refuse(f"{len(guaranteed)} calls where {context.message_memory_available} bytes of message memory are left")
    free, used = dict(context.output_slots), dict[bytes, int]()
    env_bits = 64 if asked.module.wasm64 else 32
    for call in calls:
        if len(call.callee) > _MAX_PRINCIPAL:
            raise _refuse(f"a call to a principal of {len(call.callee)} bytes")
        used[call.callee] = used.get(call.callee, 0) + 1
        if len(call.method) > _MAX_METHOD or len(call.arg) > limits.max_local_payload:
            raise _refuse(f"a call with {len(call.method)} characters of method name and {len(call.arg)} bytes of argument")
        if call.timeout_s is not None and not 0 <= call.timeout_s <= limits.best_effort_timeout_max_s:
            raise _refuse(f"a call that waits {call.timeout_s} s where {limits.best_effort_timeout_max_s} are allowed")
        for closure in (call.on_reply, call.on_reject, call.on_cleanup):
            if closure is not None and _is_odd(closure, env_bits):
                raise _refuse(f"callback {closure.function} with environment {closure.env}")
    for callee, count in used.items():
        slots = next((n for peer, n in free.items() if peer == callee), limits.queue_capacity)
        if count > slots:
            raise _refuse(f"{count} calls to {callee.hex()} where {slots} find room")


def _is_odd(closure: Closure, env_bits: int) -> bool:
    return bool(closure.function >> 32) if closure.env >= 0 and not closure.env >> env_bits else True


def _check_system_state(answer: Finished, message: ExecutionInput) -> None:
    if answer.certified_data is not None and len(answer.certified_data) > 32:
        raise _refuse(f"certified data of {len(answer.certified_data)} bytes")
    if answer.global_timer is not None and answer.global_timer >> 64:
        raise _refuse(f"a global timer at {answer.global_timer} ns")
    if message.entry in (EntryPoint.QUERY, EntryPoint.COMPOSITE_QUERY, EntryPoint.INSPECT_MESSAGE, EntryPoint.START) and (
        answer.certified_data is not None or answer.global_timer is not None
    ):
        raise _refuse(f"certified data or timer set in {message.entry.value}")


def _check_logs(answer: Finished | Trapped, allowed: int) -> None:
    logs = answer.logs
    size = sum(map(len, logs))
    if not 0 <= answer.lines_dropped <= answer.instructions or (answer.lines_dropped and not logs):
        raise _refuse(f"{answer.lines_dropped} lines dropped for {len(logs)} others")
    if size > allowed + _LOG_RECORD or len(logs) > allowed:
        raise _refuse(f"{len(logs)} log records of {size} bytes where {allowed} bytes are allowed")


def _check_trap(answer: Trapped, asked: Asked) -> None:
    if answer.error_code not in ALLOWED_ERRORS:
        raise _refuse(f"error code {answer.error_code}")
    if len(answer.message) > _MAX_TRAP_MESSAGE:
        raise _refuse(f"an error message of {len(answer.message)} characters")
    most = max(asked.module.heap_pages_max, asked.heap_pages)
    check_indices("heap", answer.heap_touched, most)
    check_indices("stable memory", answer.stable_touched, asked.limits.max_stable_memory // WASM_PAGE_BYTES)
    check_pages("heap", answer.heap, most)
    _check_logs(answer, asked.context.log_bytes)
