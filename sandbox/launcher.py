"""Starting sandbox processes: through the zygote, or in tests through a helper forked beforehand.

Plumbing. A process that uses ZeroMQ or wasmtime can't safely fork, so a node never forks sandboxes itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ic_types import wire
from ic_types.errors import NetworkError, SandboxFailure
from sandbox.launch_protocol import LAUNCH_SOCKET, MAX_PACKET_BYTES, Spawned, SpawnRefused, SpawnSandbox

SandboxEntry = Callable[[str, bytes, socket.socket, str], None]
"""`sandbox.main.run_sandbox(endpoint, identity, unix_socket, title)`."""


class LaunchedSandbox:
    """A started process, and the node's end of the socketpair that it has the other end of."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.connection = connection
        """Reads end-of-file when the process is gone."""
        self._pidfd: int | None
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._pidfd = None

    def kill(self) -> bool:
        """End the process, and never another one that got its number; False if it had ended."""
        if self._pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(self._pidfd)
            self._pidfd = None
        return True


class Launcher(Protocol):
    """Starts sandboxes."""

    def spawn(self, title: str, endpoint: str, identity: bytes) -> LaunchedSandbox:
        """Start a sandbox that connects to this endpoint with this identity.

        Raises: SandboxFailure when no process can be started, NetworkError when whoever starts them is gone.
        """

    def close(self) -> None:
        """Start no more."""


class _PacketLauncher:
    """Asks for sandboxes over a connected SOCK_SEQPACKET socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def spawn(self, title: str, endpoint: str, identity: bytes) -> LaunchedSandbox:
        """See Launcher."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            request = wire.encode(SpawnSandbox(title=title, endpoint=endpoint, identity=identity))
            socket.send_fds(self._connection, [request], [theirs.fileno()])
            raw = self._connection.recv(MAX_PACKET_BYTES)
        except OSError as error:
            ours.close()
            raise NetworkError(f"{title} can't be started: the zygote is gone ({error.strerror})") from error
        finally:
            theirs.close()
        if not raw:
            ours.close()
            raise NetworkError(f"{title} can't be started: the zygote is gone")
        reply = wire.decode(raw, Spawned, SpawnRefused)
        if isinstance(reply, SpawnRefused):
            ours.close()
            raise SandboxFailure(f"{title} can't be started: {reply.reason}")
        return LaunchedSandbox(reply.pid, ours)

    def close(self) -> None:
        """See Launcher."""
        self._connection.close()


class ZygoteLauncher(_PacketLauncher):
    """Has the zygote of this network start sandboxes."""

    def __init__(self, socket_dir: str | Path) -> None:
        """Raises: NetworkError when no zygote listens there."""
        path = Path(socket_dir) / LAUNCH_SOCKET
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            raise NetworkError(f"no zygote listens at {path}: {error.strerror}") from error
        super().__init__(connection)


class ForkLauncher(_PacketLauncher):
    """Starts sandboxes from a helper process, for tests and benchmarks without a zygote.

    Make it before this process uses ZeroMQ or wasmtime; the helper and its sandboxes end with it.
    """

    def __init__(self, entry: SandboxEntry) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _serve(theirs, entry)
        theirs.close()
        super().__init__(ours)

    def close(self) -> None:
        """End the helper and everything that it started."""
        if self.pid:
            self._connection.shutdown(socket.SHUT_RDWR)  # later forks may hold copies of the socket
            super().close()
            os.waitpid(self.pid, 0)
            self.pid = 0


def _serve(connection: socket.socket, entry: SandboxEntry) -> None:
    """Life of the helper: fork whatever is asked for until the other side closes, then end all children."""
    children: list[int] = []
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            packet, fds, _flags, _address = socket.recv_fds(connection, MAX_PACKET_BYTES, 1)
            if not packet:
                code = 0
                break
            children = [pid for pid in children if os.waitpid(pid, os.WNOHANG)[0] == 0]
            children.append(_fork(connection, entry, wire.decode(packet, SpawnSandbox), fds[0]))
            connection.send(wire.encode(Spawned(pid=children[-1])))
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        os._exit(code)


def _fork(connection: socket.socket, entry: SandboxEntry, request: SpawnSandbox, fd: int) -> int:
    pid = os.fork()
    if pid:
        os.close(fd)
        return pid
    code = 1
    try:
        connection.close()
        entry(request.endpoint, request.identity, socket.socket(fileno=fd), request.title)
        code = 0
    except BaseException as error:
        print(f"{request.title} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)
