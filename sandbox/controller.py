"""The node's side of the sandbox border: messages in, checked answers out, whatever happens to the processes.

Plumbing: sockets, processes and the watchdog's clock; what is said is decided in `conversation`. Answers may come in any order
and after any number of kills, but each is the only one possible: a sandbox that dies, hangs or lies is replaced by one that
starts from committed memory, and a local failure never becomes a state change.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import zmq

from configs.limits import SubnetLimits
from ic_types import wire
from ic_types.errors import SandboxFailure, WireError
from ic_types.principal import CanisterId
from sandbox.compile_client import CompileAnswer, CompileClient
from sandbox.conversation import Conversation, Reply, Request, Talk
from sandbox.execution_state import ExecutionState
from sandbox.launcher import Launcher
from sandbox.protocol import (
    Aborted,
    Answer,
    EntryPoint,
    Environment,
    Executed,
    ExecutionContext,
    ExecutionInput,
    Finished,
    Open,
    Opened,
    OpenFailed,
    Pages,
    Paused,
    ResetDone,
)
from sandbox.sandbox_pool import SandboxPool, SandboxProcess

Completion: TypeAlias = Answer | CompileAnswer | SandboxFailure
"""SandboxFailure for queries alone: they may fail without stopping the node."""
MAX_FAILURES = 3
_REPLIES = (Opened, OpenFailed, Executed, Aborted, ResetDone)
_INSTALL = frozenset((EntryPoint.START, EntryPoint.INIT, EntryPoint.PRE_UPGRADE, EntryPoint.POST_UPGRADE))
_ARTEFACTS_KEPT = 32
_LOOK_EVERY = 8
"""Completions handed out between looks at the sockets."""


@dataclass(frozen=True, slots=True)
class ControllerStatistics:
    """Counts since the start; local figures, never state."""

    sandboxes: int
    spawned: int
    killed: int
    died: int
    evicted: int
    failures: int
    """Conversations that had to be started again."""
    speculative_hits: int
    """Answers that were there when they were asked for."""
    speculative_misses: int
    """Answers thrown away."""


@dataclass(slots=True, eq=False)
class _Task:
    """One message under way."""

    key: Hashable
    message: ExecutionInput | None
    """None: the next slice of the paused message."""
    context: ExecutionContext | None = None
    upcoming: Sequence[ExecutionInput] = ()
    snapshot: ExecutionState | None = None
    """What a query runs on."""
    failures: int = 0
    talk: Talk | None = None
    expected: deque[int] = field(default_factory=deque)
    """Cookies of the replies that are due."""
    replies: list[Reply] = field(default_factory=list)
    deadline: float = 0.0


@dataclass(slots=True, eq=False)
class _Line:
    """A conversation, its process and its tasks."""

    conversation: Conversation
    query: bool
    process: SandboxProcess | None = None
    tasks: deque[_Task] = field(default_factory=deque)
    """The first is under way or waits for a slot; only query lines have more."""


class SandboxController:
    """All sandboxes of a node."""

    def __init__(
        self,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        launcher: Launcher,
        artefact_loader: Callable[[str], int],
        environment_for: Callable[[CanisterId], Environment],
        compiler_endpoint: str | None,
        max_sandboxes: int = 512,
        batch_size: int = 100,
        max_in_flight: int = 4,
        watchdog_s: float = 60.0,
        name: str = "",
        fault_point: Callable[[str, int], None] | None = None,
    ) -> None:
        """`artefact_loader` gives a descriptor of a module's native code, which is then the controller's to close.

        `name` is the node's (`app-1/2`), for process titles. `fault_point` is called with the name of a point and the pid of
        the sandbox concerned: `answered`, `between_commits`, `install`, `paused`, `query`.
        """
        self._pool = SandboxPool(context, endpoint, launcher)
        self._launcher, self._load, self._environment_for = launcher, artefact_loader, environment_for
        self._compiler = CompileClient(context, compiler_endpoint, self._pool.poller) if compiler_endpoint else None
        self._compile_keys: dict[int, Hashable] = {}
        self._max_sandboxes, self._batch_size, self._max_in_flight = max_sandboxes, batch_size, max_in_flight
        self._watchdog_s, self._name, self._fault_point = watchdog_s, name, fault_point
        self._lines: dict[Hashable, _Line] = {}
        self._by_identity: dict[bytes, _Line] = {}
        self._ready: deque[tuple[Hashable, Completion]] = deque()
        self._waiting: deque[_Line] = deque()
        self._in_flight: dict[_Line, None] = {}
        self._cookies = itertools.count(1)
        self._artefacts: dict[str, int] = {}
        self._handed_out = 0
        self._evicted = self._failures = self._hits = self._misses = 0

    # --- what the node asks

    def run(
        self,
        key: Hashable,
        canister_id: CanisterId,
        execution: ExecutionState,
        message: ExecutionInput,
        context: ExecutionContext,
        upcoming: Sequence[ExecutionInput] = (),
        pool: str = "update",
    ) -> None:
        """Start a message on committed state; its Answer comes among the completions under this key.

        One message at a time per execution state. `upcoming` is what will probably follow; it is run ahead but never changes an
        answer. An answer counts as committed once `execution.version` has gone up by one.
        """
        if pool == "query":
            self.query(key, canister_id, execution, message, context)
            return
        line = self._line(("update", execution.session), canister_id, execution, query=False)
        assert not line.tasks, f"canister {canister_id} is given a message while it runs another"
        task = _Task(key, message, context, upcoming)
        line.tasks.append(task)
        try:
            answer = line.conversation.predicted(message, context)
        except SandboxFailure as failure:
            self._failed(line, failure)
            return
        if answer is None:
            self._queue(line)
        else:
            self._finish(line, answer, "between_commits")

    def resume(self, key: Hashable, execution: ExecutionState) -> None:
        """Run the next slice of the paused message of this execution state."""
        line = self._lines["update", execution.session]
        assert not line.tasks, "a message is resumed while another runs"
        line.tasks.append(_Task(key, None))
        self._queue(line)

    def abort(self, execution: ExecutionState) -> None:
        """Paused work and what was run ahead on this execution state won't be asked for."""
        line = self._lines.get(("update", execution.session))
        if line is not None:
            assert not line.tasks, "a message is aborted while it runs"
            line.conversation.give_up()

    def drop(self, execution: ExecutionState) -> None:
        """This execution state is no longer used: end its sandbox."""
        line = self._lines.pop(("update", execution.session), None)
        if line is not None:
            assert not line.tasks, "a state is dropped while a message runs on it"
            self._retire(line)

    def query(
        self,
        key: Hashable,
        canister_id: CanisterId,
        snapshot: ExecutionState,
        message: ExecutionInput,
        context: ExecutionContext,
    ) -> None:
        """Run a query on a state that isn't committed to any more (a fork), in the canister's query sandbox.

        Queries of one canister run one after the other; one whose sandbox fails three times completes with a SandboxFailure.
        """
        line = self._line(("query", canister_id), canister_id, snapshot, query=True)
        line.tasks.append(_Task(key, message, context, snapshot=snapshot))
        if len(line.tasks) == 1:
            self._queue(line)

    def compile(self, key: Hashable, wasm: bytes, limits: SubnetLimits) -> None:
        """Have a module compiled; completes with CompileDone or CompileRefused."""
        assert self._compiler is not None, "this controller has no compiler"
        self._compile_keys[self._compiler.ask(wasm, limits)] = key

    def completions(self, timeout_ms: int) -> list[tuple[Hashable, Completion]]:
        """What has been answered; waits up to `timeout_ms` for the first answer (-1: as long as it takes).

        Raises: SandboxFailure naming canister, message and cause, when sandboxes failed three times in a row at one message;
        NetworkError when no more sandboxes can be started because the zygote is gone.
        """
        self._handed_out += 1
        if not self._ready or self._handed_out % _LOOK_EVERY == 0:
            self._receive()
        end = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000
        while not self._ready:
            left = None if end is None else end - time.monotonic()
            if (left is not None and left <= 0) or not (self._in_flight or self._compile_keys or left is not None):
                break
            self._wait(left)
        found = list(self._ready)
        self._ready.clear()
        return found

    def busy(self) -> bool:
        """Whether anything that was asked for hasn't completed yet."""
        return bool(self._in_flight or self._waiting or self._compile_keys or self._ready)

    def pids(self, pool: str = "update") -> dict[CanisterId, int]:
        """Process of each canister that has one now."""
        lines = (line for line in self._lines.values() if line.query == (pool == "query") and line.process is not None)
        return {line.conversation.canister_id: line.process.pid for line in lines if line.process is not None}

    def statistics(self) -> ControllerStatistics:
        """Counts since the start."""
        talks = [line.conversation for line in self._lines.values()]
        return ControllerStatistics(
            sandboxes=len(self._pool),
            spawned=self._pool.spawned,
            killed=self._pool.killed,
            died=self._pool.died,
            evicted=self._evicted,
            failures=self._failures,
            speculative_hits=self._hits + sum(talk.hits for talk in talks),
            speculative_misses=self._misses + sum(talk.misses for talk in talks),
        )

    def close(self) -> None:
        """End all sandboxes."""
        self._pool.close()
        if self._compiler is not None:
            self._compiler.close()
        for fd in self._artefacts.values():
            os.close(fd)
        self._artefacts.clear()
        self._lines.clear()
        self._launcher.close()

    # --- tasks

    def _line(self, key: Hashable, canister_id: CanisterId, execution: ExecutionState, *, query: bool) -> _Line:
        line = self._lines.get(key)
        if line is None:
            conversation = Conversation(
                canister_id,
                execution,
                self._environment_for(canister_id),
                self._batch_size,
                lambda answer: answer,
                tracking=not query,
                cookies=self._cookies,
                version=execution.version,
            )
            line = self._lines[key] = _Line(conversation, query)
        return line

    def _queue(self, line: _Line) -> None:
        self._waiting.append(line)
        self._start_waiting()

    def _start_waiting(self) -> None:
        while self._waiting and len(self._in_flight) < self._max_in_flight:
            line = self._waiting.popleft()
            self._in_flight[line] = None
            self._begin(line)

    def _begin(self, line: _Line) -> None:
        """Start, or start again, the conversation about the first task."""
        task, conversation = line.tasks[0], line.conversation
        if task.snapshot is not None:
            conversation.show(task.snapshot)
        if task.message is None:
            task.talk = conversation.resume()
        else:
            assert task.context is not None
            task.talk = conversation.run(task.message, task.context, () if task.failures else task.upcoming)
        task.expected.clear()
        task.replies = []
        self._go_on(line, None)

    def _go_on(self, line: _Line, replies: list[Reply] | None) -> None:
        """Hand the replies to the conversation and send what it asks next."""
        task = line.tasks[0]
        assert task.talk is not None
        try:
            try:
                requests = next(task.talk) if replies is None else task.talk.send(replies)
            finally:
                if line.process is not None:
                    line.process.clear_buffer()
            for request in requests:
                self._send(line, request)
                task.expected.append(request.cookie)
            task.replies = []
            task.deadline = time.monotonic() + self._watchdog_s
        except StopIteration as done:
            self._finish(line, done.value, _point(task, done.value, line.query))
        except SandboxFailure as failure:
            self._failed(line, failure)

    def _finish(self, line: _Line, answer: Answer, point: str) -> None:
        task = line.tasks.popleft()
        self._ready.append((task.key, answer))
        self._in_flight.pop(line, None)
        if self._fault_point is not None and line.process is not None:
            self._fault_point(point, line.process.pid)
        if line.tasks:
            self._waiting.append(line)
        self._start_waiting()

    def _failed(self, line: _Line, failure: SandboxFailure) -> None:
        """The sandbox of the first task is no good: take another, or give up."""
        task = line.tasks[0]
        self._failures += 1
        task.failures += 1
        self._end_process(line, failed=True)
        if task.failures < MAX_FAILURES:
            self._in_flight[line] = None
            self._begin(line)
            return
        what = _describe(line.conversation, task)
        error = SandboxFailure(f"{what} failed {MAX_FAILURES} times in a row in its sandbox, at last because: {failure}")
        if not line.query:
            raise error
        task = line.tasks.popleft()
        self._in_flight.pop(line, None)
        self._ready.append((task.key, error))
        if line.tasks:
            self._waiting.append(line)
        self._start_waiting()

    # --- processes

    def _send(self, line: _Line, request: Request) -> None:
        if isinstance(request, Open):
            self._open_process(line)
        process = line.process
        if process is None:
            raise SandboxFailure("its process is gone")
        if isinstance(request, Open):
            execution = line.conversation.execution
            fds = [self._artefact(execution.artefact), execution.heap.open_reader(), execution.stable.open_reader()]
            try:
                process.send_descriptors(fds)
            finally:
                for fd in fds[1:]:
                    os.close(fd)
        self._pool.send(process, wire.encode(request))

    def _open_process(self, line: _Line) -> None:
        """A process for this line, ending what stood in its place."""
        canister_id = line.conversation.canister_id
        self._kill(line)
        if not line.query:  # one update sandbox per canister: that of a replaced state goes
            for other in list(self._lines.values()):
                if other.conversation.canister_id == canister_id and not other.query and self._is_idle(other):
                    self._remove(other)
        while len(self._pool) >= self._max_sandboxes:
            victim = self._pool.least_recently_used(lambda process: self._is_idle(self._by_identity[process.identity]))
            if victim is None:
                break  # all are at work or paused, which is bounded by cores and paused executions
            self._evict(self._by_identity[victim.identity])
        kind = "query" if line.query else "sandbox"
        process = self._pool.spawn(" ".join(part for part in ("icsim", kind, self._name, str(canister_id)) if part))
        line.process = process
        self._by_identity[process.identity] = line
        line.conversation.copy_out = lambda answer: _copy_out(process, answer)

    def _is_idle(self, line: _Line) -> bool:
        return line.process is not None and not line.tasks and line.conversation.paused is None

    def _evict(self, line: _Line) -> None:
        self._evicted += 1
        if line.conversation.ahead or line.conversation.given is not None:
            self._end_process(line)
            return
        self._remove(line)

    def _remove(self, line: _Line) -> None:
        for key in [key for key, other in self._lines.items() if other is line]:
            del self._lines[key]
        self._retire(line)

    def _retire(self, line: _Line) -> None:
        self._hits += line.conversation.hits
        self._misses += line.conversation.misses
        self._end_process(line)

    def _end_process(self, line: _Line, *, failed: bool = False) -> None:
        self._kill(line)
        line.conversation.forget_sandbox(failed=failed)

    def _kill(self, line: _Line) -> None:
        if line.process is not None:
            self._pool.end(line.process)
            del self._by_identity[line.process.identity]
            line.process = None

    def _artefact(self, name: str) -> int:
        fd = self._artefacts.pop(name, None)
        if fd is None:
            fd = self._load(name)
            if len(self._artefacts) >= _ARTEFACTS_KEPT:
                os.close(self._artefacts.pop(next(iter(self._artefacts))))
        self._artefacts[name] = fd  # the last is the most recently used
        return fd

    # --- what arrives

    def _wait(self, left_s: float | None) -> None:
        """Wait for something to arrive, but not beyond a deadline."""
        now = time.monotonic()
        times = [line.tasks[0].deadline - now for line in self._in_flight] + ([] if left_s is None else [left_s])
        if self._pool.flush():
            times.append(0.001)
        self._pool.poller.poll(int(max(0.0, min(times)) * 1000) + 1 if times else None)
        self._receive()
        if not self._ready:
            self._end_hanging()

    def _receive(self) -> None:
        router = self._pool.router
        while True:
            try:
                identity, body = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            except ValueError:
                continue  # not two frames: nobody of ours
            self._on_message(identity, body)
        for process in self._pool.dead():
            self._on_death(process)
        if self._compile_keys and self._compiler is not None:
            for cookie, answer in self._compiler.answers():
                self._ready.append((self._compile_keys.pop(cookie), answer))

    def _on_message(self, identity: bytes, body: bytes) -> None:
        process = self._pool.find(identity)
        if process is None:
            return
        if not process.connected:
            self._pool.heard_from(process)
        if not body:
            return
        line = self._by_identity[identity]
        task = line.tasks[0] if line in self._in_flight else None
        try:
            reply = wire.decode(body, *_REPLIES)
            if isinstance(reply, OpenFailed):
                raise SandboxFailure(f"the module can't be opened: {reply.reason}")
            if task is None or not task.expected or reply.cookie != task.expected[0]:
                raise SandboxFailure(f"impossible answer: {type(reply).__name__} that nobody asked for")
        except (SandboxFailure, WireError) as failure:
            self._misbehaved(line, failure)
            return
        task.expected.popleft()
        task.replies.append(reply)
        if not task.expected:
            self._pool.used(process)
            self._go_on(line, task.replies)

    def _misbehaved(self, line: _Line, failure: SandboxFailure | WireError) -> None:
        cause = failure if isinstance(failure, SandboxFailure) else SandboxFailure(f"impossible answer: {failure}")
        if line in self._in_flight:
            self._failed(line, cause)
        else:
            self._failures += 1
            self._end_process(line, failed=True)

    def _on_death(self, process: SandboxProcess) -> None:
        line = self._by_identity.get(process.identity)
        if line is None:
            return
        if line in self._in_flight:
            self._failed(line, SandboxFailure("its process ended"))
        else:
            self._end_process(line)

    def _end_hanging(self) -> None:
        now = time.monotonic()
        for line in list(self._in_flight):
            if line.tasks and line.tasks[0].deadline < now:
                self._failed(line, SandboxFailure(f"no answer within {self._watchdog_s:g} s"))


def _point(task: _Task, answer: Answer, query: bool) -> str:
    if query:
        return "query"
    if isinstance(answer, Paused):
        return "paused"
    return "install" if task.message is not None and task.message.entry in _INSTALL else "answered"


def _describe(conversation: Conversation, task: _Task) -> str:
    message = task.message
    if message is None:
        assert conversation.paused is not None
        message = conversation.paused.message
    name = f" {message.method!r}" if message.method else ""
    return f"{message.entry.value}{name} of canister {conversation.canister_id}"


def _copy_out(process: SandboxProcess, answer: Answer) -> Answer:
    """The answer with the content of its pages inline, copied once before anything looks at it."""
    if isinstance(answer, Paused):
        return answer
    if answer.heap.buffer_offset is not None:
        answer = replace(answer, heap=_inline(process, answer.heap))
    if isinstance(answer, Finished) and answer.stable.buffer_offset is not None:
        answer = replace(answer, stable=_inline(process, answer.stable))
    return answer


def _inline(process: SandboxProcess, pages: Pages) -> Pages:
    assert pages.buffer_offset is not None
    if pages.content:
        raise SandboxFailure("impossible answer: pages both inline and in the buffer")
    return Pages(pages.indices, process.copy_from_buffer(pages.buffer_offset, len(pages.indices)))
