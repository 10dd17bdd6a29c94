"""Messages per second of one node, end to end: signature check, journal, execution, state hash, certification.

Pre-signed envelopes go to a running coordinator with one node; the reference is the bare loop at batch 1 with the same message
and heap, measured before and after. Run: make bench-messages
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
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

MESSAGES = 20_000
WARM_UP = 500
CHUNK = 100
SUBMITS_UNDER_WAY = 3
AIM = 0.25
ARGUMENT = (5).to_bytes(8, "little")
Summary: TypeAlias = dict[str, Any]


def main() -> None:
    """Measure and publish."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    before = bare_loop_rate()
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
            seconds, cpu, old, new = flood(network.client, checked.identity_seed, count)
    after = bare_loop_rate()
    assert new["ingress"]["replied"] - old["ingress"]["replied"] == count, new["ingress"]
    assert not new["ingress"]["rejected"], new["ingress"]
    figures = [
        Figure(
            name="end to end",
            value=count / seconds,
            unit="messages/s",
            reference_name="bare loop, batch 1",
            reference=(before + after) / 2,
            aim=f">= {AIM}",
        ),
        Figure(name="wall", value=seconds / count * 1e6, unit="us/message"),
        Figure(name="messages per round", value=count / (new["rounds"] - old["rounds"]), unit="messages"),
    ]
    figures += [Figure(name=f"CPU of {kind}", value=s / count * 1e6, unit="us/message") for kind, s in cpu.items()]
    figures += stage_figures("coordinator", old, new, count)
    figures += stage_figures("node", old["subnets"][0], new["subnets"][0], count)
    publish("messages", f"{count} messages, one node and the coordinator", figures)


def flood(client: ControlClient, identity_seed: int, count: int) -> tuple[float, dict[str, float], Summary, Summary]:
    """Send and execute so many messages: seconds, CPU seconds by process, and the run's summary before and after."""
    inc = Principal.canister(0)
    client.advance(until_installed=True)
    client.submit(*presign_to(identity_seed, [inc] * WARM_UP, client.status().time_ns, nonce=1))
    client.advance(until_idle=True)
    envelopes = presign_to(identity_seed, [inc] * count, client.status().time_ns)
    old, meter, goal = client.summary(), CpuMeter(client), None
    began = time.perf_counter()
    under_way: deque[int] = deque()
    for at in range(0, count, CHUNK):
        under_way.append(client.start_submit(*envelopes[at : at + CHUNK]))
        if len(under_way) == SUBMITS_UNDER_WAY:
            finish(client, under_way.popleft())
        if goal is None or client.poll_advance(goal) is not None:  # rounds go on while envelopes come in
            goal = client.start_advance(until_idle=True)
    for cookie in under_way:
        finish(client, cookie)
    client.advance(until_idle=True)
    seconds = time.perf_counter() - began
    return seconds, meter.used(), old, client.summary()


def finish(client: ControlClient, cookie: int) -> None:
    """Wait until these envelopes are accepted."""
    assert not any(result.problem for result in client.finish_submit(cookie)), "the envelopes are good"


def stage_figures(who: str, old: Summary, new: Summary, count: int) -> list[Figure]:
    """Wall and CPU time per message of each stage."""
    figures = []
    for kind, key in (("wall", "stage_ns"), ("CPU", "stage_cpu_ns")):
        for stage, total in new[key].items():
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
