"""Contents of written pages on their way to the node: inline, or in the buffer file that both sides have open.

Plumbing. The node reads the buffer once, before it looks at what was read, so that nothing changes under its eyes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from ic_types.units import OS_PAGE_BYTES
from sandbox.dirty_pages import Region
from sandbox.protocol import Pages

INLINE_BYTES = 256 * 1024
"""More than this goes through the buffer."""
_NONE = Pages()


class PageReports:
    """Builds `Pages`; the buffer is filled anew for every reply."""

    def __init__(self, buffer: int) -> None:
        self._buffer = buffer
        self._used = 0

    def start(self) -> None:
        """A new reply begins: the node has copied what the last one pointed to."""
        self._used = 0

    def of(self, base: int, regions: list[Region]) -> Pages:
        """Indices and content of these runs of the memory at `base`."""
        if not regions:
            return _NONE
        if len(regions) == 1:
            start, length = regions[0]
            indices = tuple(_indices(base, regions)) if length > OS_PAGE_BYTES else ((start - base) // OS_PAGE_BYTES,)
            if length <= INLINE_BYTES:
                return Pages(indices, ctypes.string_at(start, length))
        else:
            indices = tuple(_indices(base, regions))
            if len(indices) * OS_PAGE_BYTES <= INLINE_BYTES:
                return Pages(indices, b"".join([ctypes.string_at(start, length) for start, length in regions]))
        return self._through_buffer(indices, regions)

    def _through_buffer(self, indices: tuple[int, ...], regions: list[Region]) -> Pages:
        offset = at = self._used
        for start, length in regions:
            content = memoryview((ctypes.c_char * length).from_address(start)).cast("B")
            while content:
                written = os.pwrite(self._buffer, content, at)
                at, content = at + written, content[written:]
        self._used = at
        return Pages(indices, b"", offset)


def _indices(base: int, regions: Iterable[Region]) -> list[int]:
    found: list[int] = []
    for start, length in regions:
        first = (start - base) // OS_PAGE_BYTES
        found.extend(range(first, first + length // OS_PAGE_BYTES))
    return found


page_indices = _indices
