"""Plumbing shared by the benchmarks: networks from topologies in memory, CPU time and memory of their processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.loader import topology_from_dict
from configs.topology import Topology
from ic_types import wire
from subnet.control import ControlClient
from subnet.coordinator.plan_reader import encode_phases, read_plan
from subnet.launch import RunningNetwork, start_network
from subnet.network_config import CoordinatorConfig

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".icsim" / "cache"
TICKS = os.sysconf("SC_CLK_TCK")


def topology(data: dict[str, Any], base: Path) -> Topology:
    """A checked topology; `base` is the folder that module paths are relative to."""
    return topology_from_dict(data, base=base)


@contextmanager
def running(checked: Topology, **options: Any) -> Iterator[RunningNetwork]:
    """The network, until the block ends; options go into CoordinatorConfig. The run directory goes with it."""
    options.setdefault("cache_dir", str(CACHE))
    out_dir = options.pop("out_dir", None)
    with tempfile.TemporaryDirectory(prefix="icsim-bench-") as folder:
        config = CoordinatorConfig(
            name=checked.name,
            plan=wire.encode(read_plan(checked)),
            workload=encode_phases(checked.workload),
            socket_dir="",
            out_dir=str(out_dir or folder),
            **options,
        )
        network = start_network(config)
        try:
            yield network
        finally:
            network.stop()


def bare_loop_rate(batch: int = 1) -> float:
    """Messages/s of the bare loop at this batch size, measured now."""
    printed = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "bare_loop.py")], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    found = re.search(rf"batch\s+{batch}:\s+(\d+)", printed)
    assert found is not None, printed
    return float(found[1])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class CpuMeter:
    """CPU time of a network's processes from now on, by kind; those that end meanwhile are not counted."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self._before = {p.pid: cpu_seconds(p.pid) for p in client.processes().processes}

    def used(self) -> dict[str, float]:
        """Seconds by kind of process, all processes of a kind added."""
        found: dict[str, float] = {}
        for p in self._client.processes().processes:
            found[p.kind] = found.get(p.kind, 0.0) + cpu_seconds(p.pid) - self._before.get(p.pid, 0.0)
        return dict(sorted(found.items()))


def memory_bytes(pid: int) -> tuple[int, int]:
    """Private memory and proportional set size of a process, bytes."""
    rows = {
        key: int(value.split()[0]) * 1024
        for key, value in (line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    }
    return rows["Private_Clean"] + rows["Private_Dirty"], rows["Pss"]


def wait_for(seconds: float) -> None:
    """Let processes settle."""
    time.sleep(seconds)
