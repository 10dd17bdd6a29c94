"""Creating, starting, stopping and deleting canisters.

Rule module. Spec: abstract behaviour, "IC Management Canister: Canister creation", "Canister creation with cycles", "Stopping a
canister", "Starting a canister", "Canister deletion".
"""

from __future__ import annotations

from ic_types.candid.values import Value
from ic_types.principal import CanisterId
from ic_types.reject import Reject
from ic_types.request_id import hash_of_map
from ic_types.units import NS_PER_SECOND, Cycles
from message_routing.queues import CanisterQueues
from scheduler import cycles_account
from scheduler.call_context_rules import origin_of
from scheduler.canister import Canister, RunStatus, Settings, StopCall
from scheduler.canister_history import Creation
from scheduler.cycles_account import BurnCause
from subnet.management import access, answers, cycles, errors, history, settings
from subnet.management.answers import EMPTY_REPLY
from subnet.management.candid_types import CANISTER_ID
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext
from subnet.management.settings import SettingsChange

NO_CYCLES = Cycles(0)


def create_canister(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """The attached cycles become the balance, less the creation fee; where there are subnet admins, there is no fee."""
    fee = Cycles(0) if ctx.subnet_admins else ctx.fees.scale(ctx.fees.canister_creation)
    if call.payment < fee:
        raise errors.not_enough_to_create(call.payment, fee)
    change = settings.parse_settings(args["settings"], ctx.limits)
    canister = new_canister(ctx, call, next_id(ctx), Cycles(call.payment - fee), change, args["sender_canister_version"])
    cycles_account.burn(ctx, canister, fee, BurnCause.CREATION)
    return _created(ctx, canister.canister_id)


def provisional_create_canister(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Like create_canister, but the cycles come out of nothing and the id may be asked for. Only on development networks."""
    wanted = args["specified_id"]
    if wanted is not None:
        if ctx.routing.route(wanted) != ctx.own_subnet or wanted.canister_index() is None:
            raise errors.specified_id_elsewhere(wanted, ctx.own_subnet)
        if wanted in ctx.canisters:
            raise errors.specified_id_taken(wanted)
    amount = args["amount"]
    balance = cycles.checked_amount(ctx.limits.default_provisional_cycles if amount is None else amount)
    change = settings.parse_settings(args["settings"], ctx.limits)
    canister_id = wanted if wanted is not None else next_id(ctx)
    new_canister(ctx, call, canister_id, balance, change, args["sender_canister_version"])
    ctx.mint(balance)
    return _created(ctx, canister_id, refund=call.payment)


def next_id(ctx: SubnetContext) -> CanisterId:
    """A free id of this subnet.

    Raises: ManagementError (IC0101) when there is none.
    """
    canister_id = ctx.allocate_canister_id()
    if canister_id is None:
        raise errors.out_of_canister_ids()
    return canister_id


def new_canister(
    ctx: SubnetContext,
    call: ManagementCall,
    canister_id: CanisterId,
    balance: Cycles,
    change: SettingsChange,
    sender_version: int | None,
) -> Canister:
    """An empty, running canister of version 0, taken into the state; controlled by its creator unless the settings differ."""
    defaults = Settings(
        controllers=(call.caller,),
        freezing_threshold_s=ctx.limits.default_freezing_threshold_s,
        reserved_cycles_limit=Cycles(ctx.fees.default_reserved_cycles_limit),
        wasm_memory_limit=ctx.limits.default_wasm_memory_limit,
        log_memory_limit=ctx.limits.default_log_bytes,
    )
    canister = Canister(
        canister_id=canister_id,
        settings=defaults,
        balance=balance,
        created=ctx.time,
        queues=CanisterQueues(ctx.limits.queue_capacity),
        last_charged=ctx.time,
    )
    settings.apply(ctx, canister, change, is_new=True)
    variables = change.environment_variables
    made = Creation(canister.settings.controllers, None if variables is None else hash_of_map(dict(variables)))
    history.record(ctx, call, canister, sender_version, made)
    ctx.add_canister(canister)
    return canister


def start_canister(ctx: SubnetContext, call: ManagementCall, _args: Value) -> ManagementOutcome:
    """Running from any status; those who wait for the canister to stop are rejected."""
    canister = call.canister
    waiting, canister.stop_calls = canister.stop_calls, []
    ctx.stopping.pop(canister.canister_id, None)
    canister.status = RunStatus.RUNNING
    canister.version += 1
    for stop in waiting:
        _answer_stop(ctx, stop, errors.stop_cancelled(canister.canister_id))
    access.changed(ctx, canister)
    return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment)


def stop_canister(ctx: SubnetContext, call: ManagementCall, _args: Value) -> ManagementOutcome:
    """Stopping, and an answer once no call context is open; at once if the canister is stopped already."""
    canister = call.canister
    canister.version += 1
    access.changed(ctx, canister)
    if canister.status is RunStatus.STOPPED:
        return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment)
    canister.status = RunStatus.STOPPING
    canister.stop_calls.append(StopCall(origin_of(call.message), call.payment, ctx.time, call.message.receiver))
    ctx.stopping[canister.canister_id] = None
    ctx.scheduler.note(canister)
    return ManagementOutcome(payload=None)


def settle_stopping(ctx: SubnetContext) -> None:
    """End of round: stopping canisters without open calls are stopped, calls that waited too long are rejected.

    Costs the number of stopping canisters.
    """
    timeout = ctx.limits.stop_timeout_s * NS_PER_SECOND
    for canister_id in sorted(ctx.stopping):
        canister = ctx.canisters[canister_id]
        if not (canister.contexts or canister.long_execution or canister.long_install):
            waiting, canister.stop_calls = canister.stop_calls, []
            canister.status = RunStatus.STOPPED
            canister.version += 1
            del ctx.stopping[canister_id]
            for stop in waiting:
                _answer_stop(ctx, stop, None)
            access.changed(ctx, canister)
            continue
        late = [stop for stop in canister.stop_calls if ctx.time >= stop.time + timeout]
        if late:
            canister.stop_calls = [stop for stop in canister.stop_calls if ctx.time < stop.time + timeout]
            for stop in late:
                _answer_stop(ctx, stop, errors.stop_timed_out())
            access.changed(ctx, canister)


def delete_canister(ctx: SubnetContext, call: ManagementCall, _args: Value) -> ManagementOutcome:
    """A stopped canister disappears with all it has; what is left of its cycles is burned.

    That a canister can't delete itself is a condition on the caller, see `access`.
    """
    canister = call.canister
    if canister.status is not RunStatus.STOPPED:
        raise errors.delete_not_stopped(canister.canister_id)
    if canister.queues.has_input() or canister.queues.has_output() or canister.callbacks:
        raise errors.delete_queue_not_empty(canister.canister_id)
    left = canister.balance + canister.reserved_balance
    if left:
        canister.balance = canister.reserved_balance = Cycles(0)
        cycles_account.burn(ctx, canister, left, BurnCause.DELETION)
    ctx.remove_canister(canister.canister_id)
    return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment)


def _created(ctx: SubnetContext, canister_id: CanisterId, refund: Cycles = NO_CYCLES) -> ManagementOutcome:
    ctx.touch(canister_id)
    return ManagementOutcome(payload=answers.reply(CANISTER_ID, {"canister_id": canister_id}), refund=refund)


def _answer_stop(ctx: SubnetContext, stop: StopCall, why: Reject | None) -> None:
    answers.answer_origin(ctx, stop.origin, stop.respondent, EMPTY_REPLY if why is None else why, stop.refund)
