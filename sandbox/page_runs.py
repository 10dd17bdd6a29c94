"""Runs: neighbouring pages that lie side by side in the file, so that one mapping shows them all.

Rule module.
"""

from __future__ import annotations

from collections.abc import Iterable

from ic_types.units import OS_PAGE_BYTES
from sandbox.page_store import Slot
from sandbox.requests import Run


def runs_of(pages: Iterable[tuple[int, Slot | None]]) -> tuple[Run, ...]:
    """The runs of these pages, ascending; None: never written."""
    runs: list[Run] = []
    start, count, offset = 0, 0, None
    for page, slot in pages:
        at = None if slot is None else slot.offset
        expected = None if offset is None else offset + count * OS_PAGE_BYTES
        if count and page == start + count and at == expected:
            count += 1
            continue
        if count:
            runs.append(Run(start, count, offset))
        start, count, offset = page, 1, at
    if count:
        runs.append(Run(start, count, offset))
    return tuple(runs)


def join_runs(parts: Iterable[tuple[Run, ...]]) -> tuple[Run, ...]:
    """One list of runs from neighbouring ones, joined at the seams."""
    runs: list[Run] = []
    for part in parts:
        if runs and part and (seam := _joined(runs[-1], part[0])) is not None:
            runs[-1] = seam
            runs += part[1:]
        else:
            runs += part
    return tuple(runs)


def _joined(a: Run, b: Run) -> Run | None:
    if a.page + a.count != b.page or a.offset is None or b.offset is None or a.offset + a.count * OS_PAGE_BYTES != b.offset:
        return None
    return Run(a.page, a.count + b.count, a.offset)
