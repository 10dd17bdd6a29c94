"""The line to the compiler: answers by cookie, and a compiler that fails or comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from configs.limits import SubnetLimits
from ic_types import wire
from ic_types.errors import SandboxFailure
from sandbox.compile_client import CompileAnswer, CompileClient
from sandbox.module_info import CompileDone, CompileFailed, CompileRefused, CompileRequest, ModuleInfo

INFO = ModuleInfo(module_hash=bytes(32), wasm64=False)


class Compiler:
    """The compiler's end, answered by hand."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 10_000)
        self.socket.bind(endpoint)

    def receive(self) -> tuple[bytes, CompileRequest]:
        """The next request and who sent it."""
        sender, body = self.socket.recv_multipart()
        return sender, wire.decode(body, CompileRequest)

    def send(self, to: bytes, answer: CompileDone | CompileRefused | CompileFailed) -> None:
        """An answer."""
        self.socket.send_multipart([to, wire.encode(answer)])


class Setup:
    """A client and its compiler."""

    def __init__(self, endpoint: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.endpoint, self.poller = endpoint, zmq.Poller()
        self.compiler = Compiler(self.context, endpoint)
        self.client = CompileClient(self.context, endpoint, self.poller)

    def answers(self, count: int = 1) -> list[tuple[int, CompileAnswer]]:
        """Wait for this many answers."""
        found: list[tuple[int, CompileAnswer]] = []
        while len(found) < count:
            assert self.poller.poll(10_000)
            found += self.client.answers()
        return found

    def fail_next(self) -> None:
        """The compiler fails at the next request, and the client can read so."""
        sender, request = self.compiler.receive()
        self.compiler.send(sender, CompileFailed(request.cookie, "out of memory"))
        assert self.poller.poll(10_000)

    def close(self) -> None:
        """End both."""
        self.client.close()
        self.compiler.socket.close()
        self.context.term()


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    """A connected pair."""
    pair = Setup(f"ipc://{tmp_path}/compiler")
    yield pair
    pair.close()


def test_answers_are_matched_by_cookie(setup: Setup) -> None:
    """Two modules may be answered in any order; limits travel along."""
    limits = SubnetLimits(max_stable_memory=1 << 20)
    first, second = setup.client.ask(b"one", limits), setup.client.ask(b"two", limits)
    requests = [setup.compiler.receive() for _ in range(2)]
    assert [request.wasm for _, request in requests] == [b"one", b"two"]
    assert requests[0][1].max_stable_memory == 1 << 20
    setup.compiler.send(requests[1][0], CompileRefused(second, "bad", 6))
    setup.compiler.send(requests[0][0], CompileDone(first, INFO, "name"))
    assert setup.answers(2) == [(second, CompileRefused(second, "bad", 6)), (first, CompileDone(first, INFO, "name"))]
    assert len(setup.client) == 0


def test_failure_is_tried_again(setup: Setup) -> None:
    """A compilation that failed for local reasons is asked for again."""
    cookie = setup.client.ask(b"one", SubnetLimits())
    for _ in range(2):
        setup.fail_next()
        assert setup.client.answers() == []
    sender, request = setup.compiler.receive()
    setup.compiler.send(sender, CompileDone(request.cookie, INFO, "name"))
    assert setup.answers() == [(cookie, CompileDone(cookie, INFO, "name"))]


def test_third_failure_is_reported(setup: Setup) -> None:
    """The error says what the compiler said."""
    setup.client.ask(b"one", SubnetLimits())
    for _ in range(2):
        setup.fail_next()
        setup.client.answers()
    setup.fail_next()
    with pytest.raises(SandboxFailure, match=r"failed 3 times at a module of \d+ bytes: out of memory"):
        setup.client.answers()


def test_compiler_that_comes_back_is_asked_again(setup: Setup) -> None:
    """What a killed compiler owed is asked of the next one, once answered it isn't asked for any more."""
    cookie = setup.client.ask(b"one", SubnetLimits())
    setup.compiler.receive()
    setup.compiler.socket.close()
    setup.compiler = Compiler(setup.context, setup.endpoint)
    assert setup.poller.poll(10_000)
    assert setup.client.answers() == []
    sender, request = setup.compiler.receive()
    assert (request.cookie, request.wasm) == (cookie, b"one")
    setup.compiler.send(sender, CompileDone(cookie, INFO, "name"))
    setup.compiler.send(sender, CompileDone(cookie, INFO, "name"))
    assert setup.answers() == [(cookie, CompileDone(cookie, INFO, "name"))]
