"""The node's side of the sandbox border: messages in, checked answers out, whatever happens to the processes.

Plumbing: sockets and the watchdog's clock; what is said is decided in `conversation`. Answers may come in any order and after
any number of kills, but each is the only one possible: a sandbox that dies, hangs or lies is replaced by one that starts from
committed memory, and a local failure never becomes a state change.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Final, TypeAlias

import structlog
import zmq

from configs.limits import SubnetLimits
from ic_types import wire
from ic_types.errors import SandboxDied, SandboxFailure, WireError
from ic_types.principal import CanisterId
from sandbox.compile_client import CompileAnswer, CompileClient
from sandbox.controller_statistics import ControllerStatistics, gather
from sandbox.execution_state import ExecutionState
from sandbox.launcher import Launcher
from sandbox.line import Line, LineMaker, Task
from sandbox.memory_watch import SPARE_BYTES, MemoryWatch
from sandbox.pairing import Reply, Request
from sandbox.protocol import Answer, Environment, ExecutionContext, ExecutionInput
from sandbox.query_forks import QueryForks
from sandbox.requests import Aborted, Executed, Opened, OpenFailed, ResetDone
from sandbox.sandbox_host import SandboxHost
from sandbox.sandbox_pool import SandboxPool, SandboxProcess
from sandbox.workload import Workload

Completion: TypeAlias = Answer | CompileAnswer | SandboxFailure
"""SandboxFailure for queries alone: they may fail without stopping the node."""
MAX_FAILURES: Final = 3
"""Times that one message may hang or be answered with lies."""
MAX_DEATHS: Final = 30
"""Times that its sandbox may die: whoever kills sandboxes, at whatever pace a person or a test does, changes nothing."""
_REPLIES: Final = (Opened, OpenFailed, Executed, Aborted, ResetDone)
_PATIENCE_MS: Final = 20
"""How long to wait for sandboxes before looking for those that died, hang or take too much memory."""
_LOOK_EVERY: Final = 8
"""Calls of `completions` between looks at the sockets while there are answers anyway."""


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
        spare_bytes: int = SPARE_BYTES,
        name: str = "",
        reuse_instances: bool = True,
        fault_point: Callable[[str, int], None] | None = None,
    ) -> None:
        """`artefact_loader` gives a descriptor of a module's native code, which is then the controller's to close.

        `name` is the node's (`app-1/2`), for process titles. `reuse_instances`: see Conversation. `fault_point` is called with
        the name of a point and the pid of the sandbox concerned: `answered`, `between_commits`, `install`, `paused`, `query`.
        """
        self._log = structlog.get_logger("sandbox").bind(node=name)
        self._pool = SandboxPool(context, endpoint, launcher)
        self._host = SandboxHost(self._pool, artefact_loader, max_sandboxes, name)
        self._launcher = launcher
        self._maker = LineMaker(environment_for, batch_size, reuse_instances)
        self._compiler = CompileClient(context, compiler_endpoint, self._pool.poller) if compiler_endpoint else None
        self._compiling: dict[int, Hashable] = {}
        """Keys by cookie."""
        self._watchdog_s, self._fault_point, self._memory = watchdog_s, fault_point, MemoryWatch(spare_bytes)
        self._ready: deque[tuple[Hashable, Completion]] = deque()
        self._work, self._forks = Workload(max_in_flight), QueryForks()
        self._calls = self._failures = 0

    # --- what the node asks

    def run(
        self,
        key: Hashable,
        canister_id: CanisterId,
        execution: ExecutionState,
        message: ExecutionInput,
        context: ExecutionContext,
        upcoming: Sequence[ExecutionInput] = (),
    ) -> None:
        """Start a message on committed state; its Answer comes among the completions under this key.

        One message at a time per execution state. `upcoming` is what will probably follow; it is run ahead but never changes an
        answer. An answer counts as committed once `execution.version` has gone up by one.
        """
        line = self._line(("update", execution.session), canister_id, execution, query=False, tracking=True)
        assert not line.tasks, f"canister {canister_id} is given a message while it runs another"
        line.tasks.append(Task(key, message, context, upcoming))
        try:
            answer = line.conversation.predicted(message, context)
        except SandboxFailure as failure:
            self._failed(line, failure)
            return
        if answer is None:
            self._queue(line)
        else:
            self._run_ahead(line)
            self._finish(line, answer, "between_commits")

    def resume(self, key: Hashable, execution: ExecutionState) -> None:
        """Run the next slice of the paused message of this execution state."""
        line = self._host.lines["update", execution.session]
        assert not line.tasks, "a message is resumed while another runs"
        line.tasks.append(Task(key, None))
        self._queue(line)

    def abort(self, execution: ExecutionState) -> None:
        """Paused work and what was run ahead on this execution state won't be asked for."""
        line = self._host.lines.get(("update", execution.session))
        if line is not None:
            assert not line.tasks, "a message is aborted while it runs"
            line.conversation.give_up()

    def drop(self, execution: ExecutionState) -> None:
        """This execution state is no longer used: end its sandbox."""
        self._host.remove(("update", execution.session))

    def drop_canister(self, canister_id: CanisterId) -> None:
        """End the idle sandboxes of this canister, for updates and queries; paused work stays where it is."""
        self._host.remove_canister(canister_id, queries=True)

    def query(
        self,
        key: Hashable,
        canister_id: CanisterId,
        snapshot: ExecutionState,
        message: ExecutionInput,
        context: ExecutionContext,
        *,
        own_fork: bool = False,
    ) -> None:
        """Run a query on a state that isn't committed to any more (a fork), in the canister's query sandbox.

        Queries of one canister run one after the other; one whose sandbox fails three times completes with a SandboxFailure.
        With `own_fork` nobody else uses the fork, answers are committed to it as of `run`, and it has a sandbox to itself until
        it is released.
        """
        place = self._forks.place_of(snapshot, canister_id) if own_fork else ("query", canister_id)
        line = self._line(place, canister_id, snapshot, query=True, tracking=own_fork)
        line.tasks.append(Task(key, message, context, snapshot=snapshot))
        if len(line.tasks) == 1:
            self._queue(line)

    def release(self, fork: ExecutionState) -> None:
        """The query that this fork was made for is over; its sandbox serves the next one unless it holds too much."""
        place = self._forks.release(fork)
        line = None if place is None else self._host.lines.get(place)
        if line is not None and not line.tasks and line.conversation.is_heavy():
            self._host.remove(place)

    def compile(self, key: Hashable, wasm: bytes, limits: SubnetLimits) -> None:
        """Have a module compiled; completes with CompileDone or CompileRefused."""
        assert self._compiler is not None, "this controller has no compiler"
        self._compiling[self._compiler.ask(wasm, limits)] = key

    def completions(self, timeout_ms: int) -> list[tuple[Hashable, Completion]]:
        """What has been answered; waits up to `timeout_ms` for the first answer (-1: until there is nothing to wait for).

        Raises: SandboxFailure naming canister, message and cause, when sandboxes failed three times in a row at one message;
        NetworkError when no more sandboxes can be started because the zygote is gone.
        """
        self._calls += 1
        if self._ready and self._calls % _LOOK_EVERY == 0:
            self._receive(0)
        end = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000
        while not self._ready and (end is not None or self.busy()):
            left = None if end is None else end - time.monotonic()
            self._wait(left)
            if left is not None and left <= 0:
                break
        found, self._ready = list(self._ready), deque()
        return found

    def busy(self) -> bool:
        """Whether anything that was asked for hasn't been handed out yet."""
        return bool(self._work.asked or self._work.waiting or self._work.queries or self._compiling or self._ready)

    def pids(self, pool: str = "update") -> dict[CanisterId, int]:
        """Process of each canister that has one now."""
        lines = [line for line in self._host.lines.values() if line.query == (pool == "query")]
        return {line.conversation.canister_id: line.process.pid for line in lines if line.process is not None}

    def statistics(self) -> ControllerStatistics:
        """Counts since the start."""
        return gather(self._pool, self._host, self._failures)

    def close(self) -> None:
        """End all sandboxes."""
        if self._compiler is not None:
            self._compiler.close()
        self._host.close()
        self._launcher.close()

    # --- tasks

    def _line(self, key: Hashable, canister_id: CanisterId, execution: ExecutionState, *, query: bool, tracking: bool) -> Line:
        line = self._host.lines.get(key)
        if line is None:
            line = self._host.lines[key] = self._maker.make(canister_id, execution, query=query, tracking=tracking)
        return line

    def _queue(self, line: Line) -> None:
        self._work.wait(line)
        self._start_waiting()

    def _start_waiting(self) -> None:
        while (line := self._work.next()) is not None:
            self._begin(line)

    def _run_ahead(self, line: Line) -> None:
        """Send messages that will probably be asked for, before those that were answered are committed.

        Raises: SandboxFailure when the process is gone and answers are due.
        """
        task, conversation = line.tasks[0], line.conversation
        if not task.upcoming or task.failures or task.deaths or not self._work.may_run_ahead(line):
            return
        try:
            for request in conversation.run_ahead(task.upcoming):
                self._send(line, request)
                self._work.sent_ahead(line)
        except SandboxFailure:
            if task.awaited:
                raise
            self._host.lose(line, failed=False)

    def _send(self, line: Line, request: Request) -> None:
        self._host.send(line, request)
        line.expected.append(request.cookie)
        line.deadline = time.monotonic() + self._watchdog_s

    def _begin(self, line: Line) -> None:
        """Start, or start again, the conversation about the first task."""
        task, conversation = line.tasks[0], line.conversation
        self._work.asked[line] = None
        if task.snapshot is not None:
            conversation.show(task.snapshot)
        if task.message is None:
            task.talk = conversation.resume()
        else:
            assert task.context is not None, "a message has a context"
            task.talk = conversation.run(task.message, task.context, () if task.failures or task.deaths else task.upcoming)
        self._go_on(line, None)

    def _go_on(self, line: Line, replies: list[Reply] | None) -> None:
        """Hand the replies to the conversation and send what it asks next."""
        task = line.tasks[0]
        assert task.talk is not None, "the conversation has begun"
        try:
            requests = next(task.talk) if replies is None else task.talk.send(replies)
            for request in requests:
                self._send(line, request)
            task.replies, task.awaited = [], len(requests)
            if requests:
                self._run_ahead(line)
        except StopIteration as done:
            self._run_ahead(line)
            self._finish(line, done.value, line.fault_point(task, done.value))
        except SandboxFailure as failure:
            self._failed(line, failure)

    def _finish(self, line: Line, result: Completion, point: str) -> None:
        self._ready.append((line.tasks.popleft().key, result))
        self._work.asked.pop(line, None)
        if self._fault_point is not None and line.process is not None:
            self._fault_point(point, line.process.pid)
        if line.tasks:
            self._work.wait(line)
        self._start_waiting()

    def _failed(self, line: Line, failure: SandboxFailure) -> None:
        """The sandbox of the first task is no good: take another, or give up."""
        task = line.tasks[0]
        self._failures += 1
        died = isinstance(failure, SandboxDied)
        task.deaths, task.failures = task.deaths + died, task.failures + (not died)
        self._log.warning("sandbox.replaced", cause=str(failure), message=line.describe(task), **line.about())
        self._host.lose(line, failed=True)
        if task.failures < MAX_FAILURES and task.deaths < MAX_DEATHS:
            self._begin(line)
            return
        what = line.describe(task)
        times = task.failures + task.deaths
        error = SandboxFailure(f"{what} failed {times} times in a row in its sandbox, at last because: {failure}")
        if not line.query:
            raise error
        self._finish(line, error, "query")

    # --- what arrives

    def _wait(self, left_s: float | None) -> None:
        """Wait for something to arrive, but not beyond a deadline; look now and then what sandboxes are at."""
        patience = _PATIENCE_MS if self._pool.all_connected or not self._pool.flush() else 1
        if left_s is not None:
            patience = max(min(patience, int(left_s * 1000) + 1), 0)
        if self._compiling:
            self._pool.poller.poll(patience)
            patience = 0
        if not self._receive(patience):
            for process in self._pool.dead():
                self._on_death(process)
            self._end_hanging()

    def _receive(self, patience_ms: int) -> bool:
        """Take in what has arrived or does in time; whether anything did."""
        before, found = len(self._ready), False
        for process, body in self._pool.received(patience_ms):
            found = True
            self._on_message(process, body)
        if self._compiling and self._compiler is not None:
            for cookie, answer in self._compiler.answers():
                self._ready.append((self._compiling.pop(cookie), answer))
        return found or len(self._ready) > before

    def _on_message(self, process: SandboxProcess, body: bytes) -> None:
        line = self._host.line_of(process)
        if line is None or not body:  # ended meanwhile; or a greeting
            return
        task, flights = line.tasks[0] if line in self._work.asked else None, line.conversation.flights
        try:
            reply = wire.decode(body, *_REPLIES)
            if isinstance(reply, OpenFailed):
                raise SandboxFailure(f"the module can't be opened: {reply.reason}")
            if not line.expected or reply.cookie != line.expected[0]:
                raise SandboxFailure(f"impossible answer: {type(reply).__name__} that nobody asked for")
            line.expected.popleft()
            if flights and flights[0].cookie == reply.cookie:
                line.conversation.land(reply)
            else:
                assert task is not None, "only what was sent ahead is answered while nobody asks"
                task.replies.append(reply)
                task.awaited -= 1
        except (SandboxFailure, WireError) as failure:
            self._misbehaved(line, failure)
            return
        if task is None:
            self._start_waiting()
        elif task.awaited == 0:
            self._pool.used(process)
            self._go_on(line, task.replies)

    def _misbehaved(self, line: Line, failure: SandboxFailure | WireError) -> None:
        cause = failure if isinstance(failure, SandboxFailure) else SandboxFailure(f"impossible answer: {failure}")
        if line in self._work.asked:
            self._failed(line, cause)
        else:
            self._failures += 1
            self._log.warning("sandbox.misbehaved", cause=str(cause), **line.about())
            self._host.lose(line, failed=True)
            self._start_waiting()

    def _on_death(self, process: SandboxProcess) -> None:
        line = self._host.line_of(process)
        if line is None:
            return
        if line in self._work.asked:
            self._failed(line, SandboxDied("its process ended"))
        else:
            self._log.warning("sandbox.died", **line.about())
            self._host.lose(line, failed=False)
            self._start_waiting()

    def _end_hanging(self) -> None:
        now = time.monotonic()
        computing = self._work.computing()
        for line in computing:
            if line.deadline < now and line.expected:
                self._misbehaved(line, SandboxFailure(f"no answer within {self._watchdog_s:g} s"))
        for line, failure in self._memory.too_large(computing):
            self._misbehaved(line, failure)
