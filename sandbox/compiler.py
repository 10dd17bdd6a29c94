"""The compiler process: validates, instruments and compiles modules for all nodes of a host.

Plumbing. Requests arrive over a ZeroMQ ROUTER; replies carry the same envelope and cookie. Equal requests that are in work
share one compilation, finished ones are answered from the cache. Compilation happens in processes of its own: helpers are
forked before ZeroMQ is touched, and each forks once more per job, so that a module that crashes or exhausts the compiler takes
nothing else down and its memory is given back.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

import zmq

from ic_types import wire
from ic_types.errors import InvalidWasm, WireError
from sandbox import artefacts
from sandbox.artefacts import ArtefactUnusable
from sandbox.protocol import CompileDone, CompileFailed, CompileRefused, CompileRequest
from sandbox.wasm.prepare import prepare, refusal_charge

Reply = CompileDone | CompileRefused | CompileFailed
_LENGTH = struct.Struct(">Q")
_REMEMBERED = 256
"""Answers kept in memory, refusals among them."""


def run(endpoint: str, cache_dir: str | Path, *, workers: int = 2, cache_bytes: int = artefacts.DEFAULT_CACHE_BYTES) -> None:
    """Serves until killed. Call it in a forked process that has used neither wasmtime nor ZeroMQ."""
    pool = [_start_helper(Path(cache_dir), cache_bytes) for _ in range(workers)]
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.bind(endpoint)
    server = _Server(Path(cache_dir), router, idle=list(pool))
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    for helper in pool:
        poller.register(helper.fileno(), zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        for helper in pool:
            if helper.fileno() in ready:
                server.finish(helper)
        while router.poll(0):
            server.accept(router.recv_multipart())


def compile_request(request: CompileRequest, cache_dir: Path, cache_bytes: int) -> Reply:
    """Does the work of one request in this process."""
    name = artefacts.artefact_name(request.wasm, request)
    try:
        return CompileDone(request.cookie, artefacts.read_info(cache_dir, name), name)
    except ArtefactUnusable:
        pass
    try:
        prepared = prepare(request.wasm, request)
        code = artefacts.native_code(prepared)
    except InvalidWasm as error:
        return CompileRefused(request.cookie, str(error), refusal_charge(request.wasm, request))
    artefacts.store(cache_dir, name, prepared.info, code, cache_bytes)
    return CompileDone(request.cookie, prepared.info, name)


@dataclass(slots=True)
class _Job:
    """A module in work or waiting, with those who asked for it."""

    request: CompileRequest
    asked: list[tuple[list[bytes], int]]
    """(envelope, cookie)."""


@dataclass(slots=True)
class _Server:
    """Requests, jobs and what is known already."""

    cache_dir: Path
    router: zmq.Socket[bytes]
    idle: list[socket.socket]
    jobs: dict[str, _Job] = field(default_factory=dict)
    waiting: deque[str] = field(default_factory=deque)
    working: dict[int, str] = field(default_factory=dict)
    """Job by the descriptor of the helper that does it."""
    known: dict[str, Reply] = field(default_factory=dict)

    def accept(self, frames: list[bytes]) -> None:
        """A request from a node; what is no request is dropped."""
        *envelope, body = frames
        try:
            request: CompileRequest = wire.decode(body, CompileRequest)
        except WireError:
            return
        name = artefacts.artefact_name(request.wasm, request)
        if (answer := self._known(name)) is not None:
            self._reply(envelope, request.cookie, answer)
        elif name in self.jobs:
            self.jobs[name].asked.append((envelope, request.cookie))
        else:
            self.jobs[name] = _Job(request, [(envelope, request.cookie)])
            self.waiting.append(name)
            self._hand_out()

    def finish(self, helper: socket.socket) -> None:
        """A helper has answered, or is gone."""
        name = self.working.pop(helper.fileno(), None)
        raw = _receive(helper)
        if raw is None:
            sys.exit("compiler helper died")  # whoever started this process starts it again
        if name is None:
            return
        job = self.jobs.pop(name)
        answer: Reply = wire.decode(raw, CompileDone, CompileRefused, CompileFailed)
        if not isinstance(answer, CompileFailed):
            while len(self.known) >= _REMEMBERED:
                self.known.pop(next(iter(self.known)))
            self.known[name] = answer
        for envelope, cookie in job.asked:
            self._reply(envelope, cookie, answer)
        self.idle.append(helper)
        self._hand_out()

    def _known(self, name: str) -> Reply | None:
        answer = self.known.get(name)
        if isinstance(answer, CompileDone) and not artefacts.exists(self.cache_dir, name):
            del self.known[name]
            return None
        return answer

    def _reply(self, envelope: list[bytes], cookie: int, answer: Reply) -> None:
        self.router.send_multipart([*envelope, wire.encode(replace(answer, cookie=cookie))])

    def _hand_out(self) -> None:
        while self.waiting and self.idle:
            name, helper = self.waiting.popleft(), self.idle.pop()
            self.working[helper.fileno()] = name
            _send(helper, wire.encode(self.jobs[name].request))


def _start_helper(cache_dir: Path, cache_bytes: int) -> socket.socket:
    """Forks a helper; returns our end of the line to it."""
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        return ours
    ours.close()
    try:
        _die_with_parent()
        while (raw := _receive(theirs)) is not None:
            _send(theirs, _in_a_fork(wire.decode(raw, CompileRequest), cache_dir, cache_bytes))
    finally:
        os._exit(0)


def _in_a_fork(request: CompileRequest, cache_dir: Path, cache_bytes: int) -> bytes:
    """The encoded reply, worked out by a child that may die trying."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        try:
            ours.close()
            _die_with_parent()
            _send(theirs, wire.encode(compile_request(request, cache_dir, cache_bytes)))
        except BaseException as error:  # the child must not return into the helper's loop
            _send(theirs, wire.encode(CompileFailed(request.cookie, f"{type(error).__name__}: {error}")))
        finally:
            os._exit(0)
    theirs.close()
    raw = _receive(ours)
    ours.close()
    _, status = os.waitpid(child, 0)
    return raw or wire.encode(CompileFailed(request.cookie, f"compilation ended with status {status}"))


def _die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _send(line: socket.socket, body: bytes) -> None:
    line.sendall(_LENGTH.pack(len(body)))
    line.sendall(body)


def _receive(line: socket.socket) -> bytes | None:
    """The next message, None when the other side is gone."""
    head = _exactly(line, _LENGTH.size)
    return None if head is None else _exactly(line, _LENGTH.unpack(head)[0])


def _exactly(line: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = line.recv(min(count - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)
