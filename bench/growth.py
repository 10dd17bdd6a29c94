"""What a round costs with many canisters that are mostly idle: one subnet of one node, a hundred against two thousand.

Two kinds of round: nothing to do at all, and ten canisters with a message each. Batch time goes on by a second per round, so
resource charges, timers and the re-reading of memory fall due as they do in a long run. Run: make bench-growth
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from bench.networks import ROOT, CpuMeter, running, topology
from bench.report import Figure, publish
from configs.topology import Topology
from ic_types.envelope import build_call
from ic_types.principal import Principal
from ic_types.units import TimeNs
from subnet.control import ControlClient
from subnet.coordinator.plan_reader import canister_ids
from subnet.identities import identity_named

FEW, MANY = 100, 2000
IDLE_ROUNDS, BUSY_ROUNDS, BUSY_CANISTERS = 300, 100, 10
WARM_UP = 50
AIM = 1.5


@dataclass(slots=True)
class Cost:
    """Of one kind of round, in ms."""

    wall: float
    """The median round; a round is one advance by one."""
    cpu: dict[str, float]
    stages: dict[str, float]
    """CPU of the node."""


def measure(count: int) -> tuple[Cost, Cost, float]:
    """Idle rounds, busy rounds, and the seconds it took to create and install the canisters."""
    checked = topology(
        {
            "name": f"bench-growth-{count}",
            "profile": "mainnet",
            "identities": {"names": ["user"]},
            "subnet": [{"name": "nns", "type": "system", "nodes": 1}],
            "canister": [{"name": "counter", "wasm": "counter", "subnet": "nns", "count": count}],
        },
        ROOT,
    )
    receivers = list(canister_ids(checked).values())
    busy = receivers[:: count // BUSY_CANISTERS][:BUSY_CANISTERS]
    with running(checked) as network:
        client = network.client
        began = time.perf_counter()
        client.advance(until_installed=True)
        client.advance(until_idle=True)
        installed = time.perf_counter() - began
        for _ in range(3):
            send(client, checked, busy)
            client.advance(rounds=1)
        client.advance(rounds=WARM_UP)
        idle = cost_of(client, IDLE_ROUNDS, checked, [])
        loaded = cost_of(client, BUSY_ROUNDS, checked, busy)
    return idle, loaded, installed


def cost_of(client: ControlClient, rounds: int, checked: Topology, busy: list[Principal]) -> Cost:
    """The cost of one round in which these canisters get a message each."""
    meter, before, walls = CpuMeter(client), client.summary(), []
    for _ in range(rounds):
        if busy:
            send(client, checked, busy)
        began = time.perf_counter()
        client.advance(rounds=1)
        walls.append(time.perf_counter() - began)
    cpu, after = meter.used(), client.summary()
    was, now = before["subnets"][0]["stage_cpu_ns"], after["subnets"][0]["stage_cpu_ns"]
    return Cost(
        wall=sorted(walls)[rounds // 2] * 1e3,
        cpu={kind: seconds / rounds * 1e3 for kind, seconds in cpu.items()},
        stages={stage: (now[stage] - was[stage]) / rounds / 1e6 for stage in now},
    )


_sent = 0


def send(client: ControlClient, checked: Topology, receivers: list[Principal]) -> None:
    """A call to each of these canisters."""
    global _sent
    user, expiry = identity_named(checked.identity_seed, "user"), TimeNs(client.status().time_ns + 240_000_000_000)
    envelopes = []
    for receiver in receivers:
        _sent += 1
        nonce = _sent.to_bytes(8, "big")
        envelopes.append(build_call(user, canister_id=receiver, method="inc", arg=b"DIDL\0\0", expiry=expiry, nonce=nonce))
    assert not any(result.problem for result in client.submit(*envelopes)), "the calls are good"


def main() -> None:
    """Measure and publish."""
    few, many = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (FEW, MANY)
    small, large = measure(few), measure(many)
    figures = []
    for kind, less, more in (("idle", small[0], large[0]), ("busy", small[1], large[1])):
        figures.append(compared(f"{kind} round, median wall", less.wall, more.wall, few, f"<= {AIM}"))
        total = sum(less.cpu.values()), sum(more.cpu.values())
        figures.append(compared(f"{kind} round, CPU of all processes", *total, few, f"<= {AIM}"))
        figures += [compared(f"{kind} round, CPU of {name}", less.cpu[name], more.cpu[name], few) for name in less.cpu]
        figures += [compared(f"{kind} round, node: {name}", less.stages[name], more.stages[name], few) for name in less.stages]
    figures.append(
        Figure(
            name=f"create and install {many}",
            value=large[2],
            unit="s",
            reference_name=f"{few} canisters",
            reference=small[2],
        )
    )
    publish("growth", f"cost of a round with {many} canisters against {few}; one node", figures)


def compared(name: str, small: float, large: float, few: int, aim: str = "") -> Figure:
    """A figure of the large network beside that of the small one."""
    return Figure(name=name, value=large, unit="ms", reference_name=f"{few} canisters", reference=small, aim=aim)


if __name__ == "__main__":
    main()
