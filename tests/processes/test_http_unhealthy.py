"""What agents are told by a network that can't serve them: 503, and why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ic_types.principal import Principal
from tests.support.http_network import HttpNetwork, http_network
from tests.support.raw_http import Answer, Key, RawClient, content, envelope

pytestmark = pytest.mark.slow
ALICE = Key(bytes(31) + b"a")
COUNTER_PAGE, FLIP_HEIGHT, MOST_CALLS = 2, 20, 60
"""The counter's number lies at 8192, which each call writes; by then the canister is installed."""
TOPOLOGY = """
name = "web"
profile = "minimal"

[[subnet]]
name = "app"
type = "system"
nodes = 2

[[canister]]
name = "counter"
wasm = "counter.wasm"
subnet = "app"
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpNetwork]:
    """One whose nodes come to disagree, so that its newest state never gets certified."""
    fault = f"flip:app/2,counter,{COUNTER_PAGE},3@{FLIP_HEIGHT}"
    with http_network(tmp_path_factory.mktemp("http"), "--fault", fault, topology=TOPOLOGY) as started:
        yield started


@pytest.fixture
def client(network: HttpNetwork) -> Iterator[RawClient]:
    """A connection of the test's own."""
    made = network.client()
    yield made
    made.close()


def ask(client: RawClient, network: HttpNetwork, kind: str, version: int, **fields: object) -> Answer:
    """A call or read of alice's at the counter."""
    counter = Principal.from_text(network.ready["canisters"]["counter"])
    body = content(kind, ALICE.principal, **fields)
    return client.post(f"/api/v{version}/canister/{counter}/{kind}", envelope(body, ALICE))


def call(client: RawClient, network: HttpNetwork, version: int) -> Answer:
    """Count one more."""
    counter = Principal.from_text(network.ready["canisters"]["counter"])
    fields = {"canister_id": bytes(counter), "method_name": "inc", "arg": (1).to_bytes(8, "little")}
    return ask(client, network, "call", version, **fields)


@pytest.mark.spec("http-interface")
@pytest.mark.spec("api-status")
def test_network_that_has_failed(client: RawClient, network: HttpNetwork) -> None:
    """Calls of all versions get 503 with the reason, the status says unhealthy, and what isn't certified can't be read."""
    for _ in range(MOST_CALLS):
        if call(client, network, 4).status == 503:
            break
    for version in (2, 3, 4):
        refused = call(client, network, version)
        assert refused.status == 503
        assert refused.text.startswith("Replica is unhealthy: the network has stopped making rounds: divergence on subnet app")
        assert refused.headers["content-type"].startswith("text/plain")
        assert refused.headers["access-control-allow-origin"] == "*"
    assert client.request("GET", "/api/v2/status").cbor["replica_health_status"] == "unhealthy"
    unread = ask(client, network, "read_state", 3, paths=[[b"time"]])
    assert (unread.status, unread.text) == (503, "Certified state is not available yet.")
