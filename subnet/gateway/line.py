"""The gateway's line to the coordinator: many requests at once, each answered when it is.

Plumbing. The protocol is `subnet.control_protocol`.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TypeVar

import zmq
import zmq.asyncio

from ic_types import wire
from ic_types.errors import WireError
from subnet.control_protocol import CONTROL_SOCKET, Refused
from subnet.gateway.replies import HttpError

T = TypeVar("T")


class Line:
    """A connection; to be used in one event loop."""

    def __init__(self, socket_dir: str) -> None:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"ipc://{Path(socket_dir) / CONTROL_SOCKET}")
        self._open: dict[bytes, asyncio.Future[bytes]] = {}
        self._cookie = 0
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def ask(self, request: object, kind: type[T]) -> T:
        """The answer to a request.

        Raises: HttpError when the network refuses; the request may be given up by cancelling.
        """
        self._cookie += 1
        cookie = self._cookie.to_bytes(8, "big")
        future = self._open[cookie] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send_multipart([cookie, wire.encode(request)])
            raw = await future
        finally:
            del self._open[cookie]
        reply = wire.decode(raw, kind, Refused)
        if isinstance(reply, Refused):
            if reply.exit_code == 2:
                raise HttpError(400, reply.message)
            raise HttpError(503, f"Replica is unhealthy: {reply.message}")
        assert isinstance(reply, kind)
        return reply

    async def _read(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            future = self._open.get(frames[0])
            if future is not None and not future.done():
                future.set_result(frames[-1])

    async def close(self) -> None:
        """Drop the connection."""
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError, WireError):
            await self._reader
        self._socket.close()
        self._context.term()
