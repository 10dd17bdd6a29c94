"""Asking for a sandbox process: what the zygote may answer, and what happens when it is gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ic_types import wire
from ic_types.errors import NetworkError, SandboxFailure
from sandbox.launch_protocol import LAUNCH_SOCKET, Spawned, SpawnRefused, SpawnSandbox
from sandbox.launcher import LaunchedSandbox, ZygoteLauncher


@pytest.fixture
def zygote(tmp_path: Path) -> socket.socket:
    """A socket that listens where the zygote's would."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / LAUNCH_SOCKET))
    listener.listen(1)
    return listener


def test_spawned_process_has_the_other_end(zygote: socket.socket, tmp_path: Path) -> None:
    """The request names title, endpoint and identity, and brings one end of the socketpair whose other end the node keeps."""
    launcher = ZygoteLauncher(tmp_path)
    connection, _ = zygote.accept()
    connection.send(wire.encode(Spawned(pid=os.getpid())))
    launched = launcher.spawn("icsim sandbox app-1/0 abc", "ipc://node", b"s1")
    packet, fds, _flags, _address = socket.recv_fds(connection, 1 << 16, 2)
    request = wire.decode(packet, SpawnSandbox)
    assert (request.title, request.endpoint, request.identity) == ("icsim sandbox app-1/0 abc", "ipc://node", b"s1")
    assert launched.pid == os.getpid()
    with socket.socket(fileno=fds[0]) as theirs:
        launched.connection.send(b"hello")
        assert theirs.recv(10) == b"hello"
    assert launched.connection.recv(10) == b""
    launcher.close()


def test_refusal_is_a_failure_with_its_reason(zygote: socket.socket, tmp_path: Path) -> None:
    """The zygote can't fork any more."""
    launcher = ZygoteLauncher(tmp_path)
    connection, _ = zygote.accept()
    connection.send(wire.encode(SpawnRefused(reason="process limit reached")))
    with pytest.raises(SandboxFailure, match="icsim query x can't be started: process limit reached"):
        launcher.spawn("icsim query x", "ipc://node", b"s1")
    launcher.close()


def test_zygote_that_went_is_told(zygote: socket.socket, tmp_path: Path) -> None:
    """No sandbox can be started any more."""
    launcher = ZygoteLauncher(tmp_path)
    zygote.accept()[0].close()
    with pytest.raises(NetworkError, match="the zygote is gone"):
        launcher.spawn("icsim query x", "ipc://node", b"s1")
    launcher.close()


def test_missing_zygote_is_told(tmp_path: Path) -> None:
    """The error names the socket."""
    with pytest.raises(NetworkError, match=f"no zygote listens at {tmp_path}/zygote"):
        ZygoteLauncher(tmp_path)


def test_kill_ends_that_very_process() -> None:
    """A process is killed once; one that has ended is never mistaken for a later one of the same number."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    launched = LaunchedSandbox(process.pid, socket.socket())
    assert launched.kill()
    assert process.wait() == -9
    assert not launched.kill()
    assert not LaunchedSandbox(process.pid, socket.socket()).kill()


FORK_LAUNCHER = """
import os, sys
from sandbox.launcher import ForkLauncher

def entry(endpoint, identity, connection, title):
    connection.send(f"{title} {identity.decode()} {endpoint}".encode())
    connection.recv(1)

launcher = ForkLauncher(entry)
boxes = [launcher.spawn(f"box {k}", "ipc://x", b"s%d" % k) for k in range(2)]
print([box.connection.recv(100).decode() for box in boxes])
print(boxes[0].kill(), boxes[0].connection.recv(1))
launcher.close()
print(boxes[1].connection.recv(1), boxes[1].kill())
"""


@pytest.mark.slow
def test_fork_launcher_starts_and_ends_processes() -> None:
    """For benchmarks: a helper forks the sandboxes and ends them when it is closed."""
    done = subprocess.run([sys.executable, "-c", FORK_LAUNCHER], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["['box 0 s0 ipc://x', 'box 1 s1 ipc://x']", "True b''", "b'' False"]
