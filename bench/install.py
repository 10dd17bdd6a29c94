"""Time to install a Motoko canister (the ledger of the quickstart network), with a cold and a warm cache of compiled modules.

One subnet of one node, of four nodes. Run: make bench-install
"""

from __future__ import annotations

import tempfile
import time

from bench.networks import ROOT, running, topology
from bench.report import Figure, publish

INIT = '(record { symbol = "GOLD"; minter = {identity:user} })'
WARM_RUNS = 3


def install(nodes: int, cache: str) -> float:
    """Seconds from a created canister to an installed one."""
    checked = topology(
        {
            "name": "bench-install",
            "profile": "mainnet",
            "identities": {"names": ["user"]},
            "subnet": [{"name": "nns", "type": "system", "nodes": nodes}],
            "canister": [{"name": "ledger", "wasm": "ledger", "subnet": "nns", "init": INIT}],
        },
        ROOT,
    )
    with running(checked, cache_dir=cache) as network:
        network.client.advance(rounds=1)
        began = time.perf_counter()
        network.client.advance(until_installed=True)
        return time.perf_counter() - began


def main() -> None:
    """Measure and publish."""
    size = (ROOT / "examples" / "canisters" / "ledger.wasm").stat().st_size
    figures = [Figure(name="module", value=size / 1024, unit="KiB")]
    for nodes in (1, 4):
        with tempfile.TemporaryDirectory(prefix="icsim-bench-") as cache:
            cold = install(nodes, cache)
            warm = min(install(nodes, cache) for _ in range(WARM_RUNS))
        figures.append(
            Figure(
                name=f"install, cold, {nodes} nodes", value=cold * 1e3, unit="ms", reference_name="warm", reference=warm * 1e3
            )
        )
    publish("install", "install_code of a Motoko canister", figures)


if __name__ == "__main__":
    main()
