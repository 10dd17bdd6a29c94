"""A node's line to the compiler process of its host.

Plumbing. The compiler may be killed and started again at any time: what it owes is asked for again as soon as it is back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import zmq
from zmq.utils.monitor import parse_monitor_message

from configs.limits import SubnetLimits
from ic_types import wire
from ic_types.errors import SandboxFailure
from sandbox.module_info import CompileDone, CompileFailed, CompileRefused, CompileRequest

CompileAnswer: TypeAlias = CompileDone | CompileRefused
_MAX_TRIES = 3


@dataclass(slots=True)
class _Pending:
    """A request without an answer."""

    message: bytes
    failures: int = 0


class CompileClient:
    """Sends modules, gathers what became of them."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, poller: zmq.Poller) -> None:
        self._pending: dict[int, _Pending] = {}
        self._cookie = 0
        self._socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(endpoint)
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)

    def __len__(self) -> int:
        return len(self._pending)

    def ask(self, wasm: bytes, limits: SubnetLimits) -> int:
        """Ask for a module; returns the cookie of the answer."""
        self._cookie += 1
        request = CompileRequest(
            self._cookie,
            wasm,
            limits.max_stable_memory,
            limits.max_wasm32_heap,
            limits.max_wasm64_heap,
            limits.dirty_page_overhead,
            limits.compile_cost_per_operator,
        )
        self._pending[self._cookie] = pending = _Pending(wire.encode(request))
        self._socket.send(pending.message)
        return self._cookie

    def answers(self) -> list[tuple[int, CompileAnswer]]:
        """What has arrived since.

        Raises: SandboxFailure when the compiler failed three times at the same module.
        """
        found: list[tuple[int, CompileAnswer]] = []
        while self._monitor.poll(0):
            parse_monitor_message(self._monitor.recv_multipart())
            for cookie in self._pending:
                self._again(cookie, "its process ended")
        while self._socket.poll(0):
            answer = wire.decode(self._socket.recv(), CompileDone, CompileRefused, CompileFailed)
            if answer.cookie not in self._pending:
                continue  # asked for twice
            if isinstance(answer, CompileFailed):
                self._again(answer.cookie, answer.reason)
                continue
            del self._pending[answer.cookie]
            found.append((answer.cookie, answer))
        return found

    def _again(self, cookie: int, reason: str) -> None:
        pending = self._pending[cookie]
        pending.failures += 1
        if pending.failures >= _MAX_TRIES:
            raise SandboxFailure(
                f"the compiler failed {_MAX_TRIES} times at a module of {len(pending.message)} bytes: {reason}"
            )
        self._socket.send(pending.message)

    def close(self) -> None:
        """Ask no more."""
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close()
