"""Plumbing shared by the benchmarks: a table on the screen and the same figures as JSON, with the machine's description."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
_WIDTH = 160
"""Columns where there is no terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure, next to a reference measured in the same run where there is one."""

    name: str
    value: float
    unit: str
    reference_name: str = ""
    reference: float | None = None
    aim: str = ""

    @property
    def ratio(self) -> float | None:
        """value / reference."""
        return None if not self.reference else self.value / self.reference


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
        memory = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]) * 1024
    except OSError:
        memory = 0
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def publish(name: str, title: str, figures: list[Figure]) -> None:
    """Print the table and write bench/results/NAME.json."""
    table = Table(title=title)
    for column in ("figure", "value", "unit", "reference", "ratio", "aim"):
        table.add_column(column, justify="right" if column in ("value", "ratio") else "left")
    for figure in figures:
        reference = "" if figure.reference is None else f"{figure.reference_name}: {figure.reference:,.6g}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        table.add_row(figure.name, f"{figure.value:,.6g}", figure.unit, reference, ratio, figure.aim)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    body = {
        "name": name,
        "machine": machine(),
        "figures": [{**asdict(f), "ratio": f.ratio} for f in figures],
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(body, indent=2) + "\n")
    console.print(f"written to {path}")
