"""Messages per second of one node, end to end: signature check, journal, execution, state hash, certification.

Pre-signed envelopes go to a running coordinator with one node; the reference is the bare loop at batch 1 with the same message
and heap, measured in turns with it. Run: make bench-messages
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import wasmtime

from bench.bare_loop import WAT
from bench.networks import CpuMeter, bare_loop_rate, running, topology
from bench.report import Figure, publish
from ic_types.envelope import build_call
from ic_types.principal import CanisterId, Principal
from ic_types.units import TimeNs
from subnet.control import ControlClient
from subnet.identities import identity_named

MESSAGES = 6_000
TURNS = 5
WARM_UP = 500
CHUNK = 100
SUBMITS_UNDER_WAY = 3
AIM = 0.25
ARGUMENT = (5).to_bytes(8, "little")
Summary: TypeAlias = dict[str, Any]


def main() -> None:
    """Measure and publish."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "inc.wasm").write_bytes(wasmtime.wat2wasm(WAT))
        data = {
            "name": "bench-messages",
            "profile": "mainnet",
            "subnet": [{"name": "nns", "type": "system", "nodes": 1}],
            "canister": [{"name": "inc", "wasm": "inc.wasm", "subnet": "nns"}],
            "identities": {"names": ["user"]},
        }
        checked = topology(data, Path(folder))
        with running(checked) as network:
            client = network.client
            client.advance(until_installed=True)
            flood(client, checked.identity_seed, WARM_UP, 0)
            old, meter, walls, floors = client.summary(), CpuMeter(client), [], [bare_loop_rate()]
            for turn in range(1, TURNS + 1):
                walls.append(flood(client, checked.identity_seed, count, turn))
                floors.append(bare_loop_rate())
            cpu, new = meter.used(), client.summary()
    total = count * TURNS
    assert new["ingress"]["replied"] - old["ingress"]["replied"] == total, new["ingress"]
    assert not new["ingress"]["rejected"], new["ingress"]
    figures = [
        Figure(
            name=f"end to end, median of {TURNS}",
            value=count / median(walls),
            unit="messages/s",
            reference_name="bare loop, batch 1",
            reference=median(floors),
            aim=f">= {AIM}",
        ),
        Figure(name="end to end, best", value=count / min(walls), unit="messages/s"),
        Figure(name="wall", value=sum(walls) / total * 1e6, unit="us/message"),
        Figure(name="messages per round", value=total / (new["rounds"] - old["rounds"]), unit="messages"),
        Figure(name="CPU of all processes", value=sum(cpu.values()) / total * 1e6, unit="us/message"),
    ]
    figures += [Figure(name=f"CPU of {kind}", value=s / total * 1e6, unit="us/message") for kind, s in cpu.items()]
    figures += stage_figures("coordinator", old, new, total)
    figures += stage_figures("node", old["subnets"][0], new["subnets"][0], total)
    publish("messages", f"{TURNS} times {count} messages, one node and the coordinator", figures)


def flood(client: ControlClient, identity_seed: int, count: int, turn: int) -> float:
    """Send and execute so many messages; the seconds it took from the first envelope to the last answer."""
    envelopes = presign_to(identity_seed, [Principal.canister(0)] * count, client.status().time_ns, turn)
    goal: int | None = None
    under_way: deque[int] = deque()
    began = time.perf_counter()
    for at in range(0, count, CHUNK):
        under_way.append(client.start_submit(*envelopes[at : at + CHUNK]))
        if len(under_way) == SUBMITS_UNDER_WAY:
            finish(client, under_way.popleft())
        if goal is None or client.poll_advance(goal) is not None:  # rounds go on while envelopes come in
            goal = client.start_advance(until_idle=True)
    for cookie in under_way:
        finish(client, cookie)
    client.advance(until_idle=True)
    return time.perf_counter() - began


def finish(client: ControlClient, cookie: int) -> None:
    """Wait until these envelopes are accepted."""
    assert not any(result.problem for result in client.finish_submit(cookie)), "the envelopes are good"


def stage_figures(who: str, old: Summary, new: Summary, count: int) -> list[Figure]:
    """Wall and CPU time per message of each stage."""
    figures = []
    for kind, key in (("wall", "stage_ns"), ("CPU", "stage_cpu_ns")):
        for stage, total in new[key].items():
            if stage == "wait":  # the turns of the reference are in it
                continue
            value = (total - old[key].get(stage, 0)) / count / 1e3
            figures.append(Figure(name=f"{who}, {stage}: {kind}", value=value, unit="us/message"))
    return figures


def presign_to(identity_seed: int, receivers: Sequence[CanisterId], now_ns: int, nonce: int = 0) -> list[bytes]:
    """A call of `inc` to each of these; they differ in their nonce."""
    user = identity_named(identity_seed, "user")
    return [
        build_call(
            user,
            canister_id=receiver,
            method="inc",
            arg=ARGUMENT,
            expiry=TimeNs(now_ns + 240_000_000_000),
            nonce=(nonce << 32 | k).to_bytes(8, "big"),
        )
        for k, receiver in enumerate(receivers)
    ]


if __name__ == "__main__":
    main()
