"""Units as types, and the arithmetic allowed on them.

Rule module. A NewType stops a wrong unit at a call or assignment; ranges are checked where data
enters the house (see `ic_types.wire`), not at each addition.
"""

from __future__ import annotations

from typing import NewType

Cycles = NewType("Cycles", int)
"""Cycles, 0 .. 2**128 - 1; never a float."""
NumInstructions = NewType("NumInstructions", int)
"""Wasm instructions as the cost table counts them."""
NumBytes = NewType("NumBytes", int)
TimeNs = NewType("TimeNs", int)
"""Nanoseconds since 1970-01-01, batch time."""
Height = NewType("Height", int)
"""Number of a batch and of the state after it; genesis is height 0."""
StreamIndex = NewType("StreamIndex", int)
"""Position of a message in an XNet stream; never reused."""
CallbackId = NewType("CallbackId", int)
CallContextId = NewType("CallContextId", int)
WasmPages = NewType("WasmPages", int)
"""64 KiB pages."""
OsPage = NewType("OsPage", int)
"""Index of a 4 KiB page."""

OS_PAGE_BYTES = 4096
WASM_PAGE_BYTES = 65536
MAX_CYCLES = 2**128 - 1
NS_PER_SECOND = 1_000_000_000
ZERO_CYCLES = Cycles(0)


def saturating_sub(a: int, b: int) -> int:
    """a - b, never below zero."""
    return a - b if a > b else 0
