"""Candid types of the management canister's methods.

Rule module. Spec: interface spec, "The IC management canister", and its service description `ic.did`.
"""

from __future__ import annotations

from ic_types.candid.types import (
    Record,
    Type,
    Variant,
    blob,
    bool_,
    nat,
    nat64,
    null,
    opt,
    principal,
    record,
    text,
    variant,
    vec,
)


def _record(**fields: Type) -> Record:
    return record(fields)


def _variant(**cases: Type) -> Variant:
    return variant(cases)


VISIBILITY = _variant(controllers=null, public=null, allowed_viewers=vec(principal))
ENVIRONMENT_VARIABLE = _record(name=text, value=text)

_SETTINGS: dict[str, Type] = {
    "controllers": vec(principal),
    "compute_allocation": nat,
    "memory_allocation": nat,
    "freezing_threshold": nat,
    "reserved_cycles_limit": nat,
    "minimum_incoming_canister_call_cycles": nat,
    "log_visibility": VISIBILITY,
    "snapshot_visibility": VISIBILITY,
    "status_visibility": VISIBILITY,
    "wasm_memory_limit": nat,
    "wasm_memory_threshold": nat,
    "environment_variables": vec(ENVIRONMENT_VARIABLE),
}
SETTINGS = _record(**{name: opt(kind) for name, kind in _SETTINGS.items()})
DEFINITE_SETTINGS = _record(**_SETTINGS)

CANISTER_ID = _record(canister_id=principal)
"""Argument of methods that need no more, and result of those that create a canister."""

CREATE_CANISTER = _record(settings=opt(SETTINGS), sender_canister_version=opt(nat64))
PROVISIONAL_CREATE = _record(
    amount=opt(nat),
    settings=opt(SETTINGS),
    specified_id=opt(principal),
    sender_canister_version=opt(nat64),
)
PROVISIONAL_TOP_UP = _record(canister_id=principal, amount=nat)
UPDATE_SETTINGS = _record(canister_id=principal, settings=SETTINGS, sender_canister_version=opt(nat64))
UNINSTALL_CODE = _record(canister_id=principal, sender_canister_version=opt(nat64))

INSTALL_MODE = _variant(
    install=null,
    reinstall=null,
    upgrade=opt(
        _record(
            skip_pre_upgrade=opt(bool_),
            wasm_memory_persistence=opt(_variant(keep=null, replace=null)),
        )
    ),
)
INSTALL_CODE = _record(
    mode=INSTALL_MODE,
    canister_id=principal,
    wasm_module=blob,
    arg=blob,
    sender_canister_version=opt(nat64),
)

_MEMORY_METRICS = (
    "wasm_memory_size",
    "stable_memory_size",
    "global_memory_size",
    "wasm_binary_size",
    "custom_sections_size",
    "canister_history_size",
    "wasm_chunk_store_size",
    "snapshots_size",
)
_QUERY_STATS = (
    "num_calls_total",
    "num_instructions_total",
    "request_payload_bytes_total",
    "response_payload_bytes_total",
)
CANISTER_STATUS = _record(
    status=_variant(running=null, stopping=null, stopped=null),
    ready_for_migration=bool_,
    version=nat64,
    settings=DEFINITE_SETTINGS,
    module_hash=opt(blob),
    memory_size=nat,
    memory_metrics=_record(**dict.fromkeys(_MEMORY_METRICS, nat)),
    cycles=nat,
    reserved_cycles=nat,
    idle_cycles_burned_per_day=nat,
    query_stats=_record(**dict.fromkeys(_QUERY_STATS, nat)),
)
