"""What became of every ingress message, and how many rounds it took.

Rule module. Spec: interface spec, "Request status" (the statuses seen by a user of the network).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from subnet.protocol import IngressOutcome


@dataclass(slots=True)
class Request:
    """One ingress message."""

    subnet: int
    submitted_height: int
    status: str = "received"
    answered_height: int = 0
    outcome: IngressOutcome | None = None
    measured: bool = True
    """Its latency counts; that of management calls doesn't, since installs would hide the canisters' own."""


@dataclass(slots=True)
class RequestBook:
    """All messages of a run that clients may still ask about, and figures over all there were."""

    requests: dict[bytes, Request] = field(default_factory=dict)
    submitted: int = 0
    replied: int = 0
    rejected: int = 0
    expired: int = 0
    answered_twice: int = 0
    """Must stay zero: every call is answered exactly once."""
    unexpected: int = 0
    """Outcomes of messages that nobody submitted; must stay zero."""
    latency_rounds: Counter[int] = field(default_factory=Counter)
    _answered: deque[bytes] = field(default_factory=deque)
    _marks: deque[tuple[int, int]] = field(default_factory=deque)
    """Times and heights."""

    @property
    def pending(self) -> int:
        """Submitted and not answered yet."""
        return self.submitted - self.replied - self.rejected - self.expired

    def submit(self, message_id: bytes, subnet: int, height: int, *, measured: bool = True) -> None:
        """A message came in, after `height` was finished."""
        self.requests[message_id] = Request(subnet, height, measured=measured)
        self.submitted += 1

    def processing(self, message_id: bytes, subnet: int, arrival_height: int) -> None:
        """A message is in a batch."""
        if message_id not in self.requests:
            self.submit(message_id, subnet, arrival_height)
        self.requests[message_id].status = "processing"

    def expire(self, message_id: bytes, height: int) -> None:
        """A message waited until it expired; no batch took it."""
        request = self.requests[message_id]
        request.status, request.answered_height = "expired", height
        self.expired += 1
        self._answered.append(message_id)

    def answer(self, outcome: IngressOutcome, height: int) -> None:
        """A message reached a terminal status in this round."""
        request = self.requests.get(outcome.message_id)
        if request is None:
            self.unexpected += 1
            return
        if request.outcome is not None:
            self.answered_twice += 1
            return
        request.status, request.answered_height, request.outcome = outcome.status, height, outcome
        if outcome.status == "replied":
            self.replied += 1
        else:
            self.rejected += 1
        if request.measured:
            self.latency_rounds[height - request.submitted_height] += 1
        self._answered.append(outcome.message_id)

    def is_answered(self, message_id: bytes) -> bool:
        """Whether it has an outcome; unknown messages never get one, so they count as answered."""
        request = self.requests.get(message_id)
        return request is None or request.status not in ("received", "processing")

    def forget(self, height: int, now: int, ttl_ns: int) -> None:
        """Called every so many rounds, with height and time: drop what was answered more than the TTL ago."""
        self._marks.append((now, height))
        while self._marks[0][0] < now - ttl_ns:
            self.forget_before(self._marks.popleft()[1])

    def forget_before(self, height: int) -> None:
        """Drop messages answered before this height: their status has expired."""
        while self._answered and self.requests[self._answered[0]].answered_height < height:
            del self.requests[self._answered.popleft()]

    def percentiles(self, *wanted: int) -> tuple[int, ...]:
        """Latency in rounds below which so many percent of the answers lie (nearest rank); 0 without answers."""
        total = sum(self.latency_rounds.values())
        return tuple(next(self._ranked(max(1, -(-total * percent // 100))), 0) if total else 0 for percent in wanted)

    def _ranked(self, rank: int) -> Iterator[int]:
        seen = 0
        for rounds in sorted(self.latency_rounds):
            seen += self.latency_rounds[rounds]
            if seen >= rank:
                yield rounds
                return
