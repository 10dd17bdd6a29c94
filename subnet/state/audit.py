"""Counting every cycle of a subnet.

Rule module. For each subnet, after every round,

    minted + received - (sent - returned) - burned - lost = balances + reserved + in queues and streams + prepaid

and over the whole network what is sent and not received is what travels in streams. Spec: abstract behaviour, "Cycles".
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types.messages import Ingress, Request, Response
from message_routing.cycles_flow import cycles_in_queues, cycles_in_stream, cycles_of
from scheduler.canister import Callback, Canister, SystemTask
from subnet.state.replicated_state import ReplicatedState


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclesAudit:
    """All cycles of one subnet by place; every field in cycles."""

    minted: int
    received: int
    sent: int
    returned: int
    burned: int
    lost: int
    balances: int
    reserved: int
    in_flight: int
    """Attached to queued messages, open call contexts, the loopback stream and pending refunds."""
    prepaid: int
    """For executions under way and for callbacks."""

    @property
    def expected(self) -> int:
        """What must be somewhere on the subnet."""
        return self.minted + self.received - self.sent + self.returned - self.burned - self.lost

    @property
    def found(self) -> int:
        """What is."""
        return self.balances + self.reserved + self.in_flight + self.prepaid

    @property
    def difference(self) -> int:
        """Zero, always."""
        return self.found - self.expected


def audit_cycles(state: ReplicatedState) -> CyclesAudit:
    """Count; costs the size of the state, so only on demand."""
    balances = reserved = prepaid = 0
    in_flight = state.refunds.total() + cycles_in_queues(state.management_queues)
    for canister_id in state.canisters:
        canister = state.canisters[canister_id]
        balances += canister.balance
        reserved += canister.reserved_balance
        prepaid += prepaid_of(canister)
        in_flight += cycles_in_queues(canister.queues)
        in_flight += sum(context.available_cycles for context in canister.contexts.values())
        in_flight += sum(call.refund for call in canister.stop_calls)
        if canister.long_execution is not None:
            message = canister.long_execution.message
            if not isinstance(message, Ingress | SystemTask):
                in_flight += cycles_of(message)
        if canister.long_install is not None and isinstance(canister.long_install.message, Request):
            in_flight += canister.long_install.message.payment
    in_flight += state.consensus_calls.cycles()
    loopback = state.streams.get(state.own.subnet_id)
    if loopback is not None:
        in_flight += cycles_in_stream(loopback)
    moved = state.flow
    return CyclesAudit(
        minted=state.minted,
        received=moved.received,
        sent=moved.sent,
        returned=moved.returned,
        burned=state.burned(),
        lost=state.lost_cycles(),
        balances=balances,
        reserved=reserved,
        in_flight=in_flight,
        prepaid=prepaid,
    )


def prepaid_of(canister: Canister) -> int:
    """Cycles of a canister that are withdrawn for work under way."""
    total = sum(callback_prepayment(callback) for callback in canister.callbacks.values())
    if canister.long_execution is not None and not isinstance(canister.long_execution.message, Response):
        total += canister.long_execution.prepaid
    if canister.long_install is not None:
        total += canister.long_install.prepaid
    return total


def callback_prepayment(callback: Callback) -> int:
    """Cycles kept for the response of one call and its execution."""
    return callback.prepaid_execution + callback.prepaid_transmission


def travelling(state: ReplicatedState) -> dict[bytes, list[tuple[int, int]]]:
    """Cycles in outgoing streams: per peer, (message index, cycles) of those that carry any."""
    result: dict[bytes, list[tuple[int, int]]] = {}
    for peer in sorted(state.streams):
        if peer == state.own.subnet_id:
            continue
        stream = state.streams[peer]
        rows = [(stream.begin + k, cycles_of(m)) for k, m in enumerate(stream.iter_messages())]
        result[bytes(peer)] = [row for row in rows if row[1]]
    return result
