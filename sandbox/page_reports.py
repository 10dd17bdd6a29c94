"""Contents of written pages on their way to the node: inline, or in the buffer file that both sides have open.

Plumbing. The node reads the buffer once, before it looks at what was read, so that nothing changes under its eyes.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import string_at

from ic_types.units import OS_PAGE_BYTES
from sandbox.page_scan import Written
from sandbox.protocol import Pages

INLINE_BYTES = 256 * 1024
"""More than this goes through the buffer."""
SECOND_HALF = 1 << 40
"""Where every other reply begins in the buffer: the node may read one reply while the next is being written."""
NO_PAGES = Pages()


class PageReports:
    """Builds `Pages`; each half of the buffer is filled anew for every other reply."""

    def __init__(self, buffer: int) -> None:
        self._buffer = buffer
        self._half = self._used = 0

    @property
    def used_bytes(self) -> int:
        """Content in the buffer so far, for this reply."""
        return self._used

    def start(self) -> None:
        """A new reply begins: the node has copied what the one before the last pointed to."""
        self._half, self._used = SECOND_HALF - self._half, 0

    def of(self, written: Written) -> Pages:
        """Indices and content of these pages."""
        regions = written.regions
        if len(written.indices) * OS_PAGE_BYTES > INLINE_BYTES:
            return self._through_buffer(written)
        if len(regions) == 1:
            return Pages(written.indices, string_at(*regions[0]))
        return (
            Pages(written.indices, b"".join([string_at(start, length) for start, length in regions])) if regions else NO_PAGES
        )

    def _through_buffer(self, written: Written) -> Pages:
        offset = at = self._half + self._used
        for start, length in written.regions:
            content = memoryview((ctypes.c_char * length).from_address(start)).cast("B")
            while content:
                count = os.pwrite(self._buffer, content, at)
                at, content = at + count, content[count:]
        self._used = at - self._half
        return Pages(written.indices, b"", offset)
