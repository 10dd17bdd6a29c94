"""Contents of written pages on their way to the node: in a buffer file that both sides have open.

Plumbing. The sandbox copies pages into it through a mapping, which takes no system call and keeps replies short. The node reads
the file once, before it looks at what was read, so that nothing changes under its eyes.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from ic_types.units import OS_PAGE_BYTES
from sandbox import kernel
from sandbox.page_scan import Written
from sandbox.protocol import Pages

SECOND_HALF: Final = 1 << 40
"""Where every other reply begins in the buffer: the node may read one reply while the next is being written."""
WINDOW_BYTES: Final = 4 << 20
"""So much of each half is mapped; what a reply has beyond is written to the file."""
NO_PAGES: Final = Pages()


class PageReports:
    """Builds `Pages`; each half of the buffer is filled anew for every other reply."""

    def __init__(self, buffer: int) -> None:
        """Raises: OSError when the buffer can't be mapped."""
        self._buffer = buffer
        os.ftruncate(buffer, SECOND_HALF + WINDOW_BYTES)
        self._windows = {half: kernel.map_anywhere(WINDOW_BYTES, kernel.MAP_SHARED, buffer, half) for half in (0, SECOND_HALF)}
        self._half = self._used = 0

    @property
    def used_bytes(self) -> int:
        """Content in the buffer so far, for this reply."""
        return self._used

    def start(self) -> None:
        """A new reply begins: the node has copied what the one before the last pointed to."""
        self._half, self._used = SECOND_HALF - self._half, 0

    def of(self, written: Written) -> Pages:
        """Indices of these pages, whose content is in the buffer now."""
        if not written.regions:
            return NO_PAGES
        start, size = self._used, len(written.indices) * OS_PAGE_BYTES
        self._used = start + size
        if self._used <= WINDOW_BYTES:
            at = self._windows[self._half] + start
            for address, length in written.regions:
                ctypes.memmove(at, address, length)
                at += length
        else:
            self._write(written, self._half + start)
        return Pages(written.indices, b"", self._half + start)

    def _write(self, written: Written, at: int) -> None:
        for address, length in written.regions:
            content = memoryview((ctypes.c_char * length).from_address(address)).cast("B")
            while content:
                count = os.pwrite(self._buffer, content, at)
                at, content = at + count, content[count:]
