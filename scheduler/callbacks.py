"""Executing a response: reply or reject callback, and the cleanup callback if that traps.

Rule module. Spec: abstract behaviour, "Callback invocation" and "Message execution". A callback was paid for when its call was
made; it runs even on a canister that is stopping or frozen.
"""

from __future__ import annotations

from ic_types import trace
from ic_types.messages import Response
from ic_types.reject import Reject
from ic_types.units import Cycles, NumInstructions, TimeNs
from message_routing.message_size import payload_bytes
from sandbox.protocol import EntryPoint, Finished, Paused, Trapped
from scheduler import answer_application, call_context_rules, cycles_account, error_texts, long_executions, message_execution
from scheduler.answer_application import Outcome
from scheduler.canister import Callback, CallContext, Canister
from scheduler.core import Core
from scheduler.cycles_account import LossCause
from scheduler.effects import Effects, RunMessage
from scheduler.message_inputs import Lookahead, callback_input, cleanup_input, execution_context


def execute_response(core: Core, canister: Canister, response: Response, lookahead: Lookahead | None = None) -> Effects[None]:
    """Run the callback of this response, or go on with it if it is the canister's long execution.

    State after: callback removed, refunds credited, call context answered for if nothing is left that could.
    """
    if lookahead is not None:
        lookahead.take(response)
    callback = canister.callbacks.get(response.callback_id)
    if callback is None:
        drop_unknown(core, canister, response)
        return
    context = canister.contexts[callback.context_id]
    if context.deleted or canister.execution is None:
        long_executions.end(core, canister)
        prepaid = settle(core, canister, response, callback)
        close(core, canister, callback, context, prepaid, 0, None)
        return
    time = long_executions.start_time(core, canister)
    message = callback_input(core, response, callback, context, time)
    trace.emit("scheduler.callbacks.execute_response", canister.canister_id, message.entry.value)
    before = canister.balance
    canister.balance = Cycles(before + gain(core, canister, response, callback))
    environment = execution_context(core, canister, context, message.entry)
    canister.balance = before
    answer = yield from long_executions.run_slice(core, canister, canister.execution, message, environment, lookahead)
    if type(answer) is Paused:
        long_executions.pause(core, canister, response, 0, answer)
        return
    assert type(answer) is Finished or type(answer) is Trapped
    yield from finish_response(core, canister, response, callback, context, answer, time)


def finish_response(
    core: Core,
    canister: Canister,
    response: Response,
    callback: Callback,
    context: CallContext,
    answer: Finished | Trapped,
    time: TimeNs,
) -> Effects[None]:
    """Apply a callback's answer; if it failed, run its cleanup, whose own failure is added to the error's text."""
    prepaid = settle(core, canister, response, callback)
    long_executions.end(core, canister)
    limit = core.limits.instructions_per_message
    used, error = answer_application.finish(
        core, canister, context, answer, entry=EntryPoint.REPLY, limit=limit, threshold=0, time=time
    )
    if error is not None and callback.on_cleanup is not None:
        cleanup = yield from run_cleanup(core, canister, response, callback, context, limit - used, time, used)
        used += cleanup.instructions
        if cleanup.error is not None:
            prefix = error_texts.canister_error(canister.canister_id, 0, "").message
            error = error_texts.with_cleanup_error(error, cleanup.error.message.removeprefix(prefix))
    close(core, canister, callback, context, prepaid, used, error)


def run_cleanup(
    core: Core,
    canister: Canister,
    response: Response,
    callback: Callback,
    context: CallContext,
    limit: int,
    time: TimeNs,
    used: int,
) -> Effects[Outcome]:
    """Run the cleanup callback with the instructions that the callback left; it is never paused and can't call or reply."""
    assert callback.on_cleanup is not None
    assert canister.execution is not None
    message = cleanup_input(response, callback.on_cleanup, context, time, limit)
    environment = execution_context(core, canister, context, EntryPoint.CLEANUP)
    answer = yield RunMessage(canister.canister_id, canister.execution, message, environment)
    assert type(answer) is Finished or type(answer) is Trapped, "a cleanup callback isn't sliced"
    return answer_application.finish(
        core, canister, context, answer, entry=EntryPoint.CLEANUP, limit=limit, threshold=0, time=time
    )


def gain(core: Core, canister: Canister, response: Response, callback: Callback) -> int:
    """What the refunds of this response add to the balance before the callback runs."""
    transmission = core.fees.transmission(payload_bytes(response))
    return min(response.refund, callback.cycles_sent) + max(callback.prepaid_transmission - transmission, 0)


def settle(core: Core, canister: Canister, response: Response, callback: Callback) -> Cycles:
    """Credit the refunds of a response; returns what is prepaid for executing it."""
    refund = min(response.refund, callback.cycles_sent)
    core.tally.add_lost(LossCause.EXCESS_REFUND, response.refund - refund)
    canister.balance = Cycles(canister.balance + refund)
    cycles_account.settle_response_transmission(core, canister, callback, payload_bytes(response))
    return cycles_account.settle_price_class(core, canister, callback)


def close(
    core: Core,
    canister: Canister,
    callback: Callback,
    context: CallContext,
    prepaid: int,
    instructions: int,
    error: Reject | None,
) -> None:
    """Remove the callback, refund unused instructions, answer for the context if nothing else can."""
    del canister.callbacks[callback.callback_id]
    context.outstanding_calls -= 1
    context.instructions = NumInstructions(context.instructions + instructions)
    left = core.limits.instructions_per_message - instructions
    wasm64 = cycles_account.is_wasm64(canister) if canister.execution is not None else callback.wasm64
    cycles_account.refund_execution(core, canister, prepaid, left, wasm64=wasm64)
    call_context_rules.close_if_done(canister, context, error, core)
    message_execution.count(core, canister, instructions)
    trace.emit("scheduler.callbacks.close", canister.canister_id)


def drop_unknown(core: Core, canister: Canister, response: Response) -> None:
    """A response that nobody waits for: late ones to bounded-wait calls still bring their refund."""
    if response.deadline_s:
        canister.balance = Cycles(canister.balance + response.refund)
    else:
        core.tally.add_lost(LossCause.UNKNOWN_CALLBACK, response.refund)
