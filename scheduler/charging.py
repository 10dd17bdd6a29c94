"""Charging canisters for memory and compute, and uninstalling those that can't pay.

Rule module. Spec: abstract behaviour, "Canister out of cycles" and "Time progressing, cycle consumption ..."; amounts and the
interval of ten seconds are the replica's.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from configs.fees import SECONDS_PER_DAY
from ic_types.principal import CanisterId
from ic_types.units import NS_PER_SECOND, Cycles, TimeNs
from scheduler import call_context_rules, error_texts
from scheduler.canister import Canister
from scheduler.cycles_account import (
    Account,
    BurnCause,
    burn,
    compute_cost_per_day,
    memory_cost_per_day,
    message_memory_cost_per_day,
)
from scheduler.world import World

INTERVAL_NS = 10 * NS_PER_SECOND


@dataclass(slots=True)
class Charges:
    """When each canister has to pay next."""

    _heap: list[tuple[TimeNs, CanisterId]] = field(default_factory=list)
    _queued: dict[CanisterId, None] = field(default_factory=dict)

    def note(self, canister: Canister) -> None:
        """See to it that the canister is charged when its time comes."""
        if canister.canister_id not in self._queued:
            self._queued[canister.canister_id] = None
            heapq.heappush(self._heap, (TimeNs(canister.last_charged + INTERVAL_NS), canister.canister_id))

    def due(self, now: TimeNs) -> list[CanisterId]:
        """Take out the canisters whose time has come, ascending."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[1])
            del self._queued[due[-1]]
        return sorted(due)


def charge_due(world: World) -> None:
    """Charge every canister that hasn't paid for ten seconds, unless a message of it is paused."""
    charges, later = world.scheduler.charges, []
    for canister_id in charges.due(world.time):
        canister = world.canisters.get(canister_id)
        if canister is None:
            continue
        if canister.long_execution is not None and canister.long_execution.paused:
            later.append(canister)
            continue
        world.touch(canister_id)
        charge_resources(world, canister)
        charges.note(canister)
    for canister in later:
        charges.note(canister)


def charge_resources(world: World, canister: Canister) -> None:
    """Charge for the time since the last charge; a canister that can't pay in full is uninstalled."""
    seconds = (world.time - canister.last_charged) // NS_PER_SECOND
    canister.last_charged = world.time
    for cause, per_day in (
        (BurnCause.MEMORY, memory_cost_per_day(canister, world.fees)),
        (BurnCause.MESSAGE_MEMORY, message_memory_cost_per_day(canister, world.fees)),
        (BurnCause.COMPUTE, compute_cost_per_day(canister, world.fees)),
    ):
        if not take(world, canister, per_day * seconds // SECONDS_PER_DAY, cause):
            uninstall(world, canister)
            return


def take(account: Account, canister: Canister, amount: int, cause: BurnCause) -> bool:
    """Burn this amount, reserved cycles first, whatever the freezing threshold says; False if there is less."""
    if canister.balance + canister.reserved_balance < amount:
        return False
    reserved = min(amount, canister.reserved_balance)
    canister.reserved_balance = Cycles(canister.reserved_balance - reserved)
    canister.balance = Cycles(canister.balance - (amount - reserved))
    if amount:
        burn(account, canister, amount, cause)
    return True


def uninstall(world: World, canister: Canister) -> None:
    """Remove the code of a canister that is out of cycles.

    Spec: "Canister out of cycles". State after: empty, open calls rejected, version + 1, no timer, logs, certified data or
    allocations; what is left of the balance is burned.
    """
    left = canister.balance + canister.reserved_balance
    canister.balance = canister.reserved_balance = Cycles(0)
    if left:
        burn(world, canister, left, BurnCause.UNINSTALL)
    canister.execution = None
    canister.certified_data = b""
    canister.logs.clear()
    canister.global_timer = TimeNs(0)
    canister.version += 1
    canister.settings.memory_allocation = 0
    world.scheduler.priority.set_allocation(canister, 0)
    call_context_rules.delete_all(canister, error_texts.uninstalled(canister.canister_id), world)
    world.uninstalled(canister)
    world.scheduler.note(canister)
