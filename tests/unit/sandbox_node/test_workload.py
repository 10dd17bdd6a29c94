"""Which of the waiting sandboxes begin: messages of rounds before queries, which leave them room."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sandbox.line import Line
from sandbox.workload import Workload


def line(*, query: bool = False) -> Line:
    """A line without a process."""
    return Line(cast("Any", None), query)


def begun(work: Workload) -> list[Line]:
    """Begin whatever may."""
    found = []
    while (one := work.next()) is not None:
        work.asked[one] = None
        found.append(one)
    return found


@pytest.mark.parametrize(("most", "at_once"), [(1, 1), (2, 1), (4, 3)])
def test_queries_leave_room_for_rounds(most: int, at_once: int) -> None:
    """Of several sandboxes that may compute one isn't for queries, however many wait."""
    work, queries, update = Workload(most), [line(query=True) for _ in range(9)], line()
    for one in queries:
        work.wait(one)
    assert begun(work) == queries[:at_once]
    work.wait(update)
    assert begun(work) == ([update] if most > 1 else [])
    del work.asked[queries[0]]
    assert begun(work) == ([queries[at_once]] if most > 1 else [update])


def test_rounds_go_first() -> None:
    """A message that came after queries begins before them."""
    work, query, updates = Workload(2), line(query=True), [line(), line(), line()]
    for one in (query, *updates):
        work.wait(one)
    assert begun(work) == updates[:2]
    work.asked.clear()
    assert begun(work) == [updates[2], query]
