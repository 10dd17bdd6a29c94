"""Down- and uploading snapshots, in pieces.

Rule module. Spec: abstract behaviour, "IC Management Canister: Read snapshot metadata", "Read snapshot data", "Upload canister
snapshot metadata" and "Upload canister snapshot data"; fees, codes and order of the checks are the replica's.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import replace

from ic_types.candid.values import Value
from ic_types.reject import ErrorCode, reject
from ic_types.units import WASM_PAGE_BYTES, TimeNs
from sandbox.memory_bytes import read_bytes, write_bytes
from sandbox.paged_memory import PagedMemory
from scheduler.canister import Canister
from scheduler.chunk_store import CHUNK_BYTES
from scheduler.snapshots import UPLOADED_GLOBAL_BYTES, CanisterSnapshot, LowMemoryHook, UploadedModule
from subnet.management import access, answers, candid_snapshots, chunks, errors, resources, snapshots
from subnet.management.answers import EMPTY_REPLY
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext
from subnet.management.errors import ManagementError

MAX_PIECE = 2_000_000
"""Bytes of one answer."""
_FLOATS = {"f32": ("<f", "<I"), "f64": ("<d", "<Q")}
_SIGNED = {"i32": 32, "i64": 64}
_MAX_MODULE = 100 << 20
_MAX_GLOBALS = 1000
_MAX_CERTIFIED = 32


# --- reading


def read_metadata(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """All that is known of a snapshot but its bytes."""
    snapshot = snapshots.find(ctx, call.canister, args["snapshot_id"])
    timer, hook = snapshot.global_timer, snapshot.hook
    metadata = {
        "source": {"metadata_upload" if snapshot.uploaded else "taken_from_canister": None},
        "taken_at_timestamp": snapshot.taken_at,
        "wasm_module_size": snapshot.module_bytes,
        "globals": [{kind: global_value(kind, bits)} for kind, bits in snapshot.globals],
        "wasm_memory_size": snapshot.heap.wasm_pages * WASM_PAGE_BYTES,
        "stable_memory_size": snapshot.stable.wasm_pages * WASM_PAGE_BYTES,
        "wasm_chunk_store": [{"hash": chunk_hash} for chunk_hash in snapshot.chunk_store.chunks],
        "canister_version": snapshot.version,
        "certified_data": snapshot.certified_data,
        "global_timer": None if timer is None else {"active": timer} if timer else {"inactive": None},
        "on_low_wasm_memory_hook_status": None if hook is None else {hook.value: None},
    }
    return ManagementOutcome(payload=answers.reply(candid_snapshots.METADATA, metadata), refund=call.payment)


def read_data(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """A piece of module or memory, or a whole chunk; paid for before it is looked for.

    Raises: ManagementError (IC0207, IC0305, IC0406, IC0408, IC0504).
    """
    canister = call.canister
    snapshot = snapshots.find(ctx, canister, args["snapshot_id"])
    ((kind, where),) = args["kind"].items()
    size = CHUNK_BYTES if kind == "wasm_chunk" else where["size"]
    if size > MAX_PIECE:
        raise errors.invalid_payload(f"Requested slice too large: {size} > {MAX_PIECE}")
    instructions = ctx.limits.snapshot_data_instructions + size
    _pay(ctx, call, instructions)
    if kind == "wasm_chunk":
        piece = _chunk(snapshot, where["hash"])
    else:
        offset = where["offset"]
        _check_slice(offset, size, _bytes_of(snapshot, kind))
        piece = _read(snapshot, kind, offset, size)
    reply = answers.reply(candid_snapshots.DATA, {"chunk": piece})
    return ManagementOutcome(payload=reply, refund=call.payment, instructions=instructions)


def _chunk(snapshot: CanisterSnapshot, chunk_hash: bytes) -> bytes:
    shown = "[" + ", ".join(f"{byte:02x}" for byte in chunk_hash) + "]"
    if len(chunk_hash) != 32:
        raise chunks.error(f"Bytes {shown} are not a valid WasmChunkHash.")
    found = snapshot.chunk_store.chunks.get(chunk_hash)
    if found is None:
        raise chunks.error(f"WasmChunkHash {shown} not found.")
    return found


def _bytes_of(snapshot: CanisterSnapshot, kind: str) -> int:
    if kind == "wasm_module":
        return snapshot.module_bytes
    memory = snapshot.heap if kind == "wasm_memory" else snapshot.stable
    return memory.wasm_pages * WASM_PAGE_BYTES


def _check_slice(offset: int, size: int, available: int) -> None:
    if offset + size > available:
        text = f"Invalid subslice into wasm module / main memory / stable memory: offset: {offset}, size: {size}"
        raise errors.invalid_payload(text)


def _read(snapshot: CanisterSnapshot, kind: str, offset: int, size: int) -> bytes:
    if kind != "wasm_module":
        return read_bytes(snapshot.heap if kind == "wasm_memory" else snapshot.stable, offset, size)
    module = snapshot.module
    return read_bytes(module.memory, offset, size) if isinstance(module, UploadedModule) else module[offset : offset + size]


def global_value(kind: str, bits: int) -> int | float:
    """The Candid value of a global with these bits."""
    if kind in _FLOATS:
        to, source = _FLOATS[kind]
        return float(struct.unpack(to, struct.pack(source, bits))[0])
    width = _SIGNED.get(kind)
    return bits - (1 << width) if width is not None and bits >> (width - 1) else bits


def global_bits(kind: str, value: float) -> int:
    """The bits of a global from its Candid value; every NaN is the canonical one."""
    if kind in _FLOATS:
        source, to = _FLOATS[kind]
        if math.isnan(value):
            return 0x7FC00000 if kind == "f32" else 0x7FF8000000000000
        return int(struct.unpack(to, struct.pack(source, value))[0])
    return int(value) & ((1 << _SIGNED.get(kind, 128)) - 1)


# --- uploading


def upload_metadata(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """A new snapshot of zeros, billed in full from now on, whose bytes come later.

    Raises: ManagementError (IC0101, IC0207, IC0210, IC0305, IC0406, IC0408, IC0532).
    """
    canister = call.canister
    _check_metadata(ctx, canister, args)
    replaced = snapshots.check_replacement(ctx, canister, args["replace_snapshot"])
    snapshots.check_heap_delta(ctx, canister)
    size = args["wasm_module_size"] + args["wasm_memory_size"] + args["stable_memory_size"] + len(args["certified_data"])
    size += len(args["globals"]) * UPLOADED_GLOBAL_BYTES
    instructions = ctx.limits.snapshot_instructions + size
    price = ctx.fees.execution(instructions)
    reserved = resources.check_growth(ctx, canister, canister.memory_usage() + size - replaced, call.caller, price)
    resources.pay(ctx, canister, price, reserved)
    made = _from_metadata(ctx, canister, args)
    canister.snapshots = canister.snapshots.without(args["replace_snapshot"]).added(made)
    access.changed(ctx, canister)
    reply = answers.reply(candid_snapshots.UPLOADED, {"snapshot_id": made.snapshot_id})
    return ManagementOutcome(payload=reply, refund=call.payment, instructions=instructions)


def _check_metadata(ctx: SubnetContext, canister: Canister, args: Value) -> None:
    wasm64 = canister.execution is not None and canister.execution.module.wasm64
    most_heap = ctx.limits.max_wasm64_heap if wasm64 else ctx.limits.max_wasm32_heap
    wrong = (
        ("WasmModuleEmpty", args["wasm_module_size"] == 0),
        ("WasmModuleTooLarge", args["wasm_module_size"] > _MAX_MODULE),
        ("WasmMemoryNotPageAligned", args["wasm_memory_size"] % WASM_PAGE_BYTES),
        ("WasmMemoryTooLarge", args["wasm_memory_size"] > most_heap),
        ("StableMemoryNotPageAligned", args["stable_memory_size"] % WASM_PAGE_BYTES),
        ("StableMemoryTooLarge", args["stable_memory_size"] > ctx.limits.max_stable_memory),
        ("ExportedGlobalsTooLarge", len(args["globals"]) > _MAX_GLOBALS),
        ("CertifiedDataTooLarge", len(args["certified_data"]) > _MAX_CERTIFIED),
    )
    for name, is_so in wrong:
        if is_so:
            raise errors.invalid_payload(f"Snapshot Metadata contains invalid data: {name}")


def _from_metadata(ctx: SubnetContext, canister: Canister, args: Value) -> CanisterSnapshot:
    timer, hook = args["global_timer"], args["on_low_wasm_memory_hook_status"]
    values = [next(iter(item.items())) for item in args["globals"]]
    return CanisterSnapshot(
        snapshot_id=snapshots.next_snapshot_id(canister),
        canister_id=canister.canister_id,
        uploaded=True,
        taken_at=ctx.time,
        version=canister.version,
        module=UploadedModule(memory=PagedMemory.new(0), size=args["wasm_module_size"]),
        module_hash=b"",
        heap=PagedMemory.new(args["wasm_memory_size"] // WASM_PAGE_BYTES),
        stable=PagedMemory.new(args["stable_memory_size"] // WASM_PAGE_BYTES),
        globals=tuple((kind, global_bits(kind, value)) for kind, value in values),
        certified_data=args["certified_data"],
        global_timer=None if timer is None else TimeNs(timer.get("active", 0)),
        hook=None if hook is None else LowMemoryHook(next(iter(hook))),
    )


def upload_data(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Bytes of an uploaded snapshot; paid for whether they fit or not.

    Raises: ManagementError (IC0101, IC0207, IC0305, IC0406, IC0408, IC0409, IC0504, IC0532).
    """
    canister, piece = call.canister, args["chunk"]
    snapshot = snapshots.find(ctx, canister, args["snapshot_id"])
    if not snapshot.uploaded:
        text = "Only canister snapshots created by metadata upload can be mutated."
        raise ManagementError(reject(ErrorCode.CANISTER_SNAPSHOT_IMMUTABLE, text))
    if resources.heap_delta_limited(ctx, canister):
        raise chunks.rate_limited(ctx, canister)
    ((kind, where),) = args["kind"].items()
    count = CHUNK_BYTES if kind == "wasm_chunk" else len(piece)
    _pay(ctx, call, count)
    if kind == "wasm_chunk":
        instructions = ctx.limits.upload_chunk_instructions
        if hashlib.sha256(piece).digest() in snapshot.chunk_store.chunks:
            return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment)
        snapshot = _with_chunk(ctx, call, snapshot, piece)
    else:
        instructions = count
        _check_slice(where["offset"], len(piece), _bytes_of(snapshot, kind))
        write_bytes(_memory(snapshot, kind), where["offset"], piece)
    canister.snapshots = canister.snapshots.added(snapshot)
    resources.add_heap_delta(ctx, canister, count)
    access.changed(ctx, canister)
    return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment, instructions=instructions)


def _with_chunk(ctx: SubnetContext, call: ManagementCall, snapshot: CanisterSnapshot, chunk: bytes) -> CanisterSnapshot:
    chunks.check_room(ctx, snapshot.chunk_store, chunk)
    reserved = resources.check_growth(ctx, call.canister, call.canister.memory_usage() + CHUNK_BYTES, call.caller)
    resources.reserve(call.canister, reserved)
    return replace(snapshot, chunk_store=snapshot.chunk_store.with_chunk(hashlib.sha256(chunk).digest(), chunk))


def _memory(snapshot: CanisterSnapshot, kind: str) -> PagedMemory:
    if kind == "wasm_module":
        assert isinstance(snapshot.module, UploadedModule)
        return snapshot.module.memory
    return snapshot.heap if kind == "wasm_memory" else snapshot.stable


def _pay(ctx: SubnetContext, call: ManagementCall, instructions: int) -> None:
    refused = resources.pay_instructions(ctx, call.canister, instructions, call.caller)
    if refused is not None:
        raise errors.snapshot_not_affordable(refused)
    ctx.touch(call.canister.canister_id)
