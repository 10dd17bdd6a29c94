"""Giving cycles to canisters.

Rule module. Spec: interface spec, "IC method deposit_cycles" and "IC method provisional_top_up_canister".
"""

from __future__ import annotations

from ic_types.candid.values import Value
from ic_types.units import MAX_CYCLES, Cycles
from scheduler.canister import Canister
from subnet.management import access, errors
from subnet.management.answers import EMPTY_REPLY
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext


def deposit_cycles(ctx: SubnetContext, call: ManagementCall, _args: Value) -> ManagementOutcome:
    """The attached cycles go to the canister; anyone may give."""
    _credit(ctx, call.canister, call.payment)
    return ManagementOutcome(payload=EMPTY_REPLY)


def provisional_top_up(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Cycles out of nothing. Only on development networks."""
    amount = checked_amount(args["amount"])
    _credit(ctx, call.canister, amount)
    ctx.mint(amount)
    return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment)


def checked_amount(amount: int) -> Cycles:
    """An amount of cycles from outside.

    Raises: ManagementError (IC0408) when it has more than 128 bits.
    """
    if amount > MAX_CYCLES:
        raise errors.invalid_payload(f"Error decoding candid: {amount} cycles don't fit into 128 bits")
    return Cycles(amount)


def _credit(ctx: SubnetContext, canister: Canister, amount: int) -> None:
    canister.balance = Cycles(canister.balance + amount)
    access.changed(ctx, canister)
