"""Whether a node lets a user's call into the pool; a refusal is told to the user and changes nothing.

Rule module. Spec: abstract behaviour, "API Request submission"; interface spec, "Request: Call" (`non_replicated_rejection`).
The order is the replica's: can users make this call, can its payer pay, then who may make it or what the canister says.
"""

from __future__ import annotations

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.errors import SandboxFailure
from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from ic_types.reject import ErrorCode, Reject, RejectCode, reject
from message_routing.induction import ManagementTarget, canister_not_found
from scheduler import cycles_account, error_texts
from scheduler.canister import Canister, RunStatus
from scheduler.effects import Effects
from scheduler.message_inputs import method_table
from scheduler.query_messages import inspect_message
from subnet.management import admission
from subnet.node.certified_state import CertifiedState


def refusal(seen: CertifiedState, call: Ingress, limits: SubnetLimits, fees: CyclesCostSchedule) -> Effects[Reject | None]:
    """Why the call isn't accepted by the certified state, or None if it may enter the pool."""
    try:
        if call.receiver == MANAGEMENT_CANISTER:
            target = admission.target(call, seen.admins)
            if isinstance(target, Reject):
                return target
            return unpaid(seen, call, target, fees) or admission.refusal(call, target, seen.canister, seen.admins)
        canister = seen.canister(call.receiver)
        if canister is None:
            return canister_not_found(call.receiver)
        refused = unpaid(seen, call, ManagementTarget(call.receiver), fees) or unwilling(canister, call)
        if refused is None:
            refused = yield from inspect_message(canister, call, seen.time, limits)
        return refused
    except SandboxFailure as failure:
        return Reject(RejectCode.SYS_TRANSIENT, str(failure))


def unpaid(seen: CertifiedState, call: Ingress, target: ManagementTarget, fees: CyclesCostSchedule) -> Reject | None:
    """IC0301 or IC0207 when the canister that would pay for the induction doesn't exist or lacks the cycles.

    Only a first look: the induction itself charges the fee and may still fail. Controllers are told how much is missing.
    """
    payer: CanisterId | None = None if target.free else target.effective_canister
    if payer is None:
        return None
    canister = seen.canister(payer)
    if canister is None:
        return canister_not_found(payer)
    amount, threshold = fees.ingress(call.raw_bytes), cycles_account.freezing_threshold(canister, fees)
    long = canister.long_execution
    debit = 0 if long is None else long.ingress_debit
    if canister.balance - debit < amount + threshold:
        return cycles_account.out_of_cycles(canister, amount, threshold, call.sender)
    return None


def unwilling(canister: Canister, call: Ingress) -> Reject | None:
    """Why a canister takes no such call, whatever it would say itself: it isn't running, or the method is a composite query."""
    canister_id = canister.canister_id
    if canister.status is RunStatus.STOPPING:
        return reject(ErrorCode.CANISTER_STOPPING, f"Canister {canister_id} is stopping")
    if canister.status is RunStatus.STOPPED:
        return reject(ErrorCode.CANISTER_STOPPED, f"Canister {canister_id} is stopped")
    if canister.execution is None:
        return reject(ErrorCode.CANISTER_WASM_MODULE_NOT_FOUND, "Requested canister has no wasm module")
    if call.method in method_table(canister.execution).composite_queries:
        return error_texts.composite_query_in_replicated_mode()
    return None
