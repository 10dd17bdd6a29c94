"""Which management calls of users are let into the pool.

Rule module. Spec: abstract behaviour, "API Request submission"; the order, codes and texts are the replica's, which are others
than those of induction. Who tops up a canister by the provisional method need not control it: the method's own text says so.
"""

from __future__ import annotations

from collections.abc import Callable

from ic_types.candid.decoder import decode
from ic_types.errors import CandidError
from ic_types.messages import Ingress
from ic_types.principal import CanisterId
from ic_types.reject import ErrorCode, Reject, reject
from message_routing.induction import ManagementTarget, canister_not_found
from scheduler.canister import Canister
from subnet.management.destinations import effective_canister, induction_target
from subnet.management.methods import METHODS

ANYONE = frozenset(("provisional_create_canister_with_cycles", "provisional_top_up_canister"))
"""Methods that not only controllers may call."""


def target(ingress: Ingress) -> ManagementTarget | Reject:
    """Whom the call is about and who pays for it, or why users can't make it."""
    name = ingress.method
    method = METHODS.get(name)
    if method is None:
        return reject(ErrorCode.CANISTER_METHOD_NOT_FOUND, f"ic00 interface does not expose method {name}")
    if not method.users:
        return reject(ErrorCode.CANISTER_REJECTED_MESSAGE, f"ic00 method {name} can not be called via ingress messages")
    try:
        decode(ingress.arg, method.arguments)
        effective_canister(method, ingress.arg)
    except CandidError as error:
        text = f"Failed to parse payload for ic00 method {name}: {error}"
        return reject(ErrorCode.INVALID_MANAGEMENT_PAYLOAD, text)
    return induction_target(ingress)


def refusal(ingress: Ingress, target: ManagementTarget, canister_of: Callable[[CanisterId], Canister | None]) -> Reject | None:
    """Why a call that users can make isn't accepted of this one, or None.

    Conditions: the effective canister exists and the sender controls it.
    """
    canister_id = target.effective_canister
    if ingress.method in ANYONE:
        return None
    assert canister_id is not None, f"{ingress.method} is for users and about no canister"
    canister = canister_of(canister_id)
    if canister is None:
        return canister_not_found(canister_id)
    if ingress.sender in canister.settings.controllers:
        return None
    text = f"Only controllers of canister {canister_id} can call ic00 method {ingress.method}"
    return reject(ErrorCode.CANISTER_INVALID_CONTROLLER, text)
