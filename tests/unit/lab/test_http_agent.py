"""Networks behind a URL: answers of every form, and every way in which they may be forged."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import cbor2
import pytest

from ic_types import bls, cbor
from ic_types.errors import BadInput, CertificationError, NetworkError
from ic_types.identity import AnonymousIdentity, Ed25519Identity
from ic_types.leb128 import encode_nat
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from subnet.lab import http_agent
from subnet.lab.calls import CallRejected
from subnet.lab.http_agent import MAINNET_ROOT_KEY, HttpAgent
from subnet.lab.http_wire import HttpWire, Unreachable
from subnet.lab.link import facts_of
from tests.support.fake_gateway import APP, CANISTER, FORGED_SECRET, NODE, NOW, ROOT, ROOT_KEY, FakeGateway

ME = Ed25519Identity(bytes([1]) * 32)
NOBODY = AnonymousIdentity()
REPLIED = {b"status": b"replied", b"reply": b"DIDL\0\0"}
REJECTED = {b"status": b"rejected", b"reject_code": encode_nat(4), b"reject_message": b"no", b"error_code": b"IC0406"}


@pytest.fixture
def gateway() -> FakeGateway:
    """A network."""
    return FakeGateway(outcomes=dict(REPLIED))


@pytest.fixture
def agent(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> HttpAgent:
    """Somebody who talks to it."""
    monkeypatch.setattr(HttpWire, "send", lambda _, *request: gateway.send(*request))
    monkeypatch.setattr(http_agent.time, "sleep", lambda _: None)
    return HttpAgent("http://fake/", clock=lambda: NOW)


def call(agent: HttpAgent) -> bytes:
    """An update call."""
    return agent.call(ME, CANISTER, "go", b"DIDL\0\0", CANISTER)


def query(agent: HttpAgent) -> bytes:
    """A query."""
    return agent.query(ME, CANISTER, "look", b"DIDL\0\0", CANISTER)


def test_a_call_is_answered(agent: HttpAgent, gateway: FakeGateway) -> None:
    """At once, after polling, or by an older version of the interface."""
    assert call(agent) == b"DIDL\0\0"
    assert gateway.seen[-1] == f"/api/v4/canister/{CANISTER}/call"
    gateway.waits = 3
    assert call(agent) == b"DIDL\0\0"
    assert gateway.seen.count(f"/api/v3/canister/{CANISTER}/read_state") == 3
    gateway.missing = ("v4", "v3")
    assert call(agent) == b"DIDL\0\0"
    assert gateway.seen[-1] == f"/api/v2/canister/{CANISTER}/call"


def test_a_call_is_not_lost_with_its_connection(
    agent: HttpAgent, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have arrived: its answer is looked for, and if there is none the error says so."""
    gateway.breaks = True
    assert call(agent) == b"DIDL\0\0"
    gateway.outcomes = {}
    monkeypatch.setattr(http_agent, "LOST_S", 0.01)
    with pytest.raises(NetworkError, match=r"the connection broke; whether call of go was made isn't known, its request id is"):
        call(agent)


def test_busy_networks_are_asked_again(agent: HttpAgent, gateway: FakeGateway) -> None:
    """A few times; then the error is told."""
    gateway.busy = 3
    assert query(agent) == call(agent) == b"DIDL\0\0"
    gateway.busy = 100
    with pytest.raises(NetworkError, match="HTTP status 503: no room"):
        query(agent)


def test_a_management_call_goes_to_the_canister_it_is_about(agent: HttpAgent, gateway: FakeGateway) -> None:
    """The path names the effective canister, the content the management canister."""
    agent.call(ME, MANAGEMENT_CANISTER, "stop_canister", b"", CANISTER)
    assert gateway.seen[-1] == f"/api/v4/canister/{CANISTER}/call"


def test_rejects_come_with_their_codes(agent: HttpAgent, gateway: FakeGateway) -> None:
    """Certified, before consensus, and of queries."""
    gateway.outcomes = dict(REJECTED)
    with pytest.raises(CallRejected, match=r"call of go rejected with code 4 \(IC0406\): no"):
        call(agent)
    refused = {"status": "non_replicated_rejection", "reject_code": 5, "reject_message": "empty", "error_code": "IC0537"}
    gateway.answers["call"] = (200, cbor2.dumps(refused))
    with pytest.raises(CallRejected, match=r"call of go rejected with code 5 \(IC0537\): empty"):
        call(agent)
    gateway.outcomes = {b"status": b"done"}
    del gateway.answers["call"]
    with pytest.raises(NetworkError, match="was answered, but the network keeps the answer no more"):
        call(agent)


def test_forged_certificates_are_refused(agent: HttpAgent, gateway: FakeGateway) -> None:
    """Signed by another key, of another canister's subnet, too old, from the future, or without a reply."""
    gateway.secret = FORGED_SECRET
    with pytest.raises(CertificationError, match="isn't over its root"):
        call(agent)
    gateway.secret = FakeGateway.secret
    other = Principal.canister(5)
    with pytest.raises(CertificationError, match=f"doesn't cover canister {other}"):
        agent.call(ME, other, "go", b"", other)
    for shift, words in ((-301, "is 301 s old"), (301, "is 301 s ahead")):
        gateway.time = NOW + shift * 10**9
        with pytest.raises(CertificationError, match=words):
            call(agent)
    gateway.time = NOW
    gateway.outcomes = {b"status": b"replied"}
    with pytest.raises(CertificationError, match="was replied to, but not how"):
        call(agent)
    stranger = HttpAgent("http://fake", MAINNET_ROOT_KEY, clock=lambda: NOW)
    with pytest.raises(CertificationError, match="delegation is not signed by the root subnet"):
        call(stranger)


def test_queries_are_signed_by_a_node_of_the_subnet(agent: HttpAgent, gateway: FakeGateway) -> None:
    """Anything else is no answer."""
    assert query(agent) == b"DIDL\0\0"
    forgeries: list[tuple[Any, str]] = [
        (lambda answer: answer["reply"].update(arg=b"DIDL\0\1"), "isn't over the answer"),
        (lambda answer: answer.update(status="rejected", reject_code=5, reject_message="x"), "isn't over the answer"),
        (lambda answer: answer.pop("signatures"), "without a node's signature"),
        (lambda answer: answer.update(signatures=[]), "without a node's signature"),
        (lambda answer: answer["signatures"][0].update(identity=b"\x05"), "a node that isn't of the canister's subnet"),
        (lambda answer: answer["signatures"][0].update(timestamp=NOW - 301 * 10**9), "is 301 s old"),
        (lambda answer: answer["signatures"][0].update(timestamp="now"), "malformed"),
        (lambda answer: answer["signatures"].append(5), "malformed"),
    ]
    for change, words in forgeries:
        gateway.change = change
        with pytest.raises(CertificationError, match=words):
            query(agent)
    gateway.change = lambda answer: None
    gateway.signer = ME
    with pytest.raises(CertificationError, match="isn't over the answer"):
        query(agent)
    assert NODE.principal != ME.principal


def test_canisters_are_read_from_certificates(agent: HttpAgent, gateway: FakeGateway) -> None:
    """What they have, what they provably haven't, and whether they exist."""
    controllers = cbor.SELF_DESCRIBED + cbor2.dumps([bytes(ME.principal)])
    gateway.state[b"canister"] = {bytes(CANISTER): {b"controllers": controllers}}
    facts = facts_of(agent, NOBODY, CANISTER)
    assert facts is not None
    assert (facts.controllers, facts.module_hash) == ((ME.principal,), None)
    assert facts_of(agent, NOBODY, Principal.canister((1 << 20) + 1)) is None
    gateway.state[b"canister"] = {bytes(CANISTER): {b"controllers": b"\x05"}}
    with pytest.raises(CertificationError, match="no list of principals"):
        facts_of(agent, NOBODY, CANISTER)


def test_a_place_for_canisters_is_found(agent: HttpAgent) -> None:
    """The first application subnet, or the one that is named by its id."""
    assert agent.place(None) == CANISTER
    assert agent.place(APP.to_text()) == CANISTER
    assert agent.subnet_of(CANISTER) == APP.to_text()
    with pytest.raises(BadInput, match="says of no canister that it is on subnet"):
        agent.place(ROOT.to_text())
    with pytest.raises(BadInput, match="know subnets by their ids only"):
        agent.place("app")


@pytest.mark.parametrize(
    ("what", "answer", "words"),
    [
        (
            "call",
            (400, b"Invalid request expiry: x"),
            "call of go is refused by http://fake with HTTP status 400: Invalid request expiry",
        ),
        ("call", (503, b""), r"HTTP status 503: \(no text\)"),
        ("call", (200, b"\xff"), "answers call with malformed CBOR"),
        ("call", (200, b"\x05"), "answers call with something that is no map"),
        ("query", (400, b"Invalid signature"), "query look is refused by http://fake with HTTP status 400"),
        ("read_state", (403, b"only the controllers"), "refuses to show a part of its state with HTTP status 403: only"),
        ("read_state", (200, cbor2.dumps({"certificate": 5})), "answers read_state without a certificate"),
        ("read_state", (200, cbor2.dumps({"certificate": b"x"})), "certificate is no map"),
    ],
)
def test_odd_answers_are_errors(
    agent: HttpAgent, gateway: FakeGateway, what: str, answer: tuple[int, bytes], words: str
) -> None:
    """Each says who answered what."""
    gateway.answers[what] = answer
    with pytest.raises((NetworkError, CertificationError), match=words):
        {"call": call, "query": query, "read_state": lambda one: one.read(ME, CANISTER, (b"controllers",))}[what](agent)


def test_the_root_key_is_asked_for_or_known(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local networks say theirs; mainnet's is built in, whoever answers."""
    monkeypatch.setattr(HttpWire, "send", lambda _, *request: gateway.send(*request))
    assert HttpAgent("http://127.0.0.1:8000").root_key == ROOT_KEY
    assert HttpAgent("https://icp-api.io").root_key == HttpAgent("https://x.icp0.io/").root_key == MAINNET_ROOT_KEY
    assert HttpAgent("https://noticp0.io").root_key == ROOT_KEY
    assert bls.from_der(MAINNET_ROOT_KEY)
    gateway.answers["status"] = (200, cbor2.dumps({}))
    with pytest.raises(NetworkError, match=r"http://127\.0\.0\.1:8000 is no network"):
        HttpAgent("http://127.0.0.1:8000")
    for url in ("ftp://x", "http://", "://"):
        with pytest.raises(BadInput, match="is no URL of a network"):
            HttpAgent(url)


def test_connections_fail_and_break() -> None:
    """A port where nobody listens; one where somebody hangs up, always or twice: then it is asked again."""
    with pytest.raises(Unreachable, match=r"nobody answers at http://127\.0\.0\.1:9: .*refused"):
        HttpAgent("http://127.0.0.1:9")
    status = cbor2.dumps({"root_key": ROOT_KEY})
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(status) + status
    for hangs_up, error in ((2, False), (9, True)):
        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=serve, args=(server, hangs_up, answer), daemon=True).start()
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            if not error:
                assert HttpAgent(url).root_key == ROOT_KEY
                continue
            with pytest.raises(NetworkError, match=r"the connection to http://127.* broke: ") as caught:
                HttpAgent(url)
            assert not isinstance(caught.value, Unreachable)


def serve(server: socket.socket, hangs_up: int, answer: bytes) -> None:
    """Take connections and close them so many times, then answer; ends with the server."""
    with contextlib.suppress(OSError):
        for _ in range(hangs_up):
            server.accept()[0].close()
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)
