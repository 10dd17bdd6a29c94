"""End times of rounds, and which of them are charge points of a canister.

Rule module. Not in the spec: a canister is charged at the end of the first round that lies ten seconds or more after its last
charge. Times are held as runs of equal steps, so that the charges of months can be made up for at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ic_types.units import NS_PER_SECOND, TimeNs

INTERVAL_NS = 10 * NS_PER_SECOND
"""Least time between two charges. Not in the spec: the replica's figure."""


class ChargePoints(NamedTuple):
    """`times` charges, each for so many whole seconds; the last is at `until`."""

    seconds: int
    times: int
    until: TimeNs


@dataclass(slots=True)
class Timeline:
    """Round ends since the oldest charge that is still to be made up for; state, the same on every node."""

    _starts: list[int] = field(default_factory=list)
    _steps: list[int] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)

    def append(self, time: TimeNs) -> None:
        """A round ended; a time that isn't later than the last changes nothing."""
        if self._ends and time <= self._ends[-1]:
            return
        if self._ends and self._counts[-1] == 1:
            self._steps[-1] = time - self._starts[-1]
        if self._ends and time - self._ends[-1] == self._steps[-1]:
            self._counts[-1] += 1
            self._ends[-1] = time
            return
        for column, value in ((self._starts, time), (self._steps, 0), (self._counts, 1), (self._ends, time)):
            column.append(value)

    def __len__(self) -> int:
        """Number of runs."""
        return len(self._ends)

    def clear(self) -> None:
        """Forget all; every canister must be charged up to now."""
        for column in (self._starts, self._steps, self._counts, self._ends):
            column.clear()

    def points(self, last: TimeNs, not_before: TimeNs) -> Iterator[ChargePoints]:
        """Charges of a canister last charged at `last` for which round ends up to `not_before` don't count."""
        target = max(last + INTERVAL_NS, not_before + 1)
        while True:
            run = bisect_left(self._ends, target)
            if run == len(self._ends):
                return
            start, step, count = self._starts[run], self._steps[run], self._counts[run]
            index = -(-max(target - start, 0) // step) if step else 0
            time = start + index * step
            yield ChargePoints((time - last) // NS_PER_SECOND, 1, TimeNs(time))
            if step:
                stride = -(-INTERVAL_NS // step)
                times = (count - 1 - index) // stride
                if times:
                    time += times * stride * step
                    yield ChargePoints(stride * step // NS_PER_SECOND, times, TimeNs(time))
            last = TimeNs(time)
            target = last + INTERVAL_NS

    def canonical(self) -> tuple[object, ...]:
        """For the state hash."""
        return (tuple(self._starts), tuple(self._steps), tuple(self._counts))
