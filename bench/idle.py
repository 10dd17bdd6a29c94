"""Rounds per second of an idle network: three subnets of four nodes, canisters installed, nothing to do.

Run: make bench-idle
"""

from __future__ import annotations

import sys
import time

from bench.networks import ROOT, CpuMeter, running, topology
from bench.report import Figure, publish

ROUNDS = 400
REPEATS = 3
AIM = 30


def main() -> None:
    """Measure and publish."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    checked = topology(
        {
            "name": "bench-idle",
            "profile": "minimal",
            "subnet": [
                {"name": "nns", "type": "system", "nodes": 4},
                {"name": "app-1", "type": "application", "nodes": 4},
                {"name": "app-2", "type": "application", "nodes": 4},
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
        meter = CpuMeter(client)
        before = client.summary()
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
    for stage in after["subnets"][0]["stage_ns"]:
        spent = sum(
            a["stage_ns"][stage] - b["stage_ns"][stage] for a, b in zip(after["subnets"], before["subnets"], strict=True)
        )
        figures.append(Figure(name=f"one node of each subnet, {stage}", value=spent / total / 1e6, unit="ms/round"))
    for stage, now in after["stage_ns"].items():
        figures.append(
            Figure(name=f"coordinator, {stage}", value=(now - before["stage_ns"][stage]) / total / 1e6, unit="ms/round")
        )
    publish("idle", f"{total} rounds, 3 subnets x 4 nodes, nothing to do", figures)


if __name__ == "__main__":
    main()
