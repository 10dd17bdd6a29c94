"""The sandbox process, from the fork to its end.

Plumbing. It starts in a freshly forked child that has used neither wasmtime nor ZeroMQ. The Unix socket brings the
descriptors of an Open, and its end tells that the node is gone.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
from typing import Any

import setproctitle
import zmq

from ic_types import wire
from sandbox import confinement, kernel
from sandbox.dirty_pages import open_detector
from sandbox.server import REQUESTS, EndOfService, Server

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_THP_DISABLE = 1, 4, 41
_DESCRIPTORS = 4
_KEPT_BYTES = 16 << 20
_IDLE_MS = 200
"""After this long without a request the process also listens to the Unix socket; polling two costs more per request."""


class SocketTransport:
    """ZeroMQ for messages, the Unix socket for descriptors."""

    def __init__(self, channel: zmq.Socket[bytes], unix_socket: socket.socket) -> None:
        self._channel, self._unix = channel, unix_socket
        # Every message pays for these: pyzmq's conveniences around them cost more than they do.
        plain: Any = super(zmq.Socket, channel)
        self._send, self._recv = plain.send, plain.recv
        self._channel.setsockopt(zmq.RCVTIMEO, _IDLE_MS)
        self._poller = zmq.Poller()
        self._poller.register(channel, zmq.POLLIN)
        self._poller.register(unix_socket.fileno(), zmq.POLLIN)

    def receive(self) -> Any:
        """The next request.

        Raises: EndOfService when the node is gone, WireError when it speaks another protocol.
        """
        while True:
            try:
                return wire.decode(self._recv(0, True, False), *REQUESTS)
            except zmq.Again:
                self._wait()

    def _wait(self) -> None:
        gc.collect()
        kernel.return_freed_memory()
        while True:
            ready = dict(self._poller.poll())
            if self._channel in ready:
                return
            # Descriptors may come before the Open that they belong to; only the end of the stream matters here.
            if not self._unix.recv(1, socket.MSG_PEEK):
                raise EndOfService
            self._poller.unregister(self._unix.fileno())

    def send(self, reply: Any) -> None:
        """Hand a reply over."""
        self._send(wire.encode(reply), 0, True, False)

    def descriptors(self) -> tuple[int, int, int, int]:
        """Receive the descriptors of an Open.

        Raises: EndOfService when the node is gone.
        """
        found: list[int] = []
        while len(found) < _DESCRIPTORS:
            data, fds, _flags, _address = socket.recv_fds(self._unix, 1, _DESCRIPTORS - len(found))
            if not data:
                raise EndOfService
            found += fds
        self._poller.register(self._unix.fileno(), zmq.POLLIN)
        artefact, heap, stable, buffer = found
        return artefact, heap, stable, buffer


def run_sandbox(endpoint: str, identity: bytes, unix_socket: socket.socket, title: str) -> None:
    """Serve one canister until the node says Close or is gone; for the child of a fork, which should exit then.

    `endpoint` is the node's ROUTER socket, `identity` the name that it knows this sandbox by.
    """
    setproctitle.setproctitle(title)
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.prctl(_PR_SET_DUMPABLE, 1)
    with contextlib.suppress(OSError):
        kernel.prctl(_PR_SET_THP_DISABLE, 1)  # one write to a huge page would count as 512 written pages
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:
        file.write(b"1000")  # if memory runs out, a sandbox goes first, since another can take its place
    confinement.close_other_descriptors(unix_socket.fileno())
    kernel.keep_freed_memory(_KEPT_BYTES)
    gc.disable()
    gc.freeze()
    context = zmq.Context()
    channel = context.socket(zmq.DEALER)
    channel.setsockopt(zmq.IDENTITY, identity)
    channel.setsockopt(zmq.LINGER, 0)
    channel.connect(endpoint)
    server = Server(SocketTransport(channel, unix_socket), open_detector, confinement.confine)
    try:
        server.serve()
    except EndOfService:
        pass
    finally:
        channel.close()
