"""The file behind a canister's committed memory: 4 KiB slots in a memfd, shared by a memory and its forks.

Plumbing. A slot lives as long as any page table refers to it and returns to the free list by itself; a slot that a frozen table
may refer to is never written again, since sandboxes map the file privately and would see it.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Sequence

from ic_types.units import OS_PAGE_BYTES
from sandbox import kernel

_TRIM_AFTER = 4096


class PageFile:
    """A memfd cut into slots; made when first needed, closed with its last user."""

    __slots__ = ("_end", "_fd", "_free", "_reader", "_released")

    def __init__(self) -> None:
        self._fd = -1
        self._reader = -1
        self._free: list[int] = []
        self._end = 0
        self._released = 0

    def __del__(self) -> None:
        # Collected together with its slots it may go first: what these give back then must not reach another file.
        fds, self._fd, self._reader = (self._fd, self._reader), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def _writer(self) -> int:
        if self._fd < 0:
            self._fd = os.memfd_create("icsim-memory", os.MFD_CLOEXEC)
        return self._fd

    def open_reader(self) -> int:
        """A new read-only descriptor, the caller's to close; neither writing nor shared mapping works on it."""
        return os.open(f"/proc/self/fd/{self._writer()}", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def reader(self) -> int:
        """A read-only descriptor that stays this object's."""
        if self._reader < 0:
            self._reader = self.open_reader()
        return self._reader

    @property
    def used_bytes(self) -> int:
        """Bytes in slots that some table refers to."""
        return self._end - len(self._free) * OS_PAGE_BYTES

    @property
    def held_bytes(self) -> int:
        """Memory that the file really takes."""
        return os.fstat(self._fd).st_blocks * 512 if self._fd >= 0 else 0

    def allocate(self) -> int:
        """The lowest free slot, so that neighbours often lie side by side."""
        if self._free:
            if self._released:
                self._released -= 1
            return heapq.heappop(self._free)
        offset = self._end
        self._end += OS_PAGE_BYTES
        return offset

    def release(self, offset: int) -> None:
        """Take a slot back; memory of many free slots is given back to the system."""
        heapq.heappush(self._free, offset)
        self._released += 1
        if self._released > _TRIM_AFTER and self._released > max(len(self._free) // 4, self.used_bytes // OS_PAGE_BYTES):
            self._trim()

    def _trim(self) -> None:
        self._released = 0
        if self._fd < 0:
            return
        self._free.sort()
        for first, last in _ranges(self._free):
            start, end = self._free[first], self._free[last - 1] + OS_PAGE_BYTES
            kernel.punch_hole(self._fd, start, end - start)

    def read(self, offset: int) -> bytes:
        """Content of one slot."""
        return os.pread(self._fd, OS_PAGE_BYTES, offset)

    def read_many(self, offsets: Sequence[int]) -> list[bytes]:
        """Contents of these slots; neighbours are read together."""
        pages: list[bytes] = []
        for first, last in _ranges(offsets):
            content = os.pread(self._fd, (last - first) * OS_PAGE_BYTES, offsets[first])
            if last - first == 1:
                pages.append(content)
            else:
                pages += [content[k : k + OS_PAGE_BYTES] for k in range(0, len(content), OS_PAGE_BYTES)]
        return pages

    def write(self, offset: int, content: bytes | memoryview) -> None:
        """Write whole slots from this one on."""
        written = os.pwrite(self._writer(), content, offset)
        assert written == len(content), f"memfd took {written} of {len(content)} bytes"


class Epoch:
    """The time between two freezes of one memory: what it wrote itself since then it may write over."""

    __slots__ = ("file",)

    def __init__(self, file: PageFile) -> None:
        self.file = file


class Slot:
    """A claim on one slot of the file; the slot is free again when the last table lets go of it."""

    __slots__ = ("content", "offset", "owner")

    def __init__(self, owner: Epoch) -> None:
        self.offset = owner.file.allocate()
        self.owner = owner
        self.content: bytes | None = None
        """What lies there, right after it was committed: the next message often writes the same pages."""

    def __del__(self) -> None:
        self.owner.file.release(self.offset)


def _ranges(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Index ranges [first, last) of neighbouring slots, at most 1 MiB each."""
    first, count = 0, len(offsets)
    while first < count:
        last, expected = first + 1, offsets[first] + OS_PAGE_BYTES
        while last < count and offsets[last] == expected and last - first < 256:
            last += 1
            expected += OS_PAGE_BYTES
        yield first, last
        first = last
