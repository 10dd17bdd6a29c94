"""What a sandbox is told about messages outside of rounds: queries, their callbacks, inspection of calls.

Rule module. Spec: abstract behaviour, "Query call" (`Env`, the arguments of `F`); canister interface, "Overview of imports".
None of them is charged or sliced, and nothing of them stays.
"""

from __future__ import annotations

from configs.limits import SubnetLimits
from ic_types.messages import Ingress
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Payload, Reject, Reply
from ic_types.units import TimeNs
from sandbox.protocol import Closure, EntryPoint, ExecutionContext, ExecutionInput, Finished, OutgoingCall, Trapped
from scheduler import error_texts
from scheduler.canister import Canister
from scheduler.effects import Effects, RunMessage
from scheduler.message_inputs import STATUS_NUMBER, method_table


def method_input(
    *, composite: bool, method: str, arg: bytes, caller: Principal, time: TimeNs, limit: int, data_certificate: bytes | None
) -> ExecutionInput:
    """Input of a query or composite query method."""
    return ExecutionInput(
        entry=EntryPoint.COMPOSITE_QUERY if composite else EntryPoint.QUERY,
        method=method,
        caller=caller,
        arg=arg,
        replicated=False,
        time_ns=time,
        instruction_limit=limit,
        slice_limit=limit,
        data_certificate=data_certificate,
    )


def callback_input(call: OutgoingCall, payload: Payload, *, caller: Principal, time: TimeNs, limit: int) -> ExecutionInput:
    """Input of a reply or reject callback; queries carry no cycles, so none are refunded."""
    replied = type(payload) is Reply
    return ExecutionInput(
        entry=EntryPoint.REPLY if replied else EntryPoint.REJECT,
        closure=call.on_reply if replied else call.on_reject,
        caller=caller,
        arg=payload.data if type(payload) is Reply else b"",
        reject_code=int(payload.code) if type(payload) is Reject else 0,
        reject_message=payload.message if type(payload) is Reject else "",
        replicated=False,
        composite=True,
        time_ns=time,
        instruction_limit=limit,
        slice_limit=limit,
    )


def cleanup_input(closure: Closure, *, caller: Principal, time: TimeNs, limit: int) -> ExecutionInput:
    """Input of the cleanup callback after a callback that trapped."""
    return ExecutionInput(
        entry=EntryPoint.CLEANUP,
        closure=closure,
        caller=caller,
        replicated=False,
        composite=True,
        time_ns=time,
        instruction_limit=limit,
        slice_limit=limit,
        may_reply=False,
    )


def query_context(canister: Canister, *, callbacks: int = 0, instructions: int = 0) -> ExecutionContext:
    """What a query sees of its canister; `callbacks`: how many calls it may make, `instructions` of its context so far."""
    settings = canister.settings
    return ExecutionContext(
        balance=canister.balance,
        reserved_balance=canister.reserved_balance,
        call_context_instructions=instructions,
        canister_version=canister.version,
        global_timer=canister.global_timer,
        status=STATUS_NUMBER[canister.status],
        controllers=settings.controllers,
        environment_variables=settings.environment_variables,
        memory_usage=canister.memory_usage(),
        message_memory=canister.message_memory,
        memory_allocation=settings.memory_allocation,
        compute_allocation=settings.compute_allocation,
        freezing_threshold_s=settings.freezing_threshold_s,
        callbacks_available=callbacks,
        log_bytes=settings.log_memory_limit,
    )


def inspect_message(canister: Canister, call: Ingress, time: TimeNs, limits: SubnetLimits) -> Effects[Reject | None]:
    """Ask a canister with code whether it accepts this call of a user; None if it does or has no canister_inspect_message.

    Spec: abstract behaviour, "API Request submission", `inspect_message`.
    """
    execution = canister.execution
    assert execution is not None, f"{call.receiver} has no code to ask"
    if "canister_inspect_message" not in method_table(execution).entry_points:
        return None
    message = ExecutionInput(
        entry=EntryPoint.INSPECT_MESSAGE,
        method=call.method,
        caller=call.sender,
        caller_info=call.caller_info,
        arg=call.arg,
        replicated=False,
        time_ns=time,
        instruction_limit=limits.instructions_per_inspect,
        slice_limit=limits.instructions_per_inspect,
        may_reply=False,
    )
    answer = yield RunMessage(canister.canister_id, execution, message, query_context(canister))
    if type(answer) is Trapped:
        return error_texts.canister_error(canister.canister_id, answer.error_code, answer.message)
    assert type(answer) is Finished, "inspection isn't sliced"
    if answer.accepted:
        return None
    return error_texts.canister_error(
        canister.canister_id, ErrorCode.CANISTER_REJECTED_MESSAGE, "Canister rejected the message"
    )
