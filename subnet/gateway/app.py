"""The ASGI application: which part answers a request, bodies within their limits, CORS, and no request without an answer.

Plumbing. Limits and statuses are the replica's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import structlog

from ic_types.errors import InvalidPrincipal
from ic_types.principal import Principal
from subnet.gateway.api import Api, Endpoint
from subnet.gateway.replies import CBOR, HttpError, HttpReply
from subnet.gateway.web import Web
from subnet.gateway.web_request import WebRequest

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 5 << 20
CONCURRENT = {"call": 50, "query": 400, "read_state": 100, "status": 100}
"""Requests of one kind that a node serves at once; one more is refused with 429."""
VERSIONS = {
    ("canister", "call"): (2, 3, 4),
    ("subnet", "call"): (4,),
    ("canister", "query"): (2, 3),
    ("subnet", "query"): (3,),
    ("canister", "read_state"): (2, 3),
    ("subnet", "read_state"): (2, 3),
}
_CORS = (("access-control-allow-origin", "*"),)
_PREFLIGHT = (
    *_CORS,
    ("access-control-allow-methods", "GET,POST"),
    ("access-control-allow-headers", "authorization,accept,content-type"),
    ("access-control-max-age", "600"),
)
log = structlog.get_logger("gateway")


@dataclass(slots=True)
class App:
    """One network's HTTP server."""

    api: Api
    web: Web
    nodes: int
    """Of all subnets together; every node serves so many requests at once."""
    receive_timeout_s: float
    request_timeout_s: float
    _busy: Counter[str] = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        try:
            async with asyncio.timeout(self.request_timeout_s):
                reply = await self._reply(scope, receive)
        except HttpError as error:
            reply = error.reply()
        except TimeoutError:
            reply = HttpReply(504, b"The request took too long.")
        except ConnectionError:
            return
        except Exception:
            log.exception("gateway.request_failed", path=scope["path"])
            reply = HttpReply(500, b"Internal error; the gateway's log has it.")
        if scope["path"].startswith("/api/"):
            reply = replace(reply, headers=(*reply.headers, *_CORS))
        await _send(reply, send, head_only=scope["method"] == "HEAD")

    async def _reply(self, scope: Scope, receive: Receive) -> HttpReply:
        path: str = scope["path"]
        if not path.startswith("/api/"):
            request = WebRequest.of(scope, b"")
            if scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
                request = WebRequest.of(scope, await self._body(scope, receive))
            return await self.web.answer(request)
        if scope["method"] == "OPTIONS":
            return HttpReply(200, headers=_PREFLIGHT[1:])
        if path == "/api/v2/status":
            _require(scope, "GET", "HEAD")
            async with self._slot("status"):
                return await self.api.status()
        endpoint = parse_path(path)
        _require(scope, "POST")
        if _header(scope, b"content-type").strip().lower() != CBOR:
            raise HttpError(400, f"Unexpected content-type, expected {CBOR}.")
        body = await self._body(scope, receive)  # before a place is taken, which slow clients mustn't hold
        async with self._slot(endpoint.action):
            return await self.api.answer(endpoint, body)

    def _slot(self, kind: str) -> _Slot:
        return _Slot(self._busy, kind, CONCURRENT[kind] * self.nodes)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        too_large = HttpError(413, f"error: request body exceeds the limit of {MAX_BODY_BYTES} bytes")
        length = _header(scope, b"content-length")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.receive_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionError
                    part: bytes = message.get("body", b"")
                    size += len(part)
                    if size > MAX_BODY_BYTES:
                        raise too_large
                    parts.append(part)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise HttpError(408, "The request's body didn't arrive in time.") from None


@dataclass(slots=True)
class _Slot:
    """One of the requests of a kind that are served at once."""

    busy: Counter[str]
    kind: str
    most: int

    async def __aenter__(self) -> None:
        if self.busy[self.kind] >= self.most:
            raise HttpError(429, f"Too many concurrent {self.kind} requests.")
        self.busy[self.kind] += 1

    async def __aexit__(self, *_: object) -> None:
        self.busy[self.kind] -= 1


def parse_path(path: str) -> Endpoint:
    """The endpoint that a path names.

    Raises: HttpError when there is none, or its id is malformed.
    """
    parts = path.split("/")[2:]
    if len(parts) != 4 or not (parts[0].startswith("v") and parts[0][1:].isdigit()):
        raise HttpError(404, "There is no such endpoint.")
    kind, text, action = parts[1:]
    version = int(parts[0][1:])
    if version not in VERSIONS.get((kind, action), ()):
        raise HttpError(404, "There is no such endpoint.")
    try:
        effective_id = Principal.from_text(text.lower())
    except InvalidPrincipal as error:
        raise HttpError(400, f"Invalid URL: Cannot parse `{text[:80]}` as a principal: {error}") from error
    return Endpoint(version, kind == "subnet", effective_id, action)


def _require(scope: Scope, *methods: str) -> None:
    if scope["method"] not in methods:
        raise HttpError(405, f"Method not allowed; use {methods[0]}.")


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return ""


async def _send(reply: HttpReply, send: Send, *, head_only: bool) -> None:
    named = {name.lower() for name, _ in reply.headers}
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    if reply.body and "content-type" not in named:
        headers.append((b"content-type", reply.content_type.encode()))
    if reply.pieces is None:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.pieces is not None and not head_only:
        async for piece in reply.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"" if head_only else reply.body})
