"""Queries of the management canister, by users and by composite queries of canisters.

Rule module. Spec: abstract behaviour, "IC Management Canister: Canister logs (query call)", "List canisters (query call)", and
the query forms of "Canister status" and "Canister metrics". Access is that of the same method as a call.
"""

from __future__ import annotations

from ic_types.candid.decoder import decode
from ic_types.candid.encoder import encode
from ic_types.candid.skipping import MANAGEMENT_VALUES
from ic_types.candid.values import Value
from ic_types.errors import CandidError
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Payload, Reply, reject
from message_routing.induction import canister_not_found
from subnet.management import access, errors
from subnet.management.access import Access
from subnet.management.context import QueryView
from subnet.management.dispatch import SKIPPING_QUOTA
from subnet.management.errors import ManagementError
from subnet.management.methods import METHODS


def answer_query(view: QueryView, caller: Principal, name: str, arg: bytes) -> Payload:
    """The reply, or why there is none."""
    method = METHODS.get(name)
    if method is None or method.query is None:
        return errors.not_queryable(name)
    canister, args = None, list[Value]()
    try:
        args = decode(arg, method.arguments, skipping_quota=SKIPPING_QUOTA, max_values=MANAGEMENT_VALUES)
        if method.about_canister and method.effective is not None:
            about = args[0][method.effective]
            canister = view.canister(about)
            if canister is None:
                return canister_not_found(about)
            access.check(method.access, canister, caller, view.subnet_admins, name)
        elif method.access is Access.ADMINS:
            access.check_admin(caller, view.subnet_admins, name)
    except CandidError as error:
        return reject(ErrorCode.INVALID_MANAGEMENT_PAYLOAD, f"Error decoding candid: {error}")
    except ManagementError as refused:
        return refused.reject
    return Reply(encode(method.results, (method.query(view, canister, args[0] if args else None),)))
