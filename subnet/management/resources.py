"""What work of the management canister costs the canister that it is about: memory, cycles, freezing, heap delta.

Rule module. Spec: abstract behaviour, `liquid_balance(S', ...) >= 0` in the conditions of the methods that store something;
order and errors of the checks are the replica's.
"""

from __future__ import annotations

from ic_types.principal import Principal
from ic_types.reject import Reject
from ic_types.units import Cycles, NumBytes
from scheduler import cycles_account
from scheduler.canister import Canister
from scheduler.cycles_account import BurnCause
from subnet.management import errors
from subnet.management.context import SubnetContext


def check_growth(ctx: SubnetContext, canister: Canister, new_usage: int, caller: Principal, price: int = 0) -> Cycles:
    """Whether the canister may come to use so many bytes and pay this price; the cycles to reserve for them. Changes nothing.

    Raises: ManagementError (IC0101, IC0207, IC0532, IC0534).
    """
    allocation, usage = canister.settings.memory_allocation, canister.memory_usage()
    grown = max(new_usage, allocation) - max(usage, allocation)
    available = max(ctx.available_memory(), 0)
    if grown > available:
        raise errors.memory_oversubscribed(grown, available)
    threshold = threshold_at(ctx, canister, new_usage)
    if canister.balance < threshold:
        raise errors.grow_not_affordable(max(grown, 0), threshold - canister.balance)
    if canister.balance < threshold + price:
        raise errors.snapshot_not_affordable(cycles_account.out_of_cycles(canister, price, threshold, caller))
    return reservation(ctx, canister, grown, price)


def reservation(ctx: SubnetContext, canister: Canister, grown: int, price: int = 0) -> Cycles:
    """Cycles to set aside for storage that is about to be taken on a subnet that fills up. Spec: `cycles_to_reserve`.

    They come out of the balance whatever the freezing threshold.

    Raises: ManagementError (IC0534, IC0532) when they exceed the canister's limit, or its balance less this price.
    """
    amount = cycles_to_reserve(ctx, grown)
    total, limit = canister.reserved_balance + amount, canister.settings.reserved_cycles_limit
    if amount and total > limit:
        raise errors.reserved_limit_in_growth(grown, total, limit)
    if amount > canister.balance - price:
        raise errors.grow_not_affordable(grown, amount - (canister.balance - price))
    return amount


def cycles_to_reserve(ctx: SubnetContext, grown: int) -> Cycles:
    """The same without a look at the canister."""
    if grown <= 0:
        return Cycles(0)
    limits = ctx.limits
    used = limits.subnet_memory_capacity - max(ctx.available_memory(), 0)  # with the reserve for responses, as in rounds
    return ctx.fees.storage_reservation(grown, used, limits.subnet_memory_threshold, limits.subnet_memory_capacity)


def reserve(canister: Canister, amount: int) -> None:
    """Move cycles to the reserved balance."""
    canister.balance = Cycles(canister.balance - amount)
    canister.reserved_balance = Cycles(canister.reserved_balance + amount)


def check_affordable(ctx: SubnetContext, canister: Canister, price: int, caller: Principal) -> None:
    """Whether the canister may pay this price as it is now; changes nothing.

    Raises: ManagementError (IC0207).
    """
    threshold = cycles_account.freezing_threshold(canister, ctx.fees)
    if canister.balance < threshold + price:
        raise errors.snapshot_not_affordable(cycles_account.out_of_cycles(canister, price, threshold, caller))


def threshold_at(ctx: SubnetContext, canister: Canister, usage: int) -> Cycles:
    """The freezing threshold that the canister would have with this memory usage."""
    settings = canister.settings
    return ctx.fees.freezing_threshold(
        memory_usage=max(usage, settings.memory_allocation),
        message_memory=canister.message_memory,
        compute_allocation=settings.compute_allocation,
        freezing_threshold_s=settings.freezing_threshold_s,
        reserved_balance=canister.reserved_balance,
    )


def pay_instructions(ctx: SubnetContext, canister: Canister, instructions: int, caller: Principal) -> Reject | None:
    """Charge for work that is counted in instructions, without a base fee; IC0207 and no change if the canister can't pay."""
    return cycles_account.charge(ctx, canister, ctx.fees.instructions(instructions), BurnCause.INSTRUCTIONS, caller)


def pay(ctx: SubnetContext, canister: Canister, price: int, reserved: int = 0) -> None:
    """Take a price, and reserve cycles, that `check_growth` found affordable."""
    reserve(canister, reserved)
    canister.balance = Cycles(canister.balance - price)
    if price:
        cycles_account.burn(ctx, canister, price, BurnCause.INSTRUCTIONS)


def heap_delta_limited(ctx: SubnetContext, canister: Canister) -> bool:
    """The canister has changed too much memory lately."""
    return canister.heap_delta_debit >= ctx.limits.heap_delta_rate_limit


def add_heap_delta(ctx: SubnetContext, canister: Canister, count: int) -> None:
    """Count bytes of changed memory against the canister's rate limit and the subnet's capacity."""
    canister.heap_delta_debit = NumBytes(canister.heap_delta_debit + count)
    ctx.scheduler.heap_delta_estimate += count
