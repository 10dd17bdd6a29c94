"""The ASGI application alone: limits, statuses, CORS, and an answer to every request, whatever the parts behind it do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ic_types.principal import Principal
from subnet.gateway import app as app_module
from subnet.gateway.api import Api, Endpoint
from subnet.gateway.app import App, parse_path
from subnet.gateway.replies import HttpError, HttpReply
from subnet.gateway.web import Web
from subnet.gateway.web_request import WebRequest

CANISTER = Principal.canister(3)
PATH = f"/api/v4/canister/{CANISTER}/call"
CBOR = ((b"content-type", b"application/cbor"),)


@dataclass(slots=True)
class FakeApi:
    """Does what the test says with a request."""

    act: Callable[[bytes], Awaitable[HttpReply]]
    seen: list[tuple[Endpoint, bytes]] = field(default_factory=list)

    async def answer(self, endpoint: Endpoint, body: bytes) -> HttpReply:
        """As told."""
        self.seen.append((endpoint, body))
        return await self.act(body)

    async def status(self) -> HttpReply:
        """As told."""
        return await self.act(b"")


class FakeWeb:
    """Answers with the path."""

    async def answer(self, request: WebRequest) -> HttpReply:
        """The path and body."""
        return HttpReply(200, request.path.encode() + request.body)


async def echo(body: bytes) -> HttpReply:
    """The body comes back."""
    return HttpReply(200, body, "application/cbor")


def made(act: Callable[[bytes], Awaitable[HttpReply]] = echo, **settings: Any) -> tuple[App, FakeApi]:
    """An application with a fake behind it."""
    fake = FakeApi(act)
    values = {"nodes": 1, "receive_timeout_s": 5.0, "request_timeout_s": 5.0, **settings}
    return App(cast("Api", fake), cast("Web", FakeWeb()), **values), fake


@dataclass(slots=True)
class Exchange:
    """One request, its body in parts, and what was answered."""

    method: str = "POST"
    path: str = PATH
    headers: tuple[tuple[bytes, bytes], ...] = CBOR
    parts: tuple[bytes, ...] = (b"body",)
    stalls: bool = False
    """The last part never comes."""
    sent: list[MutableMapping[str, Any]] = field(default_factory=list)

    async def run(self, app: App) -> Exchange:
        """Through the application."""
        left = list(self.parts)

        async def receive() -> MutableMapping[str, Any]:
            if not left:
                if self.stalls:
                    await asyncio.sleep(3600)
                return {"type": "http.disconnect"}
            part = left.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(left) or self.stalls}

        async def send(message: MutableMapping[str, Any]) -> None:
            self.sent.append(message)

        scope = {
            "type": "http", "method": self.method, "path": self.path, "raw_path": self.path.encode(), "query_string": b"",
            "headers": list(self.headers),
        }  # fmt: skip
        await app(scope, receive, send)
        return self

    @property
    def status(self) -> int:
        """Of the answer."""
        return int(self.sent[0]["status"])

    @property
    def text(self) -> str:
        """Of the answer."""
        return self.raw.decode()

    @property
    def raw(self) -> bytes:
        """Body of the answer."""
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def headers_sent(self) -> dict[bytes, bytes]:
        """Of the answer."""
        return dict(self.sent[0]["headers"])


def ask(app: App, **fields: Any) -> Exchange:
    """One request."""
    return asyncio.run(Exchange(**fields).run(app))


def test_bodies_come_in_parts() -> None:
    """They are put together; the endpoint is read from the path."""
    app, fake = made()
    assert ask(app, parts=(b"one ", b"two ", b"three")).text == "one two three"
    assert fake.seen == [(Endpoint(4, False, CANISTER, "call"), b"one two three")]


def test_bodies_that_are_too_large_are_cut_off() -> None:
    """By what is announced, and by what really comes; nothing behind sees them."""
    app, fake = made()
    announced = ask(app, headers=(*CBOR, (b"content-length", b"%d" % (6 << 20))), parts=(b"",))
    assert (announced.status, "5242880 bytes" in announced.text) == (413, True)
    assert ask(app, parts=(bytes(3 << 20), bytes(3 << 20), b"")).status == 413
    assert ask(app, parts=(bytes(5 << 20),)).status == 200
    assert len(fake.seen) == 1


def test_body_that_does_not_come() -> None:
    """408 after the time for it; a client that hangs up gets nothing."""
    app, fake = made(receive_timeout_s=0.05)
    assert ask(app, stalls=True).status == 408
    assert not ask(app, parts=()).sent
    assert not fake.seen


def test_answer_that_does_not_come() -> None:
    """504 after the time for it."""

    async def never(_: bytes) -> HttpReply:
        await asyncio.sleep(3600)
        raise AssertionError

    app, _ = made(never, request_timeout_s=0.05)
    assert ask(app).status == 504


def test_failures_are_answers() -> None:
    """A refusal has its status and text; a bug of ours is a 500 that tells nothing of the inside."""

    async def refuse(_: bytes) -> HttpReply:
        raise HttpError(503, "Certified state is not available yet.")

    async def fail(_: bytes) -> HttpReply:
        raise RuntimeError("secret")

    refused = ask(made(refuse)[0])
    assert (refused.status, refused.text) == (503, "Certified state is not available yet.")
    failed = ask(made(fail)[0])
    assert (failed.status, "secret" in failed.text) == (500, False)
    assert failed.headers_sent[b"access-control-allow-origin"] == b"*"


@pytest.mark.parametrize("nodes", [1, 2])
def test_too_many_at_once(nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many calls per node are served at once; one more gets 429, and when they are done there is room again."""
    monkeypatch.setitem(app_module.CONCURRENT, "call", 3)

    async def run() -> list[int]:
        gate = asyncio.Event()

        async def wait(body: bytes) -> HttpReply:
            await gate.wait()
            return HttpReply(200, body)

        app, _ = made(wait, nodes=nodes)
        running = [asyncio.create_task(Exchange().run(app)) for _ in range(3 * nodes)]
        await asyncio.sleep(0.01)
        over = await Exchange().run(app)
        query = asyncio.create_task(Exchange(path=PATH.replace("v4", "v3").replace("call", "query")).run(app))
        gate.set()
        done = [(await one).status for one in running]
        return [over.status, (await Exchange().run(app)).status, (await query).status, *done]

    assert asyncio.run(run()) == [429, 200, 200, *[200] * (3 * nodes)]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api", 200),
        ("/api/", 404),
        ("/api/v2", 404),
        (f"/api/v4/canister/{CANISTER}/query", 404),
        (f"/api/v2/subnet/{CANISTER}/call", 404),
        (f"/api/v3/node/{CANISTER}/call", 404),
        (f"/api/vx/canister/{CANISTER}/call", 404),
        (f"/api/v3/canister/{CANISTER}/call/", 404),
        ("/api/v3/canister//call", 400),
        ("/api/v3/canister/aaaaa-ab/call", 400),
        (f"/api/v3/canister/{str(CANISTER).upper()}/call", 200),
        (f"/api/v2/subnet/{CANISTER}/read_state", 200),
    ],
)
def test_paths(path: str, status: int) -> None:
    """Only endpoints that are, with canonical ids in any case of letters; everything else is for browsers."""
    assert ask(made()[0], path=path).status == status


def test_parsed_paths() -> None:
    """Version, kind and id."""
    assert parse_path(f"/api/v3/subnet/{CANISTER}/query") == Endpoint(3, True, CANISTER, "query")


def test_pieces_are_sent_as_they_come() -> None:
    """Without a length, and to HEAD not at all."""

    async def pieces(_: bytes) -> HttpReply:
        async def stream() -> Any:
            for piece in (b"one", b"two"):
                yield piece

        return HttpReply(200, headers=(("X-A", "b"),), pieces=stream())

    app, _ = made(pieces)
    answer = ask(app)
    assert answer.text == "onetwo"
    assert b"content-length" not in answer.headers_sent
    assert answer.headers_sent[b"x-a"] == b"b"
    assert ask(made()[0], method="HEAD", path="/page").text == ""


@pytest.mark.parametrize(
    ("host", "query", "referer", "found"),
    [
        (f"{CANISTER}.localhost:8000", "", "", CANISTER),
        (f"{CANISTER}.raw.localhost", "", "", CANISTER),
        ("shop.localhost", "", "", Principal.canister(9)),
        ("localhost", f"canisterId={CANISTER}", "", CANISTER),
        ("127.0.0.1:80", f"a=b&canisterId={CANISTER}", "", CANISTER),
        ("[::1]:80", "", f"http://localhost/?canisterId={CANISTER}", CANISTER),
        (f"{CANISTER}.localhost", "canisterId=shop", "", CANISTER),
        ("localhost", "", "", None),
        ("", "", "", None),
        ("example.org", "", "http://example.org/", None),
        ("[::", "", "", None),
        ("localhost:port", "", "", None),
    ],
)
def test_which_canister_is_meant(host: str, query: str, referer: str, found: Principal | None) -> None:
    """Host before parameter before the page that the request comes from; names of the topology count."""
    headers = (("host", host), ("referer", referer))
    request = WebRequest("GET", host, "/", query, headers, b"")
    assert request.canister({"shop": Principal.canister(9)}) == found
