"""From the submitted bytes to a plain Wasm module: magic numbers, gzip, sizes.

Rule module. Spec: abstract-behavior, "Canister module format". A gzip stream is believed neither in its length nor in its
end: at most one byte more than announced is ever unpacked.
"""

from __future__ import annotations

import zlib

from ic_types.errors import InvalidWasm
from sandbox.wasm.binary import MAGIC
from sandbox.wasm.rules import BrokenRule, Rule, undecodable

GZIP_MAGIC = b"\x1f\x8b\x08"
MAX_MODULE_BYTES = 100 << 20
"""Uncompressed; `mainnet`, the replica's `max_wasm_module_size`."""


def announced_size(wasm: bytes) -> int:
    """Bytes of the decoded module, as the submission itself says (a gzip footer may lie).

    Raises: InvalidWasm when the format is unknown.
    """
    if wasm.startswith(MAGIC):
        return len(wasm)
    if wasm.startswith(GZIP_MAGIC):
        if len(wasm) < 16:
            raise undecodable("invalid Wasm module: gzip stream is too short")
        return int.from_bytes(wasm[-4:], "little")
    raise undecodable("unsupported canister module format")


def refusal_size(wasm: bytes) -> int:
    """Bytes that a refused submission is charged for: the decoded size, the encoded one if that is unknown."""
    try:
        return announced_size(wasm)
    except InvalidWasm:
        return len(wasm)


def decode(wasm: bytes) -> bytes:
    """The plain Wasm module.

    Raises: InvalidWasm when the format is unknown, the size too large or different from the announced one.
    """
    size = announced_size(wasm)
    if size > MAX_MODULE_BYTES:
        raise BrokenRule(
            Rule.DECODING_ERROR, f"Wasm module size of {size} exceeds the maximum allowed size of {MAX_MODULE_BYTES}"
        )
    if wasm.startswith(MAGIC):
        return wasm
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(wasm, size + 1)
    except zlib.error as error:
        raise undecodable(f"failed to decode compressed Wasm module: {error}") from error
    if len(plain) == size and not unpacker.eof:
        raise undecodable("failed to decode compressed Wasm module: unexpected end of stream")
    if len(plain) != size:
        raise undecodable(f"specified uncompressed size {size} does not match extracted size {len(plain)}")
    if not plain.startswith(MAGIC):
        why = "Wasmtime failed to validate wasm module: magic header not detected in the uncompressed module"
        raise BrokenRule(Rule.WASMTIME_VALIDATION, why, offset=0)
    return plain
