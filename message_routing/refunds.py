"""Cycles on their way back without a response: refunds of best-effort messages that were dropped.

Rule module. One amount per recipient waits here until the stream builder routes it as a Refund message; own canisters get
theirs through the loopback stream like everybody else.
"""

from __future__ import annotations

from ic_types.messages import Refund
from ic_types.principal import CanisterId
from ic_types.units import Cycles


class RefundPool:
    """Amounts owed, by recipient."""

    __slots__ = ("_owed",)

    def __init__(self) -> None:
        self._owed: dict[CanisterId, int] = {}

    def __len__(self) -> int:
        return len(self._owed)

    def add(self, recipient: CanisterId, amount: int) -> None:
        """Owe these cycles to a canister."""
        if amount:
            self._owed[recipient] = self._owed.get(recipient, 0) + amount

    def pending(self) -> list[Refund]:
        """What is owed: largest first, then by recipient."""
        owed = sorted(self._owed.items(), key=lambda item: (-item[1], item[0]))
        return [Refund(recipient=recipient, amount=Cycles(amount)) for recipient, amount in owed]

    def paid(self, refund: Refund) -> None:
        """The refund is on its way, or lost."""
        del self._owed[refund.recipient]

    def total(self) -> Cycles:
        """All that is owed; in flight for the conservation of cycles."""
        return Cycles(sum(self._owed.values()))

    def to_canonical(self) -> tuple[object, ...]:
        """The hashable form."""
        return tuple(sorted(self._owed.items()))
