"""The door: calls of users wait here until a node has said whether its subnet takes them in; then they enter the pool.

Rule module. Spec: interface spec, "Request: Call": the pool gets only what a replica has accepted (`canister_inspect_message`
included). Calls are let in in the order in which they came, and no round begins while one is being asked about, so that which
round takes a call in depends on when it was sent alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ic_types.errors import EnvelopeError
from ic_types.messages import Ingress
from ic_types.principal import CanisterId
from subnet.control_protocol import SubmitResult
from subnet.coordinator.intake import Intake
from subnet.coordinator.network_state import Network
from subnet.coordinator.relay import Answer, Relay
from subnet.protocol import Acceptance, AcceptanceRequest

NOBODY = "no live node could say whether it is accepted; `icsim status` shows them"


@dataclass(slots=True)
class _Call:
    """A verified call, and where it goes."""

    place: int
    message: Ingress
    raw: bytes


@dataclass(slots=True, eq=False)
class _Submission:
    """Calls that came together and are answered together."""

    calls: list[_Call | None]
    """None for an envelope that is no good."""
    results: list[SubmitResult | None]
    done: Callable[[tuple[SubmitResult, ...]], None]
    asked: bool = False
    open: int = 0
    """Subnets that haven't answered."""


@dataclass(slots=True, eq=False)
class Door:
    """Submissions under way."""

    network: Network
    intake: Intake
    relay: Relay
    ready: Callable[[], bool]
    """Whether nodes stand where users think they do; until then calls wait."""
    wake: Callable[[], None]
    """Called when calls were let in or refused, so that rounds may go on."""
    _queue: deque[_Submission] = field(default_factory=deque)

    @property
    def asking(self) -> bool:
        """A node is being asked about calls."""
        return any(submission.open for submission in self._queue)

    def submit(
        self, envelopes: Sequence[bytes], effective: CanisterId | None, done: Callable[[tuple[SubmitResult, ...]], None]
    ) -> None:
        """Verify envelopes and ask about them; `done` gets one result each when all are decided."""
        submission = _Submission([], [], done)
        for raw in envelopes:
            call, result = self._opened(raw, effective)
            submission.calls.append(call)
            submission.results.append(result)
        self._queue.append(submission)
        self.ask()

    def ask_about(self, place: int, message: Ingress, raw: bytes, done: Callable[[SubmitResult], None]) -> None:
        """Ask about one call that is verified already."""
        call = _Call(place, message, raw)
        known = SubmitResult(message_id=message.message_id) if self.intake.knows(message) else None
        self._queue.append(_Submission([call], [known], lambda results: done(results[0])))
        self.ask()

    def _opened(self, raw: bytes, effective: CanisterId | None) -> tuple[_Call | None, SubmitResult | None]:
        try:
            place, message = self.intake.open(raw, effective)
        except EnvelopeError as error:
            return None, SubmitResult(message_id=b"", problem=str(error))
        known = SubmitResult(message_id=message.message_id) if self.intake.knows(message) else None
        return _Call(place, message, raw), known

    def ask(self) -> None:
        """Ask about everything that hasn't been asked about, if nodes are ready."""
        if not self.ready():
            return
        for submission in [one for one in self._queue if not one.asked]:
            submission.asked = True
            by_place: dict[int, list[int]] = {}
            for position, call in enumerate(submission.calls):
                if call is not None and submission.results[position] is None:
                    by_place.setdefault(call.place, []).append(position)
            submission.open = len(by_place)
            for place, positions in by_place.items():
                self._ask(submission, place, positions)
        self._let_in()

    def _ask(self, submission: _Submission, place: int, positions: list[int]) -> None:
        calls = [call for call in (submission.calls[position] for position in positions) if call is not None]

        def receive(answer: Answer | None) -> None:
            good = isinstance(answer, Acceptance) and len(answer.refusals) == len(calls)
            for k, (position, call) in enumerate(zip(positions, calls, strict=True)):
                if not isinstance(answer, Acceptance) or not good:
                    submission.results[position] = SubmitResult(message_id=call.message.message_id, problem=NOBODY)
                elif answer.refusals[k] is not None:
                    refused = SubmitResult(message_id=call.message.message_id, refusal=answer.refusals[k])
                    submission.results[position] = refused
            submission.open -= 1
            self._let_in()
            if not self.asking:
                self.wake()

        question = AcceptanceRequest(cookie=0, calls=tuple(call.message for call in calls))
        self.relay.ask(self.network.subnets[place], question, receive)

    def _let_in(self) -> None:
        """Take the decided submissions off the front of the queue."""
        while self._queue and self._queue[0].asked and not self._queue[0].open:
            submission = self._queue.popleft()
            results = []
            for call, result in zip(submission.calls, submission.results, strict=True):
                if result is None:
                    assert call is not None, "an envelope that is no good has its result"
                    self.intake.admit(call.place, call.message, call.raw)
                    result = SubmitResult(message_id=call.message.message_id)
                results.append(result)
            submission.done(tuple(results))
