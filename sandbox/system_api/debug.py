"""Debugging aids.

Rule module. Spec: System imports, `debug_print`, `trap`; canister interface, "Debugging aids".
"""

from __future__ import annotations

from typing import Final

from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import called_trap

MAX_TRAP_MESSAGE: Final = 16 * 1024
LOG_BYTE_INSTRUCTIONS: Final = 50
MAX_DEBUG_MESSAGE: Final = 32 * 1024


def debug_print(s: MessageState, src: int, size: int) -> None:
    """Append to the canister's log; never traps."""
    size = min(size, MAX_DEBUG_MESSAGE)
    if src + size > s.heap_bytes:
        s.log(b"(debug_print message out of memory bounds)")
    else:
        s.log(bytes(s.heap[src : src + min(size, s.environment.log_bytes)]))


def charge_log(s: MessageState, size: int, api: int) -> int:
    """Not in the spec: instructions for writing `size` bytes to the log, asked by the module before it prints or traps.

    On system subnets replicas also print what `debug_print` (api 0) is given, for an instruction per byte.
    """
    capacity = s.environment.log_bytes
    printed = size if api == 0 and s.environment.subnet_type == "system" else 0
    return 2 * min(size, capacity) + LOG_BYTE_INSTRUCTIONS * min(size, max(capacity - s.log_used, 0)) + printed


def trap(s: MessageState, src: int, size: int) -> None:
    """Fail with a message; bytes of it that are no UTF-8 are left out."""
    size = min(size, MAX_TRAP_MESSAGE)
    if src + size > s.heap_bytes:
        raise called_trap("(trap message out of memory bounds)")
    raise called_trap(bytes(s.heap[src : src + size]).decode("utf-8", "ignore"))


FUNCTIONS: Final = (debug_print, trap)
