"""The gateway before a network that can't answer: its own line to a real coordinator, whose nodes are fakes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import cbor2
import pytest
import zmq
import zmq.asyncio

from ic_types import wire
from ic_types.principal import Principal
from subnet import control_protocol as cp
from subnet.coordinator.control_desk import REQUESTS
from subnet.coordinator.ports import ReplyAddress
from subnet.gateway.api import Api
from subnet.gateway.app import App
from subnet.gateway.boundary import Boundary
from subnet.gateway.caller import Caller
from subnet.gateway.canister_http import CanisterHttp
from subnet.gateway.line import Line
from subnet.gateway.web import Web
from tests.support.fake_network import CLIENT, FakeNetwork
from tests.support.plans import small_plan
from tests.support.raw_http import content, envelope
from tests.unit.gateway.test_gateway_app import CBOR, Exchange

START = 1_800_000_000_000_000_000


async def serve(network: FakeNetwork, socket: zmq.asyncio.Socket) -> None:
    """The coordinator's end of the line."""
    while True:
        client, cookie, raw = await socket.recv_multipart()
        before = len(network.ports.replies)
        network.desk.serve(ReplyAddress(client, cookie), wire.decode(raw, *REQUESTS))
        network.settle()
        for address, message in network.ports.replies[before:]:
            await socket.send_multipart([address.client, address.cookie, wire.encode(message)])


def ask(network: FakeNetwork, folder: Path, kind: str, body: bytes = b"", place: str = "") -> Exchange:
    """One request through the whole gateway; `place`: whom the URL names, if not the first canister."""
    place = place or f"canister/{Principal(network.coordinator.network.subnets[0].record.range_start)}"

    async def run() -> Exchange:
        with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.bind(f"ipc://{folder / 'sockets' / cp.CONTROL_SOCKET}")
            serving = asyncio.create_task(serve(network, socket))
            line = Line(str(folder / "sockets"))
            boundary = Boundary(line, await line.ask(cp.Describe(), cp.Description))
            caller = Caller(boundary)
            app = App(Api(boundary, 5.0), Web(boundary, caller, CanisterHttp(caller)), 1, 5.0, 5.0)
            if kind == "status":
                done = await Exchange("GET", "/api/v2/status").run(app)
            else:
                done = await Exchange("POST", f"/api/v3/{place}/{kind}", CBOR, (body,)).run(app)
            await line.close()
            serving.cancel()
            return done

    return asyncio.run(run())


def live(folder: Path, **settings: object) -> FakeNetwork:
    """A network of fake nodes at height 0."""
    made = FakeNetwork(small_plan(1, 2), folder, live=True, wall=START, **settings)
    made.settle()
    return made


def requests(network: FakeNetwork) -> dict[str, bytes]:
    """A good request of each kind."""
    canister = bytes(network.coordinator.network.subnets[0].record.range_start)
    return {
        "query": envelope(content("query", canister_id=canister, method_name="read", arg=b"")),
        "read_state": envelope(content("read_state", paths=[[b"time"]])),
        "call": network.envelope("reply"),
    }


@pytest.mark.spec("http-interface")
def test_before_anything_is_certified(tmp_path: Path) -> None:
    """Queries and reads get 503 in plain text and the status says unhealthy; after the first round all is well."""
    network = live(tmp_path)
    assert network.coordinator.network.height == 0
    for kind in ("query", "read_state"):
        refused = ask(network, tmp_path, kind, requests(network)[kind])
        assert refused.status == 503
        assert refused.text.startswith("Certified state is not available yet.")
        assert refused.headers_sent[b"content-type"].startswith(b"text/plain")
    assert health(network, tmp_path) == "unhealthy"
    network.rounds(1)
    for kind in ("query", "read_state"):
        assert ask(network, tmp_path, kind, requests(network)[kind]).status == 200
    assert health(network, tmp_path) == "healthy"
    network.close()


@pytest.mark.spec("http-interface")
@pytest.mark.parametrize("exit_code", [1, 2, 3])
def test_network_that_has_failed(tmp_path: Path, exit_code: int) -> None:
    """A call gets 503 with the reason, whatever the reason is; the status says unhealthy."""
    network = live(tmp_path)
    network.rounds(1)
    network.coordinator.fail("nodes differ", exit_code)
    refused = ask(network, tmp_path, "call", requests(network)["call"])
    assert refused.status == 503
    assert refused.text == "Replica is unhealthy: the network has stopped making rounds: nodes differ"
    assert health(network, tmp_path) == "unhealthy"
    network.close()


@pytest.mark.spec("http-interface")
def test_subnet_without_live_nodes(tmp_path: Path) -> None:
    """Queries and reads get 503 that says whom to ask about it."""
    network = live(tmp_path)
    network.rounds(1)
    network.ports.hold = {"nns/1"}
    network.desk.serve(CLIENT, cp.KillNode(subnet=network.coordinator.network.subnets[0].record.subnet_id, node_index=1))
    network.settle()
    for kind in ("query", "read_state"):
        refused = ask(network, tmp_path, kind, requests(network)[kind])
        assert refused.status == 503
        assert refused.text == "Replica is unhealthy: no live node could answer; `icsim status` shows them"
    network.close()


def health(network: FakeNetwork, folder: Path) -> str:
    """As the status endpoint tells it."""
    return str(cbor2.loads(ask(network, folder, "status").raw)["replica_health_status"])
