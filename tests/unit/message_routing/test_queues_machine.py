"""Queues against a model: two canisters and a user, any interleaving of operations."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from configs.limits import MAX_RESPONSE_BYTES
from ic_types.messages import Ingress, Request, Response
from ic_types.reject import Reply
from ic_types.units import NS_PER_SECOND, TimeNs
from message_routing.message_size import memory_bytes
from message_routing.queues import CanisterQueues
from tests.support.routing_world import START, canister_id, ingress, request, response

ME = canister_id(0, 0)
PEERS = [canister_id(0, 1), canister_id(1, 0), ME]
CAPACITY = 3


class QueuesMachine(RuleBasedStateMachine):
    """Lists of what must be there, in order per queue."""

    def __init__(self) -> None:
        super().__init__()
        self.queues = CanisterQueues(CAPACITY)
        self.inputs: dict[bytes, list[Request | Response]] = {peer: [] for peer in PEERS}
        self.outputs: dict[bytes, list[Request | Response]] = {peer: [] for peer in PEERS}
        self.ingress: list[Ingress] = []
        self.sequences: dict[int, Request] = {}
        self.to_answer: list[Request] = []
        """Executed requests that wait for our response."""
        self.awaited: dict[bytes, list[Request]] = {peer: [] for peer in PEERS}
        """Calls of ours whose request has left and whose response isn't queued."""
        self.number = 0

    def next_number(self) -> int:
        """A fresh callback id or message id."""
        self.number += 1
        return self.number

    def slots_taken(self, peer: bytes) -> int:
        """Response slots of the input queue: calls that are out, and responses queued."""
        out = sum(isinstance(m, Request) for m in self.outputs[peer])
        return out + len(self.awaited[peer]) + sum(isinstance(m, Response) for m in self.inputs[peer])

    def reserved_out(self, peer: bytes) -> int:
        """Response slots of the output queue."""
        queued = sum(isinstance(m, Request) for m in self.inputs[peer])
        unanswered = sum(r.sender == peer for r in self.to_answer)
        return queued + unanswered + sum(isinstance(m, Response) for m in self.outputs[peer])

    @rule()
    def user_calls(self) -> None:
        """An ingress message arrives."""
        message = ingress(self.next_number(), ME)
        self.queues.push_ingress(message)
        self.ingress.append(message)

    @rule(peer=st.sampled_from(PEERS), local=st.booleans(), best_effort=st.booleans(), size=st.sampled_from([0, 3 << 20]))
    def peer_calls(self, peer: bytes, local: bool, best_effort: bool, size: int) -> None:
        """A request arrives, if there is room."""
        message = request(peer, ME, self.next_number(), cycles=1, deadline_s=1500 if best_effort else 0, arg=bytes(size))  # type: ignore[arg-type]
        room = sum(isinstance(m, Request) for m in self.inputs[peer]) < CAPACITY and self.reserved_out(peer) < CAPACITY
        sequence = self.queues.push_input_request(message, local)
        assert (sequence is not None) == room
        if sequence is not None:
            self.inputs[peer].append(message)
            self.sequences[sequence] = message

    @rule(peer=st.sampled_from(PEERS), best_effort=st.booleans())
    def we_call(self, peer: bytes, best_effort: bool) -> None:
        """The canister makes a call, if there is room."""
        message = request(ME, peer, self.next_number(), deadline_s=1500 if best_effort else 0)  # type: ignore[arg-type]
        queued = sum(isinstance(m, Request) for m in self.outputs[peer])
        free = CAPACITY - max(queued, self.slots_taken(peer))
        assert self.queues.free_output_slots(peer) == free  # type: ignore[arg-type]
        assert self.queues.push_output_request(message, START) == (free > 0)
        if free > 0:
            self.outputs[peer].append(message)

    @precondition(lambda self: self.to_answer)
    @rule(data=st.data())
    def we_answer(self, data: st.DataObject) -> None:
        """The canister responds to one of the requests it has executed."""
        asked = data.draw(st.sampled_from(self.to_answer))
        self.to_answer.remove(asked)
        answer = response(asked, Reply(b"z" * 50))
        self.queues.push_output_response(answer)
        self.outputs[asked.sender].append(answer)

    @rule(peer=st.sampled_from(PEERS))
    def route(self, peer: bytes) -> None:
        """The oldest output of a queue leaves."""
        expected = self.outputs[peer][0] if self.outputs[peer] else None
        assert self.queues.peek_output(peer) == expected  # type: ignore[arg-type]
        if expected is not None:
            assert self.queues.pop_output(peer) == expected  # type: ignore[arg-type]
            del self.outputs[peer][0]
            if isinstance(expected, Request):
                self.awaited[peer].append(expected)

    @rule(peer=st.sampled_from(PEERS), local=st.booleans())
    def peer_answers(self, peer: bytes, local: bool) -> None:
        """A response to a call of ours arrives."""
        if self.awaited[peer]:
            answer = response(self.awaited[peer].pop(0), refund=1)
            assert self.queues.push_input_response(answer, local) is not None
            self.inputs[peer].append(answer)

    @rule()
    def execute(self) -> None:
        """The next input is one of the queue heads, and the one that peek promised."""
        promised = self.queues.peek_inputs(2)
        message = self.queues.pop_input()
        assert (message,) == promised[:1] or (message is None and promised == ())
        if message is None:
            assert not self.ingress
            assert not any(self.inputs.values())
        elif isinstance(message, Ingress):
            assert message == self.ingress.pop(0)
        else:
            peer = message.sender if isinstance(message, Request) else message.respondent
            assert self.inputs[peer].pop(0) == message
            if isinstance(message, Request):
                self.to_answer.append(message)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def expire_input(self, data: st.DataObject) -> None:
        """A best-effort request is dropped out of the middle of its queue."""
        sequence = data.draw(st.sampled_from(sorted(self.sequences)))
        message = self.sequences.pop(sequence)
        if message.deadline_s:
            queued = message in self.inputs[message.sender]
            assert (self.queues.drop_input(message.sender, sequence) is not None) == queued
            if queued:
                self.inputs[message.sender].remove(message)

    @rule(peer=st.sampled_from(PEERS))
    def expire_outputs(self, peer: bytes) -> None:
        """The time of all requests and best-effort responses of an output queue is over."""
        expired = self.queues.drop_expired_outputs(peer, TimeNs(1500 * NS_PER_SECOND + 1))  # type: ignore[arg-type]
        due = [m for m in self.outputs[peer] if m.deadline_s or isinstance(m, Request)]
        assert expired == due
        self.outputs[peer] = [m for m in self.outputs[peer] if not (m.deadline_s or isinstance(m, Request))]
        self.awaited[peer] += [m for m in expired if isinstance(m, Request)]

    @invariant()
    def nothing_is_lost(self) -> None:
        """Queues hold exactly what the model holds."""
        self.queues.check_invariants()
        count = sum(map(len, self.inputs.values())) + len(self.ingress)
        seen = self.queues.peek_inputs(10_000)
        assert Counter(map(id, seen)) == Counter(map(id, [*self.ingress, *(m for q in self.inputs.values() for m in q)]))
        assert len(seen) == count
        assert self.queues.output_peers() == tuple(sorted(peer for peer in PEERS if self.outputs[peer]))
        assert self.queues.has_output() == any(self.outputs.values())
        assert self.queues.has_input() == (count > 0)

    @invariant()
    def memory_is_what_the_messages_take(self) -> None:
        """Reservations for open guaranteed calls both ways, plus responses and excess."""
        queued = [m for queue in (*self.inputs.values(), *self.outputs.values()) for m in queue]
        guaranteed = [m for m in queued if not m.deadline_s]
        requests = [m for m in guaranteed if isinstance(m, Request)]
        waiting = [r for r in self.to_answer if not r.deadline_s]
        waiting += [r for calls in self.awaited.values() for r in calls if not r.deadline_s]
        expected = (len(requests) + len(waiting)) * MAX_RESPONSE_BYTES
        expected += sum(max(memory_bytes(m) - MAX_RESPONSE_BYTES, 0) for m in requests)
        expected += sum(memory_bytes(m) for m in guaranteed if isinstance(m, Response))
        assert self.queues.guaranteed_memory() == expected
        assert self.queues.best_effort_memory() == sum(memory_bytes(m) for m in queued if m.deadline_s)


QueuesMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestQueues = QueuesMachine.TestCase
TestQueues.__doc__ = "Any interleaving leaves the queues as the model says."
