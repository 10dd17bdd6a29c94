"""A real sandbox process: forked, reached over ZeroMQ, fed with descriptors over a Unix socket."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from sandbox_harness import CONTEXT, NodeMemory, artefact, make_environment, message, prepared
from test_runner_basics import ADDING, number

from ic_types import wire
from sandbox.protocol import Finished, ReplyData, Stop
from sandbox.requests import (
    Close,
    Execute,
    Executed,
    Open,
    Opened,
    Reset,
    ResetDone,
)

pytestmark = pytest.mark.slow
TIMEOUT_MS = 60_000
ONE_GLOBAL = {"globals": (0,), "global_exports": ("__persistent_mutable_global_0",)}


CHILD = """
import socket, sys
from sandbox.main import run_sandbox
run_sandbox(sys.argv[1], b"box", socket.socket(fileno=int(sys.argv[2])), "icsim sandbox test")
"""


class Node:
    """The node's end: a ROUTER socket and a sandbox in an interpreter of its own."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp()
        endpoint = f"ipc://{self.folder}/node"
        self.context = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.router.setsockopt(zmq.RCVTIMEO, TIMEOUT_MS)
        self.router.setsockopt(zmq.LINGER, 0)
        self.router.bind(endpoint)
        self.unix, theirs = socket.socketpair()
        command = [sys.executable, "-c", CHILD, endpoint, str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()

    def send(self, request: Any) -> None:
        """Until the child has connected, the router doesn't know it."""
        while True:
            try:
                self.router.send_multipart([b"box", wire.encode(request)])
                return
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self.router.poll(10)

    def ask(self, request: Any) -> Any:
        """Send a request and wait for its reply."""
        self.send(request)
        identity, raw = self.router.recv_multipart()
        assert identity == b"box"
        return wire.decode(raw)

    def open(self, compiled: int, heap: NodeMemory, stable: NodeMemory, **fields: Any) -> Opened:
        """Open a canister."""
        self.buffer = os.memfd_create("buffer", os.MFD_CLOEXEC)
        socket.send_fds(self.unix, [b"d"], [compiled, heap.read_only(), stable.read_only(), self.buffer])
        given = {"globals": (), "reuse_instance": True, "tracking": True, "wasm64": False, **fields}
        opened = self.ask(Open(cookie=1, environment=make_environment(), heap=heap.image(), stable=stable.image(), **given))
        assert isinstance(opened, Opened), opened
        return opened

    def ended(self) -> int:
        """Wait for the sandbox's end; its exit code."""
        return self.process.wait(TIMEOUT_MS / 1000)

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
        self.unix.close()
        self.router.close()
        self.context.term()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def compiled() -> int:
    """The compiled module."""
    return artefact(prepared(ADDING)[1])


@pytest.fixture
def node() -> Iterator[Node]:
    """A node with one sandbox process."""
    made = Node()
    yield made
    made.close()


def test_execute_and_reset_over_zeromq(node: Node, compiled: int) -> None:
    """A confined sandbox executes a batch, traps, is reset, opens again and ends when told to."""
    heap, stable = NodeMemory(1), NodeMemory(0)
    opened = node.open(compiled, heap, stable, **ONE_GLOBAL)
    assert opened.lacking == ()
    inputs = (message("add", arg=number(5)), message("fail"))
    reply = node.ask(Execute(cookie=2, inputs=inputs, context=CONTEXT))
    assert isinstance(reply, Executed)
    assert (reply.cookie, reply.stop) == (2, Stop.TRAPPED)
    finished = reply.answers[0]
    assert isinstance(finished, Finished)
    assert finished.response == ReplyData(number(5))
    heap.commit(finished.heap, node.buffer)
    image = heap.image(reply.answers[1].heap_touched)
    done = node.ask(Reset(cookie=3, heap=image, stable=stable.image(()), globals=finished.globals))
    assert isinstance(done, ResetDone)
    reply = node.ask(Execute(cookie=4, inputs=(message("add", arg=number(1)),), context=CONTEXT))
    assert reply.answers[0].response == ReplyData(number(6))
    node.open(compiled, NodeMemory(1), NodeMemory(0), **ONE_GLOBAL)
    reply = node.ask(Execute(cookie=5, inputs=(message("add", arg=number(1)),), context=CONTEXT))
    assert reply.answers[0].response == ReplyData(number(1))
    node.send(Close(6))
    assert node.ended() == 0


def test_sandbox_ends_with_the_unix_socket(node: Node, compiled: int) -> None:
    """A sandbox whose node is gone leaves by itself."""
    node.open(compiled, NodeMemory(1), NodeMemory(0), **ONE_GLOBAL)
    node.unix.close()
    assert node.ended() == 0


REFUSED = """
import os, socket, signal, ctypes, resource, subprocess, sys, zmq
from sandbox import confinement
channel = zmq.Context().socket(zmq.DEALER)  # its threads may only be starting when the rights go
lacking = confinement.confine()
channel.setsockopt(zmq.RCVTIMEO, 1)
channel.setsockopt(zmq.LINGER, 0)
try:
    channel.recv()
except zmq.Again:
    pass
refused = []
def attempt(name, what):
    try:
        what()
    except OSError as error:
        refused.append(f"{name} {error.errno}")
    else:
        refused.append(f"{name} worked")
attempt("open", lambda: os.open("/etc/hostname", os.O_RDONLY))
attempt("create", lambda: os.open("/tmp/icsim-probe", os.O_CREAT | os.O_WRONLY))
attempt("socket", socket.socket)
attempt("fork", os.fork)
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("kill", lambda: os.kill(os.getppid(), 0))
def trace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, os.getppid(), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
attempt("ptrace", trace)
print(lacking, *refused, sep="\\n")
"""


def test_confinement_refuses_what_wasm_never_needs() -> None:
    """A confined process can't open, connect, start, signal or trace anything."""
    run = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.splitlines() == [
        "()", "open 1", "create 1", "socket 1", "fork 1", "exec 1", "kill 1", "ptrace 1"
    ]  # fmt: skip
