"""The HTTP interface of a live network, asked by a client that knows the specification alone."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest

from ic_types.candid import text
from ic_types.principal import Principal
from subnet.lab import universal as u
from subnet.lab.universal import Program
from tests.support.cli_runs import icsim, processes_of, wait_until
from tests.support.http_network import HttpNetwork, http_network
from tests.support.raw_http import (
    MINUTE,
    Answer,
    Key,
    RawClient,
    check_node_signature,
    content,
    delegation,
    envelope,
    from_leb128,
    hash_of,
    labels,
    look,
    verified,
)

pytestmark = pytest.mark.slow
ALICE, BOB = Key(bytes(31) + b"a"), Key(bytes(31) + b"b")
NO_ARG = b"DIDL\0\0"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpNetwork]:
    """One for all tests of this module."""
    with http_network(tmp_path_factory.mktemp("http")) as started:
        yield started


@pytest.fixture
def client(network: HttpNetwork) -> Iterator[RawClient]:
    """A connection of the test's own."""
    made = network.client()
    yield made
    made.close()


def canister(network: HttpNetwork, name: str = "ledger") -> Principal:
    """A canister of the topology."""
    return Principal.from_text(network.ready["canisters"][name])


def subnet(network: HttpNetwork, name: str = "app") -> Principal:
    """A subnet of the topology."""
    return next(Principal.from_text(one["id"]) for one in network.ready["subnets"] if one["name"] == name)


def call_content(network: HttpNetwork, key: Key | None = ALICE, name: str = "universal", **fields: Any) -> dict[str, Any]:
    """A call that replies with its argument's bytes."""
    program = Program().reply(b"done")
    given = {
        "canister_id": bytes(canister(network, name)),
        "method_name": "update",
        "arg": bytes(program),
        "nonce": os.urandom(8),
    }
    return content("call", b"\x04" if key is None else key.principal, **{**given, **fields})


def query_content(network: HttpNetwork, key: Key | None = None, **fields: Any) -> dict[str, Any]:
    """A query of the ledger's symbol."""
    given = {"canister_id": bytes(canister(network)), "method_name": "symbol", "arg": NO_ARG}
    return content("query", b"\x04" if key is None else key.principal, **{**given, **fields})


def path_to(network: HttpNetwork, version: int, action: str, name: str = "universal") -> str:
    """Of a canister's endpoint."""
    return f"/api/v{version}/canister/{canister(network, name)}/{action}"


def read(
    client: RawClient, network: HttpNetwork, *paths: list[bytes], key: Key | None = None, at: str = "", **more: Any
) -> Answer:
    """Read paths of the state, by default at the ledger's endpoint of version 3."""
    body = content("read_state", b"\x04" if key is None else key.principal, paths=list(paths), **more)
    return client.post(at or path_to(network, 3, "read_state", "ledger"), envelope(body, key))


@pytest.mark.spec("api-status")
def test_status(client: RawClient, network: HttpNetwork) -> None:
    """The root key is the one that was announced; the root subnet's id follows from it."""
    status = client.request("GET", "/api/v2/status").cbor
    assert status["root_key"] == network.root_key
    assert status["replica_health_status"] == "healthy"
    assert status["certified_height"] >= 1
    assert Principal.self_authenticating(status["root_key"]) == subnet(network, "nns")


@pytest.mark.spec("http-call")
@pytest.mark.spec("http-sync-call-overview")
@pytest.mark.spec("certification-delegation")
@pytest.mark.parametrize("version", [3, 4])
def test_synchronous_call_is_answered_with_a_certificate(client: RawClient, network: HttpNetwork, version: int) -> None:
    """Status and reply are certified; the delegation shows the ranges in the form of the version."""
    request = call_content(network)
    answer = client.post(path_to(network, version, "call"), envelope(request, ALICE)).cbor
    assert answer["status"] == "replied"
    certificate = verified(answer["certificate"], network.root_key)
    at = (b"request_status", hash_of(request))
    assert look(certificate["tree"], *at, b"status") == b"replied"
    assert look(certificate["tree"], *at, b"reply") == b"done"
    age = time.time_ns() - from_leb128(look(certificate["tree"], b"time"))  # type: ignore[arg-type]
    assert abs(age) < 5 * MINUTE
    assert certificate["delegation"]["subnet_id"] == subnet(network)
    inner, flat = certificate["inner"]["tree"], (b"subnet", bytes(subnet(network)), b"canister_ranges")
    shards = labels(inner, b"canister_ranges", bytes(subnet(network)))
    if version == 3:
        (ranges,) = cbor2.loads(look(inner, *flat))  # type: ignore[arg-type]
        assert not shards
    else:
        assert look(inner, *flat) == "unknown"
        assert len(shards) == 1
        (ranges,) = cbor2.loads(look(inner, b"canister_ranges", bytes(subnet(network)), shards[0]))  # type: ignore[arg-type]
    assert ranges[0] <= bytes(canister(network)) <= ranges[1]


@pytest.mark.spec("http-call")
def test_root_subnet_certifies_without_delegation(client: RawClient, network: HttpNetwork) -> None:
    """An answer of the root subnet is signed by the root key itself."""
    request = call_content(network, name="counter", method_name="inc", arg=(1).to_bytes(8, "little"))
    answer = client.post(path_to(network, 4, "call", "counter"), envelope(request, ALICE)).cbor
    certificate = verified(answer["certificate"], network.root_key)
    assert "delegation" not in certificate
    assert look(certificate["tree"], b"request_status", hash_of(request), b"status") == b"replied"


@pytest.mark.spec("http-call")
def test_rejected_call_is_certified_as_rejected(client: RawClient, network: HttpNetwork) -> None:
    """Code, message and error code of a reject are in the certificate; its reply is provably absent."""
    request = call_content(network, arg=bytes(Program().reject(b"not today")))
    answer = client.post(path_to(network, 4, "call"), envelope(request, ALICE)).cbor
    assert answer["status"] == "replied"
    tree, at = verified(answer["certificate"], network.root_key)["tree"], (b"request_status", hash_of(request))
    assert look(tree, *at, b"status") == b"rejected"
    assert look(tree, *at, b"reject_code") == b"\x04"
    assert look(tree, *at, b"reject_message") == b"not today"
    assert look(tree, *at, b"error_code") == b"IC0406"
    assert look(tree, *at, b"reply") == "absent"


@pytest.mark.spec("http-async-call-overview")
@pytest.mark.spec("http-async-call")
def test_asynchronous_call_is_polled(client: RawClient, network: HttpNetwork) -> None:
    """202 with an empty body, then the status by read_state; sent again it changes nothing."""
    request = call_content(network)
    raw = envelope(request, ALICE)
    sent = client.post(path_to(network, 2, "call"), raw)
    assert (sent.status, sent.body) == (202, b"")
    at = path_to(network, 2, "read_state")
    deadline = time.monotonic() + 60
    while True:
        found = read(client, network, [b"request_status", hash_of(request)], key=ALICE, at=at).cbor
        tree = verified(found["certificate"], network.root_key)["tree"]
        if look(tree, b"request_status", hash_of(request), b"status") == b"replied":
            break
        assert time.monotonic() < deadline
    again = client.post(path_to(network, 4, "call"), raw).cbor
    assert (
        look(verified(again["certificate"], network.root_key)["tree"], b"request_status", hash_of(request), b"reply") == b"done"
    )


@pytest.mark.spec("http-call")
@pytest.mark.parametrize("version", [2, 3, 4])
def test_refusal_before_consensus(client: RawClient, network: HttpNetwork, version: int) -> None:
    """A method that users can't call is refused at once, uncertified, with its codes."""
    request = call_content(network, canister_id=b"", method_name="raw_rand", arg=NO_ARG)
    answer = client.post(path_to(network, version, "call"), envelope(request, ALICE)).cbor
    assert answer.get("status") == (None if version == 2 else "non_replicated_rejection")
    assert (answer["reject_code"], answer["error_code"][:4]) == (3, "IC03") or answer["error_code"]
    assert answer["reject_message"]


@pytest.mark.spec("http-query")
@pytest.mark.parametrize("version", [2, 3])
def test_query_is_signed_by_a_node_of_the_subnet(client: RawClient, network: HttpNetwork, version: int) -> None:
    """Reply and reject are signed with a key that the subnet's state certifies."""
    path = path_to(network, version, "query", "ledger")
    for method, status in (("symbol", "replied"), ("absent", "rejected")):
        request = query_content(network, method_name=method)
        answer = client.post(path, envelope(request)).cbor
        assert answer["status"] == status
        if status == "replied":
            assert text.to_text(answer["reply"]["arg"]) == '("GOLD")'
        else:
            assert (answer["reject_code"], answer["error_code"]) == (5, "IC0536")
        tree = verified(read(client, network, [b"subnet"]).cbor["certificate"], network.root_key)["tree"]
        node = answer["signatures"][0]["identity"]
        key = look(tree, b"subnet", bytes(subnet(network)), b"node", node, b"public_key")
        assert isinstance(key, bytes)
        check_node_signature(answer, request, key)


@pytest.mark.spec("http-query")
def test_query_sees_the_call_that_came_before(client: RawClient, network: HttpNetwork) -> None:
    """Who has the certificate of a call and then asks a query finds its effect, whichever node answers."""
    for value in range(5):
        kept = Program().set_global(b"%d" % value).reply(b"kept")
        request = call_content(network, arg=bytes(kept))
        assert client.post(path_to(network, 4, "call"), envelope(request, ALICE)).status == 200
        for _ in range(2):
            asked = query_content(network, canister_id=bytes(canister(network, "universal")), method_name="query")
            asked["arg"] = bytes(Program().reply(u.get_global()))
            answer = client.post(path_to(network, 3, "query"), envelope(asked)).cbor
            assert answer["reply"]["arg"] == b"%d" % value


@pytest.mark.spec("http-read-state")
@pytest.mark.spec("state-tree-canister-information")
@pytest.mark.spec("state-tree-subnet")
@pytest.mark.spec("state-tree-api-bn")
def test_state_of_canisters_and_subnets(client: RawClient, network: HttpNetwork) -> None:
    """Every path that may be read is certified, and only what was asked for is shown."""
    ledger, here = bytes(canister(network)), bytes(subnet(network))
    paths = [
        [b"canister", ledger, name]
        for name in (b"module_hash", b"controllers", b"canister_creation_timestamp", b"last_install_timestamp")
    ]
    tree = verified(read(client, network, *paths, [b"api_boundary_nodes"]).cbor["certificate"], network.root_key)["tree"]
    assert len(look(tree, b"canister", ledger, b"module_hash")) == 32
    assert cbor2.loads(look(tree, b"canister", ledger, b"controllers"))  # type: ignore[arg-type]
    for name in (b"canister_creation_timestamp", b"last_install_timestamp"):
        assert from_leb128(look(tree, b"canister", ledger, name)) < time.time_ns()  # type: ignore[arg-type]
    assert look(tree, b"canister", ledger, b"certified_data") == "unknown"
    (node,) = labels(tree, b"api_boundary_nodes")
    assert look(tree, b"api_boundary_nodes", node, b"domain") == b"localhost"

    tree = verified(read(client, network, [b"subnet"]).cbor["certificate"], network.root_key)["tree"]
    ids = sorted(bytes(subnet(network, name)) for name in ("nns", "app"))
    assert labels(tree, b"subnet") == ids
    assert look(tree, b"subnet", here, b"type") == b"application"
    assert len(labels(tree, b"subnet", here, b"node")) == 2
    assert look(tree, b"subnet", here, b"canister_ranges") == "unknown", "version 3 has shards of their own"
    assert isinstance(look(tree, b"subnet", bytes(subnet(network, "nns")), b"canister_ranges"), bytes), "the root's are shown"
    at = path_to(network, 2, "read_state")
    tree = verified(read(client, network, [b"subnet"], at=at).cbor["certificate"], network.root_key)["tree"]
    assert isinstance(look(tree, b"subnet", here, b"canister_ranges"), bytes)


@pytest.mark.spec("http-read-state")
@pytest.mark.spec("state-tree-canister-ranges")
@pytest.mark.parametrize("version", [2, 3])
def test_state_at_a_subnet(client: RawClient, network: HttpNetwork, version: int) -> None:
    """Metrics and ranges are read at the subnet's own endpoint; the delegation needs no ranges there."""
    here = bytes(subnet(network))
    at = f"/api/v{version}/subnet/{subnet(network)}/read_state"
    found = read(client, network, [b"subnet", here, b"metrics"], [b"canister_ranges", here], at=at)
    certificate = verified(found.cbor["certificate"], network.root_key)
    metrics = cbor2.loads(look(certificate["tree"], b"subnet", here, b"metrics"))  # type: ignore[arg-type]
    assert metrics[0] >= 3
    assert len(labels(certificate["tree"], b"canister_ranges", here)) == 1
    assert not labels(certificate["inner"]["tree"], b"canister_ranges")


@pytest.mark.spec("lookup")
@pytest.mark.spec("state-tree-request-status")
def test_absence_is_proven(client: RawClient, network: HttpNetwork) -> None:
    """Of a request that nobody sent the certificate proves that it isn't there, at both ends of the order too."""
    for message_id in (bytes(32), b"\xff" * 32, os.urandom(32)):
        found = read(client, network, [b"request_status", message_id]).cbor
        tree = verified(found["certificate"], network.root_key)["tree"]
        assert look(tree, b"request_status", message_id, b"status") == "absent"
    name = b"no such section"
    found = read(client, network, [b"canister", bytes(canister(network)), b"metadata", name]).cbor
    tree = verified(found["certificate"], network.root_key)["tree"]
    assert look(tree, b"canister", bytes(canister(network)), b"metadata", name) == "absent"


# --- who may read what


@pytest.mark.spec("http-read-state")
def test_only_the_sender_reads_a_request(client: RawClient, network: HttpNetwork) -> None:
    """Others get 403, the sender at another canister's endpoint too; a delegation must allow the receiver."""
    request = call_content(network)
    assert client.post(path_to(network, 4, "call"), envelope(request, ALICE)).status == 200
    path, at = [b"request_status", hash_of(request)], path_to(network, 3, "read_state")
    assert read(client, network, path, key=ALICE, at=at).status == 200
    refused = read(client, network, path, key=BOB, at=at)
    assert (refused.status, "Request ID not signed by the caller" in refused.text) == (403, True)
    assert read(client, network, path, key=ALICE).status == 403, "at the ledger's endpoint"
    session = Key()
    for target, status in ((canister(network, "universal"), 200), (canister(network), 403)):
        chain = [delegation(ALICE, session, time.time_ns() + MINUTE, targets=[bytes(target)])]
        body = content("read_state", ALICE.principal, paths=[path])
        assert client.post(at, envelope(body, ALICE, chain, session)).status == status


@pytest.mark.spec("http-read-state")
def test_private_sections_are_for_controllers(client: RawClient, network: HttpNetwork) -> None:
    """The ledger's interface is private: nobody in particular gets 403."""
    refused = read(client, network, [b"canister", bytes(canister(network)), b"metadata", b"candid:service"])
    assert (refused.status, "can only be requested by the controllers" in refused.text) == (403, True)


WRONG_PATHS = [
    ([[]], 404, "Invalid path requested."),
    ([[b"nothing"]], 404, "Invalid path requested."),
    ([[b"canister"]], 404, "Invalid path requested."),
    ([[b"time", b"x"]], 404, "Invalid path requested."),
    ([[b"canister", b"LEDGER", b"certified_data"]], 404, "Invalid path requested."),
    ([[b"subnet", b"SUBNET", b"metrics"]], 404, "Invalid path requested."),
    ([[b"canister_ranges", b"SUBNET"]], 404, "Invalid path requested."),
    ([[b"canister", b"other", b"module_hash"]], 400, "does not match requested principal id"),
    ([[b"canister", b"LEDGER", b"metadata", b"\xff\xfe"]], 400, "utf-8"),
    ([[b"request_status", b"short"]], 400, "Invalid request id"),
    ([[b"request_status", bytes(32)], [b"request_status", b"1" * 32]], 400, "single request ID"),
    ([[b"time"]] * 1001, 400, "Too many paths in read state request"),
    ([[b"x"] * 128], 400, "too deep"),
]


@pytest.mark.spec("http-read-state")
@pytest.mark.parametrize(("paths", "status", "words"), WRONG_PATHS)
def test_paths_that_may_not_be_read(
    client: RawClient, network: HttpNetwork, paths: list[list[bytes]], status: int, words: str
) -> None:
    """Status and text of the replica."""
    known = {b"LEDGER": bytes(canister(network)), b"SUBNET": bytes(subnet(network))}
    named = [[known.get(label, label) for label in path] for path in paths]
    refused = read(client, network, *named)
    assert (refused.status, words in refused.text) == (status, True), refused.text


# --- requests that are wrong


def chain_of(length: int) -> tuple[list[Any], Key]:
    """A chain of delegations from Alice to a key at its end."""
    chain, signer = [], ALICE
    for _ in range(length):
        following = Key()
        chain.append(delegation(signer, following, time.time_ns() + MINUTE))
        signer = following
    return chain, signer


def bad_requests(network: HttpNetwork) -> dict[str, tuple[str, bytes, int, str]]:
    """Every row of the replica's table: where, what, status and words of the answer."""
    call, query, state = (path_to(network, *which) for which in ((4, "call"), (3, "query"), (3, "read_state")))
    good = call_content(network)
    nothing = Principal(b"\0\0\0\0\xff\0\0\0\x01\x01")
    long, end = chain_of(21)
    expired = [delegation(ALICE, BOB, time.time_ns() - MINUTE)]
    forged = [{**delegation(ALICE, BOB, time.time_ns() + MINUTE), "signature": bytes(64)}]
    cycle = [delegation(ALICE, BOB, time.time_ns() + MINUTE), delegation(BOB, ALICE, time.time_ns() + MINUTE)]
    queries = [delegation(ALICE, BOB, time.time_ns() + MINUTE, permissions="queries")]
    odd = [delegation(ALICE, BOB, time.time_ns() + MINUTE, permissions="everything")]
    none = [delegation(ALICE, BOB, time.time_ns() + MINUTE, targets=[])]
    many = [delegation(ALICE, BOB, time.time_ns() + MINUTE, targets=[bytes((k >> 8, k & 255)) for k in range(1001)])]

    def changed(**fields: Any) -> bytes:
        return envelope({**good, **fields}, ALICE)

    def without(name: str) -> bytes:
        return envelope({key: value for key, value in good.items() if key != name}, ALICE)

    def bare(**fields: Any) -> bytes:
        return cbor2.dumps({"content": good, **fields})

    unsigned = {"sender_pubkey": None, "sender_sig": None}
    return {
        "garbage": (call, b"\xff\x00garbage", 400, "Could not parse body as call message"),
        "empty": (query, b"", 400, "Could not parse body as query message"),
        "no map": (state, cbor2.dumps([1]), 400, "Could not parse body as read_state message"),
        "float": (call, cbor2.dumps({"content": {**good, "ingress_expiry": 1.5}}), 400, "float"),
        "duplicate": (call, b"\xa2" + 2 * (cbor2.dumps("content") + cbor2.dumps(good)), 400, "twice"),
        "missing sender": (call, without("sender"), 400, "sender is missing"),
        "missing method": (call, without("method_name"), 400, "method_name is missing"),
        "missing expiry": (call, without("ingress_expiry"), 400, "ingress_expiry is missing"),
        "wrong kind": (query, envelope(good, ALICE), 400, "only 'query' is allowed"),
        "other canister": (
            path_to(network, 4, "call", "ledger"),
            envelope(good, ALICE),
            400,
            "does not match effective canister id in URL",
        ),
        "other canister queried": (query, envelope(query_content(network)), 400, "does not match effective canister id in URL"),
        "no subnet": (
            f"/api/v4/canister/{nothing}/call",
            changed(canister_id=bytes(nothing)),
            400,
            "does not belong to any subnet",
        ),
        "no subnet queried": (
            f"/api/v3/canister/{nothing}/query",
            envelope(query_content(network)),
            400,
            "does not belong to any subnet",
        ),
        "no such subnet": (
            f"/api/v3/subnet/{nothing}/read_state",
            envelope(content("read_state", paths=[])),
            400,
            "not part of this network",
        ),
        "dashes missing": (
            f"/api/v4/canister/{str(canister(network)).replace('-', '')}/call",
            envelope(good, ALICE),
            400,
            "Invalid URL",
        ),
        "no principal": ("/api/v4/canister/hello/call", envelope(good, ALICE), 400, "Invalid URL"),
        "expired": (
            call,
            changed(ingress_expiry=time.time_ns() - MINUTE),
            400,
            "Invalid request expiry: Specified ingress_expiry not within",
        ),
        "too far": (call, changed(ingress_expiry=time.time_ns() + 7 * MINUTE), 400, "Maximum allowed expiry: "),
        "expired query": (
            query,
            envelope(query_content(network, ALICE, ingress_expiry=1), ALICE),
            400,
            "Invalid request expiry: ",
        ),
        "wrong sender": (call, envelope({**good, "sender": BOB.principal}, ALICE), 400, "does not match the public key"),
        "wrong signature": (call, bare(sender_pubkey=ALICE.der, sender_sig=bytes(64)), 400, "Invalid signature: "),
        "signature missing": (call, bare(**unsigned), 400, "Missing signature from user: "),
        "anonymous with signature": (
            call,
            envelope({**good, "sender": b"\x04"}, ALICE),
            400,
            "Signature is not allowed for the anonymous user.",
        ),
        "odd key": (call, bare(sender_pubkey=b"key", sender_sig=bytes(64)), 400, "does not match the public key"),
        "delegation expired": (call, envelope(good, ALICE, expired, BOB), 400, "Invalid delegation expiry: "),
        "delegation forged": (call, envelope(good, ALICE, forged, BOB), 400, "Invalid delegation: "),
        "21 delegations": (
            call,
            envelope(good, ALICE, long, end),
            400,
            "Chain of delegations is too long: got 21 delegations, but at most 20 are allowed.",
        ),
        "cycle": (call, envelope(good, ALICE, cycle, ALICE), 400, "Chain of delegations contains at least one cycle"),
        "self loop": (
            call,
            envelope(good, ALICE, [delegation(ALICE, ALICE, time.time_ns() + MINUTE)], ALICE),
            400,
            "at least one cycle",
        ),
        "queries only": (call, envelope(good, ALICE, queries, BOB), 400, "permits queries only"),
        "odd permissions": (
            query,
            envelope(query_content(network, ALICE, canister_id=good["canister_id"]), ALICE, odd, BOB),
            400,
            "Invalid delegation: ",
        ),
        "no targets": (call, envelope(good, ALICE, none, BOB), 400, "is not one of the delegation targets."),
        "1001 targets": (call, envelope(good, ALICE, many, BOB), 400, "at most 1000"),
        "large nonce": (call, changed(nonce=bytes(33)), 400, "Nonce in request is too big"),
        "management at itself": (
            "/api/v4/canister/aaaaa-aa/call",
            changed(canister_id=b"", method_name="raw_rand"),
            400,
            "does not belong to any subnet",
        ),
        "management elsewhere": (
            call,
            changed(
                canister_id=b"",
                method_name="start_canister",
                arg=text.encode_text(f'(record {{ canister_id = principal "{nothing}" }})'),
            ),
            400,
            "does not match effective canister id in URL",
        ),
        "call at a subnet": (f"/api/v4/subnet/{subnet(network)}/call", envelope(good, ALICE), 400, "can be called at a subnet"),
        "query at a subnet": (
            f"/api/v3/subnet/{subnet(network)}/query",
            envelope(query_content(network)),
            400,
            "can be queried at a subnet",
        ),
        "too large": (call, changed(arg=bytes(2 << 20)), 413, "at most"),
        "body too large": (call, bytes(6 << 20), 413, "exceeds the limit"),
        "no such version": (f"/api/v5/canister/{canister(network)}/call", envelope(good, ALICE), 404, "no such endpoint"),
        "no such action": (f"/api/v3/canister/{canister(network)}/poke", envelope(good, ALICE), 404, "no such endpoint"),
    }


@pytest.mark.spec("http-interface")
@pytest.mark.spec("authentication")
@pytest.mark.spec("http-effective-canister-id")
def test_bad_requests(network: HttpNetwork) -> None:
    """Each gets the replica's status and words as plain text, and the server goes on."""
    for name, (path, body, status, words) in bad_requests(network).items():
        client = network.client()
        answer = client.post(path, body)
        client.close()
        assert (name, answer.status) == (name, status), answer.text
        assert words in answer.text, (name, answer.text)
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.spec("http-interface")
def test_content_type_method_and_preflight(client: RawClient, network: HttpNetwork) -> None:
    """Only CBOR is taken, in any case of letters; browsers of all origins may ask."""
    body, path = envelope(query_content(network)), path_to(network, 3, "query", "ledger")
    for kind in ("application/json", "application/cbor; charset=utf-8", ""):
        refused = client.post(path, body, kind)
        assert (refused.status, "expected application/cbor" in refused.text) == (400, True)
    assert client.post(path, body, "Application/CBOR").status == 200
    assert client.request("GET", path).status == 405
    preflight = client.request("OPTIONS", path, Origin="http://elsewhere", Access_Control_Request_Method="POST")
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "content-type" in preflight.headers["access-control-allow-headers"]
    assert "vary" not in preflight.headers


@pytest.mark.spec("api-cbor")
@pytest.mark.spec("authentication")
def test_odd_forms_of_good_requests(client: RawClient, network: HttpNetwork) -> None:
    """Untagged, with nulls, of indefinite length, with a nonce, and anonymous with any expiry: all are answered."""
    path = path_to(network, 3, "query", "ledger")
    plain = query_content(network)
    body = b"".join(cbor2.dumps(key) + cbor2.dumps(value) for key, value in reversed(plain.items()))
    for raw in (
        cbor2.dumps({"content": plain, "sender_pubkey": None, "sender_sig": None, "sender_delegation": None}),
        b"\xbf" + cbor2.dumps("content") + b"\xbf" + body + b"\xff\xff",
        envelope(query_content(network, nonce=bytes(32))),
        envelope(query_content(network, ingress_expiry=1)),
        envelope(query_content(network, ALICE), ALICE),
    ):
        assert client.post(path, raw).cbor["status"] == "replied"
    session = Key()
    for more in ({}, {"permissions": "queries"}, {"permissions": "all"}, {"targets": [bytes(canister(network))]}):
        chain = [delegation(ALICE, session, time.time_ns() + MINUTE, **more)]
        assert client.post(path, envelope(query_content(network, ALICE), ALICE, chain, session)).cbor["status"] == "replied"


@pytest.mark.spec("http-effective-subnet-id")
@pytest.mark.spec("effective-subnet-ids")
@pytest.mark.spec("http-effective-canister-id")
def test_canisters_are_created_at_any_principal(client: RawClient, network: HttpNetwork) -> None:
    """At a canister of the subnet, at the subnet itself, and at the management canister for the first application subnet."""
    for path in (
        path_to(network, 4, "call", "ledger"),
        f"/api/v4/subnet/{subnet(network)}/call",
        "/api/v4/canister/aaaaa-aa/call",
    ):
        request = call_content(network, canister_id=b"", method_name="provisional_create_canister_with_cycles")
        request["arg"] = text.encode_text("(record { amount = opt 1_000_000_000_000 : opt nat })")
        answer = client.post(path, envelope(request, ALICE)).cbor
        certificate = verified(answer["certificate"], network.root_key)
        assert look(certificate["tree"], b"request_status", hash_of(request), b"status") == b"replied"
        assert certificate["delegation"]["subnet_id"] == subnet(network)
        at_the_ledger = read(client, network, [b"request_status", hash_of(request)], key=ALICE)
        assert at_the_ledger.status == (403 if "/subnet/" in path else 200), "read where it was sent"


def test_fuzzed_requests_get_a_4xx(network: HttpNetwork) -> None:
    """Flipped, cut, doubled and random bodies never crash or hang the server."""
    choose = random.Random(11)
    goods = [
        (path_to(network, 4, "call"), envelope(call_content(network), ALICE)),
        (path_to(network, 3, "query", "ledger"), envelope(query_content(network, ALICE), ALICE)),
        (path_to(network, 3, "read_state"), envelope(content("read_state", ALICE.principal, paths=[[b"time"]]), ALICE)),
    ]
    client = network.client()
    for _ in range(600):
        path, raw = choose.choice(goods)
        body = bytearray(raw)
        match choose.randrange(4):
            case 0:
                body = body[: choose.randrange(len(body))]
            case 1:
                body[choose.randrange(len(body))] ^= 1 << choose.randrange(8)
            case 2:
                at = choose.randrange(len(body))
                body[at:at] = choose.randbytes(choose.randrange(1, 20))
            case _:
                body = bytearray(choose.randbytes(choose.randrange(200)))
        answer = client.post(path, bytes(body))
        assert 400 <= answer.status < 500 or bytes(body) == raw, (body.hex(), answer.text)
    client.close()
    nested = b"\xa1" + cbor2.dumps("content") + b"\x81" * 100_000
    assert network.client().post(goods[0][0], nested).status == 400


def test_half_a_request_holds_nobody_up(network: HttpNetwork) -> None:
    """A client that sends part of a request and waits doesn't keep others from being served."""
    host, port = network.url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(20)]
    for one in slow:
        one.sendall(
            b"POST " + path_to(network, 4, "call").encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/cbor\r\n"
        )
        one.sendall(b"Content-Length: 100\r\n\r\nhalf")
    client = network.client()
    assert client.post(path_to(network, 3, "query", "ledger"), envelope(query_content(network))).status == 200
    client.close()
    for one in slow:
        one.close()


# --- canisters' pages


@pytest.mark.spec("http-gateway")
def test_canisters_serve_pages(client: RawClient, network: HttpNetwork) -> None:
    """By host and by parameter; pieces, upgrades, headers and bodies come through."""
    port = network.url.rpartition(":")[2]
    assets = canister(network, "assets")
    for host in (f"{assets}.localhost:{port}", f"{assets}.raw.localhost:{port}", f"assets.localhost:{port}"):
        page = client.request("GET", "/", Host=host)
        assert (page.status, b"Served by a canister" in page.body) == (200, True)
        assert page.headers["ic-certificate"].startswith("certificate=:")
    host = f"{assets}.localhost:{port}"
    plain = client.request("GET", f"/?canisterId={assets}")
    assert (plain.status, plain.headers["content-security-policy"].startswith("sandbox")) == (200, True)
    opened = client.request("GET", f"/?canisterId={assets}", Sec_Fetch_Mode="navigate")
    assert (opened.status, opened.headers["location"]) == (307, f"http://{host}/?canisterId={assets}")
    assert client.request("GET", "/large", Host=host).body == b"".join(b"piece %d\n" % k for k in range(5))
    first, second = (client.request("POST", "/count", b"x", Host=host).text for _ in range(2))
    assert (first, second) == ("visit 1 by POST", "visit 2 by POST")
    echo = client.request("PUT", "/echo?a=1%20b", b"\0\xffbody", Host=host)
    assert (echo.status, echo.body, echo.headers["x-url"]) == (201, b"\0\xffbody", "/echo?a=1%20b")
    assert client.request("GET", "/nothing", Host=host).status == 404
    head = client.request("HEAD", "/", Host=host)
    assert (head.status, head.body) == (200, b"")
    assert client.request("GET", "/", Host=f"ledger.localhost:{port}").status == 404
    assert client.request("GET", "/", Host=f"nobody.localhost:{port}").status == 400
    assert b"<title>icsim</title>" in client.request("GET", "/").body


def test_form_is_for_the_networks_own_page(client: RawClient, network: HttpNetwork) -> None:
    """The page's calls use the network's identities, so other sites' pages may not make them."""
    wanted = b'{"canister": "%s", "method": "balance_of", "arg": "(principal \\"aaaaa-aa\\")", "as": "alice", "kind": "query"}'
    body = wanted % str(canister(network)).encode()
    own = client.request("POST", "/_/call", body, Content_Type="application/json")
    assert (own.status, own.body) == (200, b'{"reply": "(0 : nat)"}')
    assert client.request("POST", "/_/call", body, Content_Type="text/plain").status == 400
    for origin in ("http://evil.example", "null", f"http://assets.localhost:{network.url.rpartition(':')[2]}"):
        foreign = client.request("POST", "/_/call", body, Content_Type="application/json", Origin=origin)
        assert (foreign.status, "access-control-allow-origin" in foreign.headers) == (403, False)
    rebound = client.request("POST", "/_/call", body, Content_Type="application/json", Host="evil.example")
    assert (rebound.status, "not at a name" in rebound.text) == (403, True)
    for broken in (b"", b"[]", b'{"canister": 1}', body.replace(b"alice", b"eve"), body.replace(b"balance_of", b"nope")):
        assert client.request("POST", "/_/call", broken, Content_Type="application/json").status == 400


# --- whatever dies


def test_gateway_that_is_killed_comes_back(network: HttpNetwork) -> None:
    """The port stays the same, and what was sent before isn't lost."""
    client = network.client()
    request = call_content(network)
    raw = envelope(request, ALICE)
    assert client.post(path_to(network, 2, "call"), raw).status == 202
    pids = [
        pid for pid in os.listdir("/proc") if pid.isdigit() and title(pid) == "icsim gateway" and works_in(pid, network.home)
    ]
    assert len(pids) == 1
    os.kill(int(pids[0]), signal.SIGKILL)
    again = network.client()
    answer = again.post(path_to(network, 4, "call"), raw).cbor
    assert (
        look(verified(answer["certificate"], network.root_key)["tree"], b"request_status", hash_of(request), b"reply")
        == b"done"
    )
    client.close()
    again.close()


def title(pid: str) -> str:
    """Of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode("latin-1")
    except OSError:
        return ""


def works_in(pid: str, home: Path) -> bool:
    """Whether a process is this home's."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == home
    except OSError:
        return False


def test_many_clients_at_once(network: HttpNetwork) -> None:
    """Twenty calls at the same time are all answered, in few rounds."""
    answers: list[str] = []

    def one() -> None:
        client = network.client()
        request = call_content(network)
        answer = client.post(path_to(network, 4, "call"), envelope(request, ALICE)).cbor
        answers.append(answer["status"])
        client.close()

    threads = [threading.Thread(target=one) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["replied"] * 20


def test_live_run_goes_on_and_replays(network: HttpNetwork) -> None:
    """Killed as a whole, the network knows what it has certified; its journal gives equal hashes again. Last, as it ends it."""
    client = network.client()
    request = call_content(network)
    raw = envelope(request, ALICE)
    assert client.post(path_to(network, 4, "call"), raw).cbor["status"] == "replied"
    client.close()
    os.kill(network.ready["pid"], signal.SIGKILL)
    wait_until(lambda: not processes_of(network.home), "every process ends with the zygote")
    up = icsim(network.home, "up", "--resume", "out", "--background", "--quiet", "--port", "0", "--ready-file", "ready.json")
    assert up.returncode == 0, up.stderr
    again = RawClient(json.loads((network.home / "ready.json").read_text())["url"])
    certificate = again.post(path_to(network, 4, "call"), raw).cbor["certificate"]
    assert look(verified(certificate, network.root_key)["tree"], b"request_status", hash_of(request), b"reply") == b"done"
    later = envelope(call_content(network), ALICE)
    assert again.post(path_to(network, 4, "call"), later).cbor["status"] == "replied"
    again.close()
    assert icsim(network.home, "down", "--all").returncode == 0
    replay = icsim(network.home, "replay", "out", "--quiet")
    assert replay.returncode == 0, replay.stderr + replay.stdout
