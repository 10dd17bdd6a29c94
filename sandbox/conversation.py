"""What the node says to the sandbox of one execution state, and what it makes of the answers.

Rule module. A conversation is a generator: it yields the requests to send and is sent their replies, so it can be read top-down
and run against anything that answers. It raises SandboxFailure at the first thing that no honest sandbox does; the caller then
kills that sandbox, calls `forget_sandbox` and starts the conversation again. Answers never depend on what was run ahead.
Spec: not in the spec; it is how "message execution" is carried out in another process.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from ic_types import trace
from ic_types.errors import SandboxFailure
from ic_types.principal import CanisterId
from sandbox.answer_check import Asked, check_answer, check_stop
from sandbox.catch_up import PausedWork
from sandbox.execution_state import ExecutionState
from sandbox.mapped_pages import MappedPages
from sandbox.protocol import (
    Abort,
    Aborted,
    Answer,
    EntryPoint,
    Environment,
    Execute,
    Executed,
    ExecutionContext,
    ExecutionInput,
    Finished,
    MemoryImage,
    Open,
    Opened,
    Paused,
    Reset,
    ResetDone,
    Resume,
    Settled,
    Stop,
)

Request: TypeAlias = Open | Execute | Settled | Resume | Abort | Reset
Reply: TypeAlias = Opened | Executed | Aborted | ResetDone
Talk: TypeAlias = Generator[list[Request], list[Reply], Answer]

NOT_COMMITTED: Final = frozenset((EntryPoint.QUERY, EntryPoint.COMPOSITE_QUERY, EntryPoint.INSPECT_MESSAGE))
"""Entry points of which nothing stays: nothing can be run ahead on top of them."""


class Waits(Enum):
    """What the sandbox waits for in the middle of a message."""

    NOTHING = 0
    SETTLED = 1
    RESUME = 2


@dataclass(slots=True)
class Conversation:
    """The node's side of one sandbox: what it shows, what it ran ahead, what has to be undone."""

    canister_id: CanisterId
    execution: ExecutionState
    environment: Environment
    batch_size: int
    copy_out: Callable[[Answer], Answer] = lambda answer: answer
    """Replaces pages in the shared buffer by their content; called once per answer, before anything looks at them."""
    tracking: bool = True
    reuse_instances: bool = True
    """False: every message gets a fresh instance, even of modules that leave no traces in one; never changes a result."""
    cookies: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    mapped: MappedPages | None = None
    """What the sandbox shows besides committed pages; None while there is no sandbox."""
    ahead: deque[tuple[ExecutionInput, Answer]] = field(default_factory=deque)
    """Answered, but not asked for yet."""
    rest: deque[ExecutionInput] = field(default_factory=deque)
    """Inputs that the sandbox has and hasn't answered; it waits in the first of them."""
    waits: Waits = Waits.NOTHING
    given: Answer | None = None
    """The last answer handed out, until it is known whether it was committed."""
    version: int = field(init=False)
    """Of the execution state when the last answer was handed out."""
    paused: PausedWork | None = None
    spoiled: bool = False
    """The message that the sandbox waits in was run ahead on something that wasn't committed."""
    hits: int = 0
    misses: int = 0

    def __post_init__(self) -> None:
        """Nothing was handed out yet."""
        self.version = self.execution.version

    # --- what the node asks

    def predicted(self, message: ExecutionInput, context: ExecutionContext) -> Answer | None:
        """The answer to this message if the sandbox has run it ahead on what is committed now."""
        self._take_stock()
        if not self.ahead:
            return None
        foreseen = self.ahead[0][0]
        if foreseen is not message and foreseen != message:
            self._discard_ahead()
            return None
        self.hits += 1
        return self._hand_out(message, context, self.ahead.popleft()[1])

    def run(self, message: ExecutionInput, context: ExecutionContext, upcoming: Sequence[ExecutionInput] = ()) -> Talk:
        """Run a message, and some of the upcoming ones ahead; returns its answer.

        Raises: SandboxFailure.
        """
        trace.emit("sandbox.conversation.run", self.canister_id, message.entry.value)
        answer = self.predicted(message, context)
        if answer is not None:
            return answer
        if self.waits is Waits.SETTLED and not self.spoiled and self.mapped is not None and self.rest[0] == message:
            self.hits += 1
            self.waits = Waits.NOTHING
            self._absorb(self._one(Executed, (yield [Settled(cookie=next(self.cookies), context=context)])))
        else:
            requests: list[Request] = yield from self._show_committed()
            self.rest, self.spoiled = deque(self._batch(message, upcoming)), False
            requests.append(Execute(cookie=next(self.cookies), inputs=tuple(self.rest), context=context))
            self._absorb(self._last(requests, (yield requests)))
        return self._hand_out(message, context, self._first_answer())

    def resume(self) -> Talk:
        """Run the next slice of the paused message; a new sandbox first catches up with the finished ones.

        Raises: SandboxFailure.
        """
        work = self.paused
        assert work is not None, f"nothing of canister {self.canister_id} is paused"
        if self.waits is not Waits.RESUME or self.mapped is None or self.execution.version != self.version:
            yield from self._catch_up(work)
        self._absorb(self._one(Executed, (yield self._resume())))
        if not self.ahead:
            yield from self._settle_again(work)
        return self._hand_out(work.message, work.context, self._first_answer())

    def give_up(self) -> None:
        """Paused work and what was run ahead won't be asked for; undone before anything else runs."""
        self.paused = None
        if isinstance(self.given, Paused):
            self.given = None
        self._discard_ahead()

    def forget_sandbox(self, *, failed: bool = False) -> None:
        """The sandbox is gone; answers that it gave before are still good unless it failed in the middle of a conversation."""
        self.mapped, self.waits = None, Waits.NOTHING
        self.rest.clear()
        if failed:
            self.ahead.clear()

    def show(self, execution: ExecutionState) -> None:
        """Go over to another state of the same canister (a later snapshot); nothing may be under way."""
        if execution is not self.execution:
            self._discard_ahead()
            self.execution, self.version = execution, execution.version

    # --- bringing the sandbox to the committed state

    def _take_stock(self) -> None:
        """Find out what became of the last answer."""
        given, self.given, self.paused = self.given, None, None
        moved, self.version = self.execution.version - self.version, self.execution.version
        if isinstance(given, Finished) and moved == 1:
            if self.mapped is not None:
                self.mapped.committed(given)
        elif moved:  # somebody else wrote this state
            self.ahead.clear()
            self.mapped = None
        elif given is not None:
            self._discard_ahead()
            if self.mapped is not None and self.tracking:
                self.mapped.rolled_back(given, self.execution)

    def _discard_ahead(self) -> None:
        self.spoiled = True
        self.misses += len(self.ahead)
        if self.mapped is not None:
            for _, answer in self.ahead:
                self.mapped.rolled_back(answer, self.execution)
        self.ahead.clear()

    def _show_committed(self) -> Generator[list[Request], list[Reply], list[Request]]:
        """End what the sandbox waits in; returns the requests that make it show what is committed."""
        if self.mapped is not None and self.waits is not Waits.NOTHING:
            aborted = self._one(Aborted, (yield [Abort(cookie=next(self.cookies))]))
            assert isinstance(aborted, Aborted)
            self.mapped.aborted(aborted, self.environment.limits)
        self.waits = Waits.NOTHING
        if self.mapped is not None and not self.mapped.can_follow(self.execution):
            self.mapped = None
        if self.mapped is None:
            return [self._open()]
        images = self.mapped.reset_to(self.execution)
        if images is None:
            return []
        return [Reset(cookie=next(self.cookies), heap=images[0], stable=images[1], globals=self.execution.globals)]

    def _open(self) -> Open:
        execution = self.execution
        self.mapped = MappedPages(execution)
        return Open(
            cookie=next(self.cookies),
            environment=self.environment,
            wasm64=execution.module.wasm64,
            heap=MemoryImage(wasm_pages=execution.heap.wasm_pages, runs=execution.heap.runs()),
            stable=MemoryImage(wasm_pages=execution.stable.wasm_pages, runs=execution.stable.runs()),
            globals=execution.globals,
            reuse_instance=execution.module.reuse_safe and self.reuse_instances,
            tracking=self.tracking,
            global_exports=tuple(info.export for info in execution.module.globals),
        )

    def _batch(self, message: ExecutionInput, upcoming: Sequence[ExecutionInput]) -> list[ExecutionInput]:
        batch = [message]
        for following in upcoming:
            if len(batch) >= self.batch_size or batch[-1].entry in NOT_COMMITTED or not self.tracking:
                break
            batch.append(following)
        return batch

    # --- paused work

    def _resume(self) -> list[Request]:
        self.waits = Waits.NOTHING
        return [Resume(cookie=next(self.cookies))]

    def _catch_up(self, work: PausedWork) -> Generator[list[Request], list[Reply], None]:
        """Run the finished slices again at once; they must take exactly as many instructions."""
        self.version, self.given = self.execution.version, None
        self._discard_ahead()
        requests = yield from self._show_committed()
        self.rest = deque((work.message,))
        requests.append(Execute(cookie=next(self.cookies), inputs=(work.message,), context=work.context))
        self._absorb(self._last(requests, (yield requests)))
        work.check_slice(0, self._first_answer())
        for k in range(1, len(work.slices)):
            self._absorb(self._one(Executed, (yield self._resume())))
            if not self.ahead:
                yield from self._settle_again(work)
            work.check_slice(k, self._first_answer())

    def _settle_again(self, work: PausedWork) -> Generator[list[Request], list[Reply], None]:
        """A message that was run ahead, paused and now needs its context gets that of its first slice."""
        self.waits = Waits.NOTHING
        self._absorb(self._one(Executed, (yield [Settled(cookie=next(self.cookies), context=work.context)])))

    # --- what comes back

    def _one(self, kind: type[Reply], replies: list[Reply]) -> Reply:
        if type(replies[0]) is not kind:
            raise SandboxFailure(f"impossible answer: {type(replies[0]).__name__} instead of {kind.__name__}")
        return replies[0]

    def _last(self, requests: list[Request], replies: list[Reply]) -> Reply:
        expected = {Open: Opened, Reset: ResetDone, Execute: Executed}
        for request, reply in zip(requests, replies, strict=True):
            if type(reply) is not expected[type(request)]:
                raise SandboxFailure(f"impossible answer: {type(reply).__name__} to {type(request).__name__}")
        return replies[-1]

    def _absorb(self, reply: Reply) -> None:
        """Take answers over, and what the sandbox waits for now."""
        assert isinstance(reply, Executed)
        answers, stop = reply.answers, reply.stop
        check_stop(answers, stop, len(self.rest))
        for answer in answers:
            message = self.rest[0] if isinstance(answer, Paused) else self.rest.popleft()
            self.ahead.append((message, self.copy_out(answer)))
        if stop is Stop.SETTLE:
            self.waits = Waits.SETTLED
        elif stop is Stop.PAUSED:
            self.waits = Waits.RESUME
        else:
            self.rest.clear()

    def _first_answer(self) -> Answer:
        if not self.ahead:
            raise SandboxFailure("impossible answer: a context asked for that had been given")
        return self.ahead.popleft()[1]

    def _hand_out(self, message: ExecutionInput, context: ExecutionContext, answer: Answer) -> Answer:
        execution, work = self.execution, self.paused
        before = work.slices[-1] if work is not None else 0
        check_answer(
            answer,
            Asked(
                message,
                context,
                execution.module,
                execution.heap.wasm_pages,
                execution.stable.wasm_pages,
                self.environment.limits,
                self.tracking,
                before,
            ),
        )
        if isinstance(answer, Paused):
            if work is None:
                self.paused = PausedWork(message, context, [answer.instructions])
            else:
                work.slices.append(answer.instructions)
        else:
            self.paused = None
        self.given, self.version = answer, execution.version
        return answer
