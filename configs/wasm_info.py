"""What a topology needs to know of a module before anything starts: exports, first heap size, embedded service file.

Rule module. It reads the outline of the binary format only; validation belongs to the sandbox. Spec: interface spec,
"Canister module format" and "Canister metadata".
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ic_types.candid.leb128 import decode_unsigned
from ic_types.errors import CandidError, InvalidWasm
from ic_types.units import WASM_PAGE_BYTES

MAX_MODULE = 100 << 20
_SECTION_CUSTOM, _SECTION_MEMORY, _SECTION_EXPORT = 0, 5, 7
_NO_SECTION = -1
_METHOD_KINDS = ("update", "query", "composite_query")


@dataclass(frozen=True, slots=True, kw_only=True)
class WasmInfo:
    """The outline of a module."""

    sha256: bytes
    """Of the file as it is, compressed or not: what the network calls the module hash."""
    size: int
    """Bytes, uncompressed."""
    heap_bytes: int
    """Declared first size of the heap."""
    methods: dict[str, str]
    """Exported methods: update, query or composite_query."""
    candid: str | None
    """The embedded service file, if there is one."""
    candid_args: str | None = None
    """The embedded init argument types, which compilers keep apart from the service."""


def read_info(raw: bytes) -> WasmInfo:
    """The outline of a module's bytes, gzipped or plain.

    Raises: InvalidWasm when it is no module or is cut off.
    """
    heap, methods, texts, size = 0, dict[str, str](), dict[str, str](), 0
    try:
        for kind, body, end in _sections(raw):
            size = end
            if kind == _SECTION_MEMORY:
                heap = _first_heap(body)
            elif kind == _SECTION_EXPORT:
                methods = _methods(body)
            elif kind == _SECTION_CUSTOM:
                _note_candid(body, texts)
    except (CandidError, IndexError, UnicodeDecodeError):
        raise InvalidWasm("a section is cut off or malformed") from None
    return WasmInfo(
        sha256=hashlib.sha256(raw).digest(),
        size=size,
        heap_bytes=heap,
        methods=methods,
        candid=texts.get("service"),
        candid_args=texts.get("args"),
    )


def metadata_names(raw: bytes) -> frozenset[str]:
    """Names of the metadata that a canister with this module has, public and private.

    Raises: InvalidWasm.
    """
    try:
        names = [_name(body, 0)[0] for kind, body, _ in _sections(raw) if kind == _SECTION_CUSTOM]
    except (CandidError, IndexError, UnicodeDecodeError):
        raise InvalidWasm("a custom section is cut off or malformed") from None
    return frozenset(name.split(" ", 1)[1] for name in names if name.startswith(("icp:public ", "icp:private ")))


def _sections(raw: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Kind, content and end of each section.

    Raises: InvalidWasm; CandidError or IndexError when one is cut off.
    """
    module = _unpacked(raw)
    if module[:4] != b"\0asm":
        raise InvalidWasm(f"it starts with {module[:4]!r}; a Wasm module starts with \\0asm (or is gzipped)")
    position = 8
    yield _NO_SECTION, b"", min(position, len(module))
    while position < len(module):
        kind = module[position]
        size, start = decode_unsigned(module, position + 1)
        position = start + size
        if position > len(module):
            raise InvalidWasm(f"section {kind} at byte {start} is cut off")
        yield kind, module[start:position], position


def _unpacked(raw: bytes) -> bytes:
    if raw[:2] != b"\x1f\x8b":
        return raw
    reader = zlib.decompressobj(wbits=31)
    try:
        module = reader.decompress(raw, MAX_MODULE + 1)
    except zlib.error as error:
        raise InvalidWasm(f"its gzip data are broken: {error}") from None
    if len(module) > MAX_MODULE:
        raise InvalidWasm(f"it is larger than {MAX_MODULE} bytes uncompressed")
    return module


def _first_heap(body: bytes) -> int:
    count, at = decode_unsigned(body, 0)
    if not count:
        return 0
    pages, _ = decode_unsigned(body, at + 1)
    return pages * WASM_PAGE_BYTES


def _name(body: bytes, at: int) -> tuple[str, int]:
    size, start = decode_unsigned(body, at)
    if start + size > len(body):
        raise IndexError
    return body[start : start + size].decode(), start + size


def _methods(body: bytes) -> dict[str, str]:
    count, at = decode_unsigned(body, 0)
    found: dict[str, str] = {}
    for _ in range(count):
        name, at = _name(body, at)
        kind, _, method = name.partition(" ")
        if kind.startswith("canister_") and kind.removeprefix("canister_") in _METHOD_KINDS:
            found[method] = kind.removeprefix("canister_")
        _, at = decode_unsigned(body, at + 1)
    return found


def _note_candid(body: bytes, texts: dict[str, str]) -> None:
    name, at = _name(body, 0)
    for kind in ("service", "args"):
        if name in (f"icp:public candid:{kind}", f"icp:private candid:{kind}"):
            texts[kind] = body[at:].decode()
