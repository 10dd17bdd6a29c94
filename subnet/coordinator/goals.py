"""Until when rounds are made: the goals of clients that wait.

Rule module. Rounds go on while any client waits; each is answered as soon as its goal is reached.
"""

from __future__ import annotations

from dataclasses import dataclass

from subnet.control_protocol import Advance
from subnet.coordinator.ports import ReplyAddress
from subnet.coordinator.requests import RequestBook


@dataclass(slots=True)
class Goal:
    """What one client waits for."""

    address: ReplyAddress
    last_height: int | None
    until_idle: bool
    until_installed: bool
    open_messages: list[bytes]
    has_messages: bool

    @classmethod
    def of(cls, address: ReplyAddress, request: Advance, height: int) -> Goal:
        """The goal of a request that comes when `height` is finished."""
        limits = [request.to_height] if request.to_height is not None else []
        if request.rounds is not None:
            limits.append(height + request.rounds)
        return cls(
            address,
            min(limits) if limits else None,
            request.until_idle,
            request.until_installed,
            list(request.until_answered),
            bool(request.until_answered),
        )

    def is_endless(self) -> bool:
        """Nothing was asked for that could ever be reached."""
        return self.last_height is None and not (self.until_idle or self.until_installed or self.has_messages)

    def is_reached(self, height: int, *, idle: bool, installed: bool, book: RequestBook) -> bool:
        """Whether the client can be answered now, between rounds."""
        if self.last_height is not None and height >= self.last_height:
            return True
        if (self.until_idle and idle) or (self.until_installed and installed):
            return True
        if not self.has_messages:
            return False
        while self.open_messages and book.is_answered(self.open_messages[-1]):
            self.open_messages.pop()
        return not self.open_messages
