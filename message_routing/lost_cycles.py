"""Cycles that routing drops by the rules, counted by cause, so that conservation can be checked exactly.

Rule module. Spec: cycles of a dropped message are lost; the causes are the replica's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ic_types.units import Cycles


class LossCause(Enum):
    """Why cycles left circulation without anybody having bought something."""

    WRONG_SUBNET = "message_from_wrong_subnet"
    """The sender isn't hosted by the subnet that the message came from."""
    NO_ROUTE = "response_or_refund_without_route"
    UNEXPECTED_RESPONSE = "response_nobody_waits_for"
    """A guaranteed response for which no slot is reserved."""
    RECIPIENT_GONE = "recipient_does_not_exist"


@dataclass(slots=True)
class LostCycles:
    """Amounts by cause; state of the subnet."""

    by_cause: dict[LossCause, int] = field(default_factory=dict)

    def add(self, cause: LossCause, amount: int) -> None:
        """Count cycles that were dropped."""
        if amount:
            self.by_cause[cause] = self.by_cause.get(cause, 0) + amount

    def total(self) -> Cycles:
        """Sum over all causes."""
        return Cycles(sum(self.by_cause.values()))

    def to_canonical(self) -> tuple[object, ...]:
        """The hashable form, in order of the causes."""
        return tuple((cause.value, self.by_cause[cause]) for cause in LossCause if cause in self.by_cause)
