"""Looks after the memory of sandboxes at work: one that takes more than any canister may is as broken as one that lies.

Plumbing. Limits of address space can't do this, since memories reserve much more than they use. A net below the deterministic
limits: what a canister may have of heap and stable memory never makes a sandbox as large as is allowed here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Final

from configs.limits import SubnetLimits
from ic_types.errors import SandboxFailure
from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sandbox.execution_state import ExecutionState
from sandbox.line import Line

SPARE_BYTES: Final = 2 << 30
"""For the interpreter, code, arguments, replies and calls under way."""
LOOK_EVERY_S: Final = 0.25


def allowed_bytes(execution: ExecutionState, limits: SubnetLimits, spare: int = SPARE_BYTES) -> int:
    """Memory that a sandbox of this state may take: all of heap and stable memory mapped, and as much again written."""
    heap = max(execution.module.heap_pages_max, execution.heap.wasm_pages) * WASM_PAGE_BYTES
    stable = execution.stable.wasm_pages * WASM_PAGE_BYTES + limits.stable_dirty_pages_install * OS_PAGE_BYTES
    return heap + execution.heap.wasm_pages * WASM_PAGE_BYTES + stable + spare


def taken_bytes(pid: int, buffer: int) -> int:
    """Memory that a process has in use, and its page buffer; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            resident = int(file.read().split()[1])
    except OSError:
        return 0
    return resident * OS_PAGE_BYTES + os.fstat(buffer).st_blocks * 512


class MemoryWatch:
    """Looks at sandboxes now and then."""

    def __init__(self, spare: int = SPARE_BYTES) -> None:
        self._spare, self._next = spare, 0.0

    def too_large(self, lines: Iterable[Line]) -> Iterator[tuple[Line, SandboxFailure]]:
        """Those lines whose sandboxes take more than they may, if it is time to look."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_EVERY_S
        for line in list(lines):
            if line.process is not None:
                allowed = allowed_bytes(line.conversation.execution, line.conversation.environment.limits, self._spare)
                taken = taken_bytes(line.process.pid, line.process.buffer)
                if taken > allowed:
                    yield line, SandboxFailure(f"it takes {taken >> 20} MiB of memory where {allowed >> 20} are allowed")
