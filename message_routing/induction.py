"""Takes ingress messages into queues: who pays, which canister gets them, what their status becomes.

Rule module. Spec: abstract behaviour, "API request submission"; fees in "Charging for cycles". The order is the replica's: full
history, unknown management method, payer, fee, run status.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from configs.limits import SubnetLimits
from ic_types import trace
from ic_types.messages import Ingress
from ic_types.principal import CanisterId, Principal
from ic_types.reject import ErrorCode, Reject, reject
from ic_types.units import TimeNs
from message_routing.ingress_history import IngressHistory, IngressState, IngressStatus
from message_routing.queues import CanisterQueues
from message_routing.receivers import Canisters
from message_routing.routing_table import RoutingTable
from message_routing.timeouts import Deadlines
from message_routing.valid_set_rule import is_duplicate, refusal


class Payer(Protocol):
    """Charges induction fees; the cycles rules are the scheduler's."""

    def __call__(self, canister_id: CanisterId, raw_bytes: int, /) -> Reject | None:
        """Charge a canister of this subnet the fee for an envelope of this size, or say why it can't pay."""


@dataclass(frozen=True, slots=True)
class ManagementTarget:
    """How a management call by a user is treated at induction."""

    effective_canister: CanisterId | None
    """Whom it is about, and who pays; None: nobody pays."""
    free: bool = False
    """Nothing is charged at induction though a canister is meant (a short `update_settings`)."""


ManagementRule = Callable[[Ingress], ManagementTarget | Reject]
"""Reads method and argument of a management call; the reject of a method that users may not call."""


@dataclass(slots=True)
class IngressInduction:
    """What inducting needs of the subnet."""

    canisters: Canisters
    management_queues: CanisterQueues
    routing: RoutingTable
    history: IngressHistory
    deadlines: Deadlines
    limits: SubnetLimits
    system_subnet: bool
    pay: Payer
    management_rule: ManagementRule


def induct_ingress(port: IngressInduction, ingress: Ingress, now: TimeNs) -> bool:
    """Queue one message or fail it; either way its status says so. False for a duplicate, which is skipped."""
    if is_duplicate(ingress, port.history):
        return False
    why = refusal(ingress, port.history, now, port.limits, system_subnet=port.system_subnet)
    if why is None:
        why = _to_management(port, ingress) if port.routing.is_management(ingress.receiver) else _to_canister(port, ingress)
    if why is None:
        port.deadlines.add_ingress(ingress)
        port.history.received(ingress.message_id, ingress.receiver, ingress.sender, now, ingress.expiry, effective_id(ingress))
    else:
        fail(port.history, ingress, why, now)
    trace.emit("message_routing.induction.induct_ingress", ingress.message_id, "received" if why is None else why.message)
    return True


def effective_id(ingress: Ingress) -> Principal | None:
    """Where the status of a management call is read; other calls are read at their receiver."""
    return None if ingress.receiver else ingress.effective_canister_id


def fail(history: IngressHistory, ingress: Ingress, why: Reject, now: TimeNs) -> None:
    """The message won't be executed."""
    status = IngressStatus(
        state=IngressState.REJECTED,
        receiver=ingress.receiver,
        sender=ingress.sender,
        time=now,
        expiry=ingress.expiry,
        effective_id=effective_id(ingress),
        reject=why,
    )
    history.set(ingress.message_id, status)


def canister_not_found(canister_id: CanisterId) -> Reject:
    """IC0301."""
    return reject(ErrorCode.CANISTER_NOT_FOUND, f"Canister {canister_id} not found")


def _to_canister(port: IngressInduction, ingress: Ingress) -> Reject | None:
    canister = port.canisters.get(ingress.receiver)
    if canister is None:
        return canister_not_found(ingress.receiver)
    port.canisters.touch(ingress.receiver)
    refused = port.pay(ingress.receiver, ingress.raw_bytes)
    if refused is not None:
        return refused
    status = canister.status.value
    if status == "stopping":
        return reject(ErrorCode.CANISTER_STOPPING, f"Canister {ingress.receiver} is stopping")
    if status == "stopped":
        return reject(ErrorCode.CANISTER_STOPPED, f"Canister {ingress.receiver} is stopped")
    canister.queues.push_ingress(ingress)
    return None


def _to_management(port: IngressInduction, ingress: Ingress) -> Reject | None:
    target = port.management_rule(ingress)
    if isinstance(target, Reject):
        return target
    if target.effective_canister is not None and not target.free:
        if port.canisters.get(target.effective_canister) is None:
            return canister_not_found(target.effective_canister)
        port.canisters.touch(target.effective_canister)
        refused = port.pay(target.effective_canister, ingress.raw_bytes)
        if refused is not None:
            return refused
    port.management_queues.push_ingress(replace(ingress, effective_canister_id=target.effective_canister))
    return None
