"""Frames around functions, for profiles: the host learns of every call and return, and of the counter at that moment.

Rule module. Not in the spec. Each function keeps its index and type, but becomes a frame that tells the host, calls the
function proper, and tells again. Frames charge nothing, so counts stay what they are. Imports get frames too, so that their
charges show under their own names.
"""

from __future__ import annotations

from typing import Protocol

from sandbox.wasm.assembler import function_body
from sandbox.wasm.module import FunctionType

PROFILE = "profile"
"""Hidden import (frame i32, counter i64): frame is the index of the function called, plus 1, or 0 when it returns."""


class Layout(Protocol):
    """What frames need of the module being built."""

    index_of: list[int]
    names: dict[str, int]

    def add(self, params: bytes, results: bytes, body: bytes = b"") -> int:
        """A further function; returns its index."""


def add_frames(layout: Layout, types: list[FunctionType], imported: int) -> dict[int, bytes]:
    """Puts a frame around each function; `types` are those of all functions by their old index.

    A framed import gets a new index. An own function keeps it; the result has the frame's body by index among own functions,
    while the function proper follows all functions so far, in order.
    """
    for old, kind in enumerate(types[:imported]):
        layout.index_of[old] = layout.add(kind.params, kind.results, _frame(layout, old, kind, layout.index_of[old]))
    frames = {}
    for old, kind in enumerate(types[imported:], imported):
        frames[old - imported] = _frame(layout, old, kind, layout.add(kind.params, kind.results))
    return frames


def _frame(layout: Layout, old: int, kind: FunctionType, inner: int) -> bytes:
    arguments = "; ".join(f"local.get {k}" for k in range(len(kind.params)))
    tell = "i32.const {}; global.get $counter; call $profile"
    return function_body(f"{tell.format(old + 1)}; {arguments}; call {inner}; {tell.format(0)}", layout.names)
