"""Input and output queues of one canister, or of a subnet's management canister, with slot reservations.

Rule module. Spec: abstract behaviour, "Message execution", where messages wait; capacities and orders are the replica's.
Per peer there is one input and one output queue with 500 requests and 500 response slots each. A request that goes out
reserves a response slot in the input queue from the same peer, one that comes in reserves a slot in the output queue to its
sender; so a response always has room. Every operation costs O(1); a pair of queues that holds nothing takes no room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from ic_types.messages import CanisterInput, Ingress, Request, Response
from ic_types.principal import CanisterId
from ic_types.reject import ErrorCode, reject
from ic_types.units import NS_PER_SECOND, Cycles, TimeNs
from message_routing.input_schedule import InputClass, rotate_over, turn_by_turn
from message_routing.queue_state import PeerQueues, QueueState

REQUEST_LIFETIME_NS: Final = 300 * NS_PER_SECOND
DROPPED: Final = reject(ErrorCode.RESPONSE_DROPPED, "Response was dropped.")
"""What a caller learns of a best-effort response that was shed."""


class CanisterQueues(QueueState):
    """All queues of one canister."""

    __slots__ = ()

    # --- inputs

    def push_ingress(self, ingress: Ingress) -> None:
        """Queue an ingress message; the ingress history keeps duplicates out."""
        key = ingress.effective_canister_id if self.by_effective_id else None
        queue = self.ingress.get(key)
        if queue is None:
            queue = self.ingress[key] = OrderedDict()
            self.ingress_rotation.add(key)
        assert ingress.message_id not in queue, "an ingress message was inducted twice"
        queue[ingress.message_id] = ingress

    def push_input_request(self, request: Request, local: bool) -> int | None:
        """Queue a request and reserve the slot of its response.

        Returns: its sequence number (see `drop_input`), or None when the queue has no request slot or no response slot.
        """
        peer = self._peer(request.sender)
        if peer.input_requests >= self.capacity or peer.output_slots >= self.capacity:
            return None
        peer.input_requests += 1
        peer.output_slots += 1
        self.memory.count(request, 1)
        if request.deadline_s == 0:
            self.memory.reserved += 1
        return self._append_input(request.sender, peer, request, local)

    def push_input_response(self, response: Response, local: bool) -> int | None:
        """Queue a response in the slot that its request reserved.

        Returns: its sequence number, or None when a best-effort response to the same call is queued already.
        """
        has_slot = self.has_response_slot(response.respondent)
        if response.deadline_s == 0:
            assert has_slot, "a response without a reserved slot"
            self.memory.reserved -= 1
        elif not has_slot or response.callback_id in self.best_effort_responses:
            return None
        else:
            self.best_effort_responses[response.callback_id] = self.sequence
        peer = self.peers[response.respondent]
        self.memory.count(response, 1)
        return self._append_input(response.respondent, peer, response, local)

    def has_response_slot(self, respondent: CanisterId) -> bool:
        """A response from this peer is still expected."""
        peer = self.peers.get(respondent)
        return peer is not None and peer.input_slots > len(peer.inputs) - peer.input_requests

    def has_input(self) -> bool:
        """Something waits to be executed."""
        local, _, remote = self.rotations
        return bool(self.ingress or local.turns or remote.turns)

    def pop_input(self) -> CanisterInput | None:
        """Take the next input in schedule order, or None."""
        return self.pop_first_ready(None)

    def pop_first_ready(self, ready: Callable[[CanisterInput], bool] | None) -> CanisterInput | None:
        """Take the first of all queue heads, in schedule order, that may run now; those passed over keep their places."""
        for step in range(3):
            at = (self.next_class + step) % 3
            taken = self._pop_ingress(ready) if at == InputClass.INGRESS else self._pop_peer(at, ready)
            if taken is not None:
                self.next_class = (at + 1) % 3
                return taken
        return None

    def peek_inputs(self, count: int) -> tuple[CanisterInput, ...]:
        """The next `count` inputs in the order in which `pop_input` would give them."""
        ingress = [iter(self.ingress[key].values()) for key in islice(self.ingress_rotation.turns, count)]
        sources = [self._walk(InputClass.LOCAL, count), turn_by_turn(ingress), self._walk(InputClass.REMOTE, count)]
        return tuple(rotate_over(sources, self.next_class, count))

    def drop_ingress(self, ingress: Ingress) -> bool:
        """Take an expired ingress message out; False when it is no longer queued."""
        key = ingress.effective_canister_id if self.by_effective_id else None
        queue = self.ingress.get(key)
        if queue is None or queue.pop(ingress.message_id, None) is None:
            return False
        if not queue:
            del self.ingress[key]
            self.ingress_rotation.remove(key)
        return True

    def drop_input(self, sender: CanisterId, sequence: int) -> Request | Response | None:
        """Take an expired best-effort message out of an input queue; None when it is no longer there.

        A dropped request gives its response slot back; that of a dropped response stays reserved for the callback's timeout.
        """
        peer = self.peers.get(sender)
        message = None if peer is None else peer.inputs.get(sequence)
        if peer is None or message is None:
            return None
        self._take_input(peer, sequence, message)
        if type(message) is Request:
            peer.output_slots -= 1
            if message.deadline_s == 0:
                self.memory.reserved -= 1
        else:
            peer.input_slots += 1
        if not peer.inputs and peer.scheduled is not None:
            rotation = self.rotations[peer.scheduled]
            assert rotation is not None
            rotation.remove(sender)
            peer.scheduled = None
        self._forget_if_idle(sender, peer)
        return message

    def shed_input(self, sender: CanisterId, sequence: int) -> Request | Response:
        """Take a best-effort message out of an input queue for want of memory; a response leaves a reject in its place."""
        peer = self.peers[sender]
        message = peer.inputs[sequence]
        if type(message) is Request:
            self.drop_input(sender, sequence)
            return message
        assert type(message) is Response
        self.memory.count(message, -1)
        self.digests.pop(sequence, None)
        peer.inputs[sequence] = replace(message, refund=Cycles(0), payload=DROPPED)
        return message

    # --- outputs

    def push_output_request(self, request: Request, now: TimeNs) -> bool:
        """Queue a call and reserve the slot of its response; False when there is no room."""
        peer = self._peer(request.receiver)
        if peer.output_requests >= self.capacity or peer.input_slots >= self.capacity:
            return False
        peer.output_requests += 1
        peer.input_slots += 1
        if request.deadline_s == 0:
            self.memory.reserved += 1
            due = TimeNs(now + REQUEST_LIFETIME_NS)
        else:
            due = TimeNs(request.deadline_s * NS_PER_SECOND)
        self._append_output(peer, request, due)
        return True

    def push_refused_request(self, answer: Response) -> None:
        """Take a call back before it is queued: only its answer waits, in a slot of its own, which must be free."""
        self._peer(answer.respondent).input_slots += 1
        if answer.deadline_s == 0:
            self.memory.reserved += 1
        self.push_input_response(answer, local=True)

    def push_output_response(self, response: Response) -> None:
        """Queue an answer in the slot that its request reserved."""
        peer = self.peers.get(response.originator)
        assert peer is not None, "a response to a canister that didn't call"
        assert peer.output_slots > len(peer.outputs) - peer.output_requests, "a response without a reserved slot"
        if response.deadline_s == 0:
            self.memory.reserved -= 1
        self._append_output(peer, response, TimeNs(response.deadline_s * NS_PER_SECOND))

    def free_output_slots(self, peer_id: CanisterId) -> int:
        """How many further calls to this peer have room."""
        peer = self.peers.get(peer_id)
        return self.capacity if peer is None else self.capacity - max(peer.output_requests, peer.input_slots)

    def limited_slots(self) -> tuple[tuple[CanisterId, int], ...]:
        """Peers with fewer free slots than the full capacity, with the number free."""
        full = self.capacity
        return tuple(
            (peer_id, full - max(peer.output_requests, peer.input_slots))
            for peer_id, peer in self.peers.items()
            if peer.output_requests or peer.input_slots
        )

    def has_output(self) -> bool:
        """Something waits to be routed."""
        return self.output_count > 0

    def output_peers(self) -> tuple[CanisterId, ...]:
        """Peers with something in their output queue, ascending."""
        return tuple(sorted(peer_id for peer_id, peer in self.peers.items() if peer.outputs))

    def peek_output(self, peer_id: CanisterId) -> Request | Response | None:
        """The message that `pop_output` would give."""
        peer = self.peers.get(peer_id)
        return next(iter(peer.outputs.values()))[0] if peer is not None and peer.outputs else None

    def pop_output(self, peer_id: CanisterId) -> Request | Response:
        """Take the oldest message out of a non-empty output queue."""
        peer = self.peers[peer_id]
        return self._take_output(peer_id, peer, next(iter(peer.outputs)))

    def drop_output(self, peer_id: CanisterId, sequence: int) -> Request | Response:
        """Take any message out of an output queue."""
        return self._take_output(peer_id, self.peers[peer_id], sequence)

    def output_deadlines(self, peer_id: CanisterId) -> list[TimeNs]:
        """Due times of the output queue's messages that this didn't tell before."""
        peer = self.peers.get(peer_id)
        if peer is None or not peer.outputs:
            return []
        found: list[TimeNs] = []
        for sequence, (_, due) in reversed(peer.outputs.items()):
            if sequence <= peer.noted:
                break
            if due:
                found.append(due)
        peer.noted = next(reversed(peer.outputs))
        return found

    def drop_expired_outputs(self, peer_id: CanisterId, now: TimeNs) -> list[Request | Response]:
        """Take every message out of an output queue whose time is over, in queue order; costs the queue's length."""
        peer = self.peers.get(peer_id)
        if peer is None:
            return []
        expired = [sequence for sequence, (_, due) in peer.outputs.items() if 0 < due < now]
        return [self._take_output(peer_id, peer, sequence) for sequence in expired]

    # --- parts

    def _peer(self, peer_id: CanisterId) -> PeerQueues:
        peer = self.peers.get(peer_id)
        if peer is None:
            peer = self.peers[peer_id] = PeerQueues()
        return peer

    def _append_input(self, sender: CanisterId, peer: PeerQueues, message: Request | Response, local: bool) -> int:
        sequence = self.sequence
        self.sequence = sequence + 1
        peer.inputs[sequence] = message
        if peer.scheduled is None:
            peer.scheduled = InputClass.LOCAL if local else InputClass.REMOTE
            rotation = self.rotations[peer.scheduled]
            assert rotation is not None
            rotation.add(sender)
        return sequence

    def _append_output(self, peer: PeerQueues, message: Request | Response, due: TimeNs) -> None:
        self.memory.count(message, 1)
        peer.outputs[self.sequence] = (message, due)
        self.sequence += 1
        self.output_count += 1

    def _take_input(self, peer: PeerQueues, sequence: int, message: Request | Response) -> None:
        """Remove a message from its input queue; a request keeps the slot of its answer, a response frees its own."""
        del peer.inputs[sequence]
        self.digests.pop(sequence, None)
        self.memory.count(message, -1)
        if type(message) is Request:
            peer.input_requests -= 1
        else:
            peer.input_slots -= 1
            if message.deadline_s:
                self.best_effort_responses.pop(message.callback_id, None)

    def _take_output(self, peer_id: CanisterId, peer: PeerQueues, sequence: int) -> Request | Response:
        message = peer.outputs.pop(sequence)[0]
        self.digests.pop(sequence, None)
        self.memory.count(message, -1)
        self.output_count -= 1
        if type(message) is Request:
            peer.output_requests -= 1
        else:
            peer.output_slots -= 1
            self._forget_if_idle(peer_id, peer)
        return message

    def _pop_ingress(self, ready: Callable[[CanisterInput], bool] | None) -> Ingress | None:
        rotation = self.ingress_rotation
        for position, key in enumerate(rotation.turns):
            queue = self.ingress[key]
            message = next(iter(queue.values()))
            if ready is not None and not ready(message):
                continue
            del queue[message.message_id]
            if not queue:
                del self.ingress[key]
            rotation.served(position, more=bool(queue))
            return message
        return None

    def _pop_peer(self, at: int, ready: Callable[[CanisterInput], bool] | None) -> Request | Response | None:
        rotation = self.rotations[at]
        assert rotation is not None
        for position, sender in enumerate(rotation.turns):
            peer = self.peers[sender]
            sequence, message = next(iter(peer.inputs.items()))
            if ready is not None and not ready(message):
                continue
            self._take_input(peer, sequence, message)
            if not peer.inputs:
                peer.scheduled = None
            rotation.served(position, more=bool(peer.inputs))
            self._forget_if_idle(sender, peer)
            return message
        return None

    def _walk(self, input_class: InputClass, count: int) -> Iterator[CanisterInput]:
        rotation = self.rotations[input_class]
        assert rotation is not None
        return turn_by_turn([iter(self.peers[sender].inputs.values()) for sender in islice(rotation.turns, count)])

    def _forget_if_idle(self, peer_id: CanisterId, peer: PeerQueues) -> None:
        if not (peer.input_slots or peer.output_slots or peer.inputs or peer.outputs):
            del self.peers[peer_id]
