"""What nodes have asked of consensus, and the answers for the next batches.

Rule module. Requests come with the results of rounds, so after a restart they come again with the rounds that are executed
again; what a recorded batch has answered is no longer open. Outcalls are made by `outcalls`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from ic_types.consensus_calls import ConsensusAnswer, OutcallRequest, SignatureRequest
from subnet.coordinator.signer import sign
from subnet.protocol import Batch, RoundResult

SIGNING_ROUNDS = 2
"""A signature is in the batch so many heights after the round that asked for it."""
MAX_ANSWERS = 500
MAX_ANSWER_BYTES = 2 << 20
"""Per batch, as in the replica; one larger answer alone fits."""


@dataclass(slots=True)
class Desk:
    """One subnet's open requests by number, and its answers."""

    signatures: dict[int, tuple[int, SignatureRequest]] = field(default_factory=dict)
    """With the height of the batch that will answer."""
    outcalls: dict[int, OutcallRequest] = field(default_factory=dict)
    """In the order in which their time is up."""
    answers: dict[int, ConsensusAnswer] = field(default_factory=dict)
    """To outcalls, ready for a batch."""


class ConsensusDesk:
    """All subnets, in topology order."""

    def __init__(self, identity_seed: int, subnets: int) -> None:
        self._identity_seed = identity_seed
        self.desks = [Desk() for _ in range(subnets)]
        self.on_outcall: Callable[[int, OutcallRequest], None] = lambda _place, _request: None
        """A subnet asks for an outcall."""

    @property
    def is_quiet(self) -> bool:
        """No signature is being made and no answer waits for a batch; outcalls that nobody answers don't count."""
        return not any(desk.signatures or desk.answers for desk in self.desks)

    def asked(self, place: int, result: RoundResult) -> None:
        """The requests of a finished round."""
        desk = self.desks[place]
        for wanted in result.signature_requests:
            desk.signatures[wanted.call_id] = (result.height + SIGNING_ROUNDS, wanted)
        for outcall in result.outcall_requests:
            desk.outcalls[outcall.call_id] = outcall
            self.on_outcall(place, outcall)

    def answer(self, place: int, answer: ConsensusAnswer) -> None:
        """An outcall has an answer; one that isn't open any more is passed over."""
        if answer.call_id in self.desks[place].outcalls:
            self.desks[place].answers[answer.call_id] = answer

    def take(self, place: int, height: int, time_ns: int) -> tuple[ConsensusAnswer, ...]:
        """Answers for the batch of this height: timeouts, outcalls, signatures, as far as there is room."""
        desk, left = self.desks[place], MAX_ANSWER_BYTES
        taken: list[ConsensusAnswer] = []
        late = itertools.takewhile(lambda one: one.timeout_ns < time_ns, desk.outcalls.values())
        ready = {one.call_id: timed_out(one.call_id) for one in late} | desk.answers
        for number in sorted(ready):
            size = len(ready[number].reply) + len(ready[number].reject_message)
            if len(taken) == MAX_ANSWERS or (taken and size > left):
                break
            left -= size
            taken.append(ready[number])
        for _, (due, wanted) in sorted(desk.signatures.items()):
            if due <= height and len(taken) < MAX_ANSWERS:
                taken.append(sign(self._identity_seed, wanted))
        self._close(desk, taken)
        return tuple(taken)

    def follow(self, place: int, batch: Batch) -> None:
        """A recorded batch is executed again."""
        self._close(self.desks[place], list(batch.answers))

    @staticmethod
    def _close(desk: Desk, answers: list[ConsensusAnswer]) -> None:
        for one in answers:
            for open_calls in (desk.signatures, desk.outcalls, desk.answers):
                open_calls.pop(one.call_id, None)


def timed_out(call_id: int) -> ConsensusAnswer:
    """Nobody has answered an outcall in time."""
    return ConsensusAnswer(call_id=call_id, reject_code=2, reject_message="Canister http request timed out")
