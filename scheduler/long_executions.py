"""Messages longer than a slice: pausing, going on, giving up and starting again.

Rule module. Not in the spec: deterministic time slicing is the replica's. While a message is paused its canister stays as
before the message: no other message of it runs, its balance only grows, induction fees are noted as a debit. An aborted
message starts again from its first instruction, already paid for.
"""

from __future__ import annotations

from ic_types.messages import Ingress, Request, Response
from ic_types.units import Cycles, NumInstructions, TimeNs
from sandbox.execution_state import ExecutionState
from sandbox.protocol import Answer, ExecutionContext, ExecutionInput, Paused
from scheduler import cycles_account
from scheduler.canister import Canister, LongExecution, SystemTask
from scheduler.core import Core
from scheduler.cycles_account import Account
from scheduler.effects import AbortMessage, Effects, ResumeMessage, RunMessage
from scheduler.message_inputs import Lookahead


def run_slice(
    core: Core,
    canister: Canister,
    execution: ExecutionState,
    message: ExecutionInput,
    context: ExecutionContext,
    lookahead: Lookahead | None,
) -> Effects[Answer]:
    """Start the message, or run the next slice if it is paused."""
    long = canister.long_execution
    if long is not None and long.paused:
        answer = yield ResumeMessage(canister.canister_id, execution, long.slices)
    else:
        upcoming = () if lookahead is None or long is not None else lookahead.upcoming(core, canister)
        answer = yield RunMessage(canister.canister_id, execution, message, context, upcoming)
    return answer  # type: ignore[return-value]


def pause(
    core: Core, canister: Canister, message: Ingress | Request | Response | SystemTask, prepaid: int, answer: Paused
) -> None:
    """Note that the message stopped at the end of a slice."""
    core.spend(answer.slice_instructions)
    long = canister.long_execution
    if long is None:
        long = LongExecution(message, Cycles(prepaid), True, core.round_number, started_time=core.time)
        canister.long_execution = long
        if type(message) is Ingress:
            core.processing.append(message.message_id)
    elif not long.paused:
        long.paused, long.started_time = True, core.time
    long.slices += 1
    long.instructions = NumInstructions(answer.instructions)


def end(core: Core, canister: Canister) -> None:
    """The long message is over; what waited for that happens."""
    long = canister.long_execution
    if long is not None:
        canister.long_execution = None
        cycles_account.apply_ingress_debit(core, canister, long.ingress_debit)


def start_time(core: Core, canister: Canister) -> TimeNs:
    """`ic0.time` of the message that is about to run: that of its first slice."""
    long = canister.long_execution
    return long.started_time if long is not None and long.paused else core.time


def abort(account: Account, canister: Canister) -> Effects[None]:
    """Throw the finished slices away; the message keeps its place and its prepayment."""
    long = canister.long_execution
    assert long is not None
    assert long.paused, "only paused messages are aborted"
    assert canister.execution is not None
    yield AbortMessage(canister.canister_id, canister.execution)
    debit, long.ingress_debit = long.ingress_debit, Cycles(0)
    long.paused, long.slices, long.instructions = False, 0, NumInstructions(0)
    cycles_account.apply_ingress_debit(account, canister, debit)
