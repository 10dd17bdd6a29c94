"""How calls come in: from clients, and from the network's own drivers before each batch.

Rule module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.coordinator.driver import DriverCall, DriverQuery
from subnet.coordinator.driving import Driving
from subnet.coordinator.ingress_pool import IngressPool, PooledMessage
from subnet.coordinator.network_state import Network
from subnet.coordinator.relay import Relay
from subnet.coordinator.requests import RequestBook
from subnet.coordinator.round_clock import RoundClock
from subnet.coordinator.stage_times import StageTimes
from subnet.protocol import QueryReply, QueryRequest


@dataclass(slots=True, eq=False)
class Intake:
    """The way into the pool."""

    network: Network
    pool: IngressPool
    book: RequestBook
    driving: Driving
    relay: Relay
    stages: StageTimes
    clock: RoundClock
    wake: Callable[[], None]
    """Called when the last open query of the workload is answered, so that rounds may go on."""
    busy: bool = False
    """The drivers are sending; no round may begin."""

    def open(self, raw: bytes, effective: CanisterId | None = None) -> tuple[int, Ingress]:
        """Verify a signed call; its subnet, for a management call without a canister the root, and the message.

        Raises: EnvelopeError when it is no good.
        """
        root = self.network.by_id[self.network.genesis.registry.root]
        with self.stages("check envelopes"):
            return self.pool.open(raw, effective, self.clock.users_now(self.network.now), root)

    def knows(self, message: Ingress) -> bool:
        """Whether the call came before; sending again is safe and changes nothing."""
        return self.pool.knows(message.message_id)

    def admit(self, place: int, message: Ingress, raw: bytes) -> None:
        """Put a verified call into the pool."""
        if self.pool.add(place, PooledMessage(message, raw, self.network.height)):
            measured = message.receiver != MANAGEMENT_CANISTER
            self.book.submit(message.message_id, place, self.network.height, measured=measured)

    def drive(self, height: int) -> None:
        """Send what installs and workload have for this round.

        Raises: EnvelopeError when the pool refuses one of their calls.
        """
        self.busy = True
        try:
            with self.stages("workload"):
                self.driving.send(height, self.network.now, self._submit_own, self._ask_own)
        finally:
            self.busy = False

    def _submit_own(self, call: DriverCall) -> bytes:
        """Not asked about at the door: what a run measures is the load that its topology describes."""
        place, message = self.open(call.envelope, call.effective)
        self.admit(place, message, call.envelope)
        return message.message_id

    def _ask_own(self, query: DriverQuery, height: int) -> None:
        """Queries of the workload are answered before the next round begins, so that their outcomes have a height."""
        place = self.pool.subnet_of(query.receiver)
        assert place is not None, "the workload calls canisters of the topology"

        def receive(answer: object) -> None:
            missing = QueryReply(cookie=0, status="rejected", reject_code=2, reject_message="no node could answer")
            self.driving.query_answered(query.token, answer if isinstance(answer, QueryReply) else missing, height)
            self.wake()

        question = QueryRequest(cookie=0, sender=query.sender, receiver=query.receiver, method=query.method, arg=query.arg)
        self.relay.ask(self.network.subnets[place], question, receive)
