"""Rounds per second of an idle network: three subnets of four nodes, canisters installed, nothing to do.

Run: make bench-idle
"""

from __future__ import annotations

import sys
import time
from typing import Any

from bench.networks import ROOT, CpuMeter, running, topology
from bench.report import Figure, publish

ROUNDS = 400
REPEATS = 3
AIM = 30
NODES = 4
"""Of each subnet."""


def main() -> None:
    """Measure and publish."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    checked = topology(
        {
            "name": "bench-idle",
            "profile": "minimal",
            "subnet": [
                {"name": "nns", "type": "system", "nodes": NODES},
                {"name": "app-1", "type": "application", "nodes": NODES},
                {"name": "app-2", "type": "application", "nodes": NODES},
            ],
            "canister": [{"name": f"counter-{name}", "wasm": "counter", "subnet": name} for name in ("nns", "app-1", "app-2")],
        },
        ROOT,
    )
    walls = []
    with running(checked) as network:
        client = network.client
        client.advance(until_installed=True)
        client.advance(rounds=rounds // 10)
        before, meter = client.summary(), CpuMeter(client)
        for _ in range(REPEATS):
            began = time.perf_counter()
            client.advance(rounds=rounds)
            walls.append(time.perf_counter() - began)
        cpu, after = meter.used(), client.summary()
    total = rounds * REPEATS
    figures = [
        Figure(name="idle rounds, median of 3", value=rounds / sorted(walls)[REPEATS // 2], unit="rounds/s", aim=f">= {AIM}"),
        Figure(name="idle rounds, best of 3", value=rounds / min(walls), unit="rounds/s"),
        Figure(name="wall", value=sum(walls) / total * 1e3, unit="ms/round"),
    ]
    figures += [Figure(name=f"CPU of {kind}", value=s / total * 1e3, unit="ms/round") for kind, s in cpu.items()]
    for stage, old in before["stage_cpu_ns"].items():
        spent = after["stage_cpu_ns"][stage] - old
        figures.append(Figure(name=f"coordinator, {stage}: CPU", value=spent / total / 1e6, unit="ms/round"))
    for stage in before["subnets"][0]["stage_cpu_ns"]:
        spent = NODES * (sum(stages(after, stage)) - sum(stages(before, stage)))
        figures.append(Figure(name=f"all nodes, {stage}: CPU", value=spent / total / 1e6, unit="ms/round"))
    publish("idle", f"{total} rounds, 3 subnets x 4 nodes, nothing to do", figures)


def stages(summary: dict[str, Any], stage: str) -> list[int]:
    """CPU nanoseconds of this stage on one node of each subnet."""
    return [subnet["stage_cpu_ns"][stage] for subnet in summary["subnets"]]


if __name__ == "__main__":
    main()
