"""What a sandbox's mapping shows, compared with what is committed.

Rule module. A page that the sandbox wrote is private to it until it is mapped again. If its message was committed the private
copy is right; if not, the page has to be mapped anew from where it now lies. Pages that the sandbox never wrote show the file,
where committed slots are never written by anyone else.
"""

from __future__ import annotations

from typing import Final

from configs.limits import SubnetLimits
from ic_types.units import WASM_PAGE_BYTES
from sandbox.answer_check import check_indices
from sandbox.execution_state import ExecutionState
from sandbox.protocol import Answer, Finished, Paused
from sandbox.requests import Aborted, MemoryImage

MAX_MAPPED_RUNS: Final = 20_000
"""A process may have 65,530 mappings, and each mapped run costs about 11 us."""
MAX_PRIVATE_PAGES: Final = 16_384
"""64 MiB of private copies; above, they are mapped again."""


class MappedPages:
    """The pages of one sandbox that aren't as they were mapped."""

    __slots__ = ("_dirty", "_heap", "_heap_private", "_runs", "_stable", "_stable_private", "execution")

    def __init__(self, execution: ExecutionState) -> None:
        """As mapped by Open."""
        for memory in (execution.heap, execution.stable):
            if len(memory.runs()) > MAX_MAPPED_RUNS:
                memory.compact()
        self.execution = execution
        """Whose memory it shows."""
        self._heap: dict[int, None] = {}
        """Written by messages of which nothing may stay."""
        self._stable: dict[int, None] = {}
        self._dirty = False
        """Sizes or globals may differ too."""
        self._heap_private: dict[int, None] = {}
        """Written by messages that were committed."""
        self._stable_private: dict[int, None] = {}
        self._runs = len(execution.heap.runs()) + len(execution.stable.runs())

    def committed(self, answer: Finished) -> None:
        """What the sandbox shows of this answer is right now."""
        for page in answer.heap.indices:
            self._heap_private[page] = None
        for page in answer.stable.indices:
            self._stable_private[page] = None

    def rolled_back(self, answer: Answer, execution: ExecutionState) -> None:
        """Nothing of this answer may stay."""
        if isinstance(answer, Paused):
            return  # ended by an Abort, which tells the pages
        if isinstance(answer, Finished):
            heap, stable = answer.heap.indices, answer.stable.indices
            same_size = (answer.heap_pages, answer.stable_pages) == (execution.heap.wasm_pages, execution.stable.wasm_pages)
            if not heap and not stable and same_size and answer.globals == execution.globals:
                return
        else:
            heap, stable = answer.heap_touched, answer.stable_touched
        self._add(heap, stable)

    def aborted(self, answer: Aborted, limits: SubnetLimits) -> None:
        """Nothing of the message that was given up may stay.

        Raises: SandboxFailure when the answer names impossible pages.
        """
        most = max(limits.max_wasm64_heap, limits.max_wasm32_heap) // WASM_PAGE_BYTES
        check_indices("heap", answer.heap_touched, most)
        check_indices("stable memory", answer.stable_touched, limits.max_stable_memory // WASM_PAGE_BYTES)
        self._add(answer.heap_touched, answer.stable_touched)

    def _add(self, heap: tuple[int, ...], stable: tuple[int, ...]) -> None:
        self._dirty = True
        self._heap.update(dict.fromkeys(heap))
        self._stable.update(dict.fromkeys(stable))

    def can_follow(self, execution: ExecutionState) -> bool:
        """Whether a Reset can bring the sandbox to this state; otherwise it has to be started anew."""
        if self._runs > 2 * MAX_MAPPED_RUNS:
            return False
        if execution is self.execution:
            return True
        return (
            execution.artefact == self.execution.artefact
            and execution.heap.changed_since(self.execution.heap) is not None
            and execution.stable.changed_since(self.execution.stable) is not None
        )

    def shows(self, execution: ExecutionState) -> bool:
        """Whether a Reset would change nothing."""
        return execution is self.execution and not self._dirty and not self.crowded()

    def crowded(self) -> bool:
        """Whether so much is private or mapped piece by piece that it should be mapped anew."""
        return self.private_pages() > MAX_PRIVATE_PAGES or self._runs > 2 * MAX_MAPPED_RUNS

    def private_pages(self) -> int:
        """How many pages the sandbox holds that messages committed."""
        return len(self._heap_private) + len(self._stable_private)

    def _follow(self, execution: ExecutionState) -> None:
        old, self.execution = self.execution, execution
        heap, stable = execution.heap.changed_since(old.heap) or (), execution.stable.changed_since(old.stable) or ()
        sizes = execution.heap.wasm_pages, execution.stable.wasm_pages, execution.globals
        if heap or stable or sizes != (old.heap.wasm_pages, old.stable.wasm_pages, old.globals):
            self._add(tuple(heap), tuple(stable))

    def reset_to(self, execution: ExecutionState) -> tuple[MemoryImage, MemoryImage] | None:
        """Heap and stable memory of the Reset that makes the sandbox show this state; None if it does already."""
        if execution is not self.execution:
            self._follow(execution)
        if self.private_pages() > MAX_PRIVATE_PAGES:
            self._add(tuple(self._heap_private), tuple(self._stable_private))
        if not self._dirty:
            return None
        heap, stable = execution.heap.runs(sorted(self._heap)), execution.stable.runs(sorted(self._stable))
        for page in self._heap:
            self._heap_private.pop(page, None)
        for page in self._stable:
            self._stable_private.pop(page, None)
        self._heap, self._stable, self._dirty = {}, {}, False
        self._runs += len(heap) + len(stable)
        return (
            MemoryImage(wasm_pages=execution.heap.wasm_pages, runs=heap),
            MemoryImage(wasm_pages=execution.stable.wasm_pages, runs=stable),
        )
