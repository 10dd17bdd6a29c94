"""HTTP in virtual time: the window of expiries is the network's, unless any is accepted; calls make the rounds they need."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ic_types.principal import Principal
from subnet.certification.certificate import verify_certificate
from subnet.lab.network import Network
from subnet.lab.renaming import ORCHESTRATOR
from tests.support.cli_runs import COUNTER, icsim
from tests.support.http_network import HttpNetwork, http_network
from tests.support.raw_http import MINUTE, Answer, Key, RawClient, content, envelope, hash_of, look, verified

pytestmark = pytest.mark.slow
ALICE = Key(bytes(31) + b"a")


def call(network: HttpNetwork, **fields: object) -> tuple[Answer, bytes]:
    """A call of the counter, and its request id."""
    principal = network.ready["canisters"]["counter"]
    given = {"canister_id": bytes(Principal.from_text(principal)), "method_name": "inc", "arg": bytes(8), "nonce": bytes(1)}
    request = content("call", ALICE.principal, **{**given, **fields})
    client = network.client()
    answer = client.post(f"/api/v4/canister/{principal}/call", envelope(request, ALICE))
    client.close()
    return answer, hash_of(request)


def test_expiry_is_the_networks(tmp_path: Path) -> None:
    """The wall clock's minutes are refused, saying which are allowed; those of the network are taken."""
    with http_network(tmp_path, "--virtual-time", topology=COUNTER) as network:
        refused, _ = call(network)
        assert (refused.status, "Invalid request expiry: " in refused.text) == (400, True)
        now = json.loads(icsim(tmp_path, "status", "--json").stdout)["time_ns"]
        answer, message_id = call(network, ingress_expiry=now + MINUTE)
        tree = verified(answer.cbor["certificate"], network.root_key)["tree"]
        assert look(tree, b"request_status", message_id, b"status") == b"replied"


def test_any_expiry_and_time_that_stands_still(tmp_path: Path) -> None:
    """An agent with a wall clock is served; nothing happens between its calls."""
    with http_network(tmp_path, "--virtual-time", "--accept-any-expiry", topology=COUNTER) as network:
        heights = []
        for nonce in (b"1", b"2"):
            answer, message_id = call(network, nonce=nonce)
            tree = verified(answer.cbor["certificate"], network.root_key)["tree"]
            assert look(tree, b"request_status", message_id, b"status") == b"replied"
            time.sleep(1.2)
            heights.append(json.loads(icsim(tmp_path, "status", "--json").stdout)["height"])
        assert heights[1] == heights[0] + 1
        advanced = icsim(tmp_path, "advance", "--seconds", "60", "--quiet")
        assert advanced.returncode == 0


def test_certificates_of_a_canister_that_has_moved(icsim_network: Callable[..., Network]) -> None:
    """Its id is certified by the new host, whose delegation covers it from then on."""
    subnets = [{"name": "nns", "type": "system", "nodes": 1}]
    subnets += [{"name": name, "type": "application", "nodes": 1} for name in ("here", "there")]
    net = icsim_network({"name": "moving", "profile": "minimal", "identities": ["alice"], "subnet": subnets}, http=True)
    moved, former = (net.create_canister(name) for name in ("here", "there"))
    for one in (moved, former):
        one.install("counter")
        one.update_settings(controllers=[net.identities["alice"], ORCHESTRATOR])
        one.stop()
    new_id = former.id
    client = RawClient(net.url)
    root_key = client.request("GET", "/api/v2/status").cbor["root_key"]
    hosts = []
    for move in (False, True):
        if move:
            net.rename_canister(moved.id, new_id)
            net.tick(2)
            time.sleep(1.1)
        body = envelope(content("read_state", paths=[[b"canister", bytes(new_id), b"module_hash"]]))
        raw = client.post(f"/api/v3/canister/{new_id}/read_state", body).cbor["certificate"]
        certificate = verified(raw, root_key)
        assert isinstance(look(certificate["tree"], b"canister", bytes(new_id), b"module_hash"), bytes)
        verify_certificate(raw, root_key[37:], canister_id=new_id)
        hosts.append(certificate["delegation"]["subnet_id"])
    client.close()
    assert hosts == [net.subnets["there"].id, net.subnets["here"].id]
