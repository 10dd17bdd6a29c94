"""A sandbox's side of the protocol: requests in, replies out, also while a message runs.

Plumbing. A message that ends its slice, or that needs its context, blocks in a host function, which serves the socket here
until the node says how to go on. No threads are needed for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from ic_types.errors import SandboxFailure
from sandbox.dirty_pages import DirtyPages
from sandbox.protocol import Answer, ExecutionContext, Paused, Stop, Trapped
from sandbox.requests import (
    Abort,
    Aborted,
    Close,
    Execute,
    Executed,
    Open,
    Opened,
    OpenFailed,
    Reset,
    ResetDone,
    Resume,
    Settled,
)
from sandbox.runner import Runner
from sandbox.system_api.traps import AbortExecution

_BATCH_INSTRUCTIONS = 100_000_000
"""A batch that has run this many ends early, so that its first answer doesn't wait for heavy messages behind it."""
_BATCH_BYTES = 64 << 20
"""The same for pages in the buffer."""
REQUESTS = (Open, Execute, Settled, Resume, Abort, Reset, Close)


class Transport(Protocol):
    """How requests arrive and replies leave."""

    def receive(self) -> Any:
        """The next request; raises EndOfService when the node is gone."""

    def send(self, reply: Any) -> None:
        """Hand a reply over."""

    def descriptors(self) -> tuple[int, int, int, int]:
        """Those that travel beside an Open: module artefact, heap, stable memory, page buffer."""


class EndOfService(BaseException):
    """Close was asked for, or the node is gone: leaves even a running message."""


class Server:
    """Serves one canister."""

    def __init__(
        self, transport: Transport, open_detector: Callable[[], DirtyPages], confine: Callable[[], tuple[str, ...]]
    ) -> None:
        self._transport, self._confine = transport, confine
        self._detector = open_detector()
        self._runner: Runner | None = None
        self._lacking: tuple[str, ...] | None = None
        """What confinement couldn't do, once it is on."""
        self._cookie = 0
        self._answers: list[Answer] = []
        self._paused = False
        self._complete = False
        """The last Execute was answered to its end, so that another may go on from it."""

    def serve(self) -> NoReturn:
        """Answer requests until the end.

        Raises: EndOfService; SandboxFailure when the node breaks the protocol.
        """
        while True:
            request = self._transport.receive()
            match request:
                case Execute():
                    self._execute(request)
                case Reset():
                    self._opened().reset(request)
                    self._complete = False
                    self._transport.send(ResetDone(request.cookie))
                case Open():
                    self._open(request)
                case Close():
                    raise EndOfService
                case _:
                    raise SandboxFailure(f"{type(request).__name__} while nothing runs")

    def _open(self, request: Open) -> None:
        try:
            runner = Runner(request, self._transport.descriptors(), self._detector, self._settle, self._pause)
        except (SandboxFailure, OSError) as error:
            self._transport.send(OpenFailed(request.cookie, str(error)))
            return
        self._runner, self._complete = runner, False
        if self._lacking is None:
            self._lacking = self._confine()
        self._transport.send(Opened(request.cookie, self._lacking))

    def _opened(self) -> Runner:
        if self._runner is None:
            raise SandboxFailure("nothing is opened")
        return self._runner

    def _execute(self, request: Execute) -> None:
        runner, context = self._opened(), request.context
        if request.behind and not self._complete:
            self._skip(request)
            return
        self._cookie, self._answers, self._paused, self._complete = request.cookie, [], False, False
        stop, instructions, left = Stop.END, 0, len(request.inputs)
        try:
            for message in request.inputs:
                answer = runner.run(message, context)
                context = None
                left -= 1
                self._answers.append(answer)
                instructions += answer.instructions
                if type(answer) is Trapped:
                    stop = Stop.TRAPPED
                    break
                if self._paused or instructions > _BATCH_INSTRUCTIONS or runner.reports.used_bytes > _BATCH_BYTES:
                    break
        except AbortExecution:
            heap, stable = runner.aborted()
            self._send(Aborted(cookie=self._cookie, heap_touched=heap, stable_touched=stable))
            return
        self._complete = stop is Stop.END and not left
        self._reply(stop)

    def _skip(self, request: Execute) -> None:
        self._transport.send(Executed(cookie=request.cookie, answers=(), stop=Stop.SKIPPED))

    def _reply(self, stop: Stop) -> None:
        self._send(Executed(cookie=self._cookie, answers=tuple(self._answers), stop=stop))
        self._answers = []

    def _send(self, reply: Executed | Aborted) -> None:
        self._transport.send(reply)
        self._opened().reports.start()

    # --- what a running message waits for

    def _settle(self) -> ExecutionContext:
        self._reply(Stop.SETTLE)
        request = self._wait_for(Settled)
        assert isinstance(request, Settled), "checked above"
        return request.context

    def _pause(self, slice_instructions: int, instructions: int) -> None:
        self._answers.append(Paused(slice_instructions=slice_instructions, instructions=instructions))
        self._paused = True
        self._reply(Stop.PAUSED)
        self._wait_for(Resume)

    def _wait_for(self, kind: type[Settled] | type[Resume]) -> Settled | Resume:
        request = self._transport.receive()
        while isinstance(request, Execute) and request.behind:
            self._skip(request)
            request = self._transport.receive()
        if isinstance(request, Close):
            raise EndOfService
        if not isinstance(request, (kind, Abort)):
            raise SandboxFailure(f"{type(request).__name__} while a message waits for {kind.__name__} or Abort")
        self._cookie = request.cookie
        if isinstance(request, Abort):
            raise AbortExecution
        return request
