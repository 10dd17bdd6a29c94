"""The order in which a canister's inputs are taken: rotate over three classes, then over the senders of a class.

Rule module. Spec leaves the order free; the replica rotates local subnet, ingress, remote subnets, starting at local, and each
pop moves the pointer on. A sender with nothing queued isn't in any rotation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from enum import IntEnum
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


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
