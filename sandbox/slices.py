"""Deterministic time slicing: which instruction count each slice of a message may reach.

Rule module. Not in the spec: the replica's scheme. The module's counter starts each slice at the slice's limit and asks here
when it has run below zero.
"""

from __future__ import annotations

from sandbox.system_api.traps import instruction_limit, slice_overrun

_MAX_SLICES = 400
_MIN_SLICES = 4


class Slices:
    """The slices of one message; reused from message to message by `start`."""

    __slots__ = ("executed_before", "left", "message_limit", "number_left", "slice_limit", "slice_size")

    def __init__(self) -> None:
        self.message_limit = self.slice_size = self.slice_limit = self.left = 0
        self.executed_before = 0
        """Instructions of the finished slices."""
        self.number_left = 0

    def start(self, message_limit: int, slice_limit: int) -> int:
        """Begin a message; returns what the counter starts at."""
        size = slice_limit if 0 < slice_limit < message_limit else message_limit
        self.message_limit = self.left = message_limit
        self.slice_size = self.slice_limit = size
        self.executed_before = 0
        self.number_left = 1 if size == message_limit else max(_MIN_SLICES, 2 * min(message_limit // size, _MAX_SLICES))
        if self.number_left > _MAX_SLICES:
            self.number_left = _MAX_SLICES
        return size

    def executed_in_slice(self, counter: int) -> int:
        """Instructions of the running slice."""
        executed = self.slice_limit - counter
        return executed if executed > 0 else 0

    def executed(self, counter: int) -> int:
        """Instructions of the message so far, over all slices, never above its limit."""
        return min(self.executed_before + self.executed_in_slice(counter), self.message_limit)

    def end_slice(self, counter: int) -> int:
        """The counter ran out: what it starts the next slice at.

        Raises: CanisterTrap when the message may not go on.
        """
        if self.slice_limit >= self.left or self.number_left <= 1:
            raise instruction_limit(self.message_limit)
        executed = self.executed_in_slice(counter)
        left = self.left - executed
        carried_over = -counter if counter < 0 else 0
        following = min(max(self.slice_size - carried_over, 0), max(left, 0))
        if following == 0:
            raise slice_overrun(executed, self.slice_size)
        self.executed_before += executed
        self.left = left
        self.slice_limit = following
        self.number_left -= 1
        return following
