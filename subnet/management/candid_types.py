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
    reserved,
    text,
    variant,
    vec,
)


def record_of(**fields: Type) -> Record:
    """A record with these fields."""
    return record(fields)


def variant_of(**cases: Type) -> Variant:
    """A variant with these cases."""
    return variant(cases)


VISIBILITY = variant_of(controllers=null, public=null, allowed_viewers=vec(principal))
ENVIRONMENT_VARIABLE = record_of(name=text, value=text)

SETTINGS_BEYOND_SPEC = ("log_memory_limit",)
"""What the replica has and the published service description has not; optional for callers, so nothing breaks."""

_SETTINGS: dict[str, Type] = {
    "controllers": vec(principal),
    "compute_allocation": nat,
    "memory_allocation": nat,
    "freezing_threshold": nat,
    "reserved_cycles_limit": nat,
    "minimum_incoming_canister_call_cycles": nat,
    "log_visibility": VISIBILITY,
    "log_memory_limit": nat,
    "snapshot_visibility": VISIBILITY,
    "status_visibility": VISIBILITY,
    "wasm_memory_limit": nat,
    "wasm_memory_threshold": nat,
    "environment_variables": vec(ENVIRONMENT_VARIABLE),
}
SETTINGS = record_of(**{name: opt(kind) for name, kind in _SETTINGS.items()})
DEFINITE_SETTINGS = record_of(**_SETTINGS)

CANISTER_ID = record_of(canister_id=principal)
"""Argument of methods that need no more, and result of those that create a canister."""

CREATE_CANISTER = record_of(settings=opt(SETTINGS), sender_canister_version=opt(nat64))
PROVISIONAL_CREATE = record_of(
    amount=opt(nat),
    settings=opt(SETTINGS),
    specified_id=opt(principal),
    sender_canister_version=opt(nat64),
)
PROVISIONAL_TOP_UP = record_of(canister_id=principal, amount=nat)
UPDATE_SETTINGS = record_of(canister_id=principal, settings=SETTINGS, sender_canister_version=opt(nat64))
UNINSTALL_CODE = record_of(canister_id=principal, sender_canister_version=opt(nat64))

INSTALL_MODE = variant_of(
    install=null,
    reinstall=null,
    upgrade=opt(
        record_of(
            skip_pre_upgrade=opt(bool_),
            wasm_memory_persistence=opt(variant_of(keep=null, replace=null)),
        )
    ),
)
INSTALL_CODE = record_of(
    mode=INSTALL_MODE,
    canister_id=principal,
    wasm_module=blob,
    arg=blob,
    sender_canister_version=opt(nat64),
)

INSTALL_CHUNKED_CODE = record_of(
    mode=INSTALL_MODE,
    target_canister=principal,
    store_canister=opt(principal),
    chunk_hashes_list=vec(record_of(hash=blob)),
    wasm_module_hash=blob,
    arg=blob,
    sender_canister_version=opt(nat64),
)

UPLOAD_CHUNK = record_of(canister_id=principal, chunk=blob)
CHUNK_HASH = record_of(hash=blob)
STORED_CHUNKS = vec(CHUNK_HASH)

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
CANISTER_STATUS = record_of(
    status=variant_of(running=null, stopping=null, stopped=null),
    ready_for_migration=bool_,
    version=nat64,
    settings=DEFINITE_SETTINGS,
    module_hash=opt(blob),
    memory_size=nat,
    memory_metrics=record_of(**dict.fromkeys(_MEMORY_METRICS, nat)),
    cycles=nat,
    reserved_cycles=nat,
    idle_cycles_burned_per_day=nat,
    query_stats=record_of(**dict.fromkeys(_QUERY_STATS, nat)),
)

_ORIGIN = variant_of(
    from_user=record_of(user_id=principal),
    from_canister=record_of(canister_id=principal, canister_version=opt(nat64)),
)
SNAPSHOT_SOURCE = variant_of(taken_from_canister=reserved, metadata_upload=reserved)
_DETAILS = variant_of(
    creation=record_of(controllers=vec(principal), environment_variables_hash=opt(blob)),
    code_uninstall=null,
    code_deployment=record_of(mode=variant_of(install=null, reinstall=null, upgrade=null), module_hash=blob),
    load_snapshot=record_of(
        from_canister_id=opt(principal),
        snapshot_id=blob,
        canister_version=nat64,
        taken_at_timestamp=nat64,
        source=SNAPSHOT_SOURCE,
    ),
    controllers_change=record_of(controllers=vec(principal)),
    rename_canister=record_of(
        canister_id=principal,
        total_num_changes=nat64,
        rename_to=record_of(canister_id=principal, version=nat64, total_num_changes=nat64),
        requested_by=principal,
    ),
)
CANISTER_INFO = record_of(canister_id=principal, num_requested_changes=opt(nat64))
CANISTER_INFO_RESULT = record_of(
    total_num_changes=nat64,
    recent_changes=vec(record_of(timestamp_nanos=nat64, canister_version=nat64, origin=_ORIGIN, details=_DETAILS)),
    module_hash=opt(blob),
    controllers=vec(principal),
)
CANISTER_METADATA = record_of(canister_id=principal, name=text)
CANISTER_METADATA_RESULT = record_of(value=blob)

CYCLES_CONSUMED = (
    "memory",
    "compute_allocation",
    "ingress_induction",
    "instructions",
    "request_and_response_transmission",
    "uninstall",
    "canister_creation",
    "http_outcalls",
    "burned_cycles",
)
CANISTER_METRICS_RESULT = record_of(cycles_consumed=record_of(**dict.fromkeys(CYCLES_CONSUMED, nat)))

_LOG_RANGE = record_of(start=nat64, end=nat64)
FETCH_LOGS = record_of(canister_id=principal, filter=opt(variant_of(by_idx=_LOG_RANGE, by_timestamp_nanos=_LOG_RANGE)))
"""`filter` is the replica's; the published service description has no such field."""
FETCH_LOGS_RESULT = record_of(canister_log_records=vec(record_of(idx=nat64, timestamp_nanos=nat64, content=blob)))
LIST_CANISTERS_RESULT = record_of(canisters=vec(record_of(start=principal, end=principal)))

SUBNET_ID = record_of(subnet_id=principal)
SUBNET_INFO_RESULT = record_of(replica_version=text, registry_version=nat64)
NODE_METRICS_HISTORY = record_of(subnet_id=principal, start_at_timestamp_nanos=nat64)
NODE_METRICS_HISTORY_RESULT = vec(
    record_of(
        timestamp_nanos=nat64,
        node_metrics=vec(record_of(node_id=principal, num_blocks_proposed_total=nat64, num_block_failures_total=nat64)),
    )
)
