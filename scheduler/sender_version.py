"""Calls of the management canister that name the version of their sender.

Rule module. Spec: abstract behaviour, "Message execution", `validate_sender_canister_version`. As in the replica, a call that
names a wrong one is rejected as soon as it is made, instead of failing the message that makes it.
"""

from __future__ import annotations

from typing import Final

from ic_types.candid.decoder import decode
from ic_types.candid.skipping import MANAGEMENT_VALUES
from ic_types.candid.types import nat64, opt, record
from ic_types.errors import CandidError
from ic_types.messages import Request
from ic_types.principal import MANAGEMENT_CANISTER
from ic_types.reject import ErrorCode, Reject, reject
from scheduler import error_texts

_METHODS: Final = frozenset(
    (
        "create_canister",
        "install_chunked_code",
        "install_code",
        "provisional_create_canister_with_cycles",
        "uninstall_code",
        "update_settings",
    )
)
_VERSION_ONLY: Final = (record({"sender_canister_version": opt(nat64)}),)


def refusal(request: Request, version: int) -> Reject | None:
    """IC0504 if the call names another version than this; an argument that can't be read is left to the management canister."""
    if request.receiver != MANAGEMENT_CANISTER or request.method not in _METHODS:
        return None
    try:
        named = decode(request.arg, _VERSION_ONLY, max_values=MANAGEMENT_VALUES)[0]["sender_canister_version"]
    except CandidError:
        return None
    if named is None or named == version:
        return None
    text = "Management canister call payload includes sender canister version "
    text += f"{named} that does not match the actual sender canister version {version}."
    return error_texts.for_caller(reject(ErrorCode.CANISTER_CONTRACT_VIOLATION, text))
