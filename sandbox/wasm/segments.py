"""Data and element segments: initial heap pages out of active data, function indices moved in elements.

Rule module. Spec: WebAssembly core specification, "Element Section" and "Data Section".
"""

from __future__ import annotations

from collections.abc import Sequence

from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sandbox.protocol import Pages
from sandbox.wasm import binary
from sandbox.wasm.binary import Reader, unsigned, vector
from sandbox.wasm.module import Module, constant, evaluate
from sandbox.wasm.rules import BrokenRule, Rule, not_instantiable, undecodable
from sandbox.wasm.validation import MAX_TABLE_ELEMENTS, MAX_TABLES


def check_tables(module: Module) -> None:
    """An instance has at most one table, not too large.

    Raises: InvalidWasm.
    """
    if len(module.tables) > MAX_TABLES:
        raise not_instantiable(f"resource limit exceeded: table count too high at {len(module.tables)}")
    for table in module.tables:
        if table.minimum > MAX_TABLE_ELEMENTS:
            raise not_instantiable(f"table minimum size of {table.minimum} elements exceeds table limits")


def initial_pages(module: Module) -> Pages:
    """Active data segments, laid out as heap pages of 4 KiB; later segments overwrite earlier ones.

    Raises: InvalidWasm when a segment lies outside the initial memory.
    """
    size = module.memories[0].minimum * WASM_PAGE_BYTES if module.memories else 0
    mask = 0xFFFFFFFFFFFFFFFF if module.wasm64 else 0xFFFFFFFF
    pages: dict[int, bytearray] = {}
    for index, segment in enumerate(module.data):
        if segment.offset is None:
            continue
        at, pos = segment.offset & mask, segment.start
        if at + segment.end - pos > size:
            why = f"Wasm module has invalid data segment of {segment.end - pos} bytes at {at}"
            raise BrokenRule(Rule.INVALID_DATA_SEGMENT, why, item=f"data segment {index}")
        while pos < segment.end:
            page, inside = divmod(at, OS_PAGE_BYTES)
            count = min(OS_PAGE_BYTES - inside, segment.end - pos)
            content = pages.get(page)
            if content is None:
                content = pages[page] = bytearray(OS_PAGE_BYTES)
            content[inside : inside + count] = module.wasm[pos : pos + count]
            at, pos = at + count, pos + count
    order = sorted(pages)
    return Pages(tuple(order), b"".join(pages[page] for page in order))


def passive_data(module: Module) -> list[bytes]:
    """Data segments that stay: passive ones, and active ones before them as empty ones, so that indices keep."""
    found: list[bytes] = []
    keep = False
    for segment in reversed(module.data):
        if segment.offset is None:
            keep = True
            found.append(b"\x01" + unsigned(segment.end - segment.start) + module.wasm[segment.start : segment.end])
        elif keep or binary.DATA_COUNT in module.raw:
            zero = b"\x42\x00\x0b" if module.wasm64 else b"\x41\x00\x0b"
            found.append(b"\x00" + zero + b"\x00")
    return found[::-1]


def moved_elements(module: Module, index_of: Sequence[int]) -> bytes:
    """The element section with new function indices.

    Raises: InvalidWasm when an active segment lies outside its table, so that the module could not be instantiated.
    """
    reader = Reader(module.wasm, *module.raw[binary.ELEMENT])
    return vector([_moved_segment(module, reader, index_of) for _ in range(reader.unsigned())])


def _moved_segment(module: Module, reader: Reader, index_of: Sequence[int]) -> bytes:
    start, flags = reader.pos, reader.unsigned()
    if flags > 7:
        raise undecodable(f"unknown kind of element segment {flags}", offset=start)
    active, explicit, expressions = not flags & 1, flags & 2, flags & 4
    if active and explicit:
        reader.unsigned()
    offset = evaluate(constant(reader)) if active else 0
    if explicit or not active:
        reader.byte()
    head = module.wasm[start : reader.pos]
    count = reader.unsigned()
    if active and offset + count > module.tables[0].minimum:
        raise not_instantiable("wasm trap: out of bounds table access", f"element segment of {count} at {offset}")
    if not expressions:
        return head + vector([unsigned(index_of[reader.unsigned()]) for _ in range(count)])
    items = []
    for _ in range(count):
        begin = reader.pos
        operators = constant(reader)
        moved = b"\xd2" + unsigned(index_of[operators[0][1]]) + b"\x0b"
        items.append(moved if operators[0][0] == 0xD2 else module.wasm[begin : reader.pos])
    return head + vector(items)
