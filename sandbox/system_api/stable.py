"""Growing of heap and stable memory, and the traps of the functions that instrumentation puts into a module.

Rule module. Spec: canister interface, "Stable memory"; the accounting is the replica's. Reading and writing stable memory, its
size and its charges live inside the instrumented module.
"""

from __future__ import annotations

from typing import Final

from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sandbox.system_api.availability import RT, RY, C, I, T, U
from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import (
    HEAP_OUT_OF_BOUNDS,
    STABLE_OUT_OF_BOUNDS,
    STABLE_TOO_BIG,
    CanisterTrap,
    called_trap,
    memory_access_limit,
    memory_grow_cycles,
    out_of_memory,
    reserved_cycles_limit,
    wasm_memory_limit,
    wasm_trap,
)

MAX_32_BIT_STABLE_PAGES: Final = 65536
_RESERVING: Final = U | T | RY | RT | C
"""Messages that set cycles aside when they grow; an install does it at its end."""
_FAILED: Final = -1
_NOT_GROWN: Final = {False: (1 << 32) - 1, True: (1 << 64) - 1}
"""-1 as `memory.grow` returns it, by whether memory is 64-bit."""


def try_grow_wasm_memory(s: MessageState, native_result: int, extra_pages: int) -> int:
    """Account for a `memory.grow` that Wasm has just done; returns its result.

    Raises: CanisterTrap when a quota or the cycles don't allow it.
    """
    if native_result == _NOT_GROWN[s.wasm64]:
        return native_result
    s.heap_grew(native_result, extra_pages)
    if s.mode & (U | I):
        limit = s.need_context().wasm_memory_limit
        if limit and s.heap_bytes > limit:
            raise wasm_memory_limit(limit, s.heap_bytes)
    if not _allocate(s, extra_pages * WASM_PAGE_BYTES):
        raise out_of_memory()
    return native_result


def try_grow_stable_memory(s: MessageState, current_pages: int, extra_pages: int, sixty_four_bit: int) -> int:
    """Allow stable memory to grow: the old size, or -1.

    Raises: CanisterTrap when the memory is too big for the 32-bit functions, or the cycles don't suffice.
    """
    new_pages = current_pages + extra_pages
    if not sixty_four_bit:
        if current_pages > MAX_32_BIT_STABLE_PAGES:
            raise wasm_trap(STABLE_TOO_BIG)
        if new_pages > MAX_32_BIT_STABLE_PAGES:
            return _FAILED
    if new_pages > s.environment.limits.max_stable_memory // WASM_PAGE_BYTES:
        return _FAILED
    if not _allocate(s, extra_pages * WASM_PAGE_BYTES):
        return _FAILED
    s.stable_pages = new_pages
    return current_pages


def internal_trap(s: MessageState, code: int) -> None:
    """A function put in by instrumentation fails.

    Raises: CanisterTrap always.
    """
    raise _internal_trap(s, code)


def _internal_trap(s: MessageState, code: int) -> CanisterTrap:
    limits = s.environment.limits
    sizes = [limits.stable_dirty_pages_update, limits.stable_dirty_pages_install, limits.stable_dirty_pages_query]
    update, install, query = (pages * OS_PAGE_BYTES // 1024 for pages in sizes)
    budget = f"{update} KB for regular messages, {install} KB for upgrade messages and {query} KB for queries."
    match code:
        case 1:
            return wasm_trap(HEAP_OUT_OF_BOUNDS)
        case 2:
            return wasm_trap(STABLE_OUT_OF_BOUNDS)
        case 3:
            return wasm_trap(STABLE_TOO_BIG)
        case 4:
            return memory_access_limit(
                "Exceeded the limit for the number of modified pages in the stable memory in a single message execution: "
                f"limit: {budget}"
            )
        case 5:
            return memory_access_limit(
                "Exceeded the limit for the number of accessed pages in the stable memory in a single message execution: "
                f"limit {budget}"
            )
        case 6:
            return called_trap("Internal error: `memory.grow` instruction failed to grow stable memory")
        case _:
            return wasm_trap("unknown")


def _allocate(s: MessageState, grown: int) -> bool:
    """Take memory from canister and subnet; False when there is none left.

    Raises: CanisterTrap when the canister would be frozen (messages that pay for themselves only), or can't reserve cycles.
    """
    context = s.need_context()
    old = context.memory_usage + s.grown_bytes
    if s.mode & (U | T) and grown and old + grown > context.memory_allocation:
        threshold = s.threshold(extra_bytes=grown)
        if s.balance < threshold:
            told = s.input.caller in context.controllers
            raise memory_grow_cycles(grown, threshold - s.balance if told else None)
    allocation = context.memory_allocation
    before = max(old, allocation) - max(context.memory_usage, allocation)
    beyond = max(old + grown, allocation) - max(old, allocation)
    if before + beyond > context.subnet_memory_available:
        return False
    if beyond and s.mode & _RESERVING:
        _reserve(s, beyond, context.subnet_memory_usage + before)
    s.grown_bytes += grown
    return True


def _reserve(s: MessageState, grown: int, usage: int) -> None:
    """Set cycles aside for storage on a subnet that fills up; the node computes the same amount from the growth."""
    context, limits = s.need_context(), s.environment.limits
    threshold, capacity = limits.subnet_memory_threshold // limits.scheduler_cores, limits.subnet_memory_capacity
    amount = s.environment.fees.storage_reservation(grown, usage, threshold, capacity // limits.scheduler_cores)
    reserved = context.reserved_balance + s.cycles_reserved + amount
    if amount and reserved > context.reserved_cycles_limit:
        raise reserved_cycles_limit(grown, reserved, context.reserved_cycles_limit)
    if s.balance < amount:
        told = s.input.caller in context.controllers
        raise memory_grow_cycles(grown, amount - s.balance if told else None)
    s.balance -= amount
    s.cycles_reserved += amount
