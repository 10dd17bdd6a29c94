"""Non-replicated queries: a method on a certified state that changes nothing, and all the calls that it makes.

Rule module. Spec: abstract behaviour, "Query call" (#query-call). The calls of a composite query form a graph that is walked
depth first, one call after the other, first come first made (docs/decisions/0007-composite-queries.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.errors import SandboxFailure
from ic_types.messages import CallerInfo
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal
from ic_types.reject import ErrorCode, Payload, Reject, Reply, reject
from ic_types.units import TimeNs
from sandbox.protocol import OutgoingCall
from scheduler import cycles_account, error_texts
from scheduler.canister import Canister, QueryStats, RunStatus
from scheduler.effects import Effects
from scheduler.message_inputs import method_table
from scheduler.query_context import QueryContext

ManagementQuery: TypeAlias = Callable[[Principal, str, bytes], Payload]
"""Caller, method and argument of a query of the management canister to its answer."""


@dataclass(slots=True, kw_only=True)
class QueryRun:
    """One query of a user, the state that it is asked of, and what is left of its budget."""

    root: CanisterId
    canisters: Callable[[CanisterId], Canister | None]
    """The certified canisters of the subnet; they stay as they are."""
    is_elsewhere: Callable[[CanisterId], bool]
    """Whether a canister is on another subnet."""
    management: ManagementQuery
    time: TimeNs
    """Batch time of the certified height."""
    data_certificate: bytes | None
    """Certificate of the root canister's certified data at that height."""
    limits: SubnetLimits
    fees: CyclesCostSchedule
    caller_info: CallerInfo | None = None
    instructions_left: int = field(init=False)
    stats: dict[CanisterId, QueryStats] = field(default_factory=dict)
    """By canister, in the order of their first query."""
    open: list[QueryContext] = field(default_factory=list)
    """From the root down; each but the first answers a call of the one before it."""

    def __post_init__(self) -> None:
        """The whole graph may use as much as one query."""
        self.instructions_left = self.limits.instructions_per_query

    def message_limit(self) -> int:
        """Instructions that the next message may use: what is left of the whole query."""
        return max(self.instructions_left, 0)


def execute_query(run: QueryRun, caller: Principal, method: str, arg: bytes) -> Effects[Payload]:
    """Run a user's query with all its calls.

    Conditions: the canister is Running, not frozen, has code and exports the method as composite query or query.

    Raises: SandboxFailure when a message can't be executed on this machine.
    """
    if run.root == MANAGEMENT_CANISTER:
        return run.management(caller, method, arg)
    try:
        answer = yield from start(run, run.root, caller, method, arg, None)
        if isinstance(answer, QueryContext):
            answer = yield from walk(run, answer)
    except SandboxFailure:
        yield from release_all(run)
        raise
    yield from release_all(run)
    return answer


def release_all(run: QueryRun) -> Effects[None]:
    """Give up the contexts that are still open."""
    while run.open:
        yield from run.open.pop().release()


def start(
    run: QueryRun, canister_id: CanisterId, caller: Principal, method: str, arg: bytes, call: OutgoingCall | None
) -> Effects[Payload | QueryContext]:
    """Run a method; its answer, or the context that may still answer. `call`: the one that this answers."""
    canister = run.canisters(canister_id)
    if canister is None:
        return reject(ErrorCode.CANISTER_NOT_FOUND, f"Canister {canister_id} not found")
    refused = no_method(canister, method)
    if refused is not None:
        return refused
    found: Payload | QueryContext | None = unable(canister, run.fees)
    if found is None:
        found = yield from run_method(run, canister, caller, method, arg, call)
    if call is not None:
        run.instructions_left -= run.limits.instruction_overhead_per_query_call
    return found


def run_method(
    run: QueryRun, canister: Canister, caller: Principal, method: str, arg: bytes, call: OutgoingCall | None
) -> Effects[Payload | QueryContext]:
    """Run a method of a canister that can; only the root query has a data certificate."""
    assert canister.execution is not None, "a method was found"
    composite = method in method_table(canister.execution).composite_queries
    context = QueryContext(canister, caller, call, run.caller_info if call is None else None, own_fork=composite)
    run.open.append(context)
    limit, certificate = run.message_limit(), run.data_certificate if call is None else None
    ended = yield from context.run_method(method, arg, run.time, limit, certificate, run.limits)
    run.open.pop()
    run.instructions_left -= ended.instructions
    count(run, canister.canister_id, ended.instructions, arg, ended.payload)
    answer = ended.payload or ended.error
    if answer is None:
        return context
    yield from context.release()
    return answer


def count(run: QueryRun, canister_id: CanisterId, instructions: int, arg: bytes, payload: Payload | None) -> None:
    """Add a method that ran to the statistics; callbacks aren't counted."""
    size = len(payload.data) if isinstance(payload, Reply) else 0
    added = QueryStats(calls=1, instructions=instructions, request_bytes=len(arg), response_bytes=size)
    run.stats.setdefault(canister_id, QueryStats()).add(added)


def walk(run: QueryRun, root: QueryContext) -> Effects[Payload]:
    """Make the calls of open contexts, depth first, until the root has an answer or a limit of the graph is broken."""
    run.open.append(root)
    answer: Payload | None = None
    while run.open:
        context = run.open[-1]
        spent = out_of_instructions(run)
        if spent is not None:
            return spent
        if answer is not None:
            answer = yield from resume(run, context, answer)
        elif context.calls and (refused := not_callable(run, context)) is not None:
            answer = refused
        elif context.calls:
            called = yield from make_call(run, context)
            if isinstance(called, QueryContext):
                run.open.append(called)
            else:
                answer = called
            continue
        else:
            answer = no_response(context.canister_id)
        if answer is not None:
            run.open.pop()
            yield from context.release()
    assert answer is not None, "the root ends with an answer"
    return answer


def out_of_instructions(run: QueryRun) -> Reject | None:
    """IC0526 for the whole query, as nobody who waits has instructions left to hear of it."""
    if run.instructions_left > 0:
        return None
    text = "Composite query calls exceeded the instruction limit."
    return reject(ErrorCode.QUERY_CALL_GRAPH_TOTAL_INSTRUCTION_LIMIT_EXCEEDED, text)


def not_callable(run: QueryRun, context: QueryContext) -> Reject | None:
    """What a context is rejected with, towards its caller, that would call too deep (IC0525) or another subnet (IC0529)."""
    if len(run.open) > run.limits.composite_query_depth:
        return reject(ErrorCode.QUERY_CALL_GRAPH_TOO_DEEP, "Composite query calls exceeded the maximum call depth.")
    callee = Principal(context.calls[0].callee)
    if callee == MANAGEMENT_CANISTER or not run.is_elsewhere(callee):
        return None
    text = f"Composite query of canister {context.canister_id} calls canister {callee}, which is on another subnet."
    return reject(ErrorCode.QUERY_CALL_GRAPH_INTERNAL, text)


def make_call(run: QueryRun, context: QueryContext) -> Effects[Payload | QueryContext]:
    """Make the context's next call: its answer as the caller sees it, or the context that may still answer.

    Calls of the management canister are of this subnet, whatever they are about, and open no context.
    """
    call = context.next_call()
    callee = Principal(call.callee)
    if callee != MANAGEMENT_CANISTER:
        answer = yield from start(run, callee, context.canister_id, call.method, call.arg, call)
    else:
        answer = run.management(context.canister_id, call.method, call.arg)
        if not isinstance(answer, Reject) or answer.error_code is not ErrorCode.CANISTER_METHOD_NOT_FOUND:
            run.instructions_left -= run.limits.instruction_overhead_per_query_call
    return answer


def resume(run: QueryRun, context: QueryContext, answer: Payload) -> Effects[Payload | None]:
    """Run the callback of the call that was made last; the context's answer, or None while it may still get one.

    A callback that traps ends its context: the calls that it still wanted aren't made.
    """
    ended = yield from context.run_callback(answer, run.time, run.message_limit(), run.limits)
    run.instructions_left -= ended.instructions
    return ended.payload or ended.error or (None if context.calls else no_response(context.canister_id))


# --- why a query isn't run


def no_method(canister: Canister, method: str) -> Reject | None:
    """IC0508 of a stopped canister, IC0537 or IC0536."""
    canister_id = canister.canister_id
    if canister.status is RunStatus.STOPPED:
        text = f"Canister {canister_id} is stopped and therefore does not have a CallContextManager"
        return reject(ErrorCode.CANISTER_STOPPED, text)
    if canister.execution is None:
        return error_texts.no_module(canister_id)
    table = method_table(canister.execution)
    if method in table.composite_queries or method in table.queries:
        return None
    return error_texts.method_not_found(canister_id, "query", method)


def unable(canister: Canister, fees: CyclesCostSchedule) -> Reject | None:
    """IC0207 of a frozen canister, IC0509 of a stopping one."""
    canister_id = canister.canister_id
    if canister.balance < cycles_account.freezing_threshold(canister, fees):
        text = f"Canister {canister_id} is unable to process query calls because it's frozen. "
        return reject(ErrorCode.CANISTER_OUT_OF_CYCLES, text + "Please top up the canister with cycles and try again.")
    if canister.status is RunStatus.STOPPING:
        return error_texts.not_running(canister_id, stopped=False)
    return None


def no_response(canister_id: CanisterId) -> Reject:
    """IC0506."""
    return reject(ErrorCode.CANISTER_DID_NOT_REPLY, f"Canister {canister_id} did not produce a response")
