"""Cycles of a canister: what a withdrawal may take, what is prepaid, refunded, burned or lost.

Rule module. Spec: abstract behaviour, "Message execution" (`liquid_balance`, `freezing_limit`); interface spec, "Charging for
cycles". Every change here conserves cycles: what leaves a balance is attached, prepaid, burned (fees) or lost by a named cause.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

from configs.fees import SECONDS_PER_DAY, CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, reject
from ic_types.units import Cycles
from scheduler.canister import Callback, Canister


class BurnCause(Enum):
    """What a canister paid for."""

    INSTRUCTIONS = "instructions"
    TRANSMISSION = "request_and_response_transmission"
    INGRESS = "ingress_induction"
    MEMORY = "memory"
    MESSAGE_MEMORY = "message_memory"
    COMPUTE = "compute_allocation"
    UNINSTALL = "uninstall"
    CYCLES_BURN = "burned_by_canister"
    CREATION = "canister_creation"
    DELETION = "deleted_canisters"
    SIGNATURES = "signatures"
    HTTP_OUTCALLS = "http_outcalls"


class LossCause(Enum):
    """Why cycles were dropped by a rule, without anybody having bought something."""

    UNKNOWN_CALLBACK = "response_to_unknown_callback"
    EXCESS_REFUND = "refund_above_payment"
    INGRESS_REFUND = "refund_to_user"
    CANISTER_GONE = "recipient_does_not_exist"


@dataclass(slots=True)
class CyclesTally:
    """Cycles that left circulation, by cause; state of the subnet, or a core's share of it until the cores are merged."""

    burned: dict[BurnCause, int] = field(default_factory=dict)
    lost: dict[LossCause, int] = field(default_factory=dict)

    def add_burned(self, cause: BurnCause, amount: int) -> None:
        """Count cycles that were paid for something."""
        self.burned[cause] = self.burned.get(cause, 0) + amount

    def add_lost(self, cause: LossCause, amount: int) -> None:
        """Count cycles that a rule dropped."""
        if amount:
            self.lost[cause] = self.lost.get(cause, 0) + amount

    def merge(self, other: CyclesTally) -> None:
        """Add another tally to this one."""
        for burn, amount in other.burned.items():
            self.add_burned(burn, amount)
        for loss, amount in other.lost.items():
            self.add_lost(loss, amount)

    def total_burned(self) -> Cycles:
        """Sum over all causes."""
        return Cycles(sum(self.burned.values()))

    def total_lost(self) -> Cycles:
        """Sum over all causes."""
        return Cycles(sum(self.lost.values()))


class Account(Protocol):
    """What the rules here need to know of a subnet; a World and a Core both are one."""

    @property
    def fees(self) -> CyclesCostSchedule:
        """Prices of this subnet."""

    @property
    def limits(self) -> SubnetLimits:
        """Limits of this subnet."""

    @property
    def tally(self) -> CyclesTally:
        """Where burned and lost cycles are counted."""


class CallCost(NamedTuple):
    """What `call_perform` takes besides the attached cycles."""

    transmission: int
    """Of the request and the fixed call fee; burned at once."""
    prepaid_transmission: int
    """For the largest response."""
    prepaid_execution: int
    """For the callback."""


def is_wasm64(canister: Canister) -> bool:
    """Which price class the canister's instructions have."""
    return canister.execution is not None and canister.execution.module.wasm64


def burn(account: Account, canister: Canister, amount: int, cause: BurnCause) -> None:
    """Count cycles that were taken from this canister before and are now paid."""
    assert amount >= 0, f"negative burn of {amount} for {cause}"
    metrics = canister.metrics
    metrics.cycles_burned += amount
    metrics.burned_by[cause.value] = metrics.burned_by.get(cause.value, 0) + amount
    account.tally.add_burned(cause, amount)


def memory_cost_per_day(canister: Canister, fees: CyclesCostSchedule, grown: int = 0) -> int:
    """Storage of the larger of allocation and usage, and the base fee of a canister that stores anything.

    `grown`: bytes beyond that, about to be added.
    """
    stored = max(canister.settings.memory_allocation, canister.memory_usage()) + grown
    if stored == 0:
        return 0
    return fees.storage(stored, SECONDS_PER_DAY) + fees.scale(fees.canister_base_per_second * SECONDS_PER_DAY)


def message_memory_cost_per_day(canister: Canister, fees: CyclesCostSchedule) -> int:
    """Storage of queued messages and reserved responses."""
    return fees.storage(canister.message_memory, SECONDS_PER_DAY) if canister.message_memory else 0


def compute_cost_per_day(canister: Canister, fees: CyclesCostSchedule) -> int:
    """Price of the compute allocation."""
    percent = canister.settings.compute_allocation
    return fees.scale(fees.compute_percent_per_second * percent * SECONDS_PER_DAY) if percent else 0


def idle_cost_per_day(canister: Canister, fees: CyclesCostSchedule, grown: int = 0) -> int:
    """What the canister pays for a day in which nothing happens."""
    memory = memory_cost_per_day(canister, fees, grown) + message_memory_cost_per_day(canister, fees)
    return memory + compute_cost_per_day(canister, fees)


def freezing_threshold(canister: Canister, fees: CyclesCostSchedule, grown: int = 0) -> Cycles:
    """The balance that withdrawals must leave. Spec: `freezing_limit` less the reserved balance, at least zero.

    `grown`: bytes about to be added to the memory that is billed.
    """
    threshold = idle_cost_per_day(canister, fees, grown) * canister.settings.freezing_threshold_s // SECONDS_PER_DAY
    return Cycles(max(threshold - canister.reserved_balance, 0))


def out_of_cycles(canister: Canister, requested: int, threshold: int, caller: Principal | None) -> Reject:
    """IC0207; only controllers are told how much is missing."""
    text = f"Canister {canister.canister_id} is out of cycles"
    if caller is not None and caller in canister.settings.controllers:
        missing = threshold + requested - canister.balance
        text += f": please top up the canister with at least {missing:_} additional cycles"
    return reject(ErrorCode.CANISTER_OUT_OF_CYCLES, text)


def withdraw(account: Account, canister: Canister, amount: int, caller: Principal | None = None) -> Reject | None:
    """Take cycles from the balance, leaving the freezing threshold; the caller of this decides where they go.

    Returns: IC0207 and no change when they aren't there.
    """
    if amount == 0:
        return None
    threshold = freezing_threshold(canister, account.fees)
    if canister.balance < amount + threshold:
        return out_of_cycles(canister, amount, threshold, caller)
    canister.balance = Cycles(canister.balance - amount)
    return None


def charge(
    account: Account, canister: Canister, amount: int, cause: BurnCause, caller: Principal | None = None
) -> Reject | None:
    """Withdraw a fee and burn it; IC0207 and no change when the balance doesn't cover it above the threshold."""
    refused = withdraw(account, canister, amount, caller)
    if refused is None and amount:
        burn(account, canister, amount, cause)
    return refused


def refund_execution(account: Account, canister: Canister, prepaid: int, instructions_left: int, *, wasm64: bool) -> None:
    """Give back what unused instructions would have cost and burn the rest; the base fee is never given back."""
    unused = account.fees.instructions(instructions_left, wasm64=wasm64)
    refund = min(unused, prepaid)
    canister.balance = Cycles(canister.balance + refund)
    if prepaid > refund:
        burn(account, canister, prepaid - refund, BurnCause.INSTRUCTIONS)


def call_cost(account: Account, payload_bytes: int, *, wasm64: bool) -> CallCost:
    """Parts of `cost_call` for a request with this payload."""
    fees, limits = account.fees, account.limits
    return CallCost(
        fees.scale(fees.xnet_call) + fees.transmission(payload_bytes),
        fees.transmission(limits.max_payload),
        fees.execution(limits.instructions_per_message, wasm64=wasm64),
    )


def settle_response_transmission(account: Account, canister: Canister, callback: Callback, payload_bytes: int) -> None:
    """Pay for the response as large as it came, and give back the rest of the prepayment."""
    refund = max(callback.prepaid_transmission - account.fees.transmission(payload_bytes), 0)
    canister.balance = Cycles(canister.balance + refund)
    if callback.prepaid_transmission > refund:
        burn(account, canister, callback.prepaid_transmission - refund, BurnCause.TRANSMISSION)


def settle_price_class(account: Account, canister: Canister, callback: Callback) -> Cycles:
    """The callback's prepayment at today's price class: a canister may have changed between wasm32 and wasm64 meanwhile.

    A missing part is taken from the balance without regard to the threshold, as far as it is there.
    """
    wasm64 = is_wasm64(canister)
    prepaid = callback.prepaid_execution
    if canister.execution is None or wasm64 == callback.wasm64:
        return prepaid
    due = account.fees.execution(account.limits.instructions_per_message, wasm64=wasm64)
    change = min(due - prepaid, canister.balance)
    canister.balance = Cycles(canister.balance - change)
    return Cycles(prepaid + change)


def charge_ingress(account: Account, canister: Canister, raw_bytes: int) -> Reject | None:
    """Induction fee of an ingress message, from the canister that receives it.

    While a message of the canister is paused its balance must stay, so the fee is noted as a debit and paid when that ends.
    """
    amount = account.fees.ingress(raw_bytes)
    long = canister.long_execution
    if long is None or not long.paused:
        return charge(account, canister, amount, BurnCause.INGRESS)
    threshold = freezing_threshold(canister, account.fees)
    if canister.balance - long.ingress_debit < amount + threshold:
        return out_of_cycles(canister, amount, threshold, None)
    long.ingress_debit = Cycles(long.ingress_debit + amount)
    return None


def apply_ingress_debit(account: Account, canister: Canister, debit: int) -> None:
    """Pay the induction fees noted during a paused execution, as far as the balance reaches."""
    paid = min(debit, canister.balance)
    if paid:
        canister.balance = Cycles(canister.balance - paid)
        burn(account, canister, paid, BurnCause.INGRESS)
