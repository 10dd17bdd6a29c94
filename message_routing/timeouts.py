"""Messages and callbacks whose time is over.

Rule module. Spec: interface spec, "Inter-canister calls" (bounded-wait); abstract behaviour, "Callback timeout".
What can expire is noted in heaps when it starts to wait, so a round costs what is due and not what waits:

* a request that stays in an output queue over a round: rejected after 300 s, or at the deadline of a best-effort call;
* best-effort responses in output queues and requests in input queues: dropped, their cycles go back as refunds;
* the callback of a best-effort call: gets a synthetic reject if no response is queued yet;
* an ingress message: fails.

Notes of what went on its way in time are stale and skipped. The heaps follow from the state and aren't state themselves.
"""

from __future__ import annotations

import heapq
from enum import IntEnum

from ic_types import trace
from ic_types.messages import Ingress, Request, Response
from ic_types.principal import CanisterId
from ic_types.reject import ErrorCode, Reject, RejectCode, reject
from ic_types.units import NS_PER_SECOND, CallbackId, Cycles, TimeNs
from message_routing.ingress_history import IngressHistory
from message_routing.local_reject import push_local_reject
from message_routing.queues import CanisterQueues
from message_routing.receivers import Canisters
from message_routing.refunds import RefundPool
from message_routing.routing_table import RoutingTable

TIMED_OUT = Reject(RejectCode.SYS_TRANSIENT, "Request timed out.")


class Waiting(IntEnum):
    """What waits; queued messages are timed out before callbacks, as one may answer the other."""

    OUTPUT = 0
    INPUT = 1
    CALLBACK = 2


Note = tuple[TimeNs, Waiting, CanisterId, CanisterId, int]
"""Time, what, canister, peer, and sequence number or callback id."""


class Deadlines:
    """Heaps of due times."""

    __slots__ = ("_heap", "_ingress", "_outputs")

    def __init__(self) -> None:
        self._heap: list[Note] = []
        self._ingress: list[tuple[TimeNs, bytes, CanisterId, Ingress]] = []
        self._outputs: dict[Note, None] = {}  # notes of output queues, so that each time of each queue is noted once

    def add_output_queue(self, canister_id: CanisterId, queues: CanisterQueues, peer: CanisterId) -> None:
        """This output queue still holds messages after routing."""
        for due in queues.output_deadlines(peer):
            note = (due, Waiting.OUTPUT, canister_id, peer, 0)
            if note not in self._outputs:
                self._outputs[note] = None
                heapq.heappush(self._heap, note)

    def add_input_request(self, canister_id: CanisterId, request: Request, sequence: int) -> None:
        """A best-effort request was queued."""
        due = TimeNs(request.deadline_s * NS_PER_SECOND)
        heapq.heappush(self._heap, (due, Waiting.INPUT, canister_id, request.sender, sequence))

    def add_callback(self, request: Request) -> None:
        """A best-effort call was made; its callback waits until the deadline."""
        due = TimeNs(request.deadline_s * NS_PER_SECOND)
        heapq.heappush(self._heap, (due, Waiting.CALLBACK, request.sender, request.receiver, request.callback_id))

    def add_ingress(self, ingress: Ingress) -> None:
        """An ingress message was queued."""
        heapq.heappush(self._ingress, (ingress.expiry, ingress.message_id, ingress.receiver, ingress))

    def next_due(self) -> TimeNs | None:
        """When a message or callback may expire next, or None; queued ingress is work anyway."""
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: TimeNs) -> list[Note]:
        """Notes whose time is over: messages before callbacks, each in order of time and canister."""
        heap, due = self._heap, []
        while heap and heap[0][0] < now:
            note = heapq.heappop(heap)
            if note[1] is Waiting.OUTPUT:
                self._outputs.pop(note, None)
            due.append(note)
        due.sort(key=lambda note: note[1] is Waiting.CALLBACK)
        return due

    def take_expired_ingress(self, now: TimeNs) -> list[Ingress]:
        """Ingress messages whose time is over, executed ones included."""
        heap, expired = self._ingress, []
        while heap and heap[0][0] < now:
            expired.append(heapq.heappop(heap)[3])
        return expired


def time_out_messages(
    deadlines: Deadlines,
    canisters: Canisters,
    management_queues: CanisterQueues,
    routing: RoutingTable,
    refunds: RefundPool,
    now: TimeNs,
) -> int:
    """Expire what is due in queues, then callbacks; returns how many messages and callbacks that were."""
    expired = 0
    for due, what, canister_id, peer, number in deadlines.take_due(now):
        canister = canisters.get(canister_id)
        queues = management_queues if canister is None and routing.is_management(canister_id) else None
        if canister is not None:
            queues = canister.queues
        if queues is None:
            continue
        if what is Waiting.OUTPUT:
            expired += _expire_outputs(queues, peer, routing, refunds, now)
        elif what is Waiting.INPUT:
            expired += _expire_input(queues, peer, number, refunds)
        elif canister is not None and CallbackId(number) in canister.callbacks:
            expired += _expire_callback(queues, canister_id, peer, CallbackId(number), due, routing)
        if canister is not None:
            canisters.touch(canister_id)
    return expired


def time_out_ingress(
    deadlines: Deadlines,
    canisters: Canisters,
    management_queues: CanisterQueues,
    routing: RoutingTable,
    history: IngressHistory,
    now: TimeNs,
) -> int:
    """Fail queued ingress messages whose expiry is over (IC0202); returns how many."""
    failed = 0
    for ingress in deadlines.take_expired_ingress(now):
        if routing.is_management(ingress.receiver):
            dropped = management_queues.drop_ingress(ingress)
        else:
            canister = canisters.get(ingress.receiver)
            dropped = canister is not None and canister.queues.drop_ingress(ingress)
        if dropped:
            text = f"Ingress message {ingress.message_id.hex()} timed out waiting to start executing."
            history.rejected(ingress.message_id, reject(ErrorCode.INGRESS_MESSAGE_TIMEOUT, text), now)
            trace.emit("message_routing.timeouts.time_out_ingress", ingress.message_id, "expired")
            failed += 1
            if not routing.is_management(ingress.receiver):
                canisters.touch(ingress.receiver)
    return failed


def _expire_outputs(queues: CanisterQueues, peer: CanisterId, routing: RoutingTable, refunds: RefundPool, now: TimeNs) -> int:
    expired = queues.drop_expired_outputs(peer, now)
    for message in expired:
        if type(message) is Request:
            if not push_local_reject(queues, message, TIMED_OUT, local=routing.is_local(message.receiver)):
                refunds.add(message.sender, message.payment)
        else:
            assert type(message) is Response
            refunds.add(message.originator, message.refund)
    return len(expired)


def _expire_input(queues: CanisterQueues, peer: CanisterId, sequence: int, refunds: RefundPool) -> int:
    message = queues.drop_input(peer, sequence)
    if message is None:
        return 0
    assert type(message) is Request, "only requests expire in input queues"
    refunds.add(message.sender, message.payment)
    return 1


def _expire_callback(
    queues: CanisterQueues,
    canister_id: CanisterId,
    peer: CanisterId,
    callback_id: CallbackId,
    deadline: TimeNs,
    routing: RoutingTable,
) -> int:
    """The caller learns that it doesn't know what happened; cycles come back in a refund of their own, if at all."""
    text = "Call deadline has expired."
    response = Response(
        originator=canister_id,
        respondent=peer,
        callback_id=callback_id,
        refund=Cycles(0),
        payload=reject(ErrorCode.DEADLINE_EXPIRED, text),
        deadline_s=deadline // NS_PER_SECOND,
    )
    return 0 if queues.push_input_response(response, routing.is_local(peer)) is None else 1
