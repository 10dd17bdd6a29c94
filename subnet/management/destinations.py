"""Whom a management call is about: which subnet it goes to, which canister pays for its induction.

Rule module. Spec: interface spec, "Effective canister id" and "Effective subnet id"; abstract behaviour,
`is_effective_canister_id`.
"""

from __future__ import annotations

from ic_types.candid.decoder import decode
from ic_types.candid.skipping import MANAGEMENT_VALUES
from ic_types.candid.types import Type, principal, record
from ic_types.chain_keys.registry import ChainKeys
from ic_types.errors import CandidError
from ic_types.messages import Ingress, Request
from ic_types.principal import CanisterId, Principal, SubnetId
from ic_types.reject import Reject, RejectCode
from message_routing.induction import ManagementTarget
from message_routing.routing_table import RoutingTable
from scheduler import error_texts
from subnet.management import chain_keys, errors
from subnet.management.methods import METHODS, Method, Users
from subnet.management.settings import FREE_UPDATE_BYTES

_NAMES: dict[str, Type] = {
    name: record({name: principal}) for name in sorted({m.effective for m in METHODS.values() if m.effective is not None})
}


def effective_id(method: Method, arg: bytes) -> Principal | None:
    """The canister or subnet that the argument names, read without decoding the rest of it; None if the call is about neither.

    Raises: CandidError when the argument doesn't name one.
    """
    if method.effective is None:
        return None
    named: Principal = decode(arg, (_NAMES[method.effective],), max_values=MANAGEMENT_VALUES)[0][method.effective]
    return named


def effective_canister(method: Method, arg: bytes) -> CanisterId | None:
    """The canister that the argument names, if the call is about one.

    Raises: CandidError when the argument doesn't name one.
    """
    return effective_id(method, arg) if method.about_canister else None


def induction_target(ingress: Ingress, admins: tuple[Principal, ...] = ()) -> ManagementTarget | Reject:
    """How a user's management call is inducted; satisfies `message_routing.induction.ManagementRule`.

    `admins`: subnet admins; where there are none, methods for admins are closed to all users.
    """
    method = METHODS.get(ingress.method)
    if method is None:
        return errors.unknown_method_by_user(ingress.method)
    if method.users is Users.NO or (method.users is Users.ADMINS and not admins):
        return errors.not_for_users(ingress.method)
    try:
        canister_id = effective_canister(method, ingress.arg)
    except CandidError:
        return errors.undecodable_by_user()
    free = ingress.method == "update_settings" and len(ingress.arg) <= FREE_UPDATE_BYTES
    return ManagementTarget(canister_id, free)


def resolve_destination(routing: RoutingTable, keys: ChainKeys, request: Request) -> SubnetId | Reject:
    """The subnet whose management canister a call to `aaaaa-aa` is for.

    That of the effective canister, one that has the chain key, or the caller's own.
    """
    method = METHODS.get(request.method)
    if method is None:
        return error_texts.for_caller(errors.unknown_method(request.method))
    try:
        if method.signing is not None:
            key = chain_keys.key_of(decode(request.arg, method.arguments, max_values=MANAGEMENT_VALUES)[0])
            return chain_keys.route(keys, request.method, key, signing=method.signing)
        about = effective_id(method, request.arg)
    except CandidError as error:
        return Reject(RejectCode.DESTINATION_INVALID, f"Unable to route management canister request {request.method}: {error}")
    if about is None:
        return routing.own_subnet
    host = routing.route(about)
    if host is None or (not method.about_canister and host != about):
        what = f"no subnet hosts canister {about}" if method.about_canister else f"there is no subnet {about}"
        return Reject(RejectCode.DESTINATION_INVALID, f"Unable to route management canister request {request.method}: {what}")
    return host
