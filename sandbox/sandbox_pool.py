"""The sandbox processes of a node: started when needed, found by identity, ended when too many or broken.

Plumbing. Identities are never used twice, so what a killed sandbox still had under way is recognised and dropped.
"""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import zmq

from ic_types.errors import SandboxDied, SandboxFailure
from ic_types.units import OS_PAGE_BYTES
from sandbox import kernel
from sandbox.launcher import LaunchedSandbox, Launcher
from sandbox.page_reports import SECOND_HALF

_POLLIN, _SNDMORE = int(zmq.POLLIN), int(zmq.SNDMORE)
_MOST_WAITING: Final = 64
_KEPT_BUFFER: Final = 256 << 10
"""Bytes at the start of each half of a page buffer that stay: new memory would cost more than the copy."""
MAX_REPLY_BYTES: Final = 1 << 30
"""More than 40 B instructions can produce at 50 each; who sends more loses its connection."""


@dataclass(slots=True, eq=False)
class SandboxProcess:
    """One process, until it is ended."""

    identity: bytes
    launched: LaunchedSandbox
    buffer: int
    """Descriptor of the page buffer."""
    connected: bool = False
    """It has spoken over ZeroMQ; before that nothing can be sent to it."""
    outbox: list[bytes] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Process id."""
        return self.launched.pid

    def send_descriptors(self, fds: list[int]) -> None:
        """Hand over the descriptors of an Open, with the page buffer as the last.

        Raises: SandboxFailure when the process is gone.
        """
        try:
            socket.send_fds(self.launched.connection, [b"\0"], [*fds, self.buffer])
        except OSError as error:
            raise SandboxDied(f"its process is gone ({error.strerror})") from error

    def copy_from_buffer(self, offset: int, pages: int) -> bytes:
        """Content of these pages, as it is now; the buffer's memory is given back, but for the part that every reply uses.

        Raises: SandboxFailure when the buffer doesn't reach that far.
        """
        size = pages * OS_PAGE_BYTES
        if not 0 <= offset < 2 * SECOND_HALF:
            raise SandboxFailure(f"impossible answer: pages at {offset} of the buffer")
        content = os.pread(self.buffer, size, offset)
        while len(content) < size:  # one read takes 2 GiB at most
            part = os.pread(self.buffer, size - len(content), offset + len(content))
            if not part:
                raise SandboxFailure(f"impossible answer: {pages} pages at {offset} of a buffer that ends before")
            content += part
        if offset % SECOND_HALF + size > _KEPT_BUFFER:
            kernel.punch_hole(self.buffer, offset, size)
        return content


class SandboxPool:
    """All sandbox processes of a node."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, launcher: Launcher) -> None:
        self._endpoint, self._launcher = endpoint, launcher
        _allow_many_descriptors()
        self._by_identity: dict[bytes, SandboxProcess] = {}
        """Least recently used first."""
        self._by_fd: dict[int, SandboxProcess] = {}
        self._deaths = select.epoll()
        self._next = 1
        self._unconnected: dict[bytes, None] = {}
        self.router: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.LINGER, 0)
        self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.router.setsockopt(zmq.SNDHWM, 0)
        # Honest sandboxes owe one reply per request; the others shall not fill this process with what nobody asked for.
        self.router.setsockopt(zmq.RCVHWM, _MOST_WAITING)
        self.router.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY_BYTES)
        self.router.bind(endpoint)
        # Every message pays for these: pyzmq's conveniences around them cost more than they do.
        plain: Any = super(zmq.Socket, self.router)
        self._send, self._recv = plain.send, plain.recv
        self.poller = zmq.Poller()
        self.poller.register(self.router, zmq.POLLIN)
        self.poller.register(self._deaths.fileno(), zmq.POLLIN)
        self._patience = -1
        self.spawned = 0
        self.killed = 0
        self.died = 0

    def __len__(self) -> int:
        return len(self._by_identity)

    def spawn(self, title: str) -> SandboxProcess:
        """Start a process.

        Raises: SandboxFailure, NetworkError when it can't be started.
        """
        identity = b"s%d" % self._next
        self._next += 1
        launched = self._launcher.spawn(title, self._endpoint, identity)
        process = SandboxProcess(identity, launched, os.memfd_create("icsim-pages", os.MFD_CLOEXEC))
        self._by_identity[identity] = process
        self._by_fd[launched.connection.fileno()] = process
        self._deaths.register(launched.connection.fileno(), select.EPOLLIN | select.EPOLLHUP)
        self._unconnected[identity] = None
        self.spawned += 1
        return process

    def end(self, process: SandboxProcess) -> None:
        """Kill a process and forget it; does nothing when that has happened."""
        if self._by_identity.pop(process.identity, None) is None:
            return
        self._deaths.unregister(process.launched.connection.fileno())
        del self._by_fd[process.launched.connection.fileno()]
        self._unconnected.pop(process.identity, None)
        if process.launched.kill():
            self.killed += 1
        else:
            self.died += 1
        os.close(process.buffer)
        process.launched.connection.close()

    def close(self) -> None:
        """End all processes and stop listening."""
        for process in list(self._by_identity.values()):
            self.end(process)
        self._deaths.close()
        self.router.close()

    # --- talking

    def received(self, timeout_ms: int) -> Iterator[tuple[SandboxProcess, bytes]]:
        """The next message, if it arrives in time; with no time, all that are there. Those of ended processes are dropped."""
        if timeout_ms:
            # Waiting here is much cheaper than polling; nothing else is seen meanwhile.
            if timeout_ms != self._patience:
                self._patience = timeout_ms
                self.router.setsockopt(zmq.RCVTIMEO, timeout_ms)
            try:
                received = self._receive()
            except zmq.Again:
                return
            if received is not None:
                yield received
            return
        while int(self.router.getsockopt(zmq.EVENTS)) & _POLLIN:
            received = self._receive()
            if received is not None:
                yield received

    def _receive(self) -> tuple[SandboxProcess, bytes] | None:
        """The next message; None if it is of no living process, or of another form."""
        process, frame = self._by_identity.get(self._recv(0, True, False)), self._recv(0, False, False)
        if frame.more:
            while frame.more:
                frame = self._recv(0, False, False)
            return None
        if process is None:
            return None
        if not process.connected:
            process.connected = True
            self._flush(process)
        return process, frame.bytes

    def used(self, process: SandboxProcess) -> None:
        """It was used just now, so it is the last to be evicted."""
        self._by_identity[process.identity] = self._by_identity.pop(process.identity)

    def least_recently_used(self, idle: Callable[[SandboxProcess], bool]) -> SandboxProcess | None:
        """The first process by time of last use that `idle` accepts."""
        return next((process for process in self._by_identity.values() if idle(process)), None)

    def send(self, process: SandboxProcess, message: bytes) -> None:
        """Send now, or as soon as the process is connected.

        Raises: SandboxFailure when it was connected and is gone.
        """
        if not process.connected:
            process.outbox.append(message)
            self._flush(process)
            return
        try:
            self._send(process.identity, _SNDMORE, True, False)
            self._send(message, 0, True, False)
        except zmq.ZMQError as error:
            raise SandboxDied(f"its process is gone ({error.strerror})") from error

    @property
    def all_connected(self) -> bool:
        """Every process has spoken over ZeroMQ."""
        return not self._unconnected

    def flush(self) -> bool:
        """Try again to send to those that weren't connected; whether any still isn't."""
        for identity in list(self._unconnected):
            self._flush(self._by_identity[identity])
        return bool(self._unconnected)

    def _flush(self, process: SandboxProcess) -> None:
        while process.outbox:
            try:
                self.router.send_multipart([process.identity, process.outbox[0]])
            except zmq.ZMQError:
                return  # not connected yet; if it never is, its death or the watchdog is noticed
            process.connected = True
            del process.outbox[0]
        if process.connected:
            self._unconnected.pop(process.identity, None)

    def dead(self) -> list[SandboxProcess]:
        """Processes that ended or closed their socket since they were last asked for, in order of identity."""
        gone = [self._by_fd[fd] for fd, _ in self._deaths.poll(0)]
        return sorted(gone, key=lambda process: process.identity)


def _allow_many_descriptors() -> None:
    """Each sandbox takes three descriptors and each memory one; the usual soft limit is for 300 canisters."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
