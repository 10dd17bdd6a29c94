"""What drives a network by itself: installing the topology's canisters, then the workload's phases.

Rule module: their common interface. Everything follows from the plan, the seed and the outcomes so far, so a continued run
sends the same messages at the same heights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ic_types.principal import CanisterId, Principal
from subnet.protocol import IngressOutcome, QueryReply


@dataclass(frozen=True, slots=True)
class DriverCall:
    """A signed call to be put into the pool."""

    token: int
    """By which the driver knows it."""
    envelope: bytes
    effective: CanisterId | None = None


@dataclass(frozen=True, slots=True)
class DriverQuery:
    """A query to be made on the last certified height."""

    token: int
    sender: Principal
    receiver: CanisterId
    method: str
    arg: bytes


class Driver(Protocol):
    """Sends calls, round by round, and hears of their outcomes."""

    @property
    def finished(self) -> bool:
        """Nothing more will be sent and all has been answered."""

    @property
    def will_send(self) -> bool:
        """More will be sent even if nothing is answered."""

    @property
    def problem(self) -> str | None:
        """Why it can't go on."""

    def calls(self, height: int, now: int | None = None) -> tuple[list[DriverCall], list[DriverQuery]]:
        """What to send before the batch of this height is made, when it is `now`; by default the virtual time before it."""

    def answered(self, token: int, outcome: IngressOutcome | QueryReply, height: int) -> None:
        """The outcome of a call or query, in the round of this height."""
