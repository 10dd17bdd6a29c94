"""Requests and replies between a replica node and its sandboxes.

Rule module. Each request is answered by one reply with the same cookie; only after `Executed(stop=SETTLE)` the node sends
`Settled` (or `Abort`) and the sandbox goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import wire
from sandbox.protocol import Environment, ExecutionContext, ExecutionInput, Finished, Paused, Stop, Trapped


@wire.message
@dataclass(frozen=True, slots=True)
class Run:
    """`count` pages from `page` lie at `offset` bytes of the memory's descriptor; offset None: never written (zeros)."""

    page: int
    count: int
    offset: int | None


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryImage:
    """One committed memory, to be mapped from the descriptor that travels beside over the Unix socket."""

    wasm_pages: int
    runs: tuple[Run, ...]


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Load a compiled module and map its memories.

    Descriptors over the Unix socket, in this order: module artefact, heap, stable memory, page buffer (read-write).
    """

    cookie: int
    environment: Environment
    wasm64: bool
    heap: MemoryImage
    stable: MemoryImage
    globals: tuple[int, ...]
    reuse_instance: bool
    """The module can't leave traces in an instance beyond memory and globals (ModuleInfo.reuse_safe)."""
    tracking: bool
    """False for queries: pages aren't reported, everything is rolled back after each message."""
    global_exports: tuple[str, ...] = ()
    """`GlobalInfo.export` in ModuleInfo order."""
    heap_pages_max: int = 1 << 16
    """Wasm pages that the heap can grow to."""


@wire.message
@dataclass(frozen=True, slots=True)
class Opened:
    """Ready to execute."""

    cookie: int
    lacking: tuple[str, ...] = ()
    """Parts of the confinement that this kernel doesn't offer."""


@wire.message
@dataclass(frozen=True, slots=True)
class OpenFailed:
    """The artefact could not be loaded or instantiated."""

    cookie: int
    reason: str


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """Run these inputs in order; the first has this context, or asks for it when it needs it, as the others do."""

    cookie: int
    inputs: tuple[ExecutionInput, ...]
    context: ExecutionContext | None = None
    behind: bool = False
    """They go on from the last Execute, which may still be running; skipped unless that was answered to its end."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """Answers in input order, for every input since the last reply."""

    cookie: int
    answers: tuple[Finished | Trapped | Paused, ...]
    stop: Stop


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """All earlier messages are committed; this is the context of the one that waits. Answered by Executed."""

    cookie: int
    context: ExecutionContext


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Start the next slice of the paused message. Answered by Executed."""

    cookie: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Give up the message that is paused or waits to settle, keeping what earlier answers did. Answered by Aborted."""

    cookie: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Aborted:
    """Pages that the aborted message wrote; a Reset follows."""

    cookie: int
    heap_touched: tuple[int, ...]
    stable_touched: tuple[int, ...]


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Go back to this committed state: map these runs, restore sizes and globals. Answered by ResetDone.

    `heap` and `stable` hold only the runs of touched pages; all else stays as it is mapped.
    """

    cookie: int
    heap: MemoryImage
    stable: MemoryImage
    globals: tuple[int, ...]


@wire.message
@dataclass(frozen=True, slots=True)
class ResetDone:
    """The sandbox shows the committed state again."""

    cookie: int


@wire.message
@dataclass(frozen=True, slots=True)
class Close:
    """End the process; not answered."""

    cookie: int
