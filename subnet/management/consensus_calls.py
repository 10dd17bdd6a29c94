"""Calls of the management canister that wait for an answer from consensus: signatures and HTTPS outcalls.

Rule module. Not in the spec: the replica's subnet call contexts. They are state: opened by a message, answered by a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ic_types import canonical, trace
from ic_types.consensus_calls import ConsensusAnswer, ConsensusRequest, OutcallRequest, SignatureRequest
from ic_types.merkle import MerkleMap
from ic_types.messages import Request
from ic_types.reject import Reject, RejectCode, Reply
from ic_types.units import Cycles
from subnet.management.answers import answer
from subnet.management.context import ManagementOutcome, SubnetContext


@dataclass(frozen=True, slots=True)
class ConsensusCall:
    """One call; `message` is what has to be answered: its payment will be refunded, its argument is in `asked`."""

    message: Request
    asked: ConsensusRequest


@dataclass(slots=True)
class ConsensusCalls:
    """All of them, by a number that isn't used again."""

    next_id: int = 0
    calls: dict[int, ConsensusCall] = field(default_factory=dict)
    _digests: MerkleMap = field(default_factory=MerkleMap)
    """Cache: a round hashes what was opened and closed."""
    _timeouts: dict[int, int] = field(default_factory=dict)
    """Cache: of the outcalls, in their order, which is that of their numbers."""
    _per_key: dict[str, int] = field(default_factory=dict)
    """Cache: open signatures by key."""
    _fresh: list[ConsensusRequest] = field(default_factory=list)
    """Local: opened since `take_fresh`."""

    def open(self, message: Request, asked: ConsensusRequest, fee: Cycles) -> None:
        """Keep a call that has paid its fee; it gets the next number."""
        asked = replace(asked, call_id=self.next_id)
        call = ConsensusCall(replace(message, payment=Cycles(message.payment - fee), arg=b""), asked)
        self.calls[self.next_id] = call
        self._digests.set(_label(self.next_id), canonical.digest(call))
        if isinstance(asked, OutcallRequest):
            self._timeouts[self.next_id] = asked.timeout_ns
        else:
            self._per_key[asked.key_id] = self._per_key.get(asked.key_id, 0) + 1
        self.next_id += 1
        self._fresh.append(asked)
        trace.emit("subnet.management.consensus_calls.open", message.sender, message.method)

    def close(self, call_id: int) -> ConsensusCall | None:
        """Take a call out; None if there is none."""
        call = self.calls.pop(call_id, None)
        if call is not None:
            self._digests.delete(_label(call_id))
            self._timeouts.pop(call_id, None)
            if isinstance(call.asked, SignatureRequest):
                self._per_key[call.asked.key_id] -= 1
        return call

    def take_fresh(self) -> tuple[ConsensusRequest, ...]:
        """Requests since the last time, for the coordinator."""
        fresh, self._fresh = tuple(self._fresh), []
        return fresh

    def outcalls(self) -> int:
        """How many HTTPS outcalls are open."""
        return len(self._timeouts)

    def signatures(self, key_id: str) -> int:
        """How many signatures with this key are open."""
        return self._per_key.get(key_id, 0)

    def next_timeout(self) -> int:
        """The first batch time at which an outcall is given up; 0 if there is none."""
        return next(iter(self._timeouts.values()), 0)

    def cycles(self) -> int:
        """Cycles that will be refunded."""
        return sum(call.message.payment for call in self.calls.values())

    def to_canonical(self) -> tuple[object, ...]:
        """What the state hash covers."""
        return self.next_id, self._digests.root()


def _label(call_id: int) -> bytes:
    return call_id.to_bytes(8, "big")


def settle(ctx: SubnetContext, answers: Sequence[ConsensusAnswer]) -> int:
    """Answer calls as the batch says, before anything else runs; how many there were. What isn't open is passed over."""
    count = 0
    for one in answers:
        call = ctx.consensus_calls.close(one.call_id)
        if call is None:
            continue
        count += 1
        payload = Reject(RejectCode(one.reject_code), one.reject_message) if one.reject_code else Reply(one.reply)
        answer(ctx, call.message, ManagementOutcome(payload=payload, refund=call.message.payment))
        trace.emit("subnet.management.consensus_calls.settle", call.message.sender, call.message.method)
    return count
