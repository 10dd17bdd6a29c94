"""Messages per second of one node, end to end: signature check, journal, execution, state hash, certification.

Pre-signed envelopes go to a running coordinator with one node; the reference is the bare loop at batch 1 with the same message
and heap, measured before and after. Run: make bench-messages
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import wasmtime

from bench.bare_loop import WAT
from bench.networks import bare_loop_rate, cpu_seconds, running, topology
from bench.report import Figure, publish
from ic_types.envelope import build_call
from ic_types.principal import Principal
from ic_types.units import TimeNs
from subnet.identities import identity_named

MESSAGES = 12_000
CHUNK = 250
AIM = 0.25


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
            client = network.client
            client.advance(until_installed=True)
            envelopes = presign(checked.identity_seed, count, client.status().time_ns)
            pids = {p.kind: p.pid for p in client.processes().processes}
            start_cpu = {kind: cpu_seconds(pid) for kind, pid in pids.items()}
            ids, began = [], time.perf_counter()
            for at in range(0, count, CHUNK):
                ids += [r.message_id for r in client.submit(*envelopes[at : at + CHUNK])]
                if at == CHUNK * 4:
                    cookie = client.start_advance(until_idle=True)
            while client.poll_advance(cookie) is None:
                time.sleep(0.002)
            while any(not r.status.startswith("re") or r.status == "received" for r in client.requests(ids[-1])):
                client.advance(until_idle=True)
            seconds = time.perf_counter() - began
            cpu = {kind: cpu_seconds(pid) - start_cpu[kind] for kind, pid in pids.items()}
            summary = client.summary()
    after = bare_loop_rate()
    assert summary["ingress"]["replied"] >= count, summary["ingress"]
    reference = (before + after) / 2
    rate = count / seconds
    figures = [
        Figure(
            name="end to end",
            value=rate,
            unit="messages/s",
            reference_name="bare loop, batch 1",
            reference=reference,
            aim=f">= {AIM}",
        ),
        Figure(name="wall", value=seconds / count * 1e6, unit="us/message"),
    ]
    figures += [Figure(name=f"CPU of {kind}", value=s / count * 1e6, unit="us/message") for kind, s in sorted(cpu.items())]
    stages = summary["subnets"][0]["stage_ns"]
    figures += [Figure(name=f"node, {stage}", value=ns / count / 1e3, unit="us/message") for stage, ns in stages.items()]
    publish("messages", f"{count} messages, one node and the coordinator", figures)


def presign(identity_seed: int, count: int, now_ns: int) -> list[bytes]:
    """Envelopes that differ in their nonce."""
    user = identity_named(identity_seed, "user")
    arg = (5).to_bytes(8, "little")
    return [
        build_call(
            user,
            canister_id=Principal.canister(0),
            method="inc",
            arg=arg,
            expiry=TimeNs(now_ns + 240_000_000_000),
            nonce=k.to_bytes(8, "big"),
        )
        for k in range(count)
    ]


if __name__ == "__main__":
    main()
