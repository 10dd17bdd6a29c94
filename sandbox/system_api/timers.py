"""Time, the global timer and the performance counters.

Rule module. Spec: System imports, `time`, `global_timer_set`, `performance_counter`; canister interface, "System time".
"""

from __future__ import annotations

from typing import Final

from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import contract_violation


def time(s: MessageState) -> int:
    """Batch time in nanoseconds."""
    return s.input.time_ns


def global_timer_set(s: MessageState, timestamp: int) -> int:
    """Set the timer (0 switches it off); returns the value before."""
    previous = s.global_timer
    if previous is None:
        previous = s.need_context().global_timer
    s.global_timer = timestamp
    return previous


def performance_counter(s: MessageState, kind: int) -> int:
    """0: instructions of this message over all slices; 1: of its call context.

    Raises: CanisterTrap for any other kind.
    """
    if kind > 1:
        raise contract_violation(f"Error getting performance counter type {kind}", toolchain=False)
    executed = s.slices.executed(s.port.read_counter())
    return executed if kind == 0 else executed + s.need_context().call_context_instructions


FUNCTIONS: Final = (time, global_timer_set, performance_counter)
