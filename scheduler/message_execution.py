"""Executing a call: an ingress message, a request, a heartbeat or a timer.

Rule module. Spec: abstract behaviour, "Call context creation" and "Message execution". The order is the replica's: the whole
instruction limit is prepaid, then the call is checked (a refused one still pays the base fee), then it runs.
"""

from __future__ import annotations

from ic_types import trace
from ic_types.messages import Ingress
from ic_types.reject import Reject
from ic_types.units import TimeNs
from sandbox.protocol import EntryPoint, ExecutionInput, Finished, Paused, Trapped
from scheduler import answer_application, call_context_rules, cycles_account, long_executions
from scheduler.call_context_rules import Call
from scheduler.canister import CallContext, Canister, SystemTask
from scheduler.core import Core
from scheduler.effects import Effects
from scheduler.message_inputs import (
    Lookahead,
    Method,
    call_input,
    execution_context,
    find_method,
    over_memory_limit,
    refusal,
    unwelcome,
)


def execute_call(core: Core, canister: Canister, call: Call, lookahead: Lookahead | None = None) -> Effects[None]:
    """Start the call, or go on with it if it is the canister's long execution.

    Conditions: Running, has code, exports the method, liquid balance covers the instruction limit.
    State after: executed, paused, or refused with all attached cycles going back.
    """
    prepared = None if lookahead is None or type(call) is SystemTask else lookahead.take(call)  # type: ignore[arg-type]
    known = prepared is not None and prepared.method is not None
    method = prepared.method if known else find_method(core, canister, call)  # type: ignore[union-attr]
    assert method is not None
    long = canister.long_execution
    if long is not None:
        prepaid: int = long.prepaid
    else:
        prepaid = core.execution_price(method.instruction_limit, cycles_account.is_wasm64(canister))
        refused = unwelcome(canister, call) or withdraw(core, canister, call, prepaid)
        if refused is not None:
            refuse(core, canister, call, refused)
            return
    if long is None or not long.paused:
        refused = (None if known else refusal(canister, call)) or over_memory_limit(canister, method)
        if refused is not None:
            long_executions.end(core, canister)
            refund(core, canister, method, prepaid, instructions=0)
            refuse(core, canister, call, refused)
            return
    yield from run(core, canister, call, method, prepaid, prepared.input if known else None, lookahead)  # type: ignore[union-attr]


def withdraw(core: Core, canister: Canister, call: Call, prepaid: int) -> Reject | None:
    """Prepay the call; IC0207 if that isn't possible."""
    return cycles_account.withdraw(core, canister, prepaid, None if type(call) is SystemTask else call.sender)  # type: ignore[union-attr]


def run(
    core: Core,
    canister: Canister,
    call: Call,
    method: Method,
    prepaid: int,
    prepared: ExecutionInput | None,
    lookahead: Lookahead | None,
) -> Effects[None]:
    """Run one slice or the whole of a call that passed the checks."""
    execution = canister.execution
    assert execution is not None
    time = long_executions.start_time(core, canister)
    message = call_input(call, method, time) if prepared is None else prepared
    context = call_context_rules.new_context(canister, call, time)
    trace.emit("scheduler.message_execution.execute_call", subject(canister, call), method.entry.name)
    environment = execution_context(core, canister, context, method.entry)
    answer = yield from long_executions.run_slice(core, canister, execution, message, environment, lookahead)
    if type(answer) is Paused:
        long_executions.pause(core, canister, call, prepaid, answer)
        return
    assert type(answer) is Finished or type(answer) is Trapped
    finish_call(core, canister, call, method, prepaid, answer, context)


def finish_call(
    core: Core,
    canister: Canister,
    call: Call,
    method: Method,
    prepaid: int,
    answer: Finished | Trapped,
    context: CallContext,
) -> None:
    """Apply the answer, answer the caller if that is due, refund unused instructions."""
    threshold = 0
    if canister.long_execution is not None:
        long_executions.end(core, canister)
        threshold = threshold_after(core, canister, answer)
    canister.next_context_id += 1
    if method.entry is EntryPoint.GLOBAL_TIMER:
        canister.global_timer = TimeNs(0)
    used, error = answer_application.finish(
        core,
        canister,
        context,
        answer,
        entry=method.entry,
        limit=method.instruction_limit,
        threshold=threshold,
        time=context.created,
    )
    context.instructions = used  # type: ignore[assignment]
    call_context_rules.close_if_done(canister, context, error, core)
    if type(call) is Ingress and not context.responded:
        core.processing.append(call.message_id)
    refund(core, canister, method, prepaid, used)
    count(core, canister, used)
    trace.emit("scheduler.message_execution.finish_call", subject(canister, call))


def threshold_after(core: Core, canister: Canister, answer: Finished | Trapped) -> int:
    """What the balance of a message that was sliced must leave: meanwhile fees were noted, and it may have grown."""
    grown = answer_application.growth(canister, answer) if type(answer) is Finished else 0
    return cycles_account.freezing_threshold(canister, core.fees, grown)


def count(core: Core, canister: Canister, instructions: int) -> None:
    """Count a finished message."""
    if instructions:
        core.messages += 1
        canister.metrics.messages_executed += 1
        canister.metrics.instructions += instructions


def refund(core: Core, canister: Canister, method: Method, prepaid: int, instructions: int) -> None:
    """Give back the prepayment of instructions that weren't used."""
    left = method.instruction_limit - instructions
    cycles_account.refund_execution(core, canister, prepaid, left, wasm64=cycles_account.is_wasm64(canister))


def refuse(core: Core, canister: Canister, call: Call, reason: Reject) -> None:
    """Answer a call that can't be started; a system task is just dropped."""
    trace.emit("scheduler.message_execution.refuse", subject(canister, call), reason.message)
    call_context_rules.reject_call(canister, call, reason, core)


def subject(canister: Canister, call: Call) -> bytes:
    """What trace events of this call are filed under: the message id, or the canister."""
    return call.message_id if type(call) is Ingress else canister.canister_id
