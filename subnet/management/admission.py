"""Which management calls of users are let into the pool.

Rule module. Spec: abstract behaviour, "API Request submission"; the order, codes and texts are the replica's, which are others
than those of induction. Who tops up a canister by the provisional method need not control it: the method's own text says so.
"""

from __future__ import annotations

from collections.abc import Callable

from ic_types.candid.decoder import decode
from ic_types.candid.skipping import MANAGEMENT_VALUES
from ic_types.errors import CandidError
from ic_types.messages import Ingress
from ic_types.principal import CanisterId, Principal
from ic_types.reject import ErrorCode, Reject, reject
from message_routing.induction import ManagementTarget, canister_not_found
from scheduler.canister import Canister
from subnet.management import access, errors
from subnet.management.destinations import effective_canister, induction_target
from subnet.management.errors import ManagementError
from subnet.management.methods import METHODS, Users

ANYONE = frozenset(("provisional_create_canister_with_cycles", "provisional_top_up_canister"))
"""Methods that not only controllers may call."""


def target(ingress: Ingress, admins: tuple[Principal, ...] = ()) -> ManagementTarget | Reject:
    """Whom the call is about and who pays for it, or why users can't make it."""
    name = ingress.method
    method = METHODS.get(name)
    if method is None:
        return reject(ErrorCode.CANISTER_METHOD_NOT_FOUND, f"ic00 interface does not expose method {name}")
    if method.users is Users.NO or (method.users is Users.ADMINS and not admins):
        return reject(ErrorCode.CANISTER_REJECTED_MESSAGE, f"ic00 method {name} can not be called via ingress messages")
    try:
        decode(ingress.arg, method.arguments, max_values=MANAGEMENT_VALUES)
        effective_canister(method, ingress.arg)
    except CandidError as error:
        text = f"Failed to parse payload for ic00 method {name}: {error}"
        return reject(ErrorCode.INVALID_MANAGEMENT_PAYLOAD, text)
    return induction_target(ingress, admins)


def refusal(
    ingress: Ingress,
    target: ManagementTarget,
    canister_of: Callable[[CanisterId], Canister | None],
    admins: tuple[Principal, ...] = (),
) -> Reject | None:
    """Why a call that users can make isn't accepted of this one, or None.

    Conditions: the effective canister exists, and the method's rule of access lets the sender do this to it.
    """
    method = METHODS[ingress.method]
    canister_id = target.effective_canister
    if ingress.method in ANYONE:
        return None
    if canister_id is None:
        return None if ingress.sender in admins else errors.not_admin(ingress.sender, admins).reject
    canister = canister_of(canister_id)
    if canister is None:
        return canister_not_found(canister_id)
    try:
        access.check(method.access, canister, ingress.sender, admins, ingress.method)
    except ManagementError as refused:
        if refused.reject.error_code is not ErrorCode.CANISTER_INVALID_CONTROLLER:
            return refused.reject
        text = f"Only controllers of canister {canister_id} can call ic00 method {ingress.method}"
        return reject(ErrorCode.CANISTER_INVALID_CONTROLLER, text)
    return None
