"""The order in which a canister's inputs are taken: rotate over three classes, then over the senders of a class.

Rule module. Spec leaves the order free; the replica rotates local subnet, ingress, remote subnets, starting at local, and each
pop moves the pointer on. A sender with nothing queued isn't in any rotation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from enum import IntEnum
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class InputClass(IntEnum):
    """Where an input comes from; the numbers are the order of rotation."""

    LOCAL = 0
    """Canisters of this subnet and messages made by the subnet itself."""
    INGRESS = 1
    REMOTE = 2


class Rotation(Generic[K]):
    """Senders with something queued, in the order of their next turn."""

    __slots__ = ("turns",)

    def __init__(self) -> None:
        self.turns: deque[K] = deque()

    def __len__(self) -> int:
        return len(self.turns)

    def add(self, sender: K) -> None:
        """Put a sender that isn't in the rotation at its end."""
        self.turns.append(sender)

    def served(self, position: int, *, more: bool) -> None:
        """The sender at this position (0 = front) had its turn; it queues up again if it has more."""
        turns = self.turns
        if position == 0:
            if not more:
                turns.popleft()
            else:
                turns.rotate(-1)
            return
        sender = turns[position]
        del turns[position]
        if more:
            turns.append(sender)

    def remove(self, sender: K) -> None:
        """Take a sender out wherever it stands; costs the length of the rotation, so for rare removals only."""
        self.turns.remove(sender)


def turn_by_turn(queues: Sequence[Iterator[T]]) -> Iterator[T]:
    """One item of each queue in turn until all are empty."""
    turns = deque(queues)
    while turns:
        item = next(turns[0], None)
        if item is None:
            turns.popleft()
        else:
            yield item
            turns.rotate(-1)


def rotate_over(sources: Sequence[Iterator[T]], start: int, count: int) -> Iterator[T]:
    """At most `count` items, one source after the other from `start` on; empty ones are passed over."""
    at, misses = start, 0
    while misses < len(sources) and count:
        item = next(sources[at], None)
        if item is None:
            misses += 1
        else:
            misses = 0
            count -= 1
            yield item
        at = (at + 1) % len(sources)
