"""The compiler process: validates, instruments and compiles modules for all nodes of a host.

Plumbing. Requests arrive over a ZeroMQ ROUTER; replies carry the same envelope and cookie. Equal requests that are in work
share one compilation, finished ones are answered from the cache. Compilation happens in processes of its own: helpers are
forked before ZeroMQ is touched, and each forks a confined child per module, so that one that crashes, exhausts or takes over
the compiler harms nothing but its own artefact, and memory is given back. Helpers alone write the cache.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import zmq
from setproctitle import setproctitle

from ic_types import wire
from ic_types.errors import WireError
from sandbox import artefacts
from sandbox.artefacts import ArtefactUnusable
from sandbox.compile_child import compile_apart, die_with_parent, receive, send
from sandbox.module_info import CompileDone, CompileFailed, CompileRefused, CompileRequest

Reply: TypeAlias = CompileDone | CompileRefused | CompileFailed
_REMEMBERED = 256
"""Answers kept in memory, refusals among them."""


def run(endpoint: str, cache_dir: str | Path, *, workers: int = 2, cache_bytes: int = artefacts.DEFAULT_CACHE_BYTES) -> None:
    """Serves until killed. Call it in a forked process that has used neither wasmtime nor ZeroMQ."""
    setproctitle("icsim compiler")
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
    """Does one request: from the cache, or by a process of its own, whose result is written to the cache here."""
    name = artefacts.artefact_name(request.wasm, request)
    try:
        return CompileDone(request.cookie, artefacts.read_info(cache_dir, name), name)
    except ArtefactUnusable:
        pass
    outcome = compile_apart(request)
    if isinstance(outcome, (CompileRefused, CompileFailed)):
        return outcome
    info, code = outcome
    try:
        artefacts.store(cache_dir, name, info, code, cache_bytes)
    except OSError as error:
        return CompileFailed(request.cookie, f"the cache {cache_dir} can't be written: {error.strerror}")
    return CompileDone(request.cookie, info, name)


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
        raw = receive(helper)
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
            send(helper, wire.encode(self.jobs[name].request))


def _start_helper(cache_dir: Path, cache_bytes: int) -> socket.socket:
    """Forks a helper; returns our end of the line to it."""
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        return ours
    ours.close()
    try:
        setproctitle("icsim compiler helper")
        die_with_parent()
        while (raw := receive(theirs)) is not None:
            reply = compile_request(wire.decode(raw, CompileRequest), cache_dir, cache_bytes)
            send(theirs, wire.encode(reply))
    finally:
        os._exit(0)
