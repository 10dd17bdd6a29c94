"""How often each of n positions was among the last r of its round.

Rule module. Not in the spec: bookkeeping of `scheduler.priority`. A Fenwick tree: suffix increments and point queries in
O(log n).
"""

from __future__ import annotations

import sys
from array import array


class OddUnits:
    """Units by position."""

    __slots__ = ("_tree", "given")

    def __init__(self, capacity: int) -> None:
        self._tree = array("q", [0]) * (capacity + 1)
        self.given = 0
        """Rounds with odd units so far: no position has more than that."""

    @property
    def capacity(self) -> int:
        """Number of positions."""
        return len(self._tree) - 1

    def add_suffix(self, start: int) -> None:
        """One unit for every position from `start` on."""
        self.given += 1
        at, tree = start + 1, self._tree
        while at < len(tree):
            tree[at] += 1
            at += at & -at

    def at(self, position: int) -> int:
        """Units that this position got."""
        at, total, tree = position + 1, 0, self._tree
        while at:
            total += tree[at]
            at -= at & -at
        return total

    def values(self) -> tuple[int, bytes]:
        """For the state hash: the tree as 64-bit numbers, little-endian, since it is hashed every round."""
        tree = self._tree
        if sys.byteorder == "big":
            tree = tree[:]
            tree.byteswap()
        return self.given, tree.tobytes()
