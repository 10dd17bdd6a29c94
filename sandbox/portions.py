"""How a canister's queue is cut into requests to its sandbox.

Rule module. Not in the spec; answers never depend on it. A queue goes in portions, two of them under way, so that a sandbox
goes on while its node commits what it did before.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sandbox.protocol import EntryPoint, ExecutionInput

MAX_UNDER_WAY: Final = 2
"""Executes that a sandbox has at once."""
NOT_COMMITTED: Final = frozenset((EntryPoint.QUERY, EntryPoint.COMPOSITE_QUERY, EntryPoint.INSPECT_MESSAGE))
"""Entry points of which nothing stays: nothing can be run ahead on top of them."""
_LEAST: Final = 8
_REMEMBERED_KINDS: Final = 1024


class Flight(NamedTuple):
    """An Execute that was sent ahead; nobody has asked for its answers yet."""

    cookie: int
    inputs: tuple[ExecutionInput, ...]


@dataclass(slots=True)
class Portions:
    """Of one conversation."""

    size: int
    """Inputs per Execute."""
    can_be_followed: bool = False
    """Something can be run on top of the last input that was sent."""
    _curious: dict[Hashable, None] = field(default_factory=dict)
    """Kinds of messages that asked for their context: it is sent with them at once."""

    @classmethod
    def of(cls, batch_size: int) -> Portions:
        """Portions for a node that runs so many messages ahead, about."""
        return cls(max(batch_size // 4, min(batch_size, _LEAST)))

    def first(self, following: Sequence[ExecutionInput]) -> tuple[ExecutionInput, ...]:
        """The first of these messages that can run on top of each other."""
        for k, message in enumerate(following):
            self.can_be_followed = message.entry not in NOT_COMMITTED
            if not self.can_be_followed:
                return tuple(following[: k + 1])
        return tuple(following)

    def wants_context(self, message: ExecutionInput) -> bool:
        """Whether messages of this kind have asked for their context."""
        return _kind(message) in self._curious

    def asked_for_context(self, message: ExecutionInput) -> None:
        """This one has."""
        if len(self._curious) < _REMEMBERED_KINDS:
            self._curious[_kind(message)] = None


def _kind(message: ExecutionInput) -> Hashable:
    """The same for messages that run the same function."""
    return message.entry, message.method if message.closure is None else message.closure.function
