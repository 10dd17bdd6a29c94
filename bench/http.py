"""Calls and queries over HTTP with 1, 10 and 50 clients, where a call's time goes, and what certification costs per round.

Run: make bench-http
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bench.networks import CACHE, ROOT, CpuMeter, topology
from bench.report import Figure, publish
from configs.topology import Topology
from ic_types import bls, wire
from ic_types.envelope import build_call, build_query
from ic_types.identity import Ed25519Identity
from ic_types.principal import Principal
from ic_types.reject import RejectCode
from ic_types.units import TimeNs
from subnet.certification.certificate import make_certificate
from subnet.certification.state_tree import StateTree
from subnet.coordinator.plan_reader import read_plan
from subnet.launch import Listening, RunningNetwork, start_network
from subnet.network_config import CoordinatorConfig

CLIENTS = (1, 10, 50)
SECONDS = 6.0
NODES = 4
ALICE = Ed25519Identity.derive(b"bench", "alice")
ROUNDS = 40
CANISTERS = (100, 1_000, 10_000)
REQUESTS = 10_000
CHANGES = 10


@dataclass(slots=True)
class Load:
    """What clients measured."""

    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.seconds) / self.wall

    def percentile(self, percent: int) -> float:
        """Milliseconds."""
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, len(ranked) * percent // 100)] * 1e3


async def client(url: str, path: str, bodies: Any, load: Load, until: float) -> None:
    """One keep-alive connection that sends a request as soon as the last one is answered."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/cbor\r\nContent-Length: "
    while time.perf_counter() < until:
        body = next(bodies)
        began = time.perf_counter()
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        load.seconds.append(time.perf_counter() - began)
    writer.close()


async def drive(url: str, path: str, bodies: Any, clients: int) -> Load:
    """So many clients at once for a while."""
    load, began = Load(), time.perf_counter()
    await asyncio.gather(*(client(url, path, bodies, load, began + SECONDS) for _ in range(clients)))
    load.wall = time.perf_counter() - began
    return load


def calls(counter: Principal) -> Any:
    """Signed calls, each another one."""
    for number in itertools.count():
        expiry = TimeNs(time.time_ns() + 240_000_000_000)
        nonce = number.to_bytes(8, "big") + os.urandom(8)
        yield build_call(ALICE, canister_id=counter, method="inc", arg=(1).to_bytes(8, "little"), expiry=expiry, nonce=nonce)


def queries(counter: Principal) -> Any:
    """A signed query, signed anew every time as agents do."""
    while True:
        expiry = TimeNs(time.time_ns() + 240_000_000_000)
        yield build_query(ALICE, canister_id=counter, method="read", arg=b"", expiry=expiry)


def checked() -> Topology:
    """The root subnet, and one of four nodes with the benchmarks' counter."""
    return topology(
        {
            "name": "bench-http",
            "profile": "minimal",
            "subnet": [
                {"name": "nns", "type": "system", "nodes": 1},
                {"name": "app", "type": "application", "nodes": NODES},
            ],
            "canister": [{"name": "counter", "wasm": "counter", "subnet": "app"}],
        },
        ROOT,
    )


def started(folder: str) -> RunningNetwork:
    """Live, with a gateway."""
    config = CoordinatorConfig(
        name="bench-http",
        plan=wire.encode(read_plan(checked())),
        socket_dir="",
        cache_dir=str(CACHE),
        out_dir=folder,
        live=True,
    )
    return start_network(config, http=Listening(port=0))


def measured(clients: int) -> list[Figure]:
    """One network per number of clients, so that latencies in rounds are those of its calls."""
    with tempfile.TemporaryDirectory(prefix="icsim-bench-") as folder, started(folder) as network:
        control = network.client
        control.advance(until_installed=True)
        described = control.describe()
        counter = described.canisters[0].canister_id
        where = f"/api/v4/canister/{counter}/call", f"/api/v3/canister/{counter}/query"
        asyncio.run(drive_briefly(described.url, where, counter))
        before, meter = control.summary(), CpuMeter(control)
        updates = asyncio.run(drive(described.url, where[0], calls(counter), clients))
        cpu, after = meter.used(), control.summary()
        asked = asyncio.run(drive(described.url, where[1], queries(counter), clients))
    rounds = after["rounds"] - before["rounds"]
    latency = after["latency_rounds"]
    with_clients = f"{clients} client{'s' * (clients > 1)}"
    figures = [
        Figure(name=f"{with_clients}: calls", value=updates.rate, unit="calls/s"),
        Figure(name=f"{with_clients}: call, p50", value=updates.percentile(50), unit="ms"),
        Figure(name=f"{with_clients}: call, p99", value=updates.percentile(99), unit="ms"),
        Figure(name=f"{with_clients}: call, p50", value=latency["p50"], unit="rounds"),
        Figure(name=f"{with_clients}: call, p99", value=latency["p99"], unit="rounds"),
        Figure(name=f"{with_clients}: calls per round", value=len(updates.seconds) / rounds, unit="calls"),
        Figure(name=f"{with_clients}: queries", value=asked.rate, unit="queries/s"),
        Figure(name=f"{with_clients}: query, p50", value=asked.percentile(50), unit="ms"),
        Figure(name=f"{with_clients}: query, p99", value=asked.percentile(99), unit="ms"),
    ]
    figures += shares(with_clients, before, after, updates, rounds)
    made = len(updates.seconds)
    return figures + [Figure(name=f"{with_clients}: CPU of {k}", value=s / made * 1e6, unit="us/call") for k, s in cpu.items()]


async def drive_briefly(url: str, where: tuple[str, str], counter: Principal) -> None:
    """Until everything is warm."""
    for path, bodies in zip(where, (calls(counter), queries(counter)), strict=True):
        await client(url, path, bodies, Load(), time.perf_counter() + 0.5)


def shares(name: str, before: dict[str, Any], after: dict[str, Any], updates: Load, rounds: int) -> list[Figure]:
    """Where the mean call's time goes: its own check, and the stages of a round; the rest is waiting for others."""

    def coordinator(stage: str) -> float:
        return (after["stage_ns"].get(stage, 0) - before["stage_ns"].get(stage, 0)) / 1e9

    def node(stage: str) -> float:
        spent = [new["stage_ns"].get(stage, 0) - old["stage_ns"].get(stage, 0) for old, new in pairs]
        return max(spent) / 1e9

    pairs = list(zip(before["subnets"], after["subnets"], strict=True))
    mean = statistics.fmean(updates.seconds)
    parts = {
        "signature check": coordinator("check envelopes") / len(updates.seconds),
        "execution": node("execute") / rounds,
        "certification": (coordinator("certify") + node("hash") + node("tree") + node("sign")) / rounds,
        "journal": coordinator("journal") / rounds,
    }
    parts["consensus wait, transport and the rest"] = max(0.0, mean - sum(parts.values()))
    return [Figure(name=f"{name}: share of {stage}", value=100 * part / mean, unit="%") for stage, part in parts.items()]


# --- certification alone


def tree_of(canisters: int) -> StateTree:
    """A subnet's tree with so many canisters and ten thousand request statuses."""
    tree = StateTree()
    for index in range(canisters):
        tree.set_canister(Principal.canister(index), controllers=[ALICE.principal], module_hash=bytes(32), certified_data=b"d")
    for number in range(REQUESTS):
        tree.set_request_status(request_id(number), "replied", reply=b"reply")
    tree.set_time(TimeNs(0))
    tree.root()
    return tree


def request_id(number: int) -> bytes:
    """Spread as hashes are."""
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def change(tree: StateTree, canisters: int, height: int) -> bytes:
    """A round: ten canisters change, ten request ids join and ten expire; gives the root."""
    tree.set_time(TimeNs(height))
    for k in range(CHANGES):
        number = height * CHANGES + k
        tree.set_certified_data(Principal.canister(number * 7919 % canisters), number.to_bytes(8, "big"))
        tree.set_request_status(
            request_id(REQUESTS + number), "rejected", reject_code=RejectCode.CANISTER_REJECT, reject_message="no"
        )
        tree.delete_request_status(request_id(number))
    return tree.root()


def certification() -> list[Figure]:
    """In turns over the sizes, so that they meet the same machine."""
    trees = {canisters: tree_of(canisters) for canisters in CANISTERS}
    spent: dict[int, list[float]] = {canisters: [] for canisters in CANISTERS}
    proving: dict[int, list[float]] = {canisters: [] for canisters in CANISTERS}
    for height in range(1, ROUNDS + 1):
        for canisters, tree in trees.items():
            began = time.perf_counter()
            root = change(tree, canisters, height)
            spent[canisters].append(time.perf_counter() - began)
            began = time.perf_counter()
            for k in range(CHANGES):
                make_certificate(tree, [(b"request_status", request_id(REQUESTS + height * CHANGES + k))], bytes(48))
            proving[canisters].append(time.perf_counter() - began)
    began = time.perf_counter()
    bls.sign(b"\1" * 32, bls.with_domain(bls.STATE_ROOT, root))
    signing = time.perf_counter() - began
    first = {name: statistics.median(of[CANISTERS[0]]) for name, of in (("round", spent), ("certificates", proving))}
    figures = []
    for canisters in CANISTERS:
        for name, of, aim in (("round", spent, "<= 2x"), ("certificates", proving, "<= 2x")):
            what = "tree and root of a round" if name == "round" else "ten certificates"
            figures.append(
                Figure(
                    name=f"{canisters:,} canisters: {what}", value=statistics.median(of[canisters]) * 1e6, unit="us",
                    reference_name=f"{CANISTERS[0]} canisters", reference=first[name] * 1e6, aim=aim,
                )
            )  # fmt: skip
    return [*figures, Figure(name="one node's share of the signature", value=signing * 1e6, unit="us")]


def main() -> None:
    """Measure and publish."""
    figures = [figure for clients in CLIENTS for figure in measured(clients)]
    publish("http", f"one subnet of {NODES} nodes beside the root, live, {SECONDS:.0f} s each", figures + certification())


if __name__ == "__main__":
    main()
