"""A sandbox without processes: the server runs in a thread, the test plays the node."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import wasmtime

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types import wire
from ic_types.principal import Principal
from sandbox.artefacts import native_code, sealed
from sandbox.dirty_pages import DirtyPages, open_detector
from sandbox.module_info import ModuleInfo
from sandbox.protocol import (
    EntryPoint,
    Environment,
    ExecutionContext,
    ExecutionInput,
    Finished,
    Pages,
    Paused,
    Stop,
)
from sandbox.requests import (
    Abort,
    Aborted,
    Close,
    Execute,
    Executed,
    MemoryImage,
    Open,
    Opened,
    Reset,
    ResetDone,
    Resume,
    Run,
    Settled,
)
from sandbox.server import REQUESTS, EndOfService, Server
from sandbox.wasm.prepare import prepare

PAGE = 4096
CANISTER = Principal.canister(7)
SUBNET = Principal.canister(1000)
CONTEXT = ExecutionContext(balance=10**15)
TIMEOUT_S = 60


def message(method: str = "go", entry: EntryPoint = EntryPoint.UPDATE, **fields: Any) -> ExecutionInput:
    """An input with ample instructions."""
    given = {"instruction_limit": 40_000_000_000, "slice_limit": 2_000_000_000, "time_ns": 42, **fields}
    return ExecutionInput(entry=entry, method=method, **given)


@dataclass
class NodeMemory:
    """What the node keeps of one memory: contents appended to a file, the newest offset of each page."""

    wasm_pages: int
    offsets: dict[int, int] = field(default_factory=dict)
    fd: int = field(default_factory=lambda: os.memfd_create("memory", os.MFD_CLOEXEC))

    def commit(self, pages: Pages, buffer: int) -> None:
        """Append these contents."""
        content = pages.content
        if pages.buffer_offset is not None:
            content = os.pread(buffer, len(pages.indices) * PAGE, pages.buffer_offset)
        assert len(content) == len(pages.indices) * PAGE
        for k, page in enumerate(pages.indices):
            offset = os.fstat(self.fd).st_size
            os.pwrite(self.fd, content[k * PAGE : (k + 1) * PAGE], offset)
            self.offsets[page] = offset

    def image(self, only: tuple[int, ...] | None = None) -> MemoryImage:
        """All committed runs, or those of some pages."""
        pages = sorted(self.offsets) if only is None else only
        runs = tuple(Run(page, 1, self.offsets.get(page)) for page in pages)
        return MemoryImage(wasm_pages=self.wasm_pages, runs=runs)

    def content(self, page: int) -> bytes:
        """A committed page."""
        offset = self.offsets.get(page)
        return bytes(PAGE) if offset is None else os.pread(self.fd, PAGE, offset)

    def read_only(self) -> int:
        """The descriptor that the sandbox gets."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)


class _QueueTransport:
    def __init__(self, fds: tuple[int, int, int, int]) -> None:
        self.requests: queue.Queue[bytes | None] = queue.Queue()
        self.replies: queue.Queue[bytes | BaseException] = queue.Queue()
        self._fds = fds

    def receive(self) -> Any:
        raw = self.requests.get()
        if raw is None:
            raise EndOfService
        return wire.decode(raw, *REQUESTS)

    def send(self, reply: Any) -> None:
        self.replies.put(wire.encode(reply))

    def descriptors(self) -> tuple[int, int, int, int]:
        return self._fds


@cache
def prepared(source: str | bytes) -> tuple[ModuleInfo, bytes]:
    """A canister as text or bytes: what the node knows of it, and its compiled code."""
    wasm = bytes(wasmtime.wat2wasm(source)) if isinstance(source, str) else source
    made = prepare(wasm, SubnetLimits())
    return made.info, native_code(made)


def artefact(code: bytes) -> int:
    """A descriptor with compiled code."""
    return sealed(code, "module")


class Harness:
    """One opened canister and the node's copy of its memory."""

    def __init__(
        self,
        source: str | bytes,
        *,
        reuse: bool | None = None,
        tracking: bool = True,
        detector: Callable[[], DirtyPages] = open_detector,
        environment: Environment | None = None,
    ) -> None:
        self.info, code = prepared(source)
        info = self.info
        self.heap, self.stable = NodeMemory(info.heap_pages_initial), NodeMemory(0)
        self.buffer = os.memfd_create("buffer", os.MFD_CLOEXEC)
        self.heap.commit(info.initial_pages, self.buffer)
        self.globals = tuple(g.initial for g in info.globals)
        self.environment = environment or make_environment()
        fds = (artefact(code), self.heap.read_only(), self.stable.read_only(), self.buffer)
        self._transport = _QueueTransport(fds)
        self._cookie = 0
        self.server = Server(self._transport, detector, tuple)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        opened = self.ask(
            Open(
                cookie=self.cookie(),
                environment=self.environment,
                wasm64=info.wasm64,
                heap=self.heap.image(),
                stable=self.stable.image(),
                globals=self.globals,
                reuse_instance=info.reuse_safe if reuse is None else reuse,
                tracking=tracking,
                global_exports=tuple(g.export for g in info.globals),
                heap_pages_max=info.heap_pages_max,
            )
        )
        assert isinstance(opened, Opened), opened

    def _serve(self) -> None:
        try:
            self.server.serve()
        except EndOfService:
            pass
        except BaseException as error:
            self._transport.replies.put(error)

    def cookie(self) -> int:
        """A new one."""
        self._cookie += 1
        return self._cookie

    def ask(self, request: Any) -> Any:
        """Send a request and wait for the reply."""
        self._transport.requests.put(wire.encode(request))
        reply = self._transport.replies.get(timeout=TIMEOUT_S)
        if isinstance(reply, BaseException):
            raise reply
        return wire.decode(reply)

    def execute(self, *inputs: ExecutionInput, context: ExecutionContext = CONTEXT) -> Executed:
        """Run a batch and commit what finished."""
        return self.take(self.ask(Execute(cookie=self.cookie(), inputs=inputs, context=context)))

    def settled(self, context: ExecutionContext = CONTEXT) -> Executed:
        """Give the waiting message its context."""
        return self.take(self.ask(Settled(cookie=self.cookie(), context=context)))

    def resume(self) -> Executed:
        """Start the next slice."""
        return self.take(self.ask(Resume(cookie=self.cookie())))

    def abort(self) -> Aborted:
        """Give up what is paused or waits."""
        reply = self.ask(Abort(cookie=self.cookie()))
        assert isinstance(reply, Aborted)
        return reply

    def take(self, reply: Any) -> Executed:
        """Check the reply and commit its finished messages."""
        assert isinstance(reply, Executed), reply
        assert reply.cookie == self._cookie
        for answer in reply.answers:
            if isinstance(answer, Finished):
                self.heap.commit(answer.heap, self.buffer)
                self.stable.commit(answer.stable, self.buffer)
                self.heap.wasm_pages, self.stable.wasm_pages = answer.heap_pages, answer.stable_pages
                self.globals = answer.globals
        return reply

    def one(self, item: ExecutionInput | None = None, context: ExecutionContext = CONTEXT) -> Any:
        """Run a single message; its answer."""
        answers = self.execute(item or message(), context=context).answers
        assert len(answers) == 1
        return answers[0]

    def reset(self, heap: tuple[int, ...] | None = None, stable: tuple[int, ...] | None = None) -> None:
        """Go back to the committed state of these pages (None: all that are known)."""
        done = self.ask(
            Reset(cookie=self.cookie(), heap=self.heap.image(heap), stable=self.stable.image(stable), globals=self.globals)
        )
        assert isinstance(done, ResetDone)

    def close(self) -> None:
        """End the thread."""
        self._transport.requests.put(wire.encode(Close(0)))
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_environment(**fields: Any) -> Environment:
    """The environment of the test canister."""
    given = {
        "canister_id": CANISTER,
        "subnet_id": SUBNET,
        "root_key": b"root key",
        "subnet_type": "application",
        "limits": SubnetLimits(),
        "fees": CyclesCostSchedule(),
        **fields,
    }
    return Environment(**given)


def drive(box: Harness, inputs: list[ExecutionInput], batch: int, context: ExecutionContext = CONTEXT) -> list[Any]:
    """Run all inputs in batches as a node would, with settling, resuming and resets; one final answer each."""
    answers: list[Any] = []
    while len(answers) < len(inputs):
        reply = box.execute(*inputs[len(answers) : len(answers) + batch], context=context)
        while True:
            answers += [answer for answer in reply.answers if not isinstance(answer, Paused)]
            match reply.stop:
                case Stop.SETTLE:
                    reply = box.settled(context)
                case Stop.PAUSED:
                    reply = box.resume()
                case Stop.TRAPPED:
                    trapped = reply.answers[-1]
                    box.reset(trapped.heap_touched, trapped.stable_touched)
                    break
                case Stop.END:
                    break
    return answers


def essence(answer: Any) -> Any:
    """An answer without the pages, which may name unchanged ones."""
    if isinstance(answer, Finished):
        return replace(answer, heap=Pages(), stable=Pages(), slice_instructions=0)
    return replace(answer, heap=Pages(), heap_touched=(), stable_touched=(), slice_instructions=0)


def contents(memory: NodeMemory) -> dict[int, bytes]:
    """Committed pages that aren't zeros."""
    pages = {page: memory.content(page) for page in memory.offsets}
    return {page: content for page, content in pages.items() if content.strip(b"\0")}
