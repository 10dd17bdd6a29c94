"""Bytes at any place of a committed memory: reading, writing, and copying a memory into a file of its own.

Rule module. Not in the spec: for snapshots, which are read and written in pieces that don't start at pages.
"""

from __future__ import annotations

from ic_types.units import OS_PAGE_BYTES
from sandbox.paged_memory import PagedMemory


def read_bytes(memory: PagedMemory, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on; what was never written is zeros."""
    if not size:
        return b""
    first, last = offset // OS_PAGE_BYTES, (offset + size - 1) // OS_PAGE_BYTES
    pages = b"".join(memory.read_page(page) for page in range(first, last + 1))
    start = offset - first * OS_PAGE_BYTES
    return pages[start : start + size]


def write_bytes(memory: PagedMemory, offset: int, content: bytes) -> int:
    """Write bytes from `offset` on; returns how many pages changed. Costs what is written."""
    if not content:
        return 0
    first, last = offset // OS_PAGE_BYTES, (offset + len(content) - 1) // OS_PAGE_BYTES
    start, end = offset - first * OS_PAGE_BYTES, (last + 1) * OS_PAGE_BYTES - offset - len(content)
    head = memory.read_page(first)[:start] if start else b""
    tail = memory.read_page(last)[OS_PAGE_BYTES - end :] if end else b""
    return memory.commit(range(first, last + 1), head + content + tail)


def copied_apart(memory: PagedMemory) -> PagedMemory:
    """A copy with no page in common: for another canister, whose sandboxes may not come near this one's file."""
    twin = PagedMemory.new(memory.wasm_pages)
    pages = memory.written_pages()
    for at in range(0, len(pages), 256):
        some = pages[at : at + 256]
        twin.commit(some, b"".join(memory.read_page(page) for page in some))
    return twin
