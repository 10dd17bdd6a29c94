"""Non-replicated queries: a method of one canister on a snapshot, changing nothing.

Rule module. Spec: interface spec, "Query call" (#query-call). Not charged; composite queries run without calls so far.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.messages import Ingress
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Payload, Reject, reject
from ic_types.units import TimeNs
from sandbox.protocol import EntryPoint, ExecutionContext, ExecutionInput, Finished, Trapped
from scheduler import call_context_rules, cycles_account, error_texts
from scheduler.canister import Canister, RunStatus
from scheduler.effects import Effects, RunMessage
from scheduler.message_inputs import STATUS_NUMBER, method_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query as it arrived, and the state that it is asked of."""

    caller: Principal
    method: str
    arg: bytes
    time: TimeNs
    """Batch time of the certified height."""
    data_certificate: bytes | None
    """Certificate of the canister's certified data at that height."""


def execute_query(canister: Canister, query: Query, limits: SubnetLimits, fees: CyclesCostSchedule) -> Effects[Payload]:
    """Run the query; `canister` is a snapshot and stays as it is.

    Conditions: Running, not frozen, has code, exports the method as a composite query or query (looked up in this order).
    """
    refused = refusal(canister, query, fees)
    if refused is not None:
        return refused
    execution = canister.execution
    assert execution is not None
    composite = query.method in method_table(execution).composite_queries
    message = ExecutionInput(
        entry=EntryPoint.COMPOSITE_QUERY if composite else EntryPoint.QUERY,
        method=query.method,
        caller=query.caller,
        arg=query.arg,
        replicated=False,
        time_ns=query.time,
        instruction_limit=limits.instructions_per_query,
        slice_limit=limits.instructions_per_query,
        data_certificate=query.data_certificate,
    )
    answer = yield RunMessage(canister.canister_id, execution, message, query_context(canister))
    return outcome(canister, answer)


def outcome(canister: Canister, answer: object) -> Payload:
    """Reply or reject of a query that ended."""
    if type(answer) is Trapped:
        return error_texts.canister_error(canister.canister_id, answer.error_code, answer.message)
    assert type(answer) is Finished, "queries aren't sliced"
    if answer.response is None:
        return error_texts.did_not_reply(canister.canister_id)
    return call_context_rules.payload_of(answer.response)


def refusal(canister: Canister, query: Query, fees: CyclesCostSchedule) -> Reject | None:
    """Why the query can't be run, or None."""
    canister_id = canister.canister_id
    if canister.status is not RunStatus.RUNNING:
        return error_texts.not_running(canister_id, stopped=canister.status is RunStatus.STOPPED)
    if canister.execution is None:
        return error_texts.no_module(canister_id)
    if canister.balance < cycles_account.freezing_threshold(canister, fees):
        text = f"Canister {canister_id} is unable to process query calls because it's frozen. "
        return reject(ErrorCode.CANISTER_OUT_OF_CYCLES, text + "Please top up the canister with cycles and try again.")
    table = method_table(canister.execution)
    if query.method not in table.composite_queries and query.method not in table.queries:
        return error_texts.method_not_found(canister_id, "query", query.method)
    return None


def inspect_message(canister: Canister, call: Ingress, time: TimeNs, limits: SubnetLimits) -> Effects[Reject | None]:
    """Ask a canister with code whether it accepts this call of a user; None if it does or has no canister_inspect_message.

    Not charged, never sliced. Spec: abstract behaviour, "API Request submission", `inspect_message`.
    """
    execution = canister.execution
    assert execution is not None, f"{call.receiver} has no code to ask"
    if "canister_inspect_message" not in method_table(execution).entry_points:
        return None
    message = ExecutionInput(
        entry=EntryPoint.INSPECT_MESSAGE,
        method=call.method,
        caller=call.sender,
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


def query_context(canister: Canister) -> ExecutionContext:
    """What a query sees of its canister; it can't spend or call."""
    settings = canister.settings
    return ExecutionContext(
        balance=canister.balance,
        reserved_balance=canister.reserved_balance,
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
        callbacks_available=0,
    )
