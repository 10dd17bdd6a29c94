"""What a sandbox costs: metering, messages, System API calls, installing, starting, memory, commits and rollbacks.

Every part takes turns with its reference and reports medians. The machine may do other work: CPU times and ratios are steadier
than rates. Run: make bench-sandbox, or python -m bench.sandbox PART ... for some parts alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.report import Figure, publish

PARTS = ("metering", "messages", "calls", "install", "memory", "pages")


def measure(part: str) -> list[Figure]:
    """The figures of one part, from a process of its own."""
    command = [sys.executable, "-m", f"bench.sandbox_{part}"]
    printed = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [Figure(**figure) for figure in json.loads(printed)]


def main() -> None:
    """Measure and publish."""
    parts = sys.argv[1:] or PARTS
    figures = [figure for part in parts for figure in measure(part)]
    publish("sandbox" if len(parts) == len(PARTS) else f"sandbox-{'-'.join(parts)}", "What a sandbox costs", figures)


if __name__ == "__main__":
    main()
