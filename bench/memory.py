"""Private memory and proportional set size of every kind of process, with 1, 4 and 48 sandboxes on one node.

Each sandbox has executed messages of a small canister, so that it holds what it needs to. Run: make bench-memory
"""

from __future__ import annotations

from bench.messages import presign_to
from bench.networks import ROOT, memory_bytes, running, topology
from bench.report import Figure, publish
from subnet.coordinator.plan_reader import canister_ids

COUNTS = (1, 4, 48)
CALLS = 3
MEBIBYTE = 1 << 20


def measure(count: int) -> dict[str, list[tuple[int, int]]]:
    """(private bytes, PSS) of each process by kind, with so many active canisters."""
    checked = topology(
        {
            "name": f"bench-memory-{count}",
            "profile": "mainnet",
            "identities": {"names": ["user"]},
            "subnet": [{"name": "nns", "type": "system", "nodes": 1}],
            "canister": [{"name": "counter", "wasm": "counter", "subnet": "nns", "count": count}],
        },
        ROOT,
    )
    with running(checked) as network:
        client = network.client
        client.advance(until_installed=True)
        for call in range(CALLS):
            receivers = list(canister_ids(checked).values())
            client.submit(*presign_to(checked.identity_seed, receivers, client.status().time_ns, call))
            client.advance(until_idle=True)
        found: dict[str, list[tuple[int, int]]] = {}
        for process in client.processes().processes:
            found.setdefault(process.kind, []).append(memory_bytes(process.pid))
        assert len(found["sandbox"]) == count, "every canister has a sandbox"
        return found


def main() -> None:
    """Measure and publish."""
    figures = []
    for count in COUNTS:
        for kind, sizes in sorted(measure(count).items()):
            if kind == "sandbox" or count == COUNTS[0]:
                name = f"{kind} of {count}" if kind == "sandbox" else kind
                for what, k in (("private", 0), ("PSS", 1)):
                    mean = sum(size[k] for size in sizes) / len(sizes) / MEBIBYTE
                    figures.append(Figure(name=f"{name}, {what}", value=mean, unit="MiB"))
    publish("memory", "memory of the processes of one subnet with one node", figures)


if __name__ == "__main__":
    main()
