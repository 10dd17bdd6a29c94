"""One canister's messages, run one after the other on its committed memory.

Plumbing. Every message behaves as on a fresh instance that shows the committed state: after a finished one the instance is that
already (if the module leaves no other traces), after a failed one the node sends a reset.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Final

from configs.limits import SubnetLimits
from ic_types.errors import SandboxFailure
from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sandbox import kernel
from sandbox.dirty_pages import DirtyPages
from sandbox.engine import ACCESSED_PAGES_LEFT, DIRTY_PAGES_LEFT, Instance, Program, new_trap
from sandbox.engine_config import make_engine
from sandbox.host_functions import HostFunctions
from sandbox.mapping import MappedMemory, spans
from sandbox.page_reports import NO_PAGES, PageReports
from sandbox.page_scan import NOTHING, Written
from sandbox.protocol import (
    Answer,
    EntryPoint,
    ExecutionContext,
    ExecutionInput,
    Finished,
    Trapped,
)
from sandbox.requests import Open, Reset
from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import CanisterTrap

PAGES_PER_WASM_PAGE: Final = WASM_PAGE_BYTES // OS_PAGE_BYTES
_SMALL_BYTEMAP = 16 * 1024
_REMEMBERED_ENTRIES = 2048
_WRITTEN_MARKS: Final = re.compile(rb"[\x01\x03]+")
_PREFIXES: Final = {
    EntryPoint.UPDATE: ("canister_update ", "update"),
    EntryPoint.QUERY: ("canister_query ", "query"),
    EntryPoint.COMPOSITE_QUERY: ("canister_composite_query ", "composite_query"),
}
_INSTALLING: Final = frozenset((EntryPoint.START, EntryPoint.INIT, EntryPoint.PRE_UPGRADE, EntryPoint.POST_UPGRADE))
_CALLBACKS: Final = frozenset((EntryPoint.REPLY, EntryPoint.REJECT, EntryPoint.CLEANUP))
_QUERYING: Final = frozenset((EntryPoint.QUERY, EntryPoint.COMPOSITE_QUERY, EntryPoint.INSPECT_MESSAGE))

Settle = Callable[[], ExecutionContext]
Pause = Callable[[int, int], None]


class Runner:
    """A canister opened in this process. `settle` and `pause` reach the node while a message runs.

    Raises: SandboxFailure when the module or its memories can't be loaded.
    """

    def __init__(
        self, request: Open, descriptors: tuple[int, int, int, int], detector: DirtyPages, settle: Settle, pause: Pause
    ) -> None:
        artefact, heap, stable, buffer = descriptors
        self.settle, self.pause, self._detector = settle, pause, detector
        self.reports = PageReports(buffer)
        self.must_reset = False
        self._reuse, self._tracking = request.reuse_instance, request.tracking
        self.state = state = MessageState(request.environment, self, wasm64=request.wasm64)
        host = HostFunctions(state, new_trap, {"out_of_instructions": self._out_of_instructions})
        self._program = Program(make_engine(), artefact, host, request.global_exports)
        self._heap_limit = request.heap_pages_max * WASM_PAGE_BYTES
        self._heap, self._stable = MappedMemory(heap), MappedMemory(stable)
        self._heap.redraw(request.heap.runs)
        self._stable.redraw(request.stable.runs)
        self._heap_pages, self._stable_pages = request.heap.wasm_pages, request.stable.wasm_pages
        self._globals = request.globals
        self._instance: Instance | None = None
        self._entries: dict[tuple[EntryPoint, str], tuple[str, str]] = {}
        self._stable_budgets = {entry: _stable_budget(entry, request.environment.limits) for entry in EntryPoint}
        self._budget = -1
        self._stale = True
        self._last_written = NOTHING
        self._fresh_instance()

    # --- instances

    def _fresh_instance(self) -> Instance:
        old, state, program = self._instance, self.state, self._program
        instance = Instance(program)
        if instance.heap is not None:
            instance.heap.grow_to(self._heap_pages)
            self._heap.attach(instance.heap.base)
            if self._heap_pages:
                self._detector.watch(instance.heap.base, self._heap_pages * WASM_PAGE_BYTES)
            whole = (ctypes.c_char * self._heap_limit).from_address(instance.heap.base)
            state.heap = memoryview(whole).cast("B")
        if instance.stable is not None:
            instance.stable.grow_to(self._stable_pages)
            self._stable.attach(instance.stable.base)
        if old is not None:
            old.close()
        self._instance, self._stale, self._budget = instance, False, -1
        instance.set_globals(self._globals)
        state.heap_bytes, state.stable_pages = self._heap_pages * WASM_PAGE_BYTES, self._stable_pages
        return instance

    # --- messages

    def run(self, message: ExecutionInput, context: ExecutionContext | None) -> Answer:
        """Execute one message to its end.

        Raises: AbortExecution when the node gives it up, SandboxFailure when the node breaks the protocol.
        """
        if self.must_reset:
            raise SandboxFailure("execute before reset")
        instance = self._instance
        if self._stale or instance is None:
            instance = self._fresh_instance()
        state = self.state
        instance.set_counter(state.begin(message, context))
        entry = message.entry
        budget = self._stable_budgets[EntryPoint.COMPOSITE_QUERY if message.composite else entry]
        if budget != self._budget:
            instance.set_budget(DIRTY_PAGES_LEFT, budget)
            instance.set_budget(ACCESSED_PAGES_LEFT, budget)
            self._budget = budget
        try:
            if entry in _CALLBACKS:
                assert message.closure is not None, "a callback has a closure"
                instance.run_callback(message.closure.function, message.closure.env)
            else:
                instance.run_export(*(self._entries.get((entry, message.method)) or self._entry(entry, message.method)))
        except CanisterTrap as trap:
            return self._trapped(instance, trap)
        return self._finished(instance)

    def _entry(self, entry: EntryPoint, method: str) -> tuple[str, str]:
        prefix, kind = _PREFIXES.get(entry, (f"canister_{entry.value}", "system"))
        found = (prefix + method if entry in _PREFIXES else prefix), kind
        if len(self._entries) < _REMEMBERED_ENTRIES:
            self._entries[entry, method] = found
        return found

    def _finished(self, instance: Instance) -> Finished:
        state = self.state
        counter = instance.counter()
        globals_ = instance.globals()
        heap_written, stable_marks = self._take_written(instance)
        heap = stable = NO_PAGES
        heap_pages, stable_pages = state.heap_bytes // WASM_PAGE_BYTES, state.stable_pages
        if self._tracking:
            heap = self.reports.of(heap_written)
            if stable_marks:
                base = self._stable.base
                runs = [(base + page * OS_PAGE_BYTES, count * OS_PAGE_BYTES) for page, count in spans(stable_marks)]
                stable = self.reports.of(Written(base, runs))
            self._globals, self._heap_pages, self._stable_pages = globals_, heap_pages, stable_pages
            self._stale = not self._reuse
        else:
            self._roll_back(instance, heap_written, stable_marks)
        slices = state.slices
        return Finished(
            instructions=slices.executed(counter),
            slice_instructions=slices.executed_in_slice(counter),
            response=state.response,
            calls=tuple(state.calls),
            cycles_accepted=state.cycles_accepted,
            cycles_burned=state.cycles_burned,
            certified_data=state.certified_data,
            global_timer=state.global_timer,
            accepted=state.accepted,
            globals=globals_,
            heap_pages=heap_pages,
            stable_pages=stable_pages,
            heap=heap,
            stable=stable,
            stable_dirty_marks=len(stable_marks),
            logs=tuple(state.logs),
            lines_dropped=state.lines_dropped,
        )

    def _trapped(self, instance: Instance, trap: CanisterTrap) -> Trapped:
        state, slices = self.state, self.state.slices
        counter = instance.counter()
        state.log_trap(trap)
        heap_written, stable_marks = self._take_written(instance)
        pages = NO_PAGES
        if self._tracking:
            pages = self.reports.of(heap_written)
            self._require_reset()
        else:
            self._roll_back(instance, heap_written, stable_marks)
        return Trapped(
            instructions=slices.executed(counter),
            slice_instructions=slices.executed_in_slice(counter),
            error_code=int(trap.code),
            message=trap.message,
            logs=tuple(state.logs),
            lines_dropped=state.lines_dropped,
            heap_touched=pages.indices,
            stable_touched=tuple(stable_marks) if self._tracking else (),
            heap=pages,
        )

    def aborted(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Heap and stable pages that the aborted message wrote; a reset must follow."""
        assert self._instance is not None, "something ran"
        heap_written, stable_marks = self._take_written(self._instance)
        if self._tracking:
            self._require_reset()
        else:
            self._roll_back(self._instance, heap_written, stable_marks)
        return heap_written.indices, tuple(stable_marks)

    # --- memory

    def _take_written(self, instance: Instance) -> tuple[Written, list[int]]:
        heap_written = NOTHING
        if self.state.heap_bytes:
            heap_written = self._detector.written(self._heap.base, self.state.heap_bytes)
            if heap_written is not self._last_written:
                self._heap.private.update(heap_written.indices)
                self._last_written = heap_written
        if not self.state.stable_pages:
            return heap_written, []
        self._budget = -1  # the message may have used some of it
        marks = self._take_marks(instance)
        self._stable.private.update(marks)
        return heap_written, marks

    def _take_marks(self, instance: Instance) -> list[int]:
        bytemap = instance.bytemap
        if bytemap is None:
            return []
        base, used = bytemap.base, self.state.stable_pages * PAGES_PER_WASM_PAGE
        if used <= _SMALL_BYTEMAP:
            raw = ctypes.string_at(base, used)
            if raw.count(0) == used:
                return []
            ctypes.memset(base, 0, used)
            return _marked(raw, 0)
        marks: list[int] = []
        for start, length in self._detector.present(base, -(-used // OS_PAGE_BYTES) * OS_PAGE_BYTES):
            marks += _marked(ctypes.string_at(start, length), start - base)
            kernel.discard(start, length)
        return marks

    def _roll_back(self, instance: Instance, heap_written: Written, stable_marks: list[int]) -> None:
        grown = self.state.heap_bytes != self._heap_pages * WASM_PAGE_BYTES or self.state.stable_pages != self._stable_pages
        if heap_written.indices:
            self._heap.roll_back(heap_written.indices, self._detector)
            self._last_written = NOTHING
        if stable_marks:
            self._stable.roll_back(stable_marks, None)
        self._stale = grown or not self._reuse
        if not self._stale:
            instance.set_globals(self._globals)

    def _require_reset(self) -> None:
        self.must_reset = True
        grown = self.state.heap_bytes != self._heap_pages * WASM_PAGE_BYTES or self.state.stable_pages != self._stable_pages
        self._stale = grown or not self._reuse

    def reset(self, request: Reset) -> None:
        """Show the committed state again."""
        self._last_written = NOTHING
        instance, heap, stable = self._instance, request.heap, request.stable
        shrunk = heap.wasm_pages * WASM_PAGE_BYTES < self.state.heap_bytes or stable.wasm_pages < self.state.stable_pages
        self._globals = request.globals
        self._heap_pages, self._stable_pages = heap.wasm_pages, stable.wasm_pages
        if self._stale or shrunk or instance is None:
            self._heap.redraw(heap.runs)
            self._stable.redraw(stable.runs)
            self._fresh_instance()
        else:
            self._grow_to_committed(instance)
            self._heap.map_runs(heap.runs, self._detector)
            self._stable.map_runs(stable.runs, None)
            instance.set_globals(self._globals)
        self.must_reset = False

    def _grow_to_committed(self, instance: Instance) -> None:
        state, old = self.state, self.state.heap_bytes
        state.heap_bytes, state.stable_pages = self._heap_pages * WASM_PAGE_BYTES, self._stable_pages
        if instance.heap is not None and state.heap_bytes > old:
            instance.heap.grow_to(self._heap_pages)
            self._detector.watch(self._heap.base + old, state.heap_bytes - old)
        if instance.stable is not None:
            instance.stable.grow_to(self._stable_pages)

    # --- what running messages ask for (the Port of the System API)

    def read_counter(self) -> int:
        """The module's instruction counter."""
        assert self._instance is not None, "a message is running"
        return self._instance.counter()

    def heap_grown(self, old_bytes: int, new_bytes: int) -> None:
        """Wasm has grown the heap."""
        if new_bytes > old_bytes:
            self._detector.watch(self._heap.base + old_bytes, new_bytes - old_bytes)

    def _out_of_instructions(self, state: MessageState) -> None:
        instance = self._instance
        assert instance is not None, "a message is running"
        slices, counter = state.slices, instance.counter()
        executed = slices.executed_in_slice(counter)
        following = slices.end_slice(counter)
        self.pause(executed, slices.executed_before)
        instance.set_counter(following)


def _stable_budget(entry: EntryPoint, limits: SubnetLimits) -> int:
    """Stable pages that a message of this kind may write, and as many that it may touch."""
    if entry in _QUERYING:
        return limits.stable_dirty_pages_query
    return limits.stable_dirty_pages_install if entry in _INSTALLING else limits.stable_dirty_pages_update


def _marked(bytemap: bytes, first: int) -> list[int]:
    found: list[int] = []
    for match in _WRITTEN_MARKS.finditer(bytemap):
        found += range(first + match.start(), first + match.end())
    return found
