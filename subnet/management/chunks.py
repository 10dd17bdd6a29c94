"""The chunk store: uploading, listing and clearing, and putting a module together.

Rule module. Spec: abstract behaviour, "IC Management Canister: Upload Chunk", "Clear chunk store", "List stored chunks" and
"Install chunked code"; fees and order of the checks are the replica's.
"""

from __future__ import annotations

import hashlib

from ic_types.candid.values import Value
from ic_types.reject import ErrorCode, reject
from scheduler.canister import Canister
from scheduler.chunk_store import CHUNK_BYTES, EMPTY_STORE, ChunkStore
from subnet.management import access, answers, resources
from subnet.management.answers import EMPTY_REPLY
from subnet.management.candid_types import CHUNK_HASH, STORED_CHUNKS
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext
from subnet.management.errors import ManagementError


def upload_chunk(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Store a chunk under its hash; paid for even if it is there already or is refused for its size.

    Raises: ManagementError (IC0101, IC0504, IC0532).
    """
    canister, chunk = call.canister, args["chunk"]
    instructions = ctx.limits.upload_chunk_instructions
    refused = resources.pay_instructions(ctx, canister, instructions, call.caller)
    if refused is not None:
        raise error(f"Error charging for 'upload_chunk': {refused.message}")
    access.changed(ctx, canister)
    chunk_hash = hashlib.sha256(chunk).digest()
    outcome = answers.reply(CHUNK_HASH, {"hash": chunk_hash})
    if chunk_hash in canister.chunk_store.chunks:
        return ManagementOutcome(payload=outcome, refund=call.payment)
    check_room(ctx, canister.chunk_store, chunk)
    if resources.heap_delta_limited(ctx, canister):
        raise rate_limited(ctx, canister)
    resources.reserve(canister, resources.check_growth(ctx, canister, canister.memory_usage() + CHUNK_BYTES, call.caller))
    resources.add_heap_delta(ctx, canister, CHUNK_BYTES)
    canister.chunk_store = canister.chunk_store.with_chunk(chunk_hash, chunk)
    return ManagementOutcome(payload=outcome, refund=call.payment, instructions=instructions)


def check_room(ctx: SubnetContext, store: ChunkStore, chunk: bytes) -> None:
    """Whether a store takes this chunk.

    Raises: ManagementError (IC0504) when it is too long, or the store full.
    """
    if len(chunk) > ctx.limits.chunk_bytes:
        raise error(f"Wasm chunk size {len(chunk)} exceeds the maximum chunk size of {ctx.limits.chunk_bytes}")
    most = ctx.limits.chunk_store_bytes
    if store.memory_bytes >= most:
        raise error(
            f"Wasm chunk store has already reached maximum capacity of {most} bytes or the maximum number of entries, "
            f"{most // CHUNK_BYTES}"
        )


def clear_chunk_store(ctx: SubnetContext, call: ManagementCall, _args: Value) -> ManagementOutcome:
    """Forget all chunks."""
    call.canister.chunk_store = EMPTY_STORE
    access.changed(ctx, call.canister)
    return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment)


def stored_chunks(_ctx: SubnetContext, call: ManagementCall, _args: Value) -> ManagementOutcome:
    """The hashes of all chunks."""
    hashes = [{"hash": chunk_hash} for chunk_hash in call.canister.chunk_store.chunks]
    return ManagementOutcome(payload=answers.reply(STORED_CHUNKS, hashes), refund=call.payment)


def assemble(store: ChunkStore, hashes: list[bytes], wanted: bytes) -> bytes:
    """The module that these chunks make.

    Raises: ManagementError (IC0504) when a chunk isn't there, or they make another module than the wanted one.
    """
    parts = []
    for chunk_hash in hashes:
        if len(chunk_hash) != 32:
            raise error("Chunk hash is invalid. The length is not 32")
        part = store.chunks.get(chunk_hash)
        if part is None:
            raise error(f"Chunk hash {list(chunk_hash)} was not found")
        parts.append(part)
    wasm = b"".join(parts)
    found = hashlib.sha256(wasm).digest()
    if found != wanted:
        raise error(f"Wasm module hash {list(found)} does not match given hash WasmHash({list(wanted)})")
    return wasm


def rate_limited(ctx: SubnetContext, canister: Canister) -> ManagementError:
    """IC0504."""
    debit, limit = canister.heap_delta_debit, ctx.limits.heap_delta_rate_limit
    return error(f"Canister is heap delta rate limited. Current delta debit: {debit}, limit: {limit}")


def error(text: str) -> ManagementError:
    """IC0504."""
    return ManagementError(reject(ErrorCode.CANISTER_CONTRACT_VIOLATION, f"Error from Wasm chunk store: {text}."))
