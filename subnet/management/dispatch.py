"""Running calls to the management canister: the next one that may run now, and the install in progress.

Rule module. Spec: abstract behaviour, the management canister's transitions; which calls have to wait is the replica's.
`execute_next` and `continue_install` are what the scheduler's World asks for.
"""

from __future__ import annotations

from ic_types import trace
from ic_types.candid.decoder import decode
from ic_types.candid.skipping import MANAGEMENT_VALUES
from ic_types.candid.values import Value
from ic_types.errors import CandidError
from ic_types.messages import CanisterInput, Ingress, Request, Response
from ic_types.reject import ErrorCode, reject
from scheduler.effects import Effects
from subnet.management import access, errors
from subnet.management.answers import answer
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext
from subnet.management.destinations import effective_canister
from subnet.management.errors import ManagementError
from subnet.management.installs import run_slice
from subnet.management.methods import METHODS, Method, Users

SKIPPING_QUOTA = 10_000
"""Cost of surplus values that an argument may have, as in the replica."""


def execute_next(ctx: SubnetContext, budget: int) -> Effects[int | None]:
    """Run the next call that may run now and answer it; instructions used, or None if none may run."""
    message = ctx.management_queues.pop_first_ready(lambda queued: may_run(ctx, queued, budget))
    if message is None:
        return None
    assert not isinstance(message, Response), "the management canister makes no calls"
    outcome = yield from execute_management_call(ctx, message)
    answer(ctx, message, outcome)
    return outcome.instructions


def continue_install(ctx: SubnetContext, _budget: int) -> Effects[int | None]:
    """Run one slice of the install in progress, the first if it was aborted; instructions used, or None if there is none."""
    for canister_id in sorted(ctx.installs.ongoing):
        long = ctx.canisters[canister_id].long_install
        assert long is not None, "an install in progress left no record"
        message, suspended = long.message, ctx.installs.suspended.get(canister_id)
        if suspended is not None:
            outcome = yield from run_slice(ctx, canister_id, suspended.rule, resumed=True)
        else:
            outcome = yield from execute_management_call(ctx, message)
        if outcome.payload is not None:
            ctx.installs.ongoing.pop(canister_id, None)
            answer(ctx, message, outcome)
        return outcome.instructions
    return None


def execute_management_call(ctx: SubnetContext, message: Ingress | Request) -> Effects[ManagementOutcome]:
    """Run one call, up to the end of its first slice; refused calls get all their cycles back."""
    subject = message.message_id if isinstance(message, Ingress) else message.sender
    trace.emit("subnet.management.dispatch.execute_management_call", subject, message.method)
    payment = ManagementCall(message).payment
    method = METHODS.get(message.method)
    if method is None:
        return ManagementOutcome(payload=errors.unknown_method(message.method), refund=payment)
    try:
        call, args = admit(ctx, message, method)
        if method.installer is not None:
            outcome = yield from run_slice(ctx, call.canister.canister_id, method.installer(ctx, call, args), resumed=False)
            return outcome
        assert method.handler is not None, f"{message.method} has no rule"
        return method.handler(ctx, call, args)
    except CandidError as error:
        why = reject(ErrorCode.INVALID_MANAGEMENT_PAYLOAD, f"Error decoding candid: {error}")
        return ManagementOutcome(payload=why, refund=payment)
    except ManagementError as refused:
        return ManagementOutcome(payload=refused.reject, refund=payment)


def admit(ctx: SubnetContext, message: Ingress | Request, method: Method) -> tuple[ManagementCall, Value]:
    """The call with the canister that it is about, and its argument, if the caller may make it.

    Raises: CandidError when the argument is of another type; ManagementError when there is no such canister, or the caller may
    not call this method, from there, or about that canister.
    """
    if isinstance(message, Ingress):
        if method.users is Users.NO or (method.users is Users.ADMINS and not ctx.subnet_admins):
            raise ManagementError(errors.not_for_users(message.method))
        if method.users is Users.ADMINS:
            access.check_admin(message.sender, ctx.subnet_admins, message.method)
    elif not method.canisters:
        raise ManagementError(errors.only_as_query(message.method))
    elif not method.elsewhere and (home := ctx.routing.route(message.sender)) not in (ctx.own_subnet, ctx.root_subnet):
        raise errors.sender_elsewhere(home)
    values = decode(message.arg, method.arguments, skipping_quota=SKIPPING_QUOTA, max_values=MANAGEMENT_VALUES)
    args: Value = values[0] if values else None
    if not method.about_canister:
        return ManagementCall(message), args
    assert method.effective is not None
    canister = access.find(ctx, args[method.effective])
    access.check(method.access, canister, message.sender, ctx.subnet_admins, message.method)
    return ManagementCall(message, canister), args


def may_run(ctx: SubnetContext, message: CanisterInput, budget: int) -> bool:
    """Whether a queued call may run now; one that can only fail may always.

    It waits while its canister's code runs (a paused message or install); some wait for budget, or for an aborted message that
    has to start again, and installs wait for one another.
    """
    assert not isinstance(message, Response), "the management canister makes no calls"
    method = METHODS.get(message.method)
    if method is None:
        return True
    if (method.heavy and budget <= 0) or (method.installer is not None and ctx.installs.ongoing):
        return False
    try:
        canister_id = effective_canister(method, message.arg)
    except CandidError:
        return True
    canister = None if canister_id is None else ctx.canisters.get(canister_id)
    if canister is None:
        return True
    long = canister.long_execution
    return canister.long_install is None and (long is None or not (long.paused or method.exclusive))
