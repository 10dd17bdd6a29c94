"""Calls of agents: into the pool, and answered with a certificate as soon as their outcome is certified.

Rule module. Spec: interface spec, "Request: Call", "Synchronous canister calling" and "Effective canister id".
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types.errors import EnvelopeError, EnvelopeTooLarge
from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.reject import Reject
from subnet import control_protocol as cp
from subnet.coordinator.door import NOBODY, Door
from subnet.coordinator.intake import Intake
from subnet.coordinator.network_state import Network
from subnet.coordinator.ports import Ports, ReplyAddress
from subnet.coordinator.relay import Answer, Relay
from subnet.coordinator.requests import RequestBook
from subnet.management.destinations import induction_target
from subnet.protocol import ReadState, Refusal, StateRead

CREATE_METHODS = ("create_canister", "provisional_create_canister_with_cycles")
"""Management methods that any effective canister id will do for."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """An answer that somebody waits for."""

    address: ReplyAddress
    place: int
    sender: Principal
    effective_id: Principal
    at_subnet: bool
    entered: bool = False
    """A node has accepted the call; before that nobody else knows its message."""


class CallDesk:
    """Takes in calls, and knows who waits for which outcome."""

    def __init__(self, ports: Ports, intake: Intake, door: Door, book: RequestBook, relay: Relay, network: Network) -> None:
        self._ports = ports
        self._intake = intake
        self._door = door
        self._book = book
        self._relay = relay
        self._network = network
        self._waiting: dict[bytes, _Waiting] = {}
        self._due: list[bytes] = []

    def call(self, address: ReplyAddress, request: cp.Call) -> bytes | None:
        """Take in a call; the message id unless it is refused."""
        try:
            place, message = self._open(request)
            check_effective(message, request.effective_id, at_subnet=request.at_subnet)
        except EnvelopeError as error:
            status = 413 if isinstance(error, EnvelopeTooLarge) else 400
            self._ports.reply(address, cp.CallAnswer(status="refused", http_status=status, problem=str(error)))
            return None
        known = self._book.requests.get(message.message_id)
        waiting = _Waiting(address, place, message.sender, request.effective_id, request.at_subnet)
        if known is not None and known.outcome is not None:
            self._certify(message.message_id, waiting)
            return message.message_id
        if known is not None:
            self._accepted(address, message.message_id, place)
        else:
            if request.wait:
                self._waiting.setdefault(message.message_id, waiting)
            self._door.ask_about(place, message, request.envelope, lambda result: self._decided(result, waiting))
        return message.message_id

    def _decided(self, result: cp.SubmitResult, waiting: _Waiting) -> None:
        """A node has said whether the call may enter the pool."""
        if result.refusal is None and not result.problem:
            waiting.entered = True
            if self._waiting.get(result.message_id) is not waiting:
                self._accepted(waiting.address, result.message_id, waiting.place)
            return
        if self._waiting.get(result.message_id) is waiting:
            del self._waiting[result.message_id]
        if result.refusal is not None:
            self._rejected(waiting.address, result.message_id, waiting.place, result.refusal)
        else:
            answer = cp.CallAnswer(status="refused", http_status=503, problem=result.problem or NOBODY)
            self._ports.reply(waiting.address, answer)

    def _open(self, request: cp.Call) -> tuple[int, Ingress]:
        intake, effective = self._intake, request.effective_id
        place = self._network.by_id.get(effective) if request.at_subnet else intake.pool.subnet_of(effective)
        now = intake.clock.users_now(self._network.now)
        if place is not None:
            message = intake.pool.open_at(request.envelope, effective, place, now)
        elif request.at_subnet:
            raise EnvelopeError(f"Subnet {effective} is not part of this network.")
        else:
            place = self._default_place()
            message = intake.pool.open_at(request.envelope, effective, place, now)
            if message.receiver != MANAGEMENT_CANISTER or message.method not in CREATE_METHODS:
                raise EnvelopeError(f"Canister {effective} does not belong to any subnet.")
        return place, message

    def _default_place(self) -> int:
        """Where canisters are created for whom it is all the same: the first application subnet."""
        subnets = self._network.subnets
        return next((one.place for one in subnets if one.plan.subnet_type == "application"), 0)

    # --- answers

    def answered(self, message_id: bytes) -> None:
        """A message has an outcome in the round that is just certified."""
        if message_id in self._waiting:
            self._due.append(message_id)

    def certify_answers(self) -> None:
        """The round is over and its nodes know that it is certified."""
        due, self._due = self._due, []
        for message_id in due:
            self._certify(message_id, self._waiting.pop(message_id))

    def _certify(self, message_id: bytes, waiting: _Waiting) -> None:
        def receive(answer: Answer | None) -> None:
            if not isinstance(answer, StateRead) or not answer.certificate:
                self._accepted(waiting.address, message_id, waiting.place)
                return
            self._ports.reply(
                waiting.address,
                cp.CallAnswer(
                    status="certified", message_id=message_id, subnet=subnet.record.subnet_id, certificate=answer.certificate
                ),
            )

        subnet = self._network.subnets[waiting.place]
        question = ReadState(
            cookie=0,
            sender=waiting.sender,
            paths=((b"request_status", message_id),),
            effective_id=waiting.effective_id,
            at_subnet=waiting.at_subnet,
        )
        self._relay.ask(subnet, question, receive)

    def _accepted(self, address: ReplyAddress, message_id: bytes, place: int) -> None:
        subnet = self._network.subnets[place].record.subnet_id
        self._ports.reply(address, cp.CallAnswer(status="accepted", message_id=message_id, subnet=subnet))

    def _rejected(self, address: ReplyAddress, message_id: bytes, place: int, why: Refusal) -> None:
        self._ports.reply(
            address,
            cp.CallAnswer(
                status="rejected",
                message_id=message_id,
                subnet=self._network.subnets[place].record.subnet_id,
                reject_code=why.reject_code,
                reject_message=why.reject_message,
                error_code=why.error_code,
            ),
        )

    def forget(self) -> None:
        """Answer those whose message the network has forgotten: it expired before a batch took it."""
        gone = [one for one, waiting in self._waiting.items() if waiting.entered and one not in self._book.requests]
        for message_id in gone:
            waiting = self._waiting.pop(message_id)
            self._accepted(waiting.address, message_id, waiting.place)


def check_effective(message: Ingress, effective: Principal, *, at_subnet: bool) -> None:
    """Check that a call came in at the right URL; a management call that users can't make is refused later.

    Raises: EnvelopeError. Spec: "Effective canister id" and "Effective subnet id".
    """
    management = message.receiver == MANAGEMENT_CANISTER
    if at_subnet and (not management or message.method not in CREATE_METHODS):
        raise EnvelopeError(f"Only {' and '.join(CREATE_METHODS)} of the management canister can be called at a subnet.")
    meant: Principal | None = message.receiver
    if management:
        target = induction_target(message)
        if isinstance(target, Reject):
            return
        meant = target.effective_canister
    if meant is not None and meant != effective:
        raise EnvelopeError(f"Specified CanisterId {meant} does not match effective canister id in URL {effective}")
