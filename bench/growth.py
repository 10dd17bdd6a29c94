"""What a round costs with many canisters that are mostly idle: one subnet of one node, a hundred against two thousand.

Two kinds of round: nothing to do at all, and ten canisters with a message each; the two networks take turns. Batch time goes
on by a second per round, so that resource charges, timers and the re-reading of memory fall due as they do in a long run.
Run: make bench-growth
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from statistics import median

from bench.networks import ROOT, CpuMeter, running, topology
from bench.report import Figure, publish
from configs.topology import Topology
from ic_types.envelope import build_call
from ic_types.units import TimeNs
from subnet.control import ControlClient
from subnet.coordinator.plan_reader import canister_ids
from subnet.identities import identity_named

FEW, MANY = 100, 2000
IDLE_ROUNDS, BUSY_ROUNDS, BUSY_CANISTERS = 500, 150, 10
WARM_UP = 50
AIM = 1.5


@dataclass(slots=True)
class Cost:
    """Of one kind of round, all in ms; a round is one advance by one."""

    walls: list[float] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    """Of each kind of process, all rounds added."""
    stages: dict[str, float] = field(default_factory=dict)
    """CPU of the node, all rounds added."""


def network_of(count: int) -> Topology:
    """One subnet of one node with so many counters."""
    return topology(
        {
            "name": f"bench-growth-{count}",
            "profile": "mainnet",
            "identities": {"names": ["user"]},
            "subnet": [{"name": "nns", "type": "system", "nodes": 1}],
            "canister": [{"name": "counter", "wasm": "counter", "subnet": "nns", "count": count}],
        },
        ROOT,
    )


class Probe:
    """One of the two networks that are measured in turns."""

    def __init__(self, client: ControlClient, checked: Topology) -> None:
        receivers = list(canister_ids(checked).values())
        self.client, self.user = client, identity_named(checked.identity_seed, "user")
        self.busy = receivers[:: len(receivers) // BUSY_CANISTERS][:BUSY_CANISTERS]
        self.sent = 0
        began = time.perf_counter()
        client.advance(until_installed=True)
        client.advance(until_idle=True)
        self.installed = time.perf_counter() - began
        for _ in range(3):
            self.send()
            client.advance(rounds=1)
        client.advance(rounds=WARM_UP)
        self.begin()
        self.costs = {"idle": Cost(), "busy": Cost()}

    def send(self) -> None:
        """A call to each of the busy canisters."""
        expiry, envelopes = TimeNs(self.client.status().time_ns + 240_000_000_000), []
        for receiver in self.busy:
            self.sent += 1
            nonce = self.sent.to_bytes(8, "big")
            call = build_call(self.user, canister_id=receiver, method="inc", arg=b"DIDL\0\0", expiry=expiry, nonce=nonce)
            envelopes.append(call)
        assert not any(result.problem for result in self.client.submit(*envelopes)), "the calls are good"

    def begin(self) -> None:
        """From now on CPU time counts."""
        self.before, self.meter = self.client.summary()["subnets"][0]["stage_cpu_ns"], CpuMeter(self.client)

    def round(self, kind: str) -> None:
        """Make one round, idle or busy."""
        if kind == "busy":
            self.send()
        began = time.perf_counter()
        self.client.advance(rounds=1)
        self.costs[kind].walls.append((time.perf_counter() - began) * 1e3)

    def end(self, kind: str) -> None:
        """All rounds since `begin` were of this kind."""
        cost = self.costs[kind]
        cost.cpu = {process: seconds * 1e3 for process, seconds in self.meter.used().items()}
        after = self.client.summary()["subnets"][0]["stage_cpu_ns"]
        cost.stages = {stage: (now - self.before[stage]) / 1e6 for stage, now in after.items()}


def main() -> None:
    """Measure and publish."""
    few, many = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (FEW, MANY)
    small, large = network_of(few), network_of(many)
    with running(small) as one, running(large) as other:
        probes = Probe(one.client, small), Probe(other.client, large)
        for kind, rounds in (("idle", IDLE_ROUNDS), ("busy", BUSY_ROUNDS)):
            for probe in probes:
                probe.begin()
            for _ in range(rounds):
                for probe in probes:
                    probe.round(kind)
            for probe in probes:
                probe.end(kind)
    figures = []
    for kind in ("idle", "busy"):
        less, more = (probe.costs[kind] for probe in probes)
        rounds = len(less.walls)
        figures.append(compared(f"{kind} round, median wall", median(less.walls), median(more.walls), few, f"<= {AIM}"))
        total = sum(less.cpu.values()) / rounds, sum(more.cpu.values()) / rounds
        figures.append(compared(f"{kind} round, CPU of all processes", *total, few, f"<= {AIM}"))
        for what, a, b in (("CPU of", less.cpu, more.cpu), ("node:", less.stages, more.stages)):
            figures += [compared(f"{kind} round, {what} {name}", a[name] / rounds, b[name] / rounds, few) for name in a]
    took = [probe.installed for probe in probes]
    figures.append(
        Figure(name=f"create and install {many}", value=took[1], unit="s", reference_name=f"{few} canisters", reference=took[0])
    )
    publish("growth", f"cost of a round with {many} canisters against {few}; one node", figures)


def compared(name: str, small: float, large: float, few: int, aim: str = "") -> Figure:
    """A figure of the large network beside that of the small one."""
    return Figure(name=name, value=large, unit="ms", reference_name=f"{few} canisters", reference=small, aim=aim)


if __name__ == "__main__":
    main()
