"""Committed memory under an instance's linear memory.

Plumbing. The runs of a read-only descriptor are mapped privately over the instance's pages: reads show committed content,
writes stay in this process. Never-written ranges stay anonymous, because reading holes of a memory file would allocate them.
"""

from __future__ import annotations

import bisect
import ctypes
from collections.abc import Iterable, Sequence

from ic_types.units import OS_PAGE_BYTES
from sandbox import kernel
from sandbox.dirty_pages import DirtyPages
from sandbox.requests import Run

_FROM_FILE = kernel.MAP_PRIVATE | kernel.MAP_NORESERVE
_NEVER_WRITTEN = _FROM_FILE | kernel.MAP_ANONYMOUS


class Layout:
    """Which file offset each page is mapped from: runs in page order, without overlaps."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._runs: list[Run] = []

    def runs(self) -> list[Run]:
        """The mapped runs; pages outside of them are anonymous."""
        return self._runs

    def replace(self, run: Run) -> None:
        """This run lies over what was there."""
        first = bisect.bisect_right(self._starts, run.page) - 1
        if first < 0 or self._runs[first].page + self._runs[first].count <= run.page:
            first += 1
        end, last = run.page + run.count, first
        pieces = [] if run.offset is None else [run]
        while last < len(self._runs) and self._runs[last].page < end:
            old = self._runs[last]
            assert old.offset is not None, "anonymous runs aren't kept"
            if old.page < run.page:
                pieces.insert(0, Run(old.page, run.page - old.page, old.offset))
            over = old.page + old.count - end
            if over > 0:
                pieces.append(Run(end, over, old.offset + (end - old.page) * OS_PAGE_BYTES))
            last += 1
        self._runs[first:last] = pieces
        self._starts[first:last] = [piece.page for piece in pieces]

    def shows(self, run: Run) -> bool:
        """Whether exactly this lies under the pages already."""
        at = bisect.bisect_right(self._starts, run.page) - 1
        old = self._runs[at] if at >= 0 else None
        covered = old is not None and run.page < old.page + old.count
        if run.offset is None:
            following = self._starts[at + 1] if at + 1 < len(self._starts) else None
            return not covered and (following is None or following >= run.page + run.count)
        if not covered:
            return False
        assert old is not None
        assert old.offset is not None
        inside = run.page + run.count <= old.page + old.count
        return inside and old.offset + (run.page - old.page) * OS_PAGE_BYTES == run.offset


class MappedMemory:
    """One linear memory whose pages come from a committed file."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.base = 0
        self.layout = Layout()
        self.private: set[int] = set()
        """Pages whose content differs, or may differ, from what is mapped below."""

    def attach(self, base: int) -> None:
        """Show the same content at another place: the linear memory of a new instance."""
        old, self.base = self.base, base
        for run in self.layout.runs():
            self._map(run)
        for first, count in spans(sorted(self.private)):
            ctypes.memmove(base + first * OS_PAGE_BYTES, old + first * OS_PAGE_BYTES, count * OS_PAGE_BYTES)

    def map_runs(self, runs: Iterable[Run], detector: DirtyPages | None) -> None:
        """Show these runs; private pages among them are dropped.

        Raises: OSError when the kernel refuses, for instance because there are too many mappings.
        """
        for run in runs:
            address, length = self.base + run.page * OS_PAGE_BYTES, run.count * OS_PAGE_BYTES
            if self.layout.shows(run):
                kernel.discard(address, length)
                if detector is not None:
                    detector.forget(address, length)
            else:
                self._map(run)
                self.layout.replace(run)
                if detector is not None:
                    detector.watch(address, length)
            self._forget_private(run)

    def redraw(self, runs: Iterable[Run]) -> None:
        """Like `map_runs`, for a memory that `attach` moves next: nothing is mapped yet."""
        for run in runs:
            self.layout.replace(run)
            self._forget_private(run)

    def roll_back(self, pages: Sequence[int], detector: DirtyPages | None) -> None:
        """Drop these private pages; nothing was committed since they were mapped."""
        for first, count in spans(pages):
            address, length = self.base + first * OS_PAGE_BYTES, count * OS_PAGE_BYTES
            kernel.discard(address, length)
            if detector is not None:
                detector.forget(address, length)
        self.private.difference_update(pages)

    def _forget_private(self, run: Run) -> None:
        if len(self.private) < run.count:
            self.private = {page for page in self.private if not run.page <= page < run.page + run.count}
        else:
            self.private.difference_update(range(run.page, run.page + run.count))

    def _map(self, run: Run) -> None:
        address, length = self.base + run.page * OS_PAGE_BYTES, run.count * OS_PAGE_BYTES
        if run.offset is None:
            kernel.map_fixed(address, length, _NEVER_WRITTEN, -1, 0)
        else:
            kernel.map_fixed(address, length, _FROM_FILE, self.fd, run.offset)


def spans(pages: Iterable[int]) -> list[tuple[int, int]]:
    """Runs (first, count) of ascending page numbers."""
    spans: list[tuple[int, int]] = []
    for page in pages:
        if spans and spans[-1][0] + spans[-1][1] == page:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((page, 1))
    return spans
