"""Balance, and cycles that come with a call.

Rule module. Spec: System imports, `msg_cycles_*`, `canister_cycle_balance*`, `cycles_burn128`; canister interface, "Cycles".
"""

from __future__ import annotations

from typing import Final

from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import SIXTY_FOUR_BIT_CYCLES, contract_violation, wasm_trap

CYCLES_MINTING_CANISTER: Final = "rkp4c-7iaaa-aaaaa-aaaca-cai"


def canister_cycle_balance(s: MessageState) -> int:
    """Balance; traps if it needs more than 64 bits."""
    s.need_context()
    return _in_64_bits(s.balance)


def canister_cycle_balance128(s: MessageState, dst: int) -> None:
    """Balance, 128 bits."""
    s.need_context()
    s.copy_cycles_to_canister("canister_cycle_balance128", dst, s.balance)


def canister_liquid_cycle_balance128(s: MessageState, dst: int) -> None:
    """Cycles that can be spent without freezing the canister."""
    s.copy_cycles_to_canister("canister_liquid_cycle_balance128", dst, s.liquid_balance())


def msg_cycles_available(s: MessageState) -> int:
    """Cycles of the call that can still be accepted; traps if that needs more than 64 bits."""
    return _in_64_bits(s.available_cycles())


def msg_cycles_available128(s: MessageState, dst: int) -> None:
    """Cycles of the call that can still be accepted, 128 bits."""
    s.copy_cycles_to_canister("msg_cycles_available128", dst, s.available_cycles())


def msg_cycles_refunded(s: MessageState) -> int:
    """Cycles that came back with the response; traps if that needs more than 64 bits."""
    return _in_64_bits(s.input.cycles_refunded)


def msg_cycles_refunded128(s: MessageState, dst: int) -> None:
    """Cycles that came back with the response, 128 bits."""
    s.copy_cycles_to_canister("msg_cycles_refunded128", dst, s.input.cycles_refunded)


def msg_cycles_accept(s: MessageState, max_amount: int) -> int:
    """Move up to this many cycles from the call to the balance; returns how many."""
    return _accept(s, max_amount)


def msg_cycles_accept128(s: MessageState, high: int, low: int, dst: int) -> None:
    """Move up to this many cycles from the call to the balance; writes how many."""
    s.copy_cycles_to_canister("msg_cycles_accept128", dst, _accept(s, high << 64 | low))


def cycles_burn128(s: MessageState, high: int, low: int, dst: int) -> None:
    """Destroy up to this many cycles, never freezing the canister; writes how many."""
    amount = min(high << 64 | low, s.liquid_balance())
    s.balance -= amount
    s.cycles_burned += amount
    s.copy_cycles_to_canister("cycles_burn128", dst, amount)


def mint_cycles128(s: MessageState, _high: int, _low: int, _dst: int) -> None:
    """Not in the spec: create cycles, which only the cycles minting canister may; that canister isn't simulated."""
    raise contract_violation(
        "ic0.mint_cycles128 cannot be executed on non Cycles Minting Canister: "
        f"{s.environment.canister_id} != {CYCLES_MINTING_CANISTER}"
    )


def _accept(s: MessageState, max_amount: int) -> int:
    if s.replied:
        return 0
    s.need_context()
    amount = min(max_amount, s.cycles_available)
    s.cycles_available -= amount
    s.cycles_accepted += amount
    s.balance += amount
    return amount


def _in_64_bits(amount: int) -> int:
    if amount >> 64:
        raise wasm_trap(SIXTY_FOUR_BIT_CYCLES)
    return amount


FUNCTIONS: Final = (
    canister_cycle_balance, canister_cycle_balance128, canister_liquid_cycle_balance128, msg_cycles_available,
    msg_cycles_available128, msg_cycles_refunded, msg_cycles_refunded128, msg_cycles_accept, msg_cycles_accept128,
    cycles_burn128, mint_cycles128,
)  # fmt: skip
