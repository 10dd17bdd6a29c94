"""Candid types of the methods about snapshots.

Rule module. Spec: interface spec, "IC method take_canister_snapshot" and those that follow it, and `ic.did`.
"""

from __future__ import annotations

from ic_types.candid.types import (
    Type,
    blob,
    bool_,
    float32,
    float64,
    int32,
    int64,
    nat,
    nat64,
    null,
    opt,
    principal,
    vec,
)
from subnet.management.candid_types import SNAPSHOT_SOURCE, record_of, variant_of

TAKE = record_of(
    canister_id=principal, replace_snapshot=opt(blob), uninstall_code=opt(bool_), sender_canister_version=opt(nat64)
)
SNAPSHOT = record_of(id=blob, taken_at_timestamp=nat64, total_size=nat64)
LIST = vec(SNAPSHOT)
LOAD = record_of(canister_id=principal, snapshot_id=blob, sender_canister_version=opt(nat64))
NAMED = record_of(canister_id=principal, snapshot_id=blob)

_METADATA: dict[str, Type] = {
    "wasm_module_size": nat64,
    "globals": vec(variant_of(i32=int32, i64=int64, f32=float32, f64=float64, v128=nat)),
    "wasm_memory_size": nat64,
    "stable_memory_size": nat64,
    "certified_data": blob,
    "global_timer": opt(variant_of(inactive=null, active=nat64)),
    "on_low_wasm_memory_hook_status": opt(variant_of(condition_not_satisfied=null, ready=null, executed=null)),
}
METADATA = record_of(
    **_METADATA,
    source=SNAPSHOT_SOURCE,
    taken_at_timestamp=nat64,
    wasm_chunk_store=vec(record_of(hash=blob)),
    canister_version=nat64,
)
UPLOAD_METADATA = record_of(**_METADATA, canister_id=principal, replace_snapshot=opt(blob))
UPLOADED = record_of(snapshot_id=blob)

_PIECE = record_of(offset=nat64, size=nat64)
READ_DATA = record_of(
    canister_id=principal,
    snapshot_id=blob,
    kind=variant_of(wasm_module=_PIECE, wasm_memory=_PIECE, stable_memory=_PIECE, wasm_chunk=record_of(hash=blob)),
)
DATA = record_of(chunk=blob)
_PLACE = record_of(offset=nat64)
UPLOAD_DATA = record_of(
    canister_id=principal,
    snapshot_id=blob,
    kind=variant_of(wasm_module=_PLACE, wasm_memory=_PLACE, stable_memory=_PLACE, wasm_chunk=null),
    chunk=blob,
)
