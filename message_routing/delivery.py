"""Puts one request, response or refund into the input queue of its receiver on this subnet, or says why it can't.

Rule module. Spec: abstract behaviour, "Call delivery"; conditions are the replica's: the receiver exists and runs, its queue
has room for the request and its response, guaranteed-response memory suffices. Responses always have room; late ones give up
their cycles to the caller's balance.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from configs.limits import request_memory
from ic_types.messages import Refund, Request, Response
from ic_types.principal import CanisterId
from ic_types.units import Cycles
from message_routing.lost_cycles import LossCause, LostCycles
from message_routing.message_size import payload_bytes
from message_routing.queues import CanisterQueues
from message_routing.receivers import Canisters
from message_routing.routing_table import RoutingTable
from message_routing.timeouts import Deadlines


class Refusal(Enum):
    """Why a request can't be delivered."""

    NOT_FOUND = "canister not found"
    STOPPED = "canister stopped"
    STOPPING = "canister stopping"
    QUEUE_FULL = "queue full"
    OUT_OF_MEMORY = "out of memory"


@dataclass(slots=True)
class GuaranteedMemory:
    """What is left of the subnet's guaranteed-response memory; bytes, kept up to date while messages are delivered."""

    available: int

    def suffices_for(self, request: Request) -> bool:
        """The request and the reservation for its response fit."""
        return bool(request.deadline_s) or self.available >= needed_bytes(request)


def needed_bytes(request: Request) -> int:
    """Guaranteed-response memory that a request takes at its receiver."""
    return request_memory(payload_bytes(request), best_effort=False)


@dataclass(slots=True)
class Delivery:
    """What delivering needs of the subnet."""

    canisters: Canisters
    management_queues: CanisterQueues
    routing: RoutingTable
    deadlines: Deadlines
    memory: GuaranteedMemory
    lost: LostCycles


Outcome: TypeAlias = Refusal | None


def deliver_request(port: Delivery, request: Request, *, local: bool) -> Outcome:
    """Queue a request at its receiver; `local`: its sender is on this subnet."""
    receiver = request.receiver
    if port.routing.is_management(receiver):
        return _queue_request(port, port.management_queues, port.routing.own_subnet, request, local)
    canister = port.canisters.get(receiver)
    if canister is None:
        return Refusal.NOT_FOUND
    status = canister.status.value
    if status != "running":
        return Refusal.STOPPED if status == "stopped" else Refusal.STOPPING
    refused = _queue_request(port, canister.queues, receiver, request, local)
    if refused is None:
        port.canisters.touch(receiver)
    return refused


def deliver_response(port: Delivery, response: Response, *, local: bool) -> None:
    """Queue a response at its caller; one that comes too late only brings its refund."""
    caller = response.originator
    canister = port.canisters.get(caller)
    if canister is None:
        port.lost.add(LossCause.RECIPIENT_GONE, response.refund)
        return
    queues, open_call = canister.queues, response.callback_id in canister.callbacks
    port.canisters.touch(caller)
    if response.deadline_s:
        if not open_call or queues.push_input_response(response, local) is None:
            canister.balance = Cycles(canister.balance + response.refund)
        return
    if not open_call or not queues.has_response_slot(response.respondent):
        port.lost.add(LossCause.UNEXPECTED_RESPONSE, response.refund)
        return
    before = queues.guaranteed_memory()
    queues.push_input_response(response, local)
    port.memory.available += before - queues.guaranteed_memory()


def deliver_refund(port: Delivery, refund: Refund) -> None:
    """Credit cycles that come back without a response."""
    canister = port.canisters.get(refund.recipient)
    if canister is None:
        port.lost.add(LossCause.RECIPIENT_GONE, refund.amount)
        return
    canister.balance = Cycles(canister.balance + refund.amount)
    port.canisters.touch(refund.recipient)


def _queue_request(port: Delivery, queues: CanisterQueues, owner: CanisterId, request: Request, local: bool) -> Outcome:
    if not port.memory.suffices_for(request):
        return Refusal.OUT_OF_MEMORY
    sequence = queues.push_input_request(request, local)
    if sequence is None:
        return Refusal.QUEUE_FULL
    if request.deadline_s:
        port.deadlines.add_input_request(owner, request, sequence)
    else:
        port.memory.available -= needed_bytes(request)
    return None
