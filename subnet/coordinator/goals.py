"""Until when rounds are made: the goals of clients that wait.

Rule module. Rounds go on while any client waits; each is answered as soon as its goal is reached.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from subnet.control_protocol import Advance
from subnet.coordinator.ports import Ports, ReplyAddress
from subnet.coordinator.requests import RequestBook


@dataclass(slots=True)
class Goal:
    """What one client waits for."""

    address: ReplyAddress | None
    """Whom to tell; None: nobody."""
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

    @classmethod
    def until_answered(cls, message_id: bytes) -> Goal:
        """Rounds until this message has an outcome, or none can come without the time going on."""
        return cls(None, None, True, False, [message_id], True)

    @property
    def drives(self) -> bool:
        """Whether rounds are made for its sake in live time too: the client asked for rounds and nothing else."""
        return self.last_height is not None and not self.has_messages

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


@dataclass(slots=True)
class Goals:
    """All who wait."""

    _ports: Ports
    _open: list[Goal] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def drive(self) -> bool:
        """Whether rounds are asked for that are to be made in live time too."""
        return any(goal.drives for goal in self._open)

    def add(self, goal: Goal) -> None:
        """Somebody waits for this."""
        self._open.append(goal)

    def take_reached(self, height: int, *, idle: bool, installed: bool, book: RequestBook) -> list[Goal]:
        """Goals that are reached now, between rounds; nobody waits for them any more."""
        reached = [goal for goal in self._open if goal.is_reached(height, idle=idle, installed=installed, book=book)]
        self._open = [goal for goal in self._open if goal not in reached]
        return reached

    def put_back(self, goals: list[Goal]) -> None:
        """These are to be answered later."""
        self._open = goals + self._open

    def answer(self, goals: list[Goal], message: object) -> None:
        """Tell those who wait for these goals."""
        for goal in goals:
            if goal.address is not None:
                self._ports.reply(goal.address, message)

    def refuse_all(self, message: object) -> None:
        """None of them will be reached."""
        self.answer(self._open, message)
        self._open = []
