"""Time from `icsim run` to the first executed round, quickstart topology: with a warm cache and with none.

Measured from outside, from the start of the command to the event that the coordinator records for the round. Cold means
an empty home: no compiled modules, and none of Python's own bytecode. Run: make bench-start
"""

from __future__ import annotations

import datetime
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.networks import ROOT
from bench.report import Figure, publish

WARM_RUNS = 5
ROUNDS = 12
AIM = 2.0
IMPORTS = "import subnet.coordinator.main, subnet.node.main, sandbox.main, sandbox.compiler"


@dataclass(slots=True)
class Start:
    """Seconds from the command to these moments."""

    first_node: float
    last_node: float
    first_round: float
    installed: float
    """All canisters of the topology are installed: the workload begins."""


def start(home: Path, number: int) -> Start:
    """Run quickstart for a few rounds."""
    out = home / f"run-{number}"
    icsim = Path(sys.executable).with_name("icsim")
    command = [
        str(icsim),
        "run",
        str(ROOT / "configs" / "quickstart.toml"),
        "--rounds",
        str(ROUNDS),
        "--quiet",
        "--out",
        str(out),
    ]
    began = time.time()
    subprocess.run(command, env=environment(home), check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    with sqlite3.connect(out / "events.sqlite") as events:
        rounds = events.execute("SELECT at_ns, fields FROM events WHERE kind = 'round_finished' ORDER BY seq").fetchall()
    ready = []
    for line in (out / "logs" / "coordinator.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["event"] == "coordinator.node_ready":
            ready.append(datetime.datetime.fromisoformat(entry["timestamp"]).timestamp() - began)
    worked = next(at for at, fields in rounds if json.loads(fields)["messages"])
    return Start(min(ready), max(ready), rounds[0][0] / 1e9 - began, worked / 1e9 - began)


def environment(home: Path) -> dict[str, str]:
    """Caches in this home alone."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "ICSIM_HOME": str(home), "PYTHONPYCACHEPREFIX": str(home / "bytecode")}


def seconds_of(home: Path, code: str) -> float:
    """Wall time of an interpreter that runs this."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment(home), check=True, cwd=ROOT)
    return time.perf_counter() - began


def main() -> None:
    """Measure and publish."""
    with tempfile.TemporaryDirectory(prefix="icsim-bench-") as folder:
        home = Path(folder)
        cold = start(home, 0)
        warm = sorted((start(home, number) for number in range(1, WARM_RUNS + 1)), key=lambda one: one.first_round)
        middle = warm[WARM_RUNS // 2]
        imports = min(seconds_of(home, IMPORTS) for _ in range(3))
        bare = min(seconds_of(home, "pass") for _ in range(3))
    figures = [
        Figure(name="first round, warm cache", value=middle.first_round, unit="s", aim=f"< {AIM}"),
        Figure(name="first round, best warm run", value=warm[0].first_round, unit="s"),
        Figure(name="first round, cold cache", value=cold.first_round, unit="s"),
        Figure(name="first node ready, warm", value=middle.first_node, unit="s"),
        Figure(name="last of 12 nodes ready, warm", value=middle.last_node, unit="s"),
        Figure(name="first canister message executed, warm", value=middle.installed, unit="s"),
        Figure(name="first canister message executed, cold", value=cold.installed, unit="s"),
        Figure(name="imports of all processes", value=imports, unit="s", reference_name="bare interpreter", reference=bare),
    ]
    publish("start", "from `icsim run configs/quickstart.toml` to the first round", figures)


if __name__ == "__main__":
    main()
