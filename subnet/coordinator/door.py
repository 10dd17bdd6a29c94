"""The door: calls of users wait here until a node has said whether its subnet takes them in; then they enter the pool.

Rule module. Spec: interface spec, "Request: Call": the pool gets only what a replica has accepted (`canister_inspect_message`
included). Calls are let in in the order in which they came, and a round that is wanted waits for those that came before, so
that which round takes a call in depends on when it was sent alone; later ones don't hold it up.
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
    number: int
    """In the order of arrival."""
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
    _came: int = 0
    _held: int | None = None
    """How many had come when the next round was wanted; None while none is."""

    @property
    def holds_rounds(self) -> bool:
        """A node is being asked about calls that came before the next round was wanted."""
        held = self._held
        return held is not None and any(one.open and one.number <= held for one in self._queue)

    def round_waits(self, *, wanted: bool) -> bool:
        """Whether a round that is wanted, from now on if none was before, has to wait; wanted no more when it begins."""
        if not wanted:
            self._held = None
        elif self._held is None:
            self._held = self._came
        return self.holds_rounds

    def _new(
        self, calls: list[_Call | None], results: list[SubmitResult | None], done: Callable[[tuple[SubmitResult, ...]], None]
    ) -> None:
        self._came += 1
        self._queue.append(_Submission(calls, results, done, self._came))
        self.ask()

    def submit(
        self, envelopes: Sequence[bytes], effective: CanisterId | None, done: Callable[[tuple[SubmitResult, ...]], None]
    ) -> None:
        """Verify envelopes and ask about them; `done` gets one result each when all are decided."""
        opened = [self._opened(raw, effective) for raw in envelopes]
        self._new([call for call, _ in opened], [result for _, result in opened], done)

    def ask_about(self, place: int, message: Ingress, raw: bytes, done: Callable[[SubmitResult], None]) -> None:
        """Ask about one call that is verified already."""
        call = _Call(place, message, raw)
        known = SubmitResult(message_id=message.message_id) if self.intake.knows(message) else None
        self._new([call], [known], lambda results: done(results[0]))

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
            if not self.holds_rounds:
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
