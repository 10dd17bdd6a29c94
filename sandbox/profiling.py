"""Counts of one call by function and caller, gathered inside a sandbox and read by whoever started it.

Plumbing. A module prepared with `profile=True` calls `profile` at each call and return. The tree of calls lies in memory shared
with the parent, as a confined sandbox has no other way to hand it out. Not part of a node: only `icsim wasm profile` installs
a recorder.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sandbox.system_api.message_state import MessageState

MAX_NODES: Final = 1 << 20
"""Paths of calls told apart; what is called beyond is counted as its caller's."""
_COUNT, _CURRENT, _HEADER = 0, 1, 4
_PARENT, _FRAME, _OWN, _CALLS, _WORDS = 0, 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Node:
    """A path of calls."""

    parent: int
    frame: int
    """Index of the function in the submitted module; -1 for the root."""
    own: int
    """Instructions, without those of callees."""
    calls: int


class CallTree:
    """Memory for a tree, made before the fork. The first node is the root, which is nobody's call."""

    def __init__(self) -> None:
        size = 8 * (_HEADER + _WORDS * MAX_NODES)
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
        self.words = memoryview(mmap.mmap(-1, size, flags=flags)).cast("Q")

    def nodes(self) -> Iterator[Node]:
        """All nodes, parents before their children."""
        words = self.words
        for at in range(_HEADER, _HEADER + _WORDS * words[_COUNT], _WORDS):
            yield Node(words[at + _PARENT], words[at + _FRAME] - 1, words[at + _OWN], words[at + _CALLS])

    @property
    def current(self) -> int:
        """The node in which the call ended: the root, unless it trapped."""
        return self.words[_CURRENT]


class _Recorder:
    """Fills a tree; starts anew with each message."""

    def __init__(self, tree: CallTree) -> None:
        self._words = tree.words
        self._message: object = None
        self._children: dict[tuple[int, int], int] = {}
        self._node = self._skipped = self._last = 0

    def _begin(self, message: object) -> None:
        self._message, self._node, self._skipped, self._last = message, 0, 0, 0
        self._children.clear()
        self._words[_COUNT] = self._words[_CURRENT] = 0
        self._add(0, 0)

    def _add(self, parent: int, frame: int) -> int:
        words, node = self._words, self._words[_COUNT]
        at = _HEADER + _WORDS * node
        words[at + _PARENT], words[at + _FRAME], words[at + _OWN], words[at + _CALLS] = parent, frame, 0, 0
        words[_COUNT] = node + 1
        return node

    def note(self, state: MessageState, frame: int, executed: int) -> None:
        """A function is called, or (0) returns, after so many instructions of the message."""
        if state.input is not self._message:
            self._begin(state.input)
        words, at = self._words, _HEADER + _WORDS * self._node
        words[at + _OWN] += executed - self._last
        self._last = executed
        if not frame:
            if self._skipped:
                self._skipped -= 1
            else:
                self._node = words[at + _PARENT]
        elif (node := self._child(frame)) is None:
            self._skipped += 1
        else:
            self._node = node
            words[_HEADER + _WORDS * node + _CALLS] += 1
        words[_CURRENT] = self._node

    def _child(self, frame: int) -> int | None:
        if self._skipped:
            return None
        key = self._node, frame
        node = self._children.get(key)
        if node is None and len(self._children) + 1 < MAX_NODES:
            node = self._children[key] = self._add(self._node, frame)
        return node


_recorders: list[_Recorder] = []


def install(tree: CallTree) -> None:
    """Record into this tree from now on, in this process."""
    _recorders[:] = [_Recorder(tree)]


def profile(state: MessageState, frame: int, counter: int) -> None:
    """The hidden import: a frame was entered, or (0) left."""
    if _recorders:
        signed = counter - (1 << 64) if counter >> 63 else counter
        _recorders[0].note(state, frame, state.slices.executed(signed))
