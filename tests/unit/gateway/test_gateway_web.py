"""Canisters' pages and the network's own share a port, never an origin."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ic_types.principal import CanisterId, Principal
from subnet.gateway.boundary import Boundary
from subnet.gateway.caller import Caller
from subnet.gateway.canister_http import CanisterHttp
from subnet.gateway.replies import HttpError, HttpReply
from subnet.gateway.web import Web
from subnet.gateway.web_request import WebRequest

CANISTER = Principal.canister(3)
POLICY = "content-security-policy"
SANDBOX = "sandbox allow-scripts allow-forms allow-popups"


class FakePages:
    """A canister with a policy of its own."""

    async def answer(self, canister_id: CanisterId, _request: WebRequest) -> HttpReply:
        """Its page."""
        return HttpReply(200, str(canister_id).encode(), headers=(("Content-Security-Policy", "img-src 'self'"),))


def ask(method: str = "GET", path: str = "/", query: str = "", body: bytes = b"", **headers: str) -> HttpReply:
    """One request to the gateway at localhost:4943 unless the host is another."""
    sent = {"host": "localhost:4943"} | {name.replace("_", "-"): value for name, value in headers.items()}
    description = SimpleNamespace(canisters=[SimpleNamespace(name="shop", canister_id=CANISTER)], identities=("alice",))
    boundary = cast("Boundary", SimpleNamespace(description=description))
    web = Web(boundary, cast("Caller", None), cast("CanisterHttp", FakePages()))
    return asyncio.run(web.answer(WebRequest(method, sent["host"], path, query, tuple(sent.items()), body)))


def refusal(*args: Any, **headers: str) -> tuple[int, str]:
    """Status and text of a request that is refused."""
    with pytest.raises(HttpError) as refused:
        ask(*args, **headers)
    return refused.value.status, refused.value.text


@pytest.mark.spec("http-gateway")
def test_pages_at_the_networks_host_have_no_origin() -> None:
    """By parameter or by referer they are sandboxed beside their own policy; at hosts of their own they are left alone."""
    for headers in (
        {},
        {"host": "127.0.0.1"},
        {"host": "192.168.0.9:4943"},
        {"host": "box.example", "sec_fetch_mode": "navigate"},
    ):
        page = ask(query=f"canisterId={CANISTER}", **headers)
        assert [value for name, value in page.headers if name.lower() == POLICY] == ["img-src 'self'", SANDBOX]
    referred = ask(path="/script.js", referer=f"http://localhost:4943/?canisterId={CANISTER}")
    assert (POLICY, SANDBOX) in referred.headers
    for host in (f"{CANISTER}.localhost:4943", f"{CANISTER}.raw.localhost", "shop.localhost:4943"):
        page = ask(host=host)
        assert (page.body, page.headers) == (str(CANISTER).encode(), (("Content-Security-Policy", "img-src 'self'"),))


@pytest.mark.spec("http-gateway")
@pytest.mark.parametrize(
    ("host", "location"),
    [
        ("localhost:4943", f"http://{CANISTER}.localhost:4943/a%20b?x=1&canisterId=shop"),
        ("127.0.0.1:4943", f"http://{CANISTER}.localhost:4943/a%20b?x=1&canisterId=shop"),
        ("[::1]", f"http://{CANISTER}.localhost/a%20b?x=1&canisterId=shop"),
        ("192.168.0.9:4943", None),
        ("box.example", None),
        ("shop.localhost:4943", None),
    ],
)
def test_browsers_on_this_machine_go_to_the_canisters_host(host: str, location: str | None) -> None:
    """There a page has an origin of its own and everything works; elsewhere names below localhost lead nowhere."""
    moved = ask(path="/a%20b", query="x=1&canisterId=shop", host=host, sec_fetch_mode="navigate")
    assert dict(moved.headers).get("location") == location
    assert moved.status == (200 if location is None else 307)


@pytest.mark.parametrize("path", ["/_/status", "/_/canisters", "/_/call"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": f"http://{CANISTER}.localhost:4943"},
        {"origin": "http://localhost:4944"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site"},
    ],
)
def test_controls_are_for_the_networks_own_page(path: str, headers: dict[str, str]) -> None:
    """Pages of other origins, sandboxed ones (`null`) and canisters' hosts among them, get 403 from every control."""
    method = "POST" if path == "/_/call" else "GET"
    refused = refusal(method, path, "", b"{}", content_type="application/json", **headers)
    assert refused == (403, "Only this network's own page may ask here.")


def test_the_networks_own_page_may_call() -> None:
    """With its own origin, and other clients without one: what is refused is the form of the body."""
    for headers in ({}, {"origin": "http://localhost:4943", "sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}):
        assert refusal("POST", "/_/call", "", b"{}", content_type="application/json", **headers)[0] == 400
    assert "frame-ancestors 'none'" in dict(ask().headers)[POLICY], "nobody lays it under a page of theirs"
