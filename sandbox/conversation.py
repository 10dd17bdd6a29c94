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
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, TypeAlias

from ic_types import trace
from ic_types.errors import SandboxFailure
from ic_types.principal import CanisterId
from sandbox.answer_check import Asked, check_answer, check_stop
from sandbox.catch_up import PausedWork
from sandbox.execution_state import ExecutionState
from sandbox.mapped_pages import MappedPages
from sandbox.pairing import Reply, Request, the_last, the_one
from sandbox.portions import MAX_UNDER_WAY, Flight, Portions
from sandbox.protocol import (
    Answer,
    Environment,
    ExecutionContext,
    ExecutionInput,
    Finished,
    Paused,
    Stop,
)
from sandbox.requests import (
    Abort,
    Aborted,
    Execute,
    Executed,
    MemoryImage,
    Open,
    Reset,
    Resume,
    Settled,
)

Talk: TypeAlias = Generator[list[Request], list[Reply], Answer]


HEAVY_PAGES: Final = 2048
"""8 MiB: what an idle sandbox of a fork may hold that nobody needs."""


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
    flights: deque[Flight] = field(default_factory=deque)
    """Executes whose replies are due, oldest first, besides the one that a conversation under way waits for."""
    smooth: bool = False
    """The last Execute was answered to its end: another may follow without a context."""
    given: Answer | None = None
    """The last answer handed out, until it is known whether it was committed."""
    version: int = field(init=False)
    """Of the execution state when the last answer was handed out."""
    paused: PausedWork | None = None
    spoiled: bool = False
    """What the sandbox waits in or still runs was built on something that wasn't committed."""
    portions: Portions = field(init=False)
    hits: int = 0
    misses: int = 0

    def __post_init__(self) -> None:
        """Nothing was handed out yet."""
        self.version = self.execution.version
        self.portions = Portions.of(self.batch_size)

    # --- what the node asks

    def predicted(self, message: ExecutionInput, context: ExecutionContext) -> Answer | None:
        """The answer to this message if the sandbox has run it ahead on what is committed now."""
        self._take_stock()
        if context.log_bytes != self.environment.log_bytes:
            self._open_anew(replace(self.environment, log_bytes=context.log_bytes))
        return self._foreseen(message, context)

    def _foreseen(self, message: ExecutionInput, context: ExecutionContext) -> Answer | None:
        if self.ahead:
            foreseen = self.ahead[0][0]
        elif self.flights and not self.spoiled and self.waits is Waits.NOTHING:
            foreseen = self.flights[0].inputs[0]
        else:
            return None
        if foreseen is not message and foreseen != message:
            self._discard_ahead()
            return None
        if not self.ahead:
            return None
        self.hits += 1
        return self._hand_out(message, context, self.ahead.popleft()[1])

    def run_ahead(self, upcoming: Sequence[ExecutionInput]) -> list[Request]:
        """What to send now, so that the sandbox goes on with upcoming messages meanwhile; each reply is for `land`."""
        requests: list[Request] = []
        portions = self.portions
        while upcoming and len(self.ahead) <= portions.size and self._may_run_ahead():
            known = len(self.ahead) + max(len(self.rest) - 1, 0) + sum(len(flight.inputs) for flight in self.flights)
            inputs = portions.first(upcoming[known : known + portions.size])
            if not inputs:
                break
            request = Execute(cookie=next(self.cookies), inputs=inputs, behind=True)
            self.flights.append(Flight(request.cookie, inputs))
            requests.append(request)
        return requests

    def _may_run_ahead(self) -> bool:
        if not self.smooth or self.spoiled or self.mapped is None or self.paused is not None or not self.tracking:
            return False
        under_way = len(self.flights) + bool(self.rest)
        good = self.waits is Waits.NOTHING and self.portions.can_be_followed
        return good and under_way < MAX_UNDER_WAY and not self.mapped.crowded()

    def land(self, reply: Reply) -> None:
        """Take over the reply to the oldest Execute that was sent ahead.

        Raises: SandboxFailure.
        """
        flight = self.flights.popleft()
        if not isinstance(reply, Executed):
            raise SandboxFailure(f"impossible answer: {type(reply).__name__} instead of Executed")
        check_stop(reply.answers, reply.stop, len(flight.inputs), behind=True)
        if self.mapped is None or reply.stop is Stop.SKIPPED:
            return
        if not self.smooth:
            raise SandboxFailure("impossible answer: messages run behind one that wasn't answered to its end")
        self.rest = deque(flight.inputs)
        self._take_over(reply)

    def run(self, message: ExecutionInput, context: ExecutionContext, upcoming: Sequence[ExecutionInput] = ()) -> Talk:
        """Run a message, and some of the upcoming ones ahead; returns its answer.

        Raises: SandboxFailure.
        """
        trace.emit("sandbox.conversation.run", self.canister_id, message.entry.value)
        answer = self.predicted(message, context)
        while answer is None and self.flights and not self.spoiled:
            yield []
            answer = self._foreseen(message, context)
        if answer is not None:
            return answer
        if self.waits is Waits.SETTLED and not self.spoiled and self.mapped is not None and self.rest[0] == message:
            self.hits += 1
            self.waits = Waits.NOTHING
            self._absorb(the_one(Executed, (yield [Settled(cookie=next(self.cookies), context=context)])))
        else:
            requests: list[Request] = [] if self._in_step() else (yield from self._show_committed())
            given = context if self.portions.wants_context(message) else None
            batch = self.portions.first((message, *upcoming[: self.portions.size - 1])) if self.tracking else (message,)
            requests.append(self._execute(batch, given))
            self._absorb(the_last(requests, (yield requests)))
            if given is None and self.waits is Waits.SETTLED and not self.ahead:
                self.waits = Waits.NOTHING
                self._absorb(the_one(Executed, (yield [Settled(cookie=next(self.cookies), context=context)])))
        return self._hand_out(message, context, self._first_answer())

    def resume(self) -> Talk:
        """Run the next slice of the paused message; a new sandbox first catches up with the finished ones.

        Raises: SandboxFailure.
        """
        work = self.paused
        assert work is not None, f"nothing of canister {self.canister_id} is paused"
        yield from self._land_all()
        if self.waits is not Waits.RESUME or self.mapped is None or self.execution.version != self.version:
            yield from self._catch_up(work)
        self._absorb(the_one(Executed, (yield self._resume())))
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
        self.mapped, self.waits, self.smooth = None, Waits.NOTHING, False
        self.rest.clear()
        self.flights.clear()
        if failed:
            self.ahead.clear()

    def is_heavy(self) -> bool:
        """Whether so many pages were committed that their sandbox had better end with the fork that holds them."""
        return self.mapped is not None and self.mapped.private_pages() > HEAVY_PAGES

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
            self._open_anew(self.environment)
        elif given is not None:
            self._discard_ahead()
            if self.mapped is not None and self.tracking:
                self.mapped.rolled_back(given, self.execution)

    def _open_anew(self, environment: Environment) -> None:
        """Nothing that the sandbox shows or has run ahead is of use any more: the next message gets another one."""
        self.environment = environment
        self.ahead.clear()
        self.mapped, self.spoiled = None, True

    def _discard_ahead(self) -> None:
        self.spoiled = True
        for _, answer in self.ahead:
            self._undo(answer)
        self.ahead.clear()

    def _undo(self, answer: Answer) -> None:
        self.misses += 1
        if self.mapped is not None:
            self.mapped.rolled_back(answer, self.execution)

    def _land_all(self) -> Generator[list[Request], list[Reply], None]:
        while self.flights:
            yield []

    def _in_step(self) -> bool:
        """The sandbox shows what is committed, and nothing is under way in it."""
        mapped = self.mapped
        return mapped is not None and self.waits is Waits.NOTHING and not self.flights and mapped.shows(self.execution)

    def _show_committed(self) -> Generator[list[Request], list[Reply], list[Request]]:
        """End what the sandbox runs and waits in; returns the requests that make it show what is committed."""
        if self.mapped is not None:
            yield from self._land_all()
        if self.mapped is not None and self.waits is not Waits.NOTHING:
            aborted = the_one(Aborted, (yield [Abort(cookie=next(self.cookies))]))
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
        self.flights.clear()
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
            heap_pages_max=execution.module.heap_pages_max,
        )

    def _execute(self, batch: tuple[ExecutionInput, ...], context: ExecutionContext | None) -> Execute:
        self.rest, self.spoiled = deque(batch), False
        return Execute(cookie=next(self.cookies), inputs=batch, context=context)

    # --- paused work

    def _resume(self) -> list[Request]:
        self.waits = Waits.NOTHING
        return [Resume(cookie=next(self.cookies))]

    def _catch_up(self, work: PausedWork) -> Generator[list[Request], list[Reply], None]:
        """Run the finished slices again at once; they must take exactly as many instructions."""
        self.version, self.given = self.execution.version, None
        self._discard_ahead()
        requests = yield from self._show_committed()
        requests.append(self._execute((work.message,), work.context))
        self._absorb(the_last(requests, (yield requests)))
        work.check_slice(0, self._first_answer())
        for k in range(1, len(work.slices)):
            self._absorb(the_one(Executed, (yield self._resume())))
            if not self.ahead:
                yield from self._settle_again(work)
            work.check_slice(k, self._first_answer())

    def _settle_again(self, work: PausedWork) -> Generator[list[Request], list[Reply], None]:
        """A message that was run ahead, paused and now needs its context gets that of its first slice."""
        self.waits = Waits.NOTHING
        self._absorb(the_one(Executed, (yield [Settled(cookie=next(self.cookies), context=work.context)])))

    # --- what comes back

    def _absorb(self, reply: Reply) -> None:
        """Take answers over, and what the sandbox waits for now."""
        assert isinstance(reply, Executed)
        check_stop(reply.answers, reply.stop, len(self.rest))
        self._take_over(reply)

    def _take_over(self, reply: Executed) -> None:
        for one in reply.answers:
            answer = self.copy_out(one)
            message = self.rest[0] if isinstance(answer, Paused) else self.rest.popleft()
            if self.spoiled:
                self._undo(answer)
            else:
                self.ahead.append((message, answer))
        self.smooth = reply.stop is Stop.END and not self.rest
        if reply.stop is Stop.SETTLE:
            self.waits = Waits.SETTLED
            self.portions.asked_for_context(self.rest[0])
        elif reply.stop is Stop.PAUSED:
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
