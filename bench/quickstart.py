"""The quickstart network as a whole: messages per second, CPU by process, and how many rounds a call takes.

A swap makes two calls to other subnets one after the other, so its latency gives the rounds of one XNet round trip.
Run: make bench-quickstart
"""

from __future__ import annotations

import time

from bench.networks import ROOT, CpuMeter, running
from bench.report import Figure, publish
from configs.loader import load_topology

XNET_CALLS_PER_SWAP = 2


def main() -> None:
    """Measure and publish."""
    checked = load_topology(ROOT / "configs" / "quickstart.toml")
    nodes = sum(subnet.nodes for subnet in checked.subnets) // len(checked.subnets)
    with running(checked) as network:
        client = network.client
        client.advance(until_installed=True)
        old, meter, began = client.summary(), CpuMeter(client), time.perf_counter()
        client.advance(until_idle=True)
        seconds = time.perf_counter() - began
        cpu, new = meter.used(), client.summary()
    assert all(phase["unexpected"] == 0 for phase in new["phases"]), new["phases"]
    messages = new["messages_executed"] - old["messages_executed"]
    rounds = new["rounds"] - old["rounds"]
    slowest = new["latency_rounds"]["max"]
    figures = [
        Figure(name="messages, each executed once per subnet", value=messages / seconds, unit="messages/s"),
        Figure(name="executions on all nodes", value=messages * nodes / seconds, unit="messages/s"),
        Figure(name="workload, wall", value=seconds, unit="s", aim="demo < 120"),
        Figure(name="rounds of the workload", value=rounds, unit="rounds"),
        Figure(name="round, wall", value=seconds / rounds * 1e3, unit="ms"),
        Figure(name="calls across subnets", value=new["xnet"]["requests"], unit="calls"),
        Figure(name="latency of a local call", value=new["latency_rounds"]["p50"], unit="rounds"),
        Figure(name="latency of a swap", value=slowest, unit="rounds"),
        Figure(name="XNet round trip", value=(slowest - 1) / XNET_CALLS_PER_SWAP, unit="rounds"),
    ]
    figures += [Figure(name=f"CPU of {kind}", value=s / messages / nodes * 1e6, unit="us/execution") for kind, s in cpu.items()]
    publish("quickstart", "the quickstart network, three subnets of four nodes", figures)


if __name__ == "__main__":
    main()
