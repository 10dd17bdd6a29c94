"""Model sandboxes in threads, behind real sockets, that misbehave where a test says so."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zmq
from model_sandbox import CANISTER, ENVIRONMENT, ModelSandbox

from ic_types import wire
from ic_types.principal import Principal
from sandbox.controller import SandboxController
from sandbox.requests import (
    Abort,
    Execute,
    Open,
    Reset,
    Resume,
    Settled,
)

Misbehave = Callable[["FakeSandbox", Any], Any]
"""Given sandbox and request: None to behave, `die`, `hang`, bytes to send instead, or a function from the honest reply to
one reply or a list of replies."""


class FakeSandbox:
    """One thread that serves like a sandbox process."""

    def __init__(self, launcher: FakeLauncher, number: int, title: str, endpoint: str, identity: bytes) -> None:
        self.launcher, self.number, self.title = launcher, number, title
        self.pid = 1_000_000 + number
        self.connection, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stop_reader, self._stop = os.pipe()
        self.alive = True
        self.thread = threading.Thread(target=self._serve, args=(endpoint, identity), daemon=True)
        self.thread.start()

    def kill(self) -> bool:
        """As SIGKILL does: nothing more is answered, the socket ends."""
        was_alive = self.alive
        if was_alive:
            os.write(self._stop, b"x")
        return was_alive

    def _serve(self, endpoint: str, identity: bytes) -> None:
        channel = self.launcher.context.socket(zmq.DEALER)
        channel.setsockopt(zmq.IDENTITY, identity)
        channel.setsockopt(zmq.LINGER, 1000)
        channel.connect(endpoint)
        fds: list[int] = []
        try:
            self._answer(channel, fds)
        finally:
            self.alive = False
            channel.close()
            self._theirs.close()
            for fd in [*fds, self._stop_reader]:
                os.close(fd)

    def _answer(self, channel: zmq.Socket[bytes], fds: list[int]) -> None:
        poller = zmq.Poller()
        poller.register(channel, zmq.POLLIN)
        poller.register(self._stop_reader, zmq.POLLIN)
        model = ModelSandbox(self.launcher.through_buffer)
        while self._stop_reader not in dict(poller.poll()):
            request = wire.decode(channel.recv(), Open, Execute, Settled, Resume, Abort, Reset)
            self.launcher.requests.append((self.number, request))
            fault = self.launcher.misbehave(self, request)
            if fault == "die":
                return
            reply: Any = None
            if isinstance(request, Open):
                fds += socket.recv_fds(self._theirs, 1, 4)[1]
                reply = model.open(request, fds[1], fds[2], fds[3])
            elif fault != "hang" and not isinstance(fault, bytes):
                reply = model.handle(request)
            if fault == "hang":
                continue
            if callable(fault):
                reply = fault(reply)
            if isinstance(fault, bytes):
                channel.send(fault)
                continue
            for one in reply if isinstance(reply, list) else [reply]:
                channel.send(wire.encode(one))


class FakeLauncher:
    """Starts threads instead of processes."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.context = context
        self.sandboxes: list[FakeSandbox] = []
        self.requests: list[tuple[int, Any]] = []
        self.misbehave: Misbehave = lambda _sandbox, _request: None
        self.through_buffer = False

    def spawn(self, title: str, endpoint: str, identity: bytes) -> FakeSandbox:
        """See Launcher."""
        self.sandboxes.append(FakeSandbox(self, len(self.sandboxes), title, endpoint, identity))
        return self.sandboxes[-1]

    def find(self, pid: int) -> FakeSandbox:
        """The sandbox of this pid."""
        return self.sandboxes[pid - 1_000_000]

    def close(self) -> None:
        """Wait for all threads to end."""
        for sandbox in self.sandboxes:
            sandbox.kill()
            sandbox.thread.join(10)
            os.close(sandbox._stop)


_endpoints = itertools.count(1)


@contextmanager
def fake_controller(**changes: Any) -> Iterator[tuple[SandboxController, FakeLauncher]]:
    """A controller with fake sandboxes."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    launcher = FakeLauncher(context)
    settings: dict[str, Any] = {
        "context": context,
        "endpoint": f"inproc://sandboxes-{next(_endpoints)}",
        "launcher": launcher,
        "artefact_loader": lambda _name: os.memfd_create("artefact"),
        "environment_for": lambda _canister: ENVIRONMENT,
        "compiler_endpoint": None,
        "watchdog_s": 20.0,
        "name": "app-1/0",
        **changes,
    }
    controller = SandboxController(**settings)
    try:
        yield controller, launcher
    finally:
        controller.close()
        context.term()


def canister(k: int) -> Principal:
    """Some canister id."""
    return CANISTER if k == 0 else Principal.canister(100 + k)
