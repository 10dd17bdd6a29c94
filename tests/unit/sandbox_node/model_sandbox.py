"""A sandbox that obeys the protocol but interprets a small language instead of Wasm, its pages mapped as the kernel does it.

A message's argument is a msgpack list of operations; its reply is what they produce, 8 bytes each. Clean pages are read from
the committed file whenever they are looked at, as a private mapping does, so a node that overwrites a slot too early is caught.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.principal import Principal
from sandbox.execution_state import ExecutionState
from sandbox.module_info import GlobalInfo, ModuleInfo
from sandbox.protocol import (
    EntryPoint,
    Environment,
    ExecutionContext,
    ExecutionInput,
    Finished,
    Pages,
    Paused,
    ReplyData,
    Stop,
    Trapped,
)
from sandbox.requests import (
    Abort,
    Aborted,
    Execute,
    Executed,
    MemoryImage,
    Open,
    Opened,
    Reset,
    ResetDone,
    Resume,
    Settled,
)

PAGE = 4096
COST = 10
MODULE = ModuleInfo(
    module_hash=bytes(32), wasm64=False, heap_pages_initial=1, heap_pages_max=64, globals=(GlobalInfo("g", "i64", 7),)
)
CANISTER = Principal.canister(1)
ENVIRONMENT = Environment(
    canister_id=CANISTER,
    subnet_id=Principal.canister(2),
    root_key=b"",
    subnet_type="application",
    limits=SubnetLimits(),
    fees=CyclesCostSchedule(),
)


def new_state() -> ExecutionState:
    """The state of a canister right after instantiation."""
    return ExecutionState.fresh(MODULE, "artefact")


def message(*ops: tuple[Any, ...], entry: EntryPoint = EntryPoint.UPDATE) -> ExecutionInput:
    """A message that does these operations."""
    return ExecutionInput(
        entry=entry,
        method="go",
        arg=msgpack.packb(list(ops)),
        instruction_limit=10_000,
        slice_limit=COST // 2,
        may_reply=entry in (EntryPoint.UPDATE, EntryPoint.QUERY),
    )


def context(balance: int = 1000) -> ExecutionContext:
    """A context that differs in its balance alone."""
    return ExecutionContext(balance=balance)


@dataclass
class MappedMemory:
    """A private mapping: page by page where it is mapped from, and the copies made on writing."""

    fd: int
    wasm_pages: int
    mapped: dict[int, int | None] = field(default_factory=dict)
    private: dict[int, bytes] = field(default_factory=dict)

    def map_runs(self, image: MemoryImage) -> None:
        """Map runs over what is there."""
        self.wasm_pages = image.wasm_pages
        for run in image.runs:
            for k in range(run.count):
                self.mapped[run.page + k] = None if run.offset is None else run.offset + k * PAGE
                self.private.pop(run.page + k, None)

    def read(self, page: int) -> bytes:
        """What the process sees."""
        offset = self.mapped.get(page)
        if page in self.private:
            return self.private[page]
        return bytes(PAGE) if offset is None else os.pread(self.fd, PAGE, offset)

    def add(self, page: int, value: int) -> int:
        """Add to the number at the start of a page, making the page private."""
        content = self.read(page)
        number = (int.from_bytes(content[:8], "little") + value) % (1 << 64)
        self.private[page] = number.to_bytes(8, "little") + content[8:]
        return number


Steps = Generator[Executed, Any, Finished | Trapped]


class ModelSandbox:
    """Serves requests one by one; `buffer` is where large answers go when `through_buffer` is set."""

    def __init__(self, through_buffer: bool = False) -> None:
        self.heap = MappedMemory(-1, 0)
        self.stable = MappedMemory(-1, 0)
        self.globals: tuple[int, ...] = ()
        self.buffer = -1
        self.through_buffer = through_buffer
        self.tracking = True
        self.must_reset = False
        self.running: Generator[Executed, Any, Executed] | None = None
        self.touched: tuple[dict[int, None], dict[int, None]] = ({}, {})
        self.buffer_end = self.half = 0
        self.complete = False

    def open(self, request: Open, heap_fd: int, stable_fd: int, buffer: int = -1) -> Opened:
        """Map the memories of these descriptors."""
        self.heap, self.stable, self.buffer = MappedMemory(heap_fd, 0), MappedMemory(stable_fd, 0), buffer
        self.heap.map_runs(request.heap)
        self.stable.map_runs(request.stable)
        self.globals, self.tracking = request.globals, request.tracking
        return Opened(request.cookie)

    def handle(self, request: Execute | Settled | Resume | Abort | Reset) -> Executed | Aborted | ResetDone:
        """Answer one request."""
        if isinstance(request, Execute) and request.behind and not self.complete:
            return Executed(cookie=request.cookie, answers=(), stop=Stop.SKIPPED)
        self.half = (1 << 40) - self.half
        self.buffer_end = self.half
        if isinstance(request, Reset):
            assert self.running is None
            self.heap.map_runs(request.heap)
            self.stable.map_runs(request.stable)
            self.globals, self.must_reset = request.globals, False
            return ResetDone(request.cookie)
        if isinstance(request, Abort):
            assert self.running is not None
            self.running, self.must_reset = None, True
            return Aborted(cookie=request.cookie, heap_touched=self._sorted(0), stable_touched=self._sorted(1))
        if isinstance(request, Execute):
            assert self.running is None
            assert not self.must_reset
            self.running, self.complete = self._execute(request), False
            sent = None
        else:
            assert self.running is not None
            sent = request
        try:
            return replace(self.running.send(sent), cookie=request.cookie)
        except StopIteration as done:
            self.running = None
            return replace(done.value, cookie=request.cookie)

    def _sorted(self, k: int) -> tuple[int, ...]:
        return tuple(sorted(self.touched[k]))

    def _execute(self, request: Execute) -> Generator[Executed, Any, Executed]:
        answers: list[Any] = []
        current: ExecutionContext | None = request.context
        for k, asked in enumerate(request.inputs):
            before = (
                self.heap.wasm_pages,
                self.stable.wasm_pages,
                self.globals,
                dict(self.heap.private),
                dict(self.stable.private),
            )
            answer, paused = yield from self._message(asked, current, answers)
            current = None
            answers.append(answer)
            if not self.tracking:
                self.heap.wasm_pages, self.stable.wasm_pages, self.globals, self.heap.private, self.stable.private = before
                continue
            if isinstance(answer, Trapped):
                self.must_reset = True
                return Executed(cookie=0, answers=tuple(answers), stop=Stop.TRAPPED)
            self.complete = k + 1 == len(request.inputs)
            if paused:
                break
        return Executed(cookie=0, answers=tuple(answers), stop=Stop.END)

    def _message(
        self, asked: ExecutionInput, known: ExecutionContext | None, answers: list[Any]
    ) -> Generator[Executed, Any, tuple[Finished | Trapped, bool]]:
        self.touched = ({}, {})
        reply, done, in_slice, was_paused = b"", 0, 0, False
        error = 0
        for name, *values in msgpack.unpackb(asked.arg):
            in_slice += COST
            if name == "add":
                self.touched[0][values[0]] = None
                reply += self.heap.add(*values).to_bytes(8, "little")
            elif name == "stable":
                self.stable.wasm_pages = max(self.stable.wasm_pages, values[0] // 16 + 1)
                self.touched[1][values[0]] = None
                reply += self.stable.add(*values).to_bytes(8, "little")
            elif name == "global":
                self.globals = ((self.globals[0] + values[0]) % (1 << 64),)
                reply += self.globals[0].to_bytes(8, "little")
            elif name == "grow":
                self.heap.wasm_pages = min(self.heap.wasm_pages + values[0], MODULE.heap_pages_max)
                reply += self.heap.wasm_pages.to_bytes(8, "little")
            elif name == "balance":
                if known is None:
                    known = (yield self._stop(answers, Stop.SETTLE)).context
                reply += known.balance.to_bytes(8, "little")
            elif name == "pause":
                done += in_slice
                answers.append(Paused(slice_instructions=in_slice, instructions=done))
                in_slice, was_paused = 0, True
                yield self._stop(answers, Stop.PAUSED)
            elif name == "trap":
                error = 503
                break
        total = done + in_slice
        if error:
            heap = self._pages(self.heap, 0)
            touched = (self._sorted(0), self._sorted(1)) if self.tracking else ((), ())
            trapped = Trapped(
                instructions=total,
                slice_instructions=in_slice,
                error_code=error,
                message="trapped",
                heap_touched=touched[0],
                stable_touched=touched[1],
                heap=heap,
            )
            return trapped, was_paused
        finished = Finished(
            instructions=total,
            slice_instructions=in_slice,
            response=ReplyData(reply) if asked.may_reply else None,
            globals=self.globals,
            heap_pages=self.heap.wasm_pages,
            stable_pages=self.stable.wasm_pages,
            heap=self._pages(self.heap, 0),
            stable=self._pages(self.stable, 1),
            stable_dirty_marks=len(self.touched[1]),
        )
        return finished, was_paused

    def _stop(self, answers: list[Any], stop: Stop) -> Executed:
        executed = Executed(cookie=0, answers=tuple(answers), stop=stop)
        answers.clear()
        return executed

    def _pages(self, memory: MappedMemory, k: int) -> Pages:
        pages = self._sorted(k)
        if not self.tracking or not pages:
            return Pages()
        content = b"".join(memory.read(page) for page in pages)
        if not self.through_buffer:
            return Pages(pages, content)
        offset = self.buffer_end
        self.buffer_end += os.pwrite(self.buffer, content, offset)
        return Pages(pages, b"", offset)
