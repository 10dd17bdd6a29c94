"""A canister's code with its committed memories and globals, on the node's side.

Rule module. Spec: `CanState.wasm_state` and module. One ExecutionState is one memory stack: every step of an install or
upgrade works on a state of its own, and a failed step just drops it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sandbox.module_info import ModuleInfo
from sandbox.paged_memory import PagedMemory
from sandbox.protocol import Finished

_sessions = itertools.count(1)
BYTES_PER_GLOBAL = 8


@dataclass(slots=True)
class ExecutionState:
    """Module, memories and globals as of the last committed message."""

    module: ModuleInfo
    artefact: str
    heap: PagedMemory
    stable: PagedMemory
    globals: tuple[int, ...]
    wasm: bytes = field(default=b"", repr=False)
    """The module as submitted."""
    session: int = field(default_factory=lambda: next(_sessions))
    """Local name for the sandbox that runs on this state; not state itself."""
    version: int = 0
    """Commits so far; local, tells a sandbox that it is behind."""
    _module_bytes: int = field(init=False, repr=False, compare=False)
    """Billed bytes that stay the same: the module as submitted, its custom sections; asked for with every message."""

    def __post_init__(self) -> None:
        """Add up what doesn't change."""
        module = self.module
        self._module_bytes = module.module_bytes + sum(len(s.name) + len(s.content) for s in module.custom_sections)

    @classmethod
    def fresh(cls, module: ModuleInfo, artefact: str, wasm: bytes = b"") -> ExecutionState:
        """The state right after instantiation: data segments in the heap, empty stable memory."""
        heap, stable = PagedMemory.new(module.heap_pages_initial), PagedMemory.new(0)
        heap.commit(module.initial_pages.indices, module.initial_pages.content)
        return cls(module, artefact, heap, stable, tuple(g.initial for g in module.globals), wasm)

    def fork(self) -> ExecutionState:
        """An independent copy that shares unchanged pages; commits to either aren't seen by the other."""
        return ExecutionState(self.module, self.artefact, self.heap.fork(), self.stable.fork(), self.globals, self.wasm)

    def commit(self, answer: Finished) -> tuple[int, int]:
        """Take over what a message did; returns (dirty heap pages, dirty stable pages), by changed content."""
        self.globals = answer.globals
        heap = self.heap.commit(answer.heap.indices, answer.heap.content)
        stable = self.stable.commit(answer.stable.indices, answer.stable.content)
        self.heap.wasm_pages, self.stable.wasm_pages = answer.heap_pages, answer.stable_pages
        self.version += 1
        return heap, stable

    def memory_bytes(self) -> int:
        """Billed bytes: heap and stable memory as grown, globals, the module as submitted, its custom sections."""
        return (self.heap.wasm_pages + self.stable.wasm_pages) * WASM_PAGE_BYTES + self._module_bytes + self.global_bytes()

    def global_bytes(self) -> int:
        """Billed bytes of globals: eight for each that is exported or mutable, the instruction counter included."""
        return BYTES_PER_GLOBAL * (len(self.module.exported_globals) + 1)

    def exported_globals(self) -> tuple[tuple[str, int], ...]:
        """Kind and bits of each global that the module exports or that is mutable, in the order of the exports."""
        shown = self.module.exported_globals
        return tuple((one.kind, one.initial if one.place < 0 else self.globals[one.place]) for one in shown)

    def heap_delta(self, dirty_pages: int) -> int:
        """Bytes of heap delta for these many dirty pages."""
        return dirty_pages * OS_PAGE_BYTES
