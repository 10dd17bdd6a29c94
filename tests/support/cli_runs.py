"""The command line as its users run it: as a process of its own, with a home of its own."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 120

COUNTER = """
name = "tiny"
profile = "minimal"
seed = 5
identities = ["alice", "bob"]

[[subnet]]
name = "nns"
type = "system"
nodes = 1

[[canister]]
name = "counter"
wasm = "counter.wasm"
subnet = "nns"

[[workload]]
name = "count"
canister = "counter"
method = "inc"
arg_hex = "0100000000000000"
calls_per_round = 3
rounds = 6
"""
"""One subnet, one node, one canister, eight rounds."""


def environment(home: Path) -> dict[str, str]:
    """Everything that icsim writes by default goes below `home`; so do its sockets."""
    home.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "ICSIM_HOME": str(home), "TMPDIR": str(sockets_of(home)), "PYTHONPATH": str(ROOT)}


def sockets_of(home: Path) -> Path:
    """A folder of this home's own for sockets, with a short path: addresses of sockets are short."""
    folder = Path(_short_folder()) / hashlib.sha256(str(home).encode()).hexdigest()[:8]
    folder.mkdir(exist_ok=True)
    return folder


@cache
def _short_folder() -> str:
    folder = tempfile.mkdtemp(prefix="ict-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def icsim(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "subnet.cli.main", *map(str, arguments)],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )


@contextmanager
def started(home: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A command that is still running; killed at the end of the block if it still is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "subnet.cli.main", *map(str, arguments)],
        cwd=home,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


def write(home: Path, text: str, name: str = "tiny.toml") -> Path:
    """A topology file."""
    path = home / name
    path.write_text(text)
    return path


def heights(folder: Path) -> list[dict[str, Any]]:
    """Lines of heights.jsonl in order of subnet, height and node."""
    rows = [json.loads(line) for line in (folder / "heights.jsonl").read_text().splitlines()]
    return sorted(rows, key=lambda row: (row["subnet"], row["height"], row["node"]))


def processes_of(home: Path) -> list[int]:
    """Processes that work in this home, as all that a command starts there do; zombies don't count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (entry / "cwd").readlink() == home:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_until_nothing_is_left(home: Path) -> None:
    """Until no process and no socket folder of this home is left.

    Raises: AssertionError when there still is one after the longest time.
    """
    wait_until(lambda: not processes_of(home) and not list(sockets_of(home).glob("icsim-*")), f"nothing is left of {home}")


def wait_until(condition: Any, what: str) -> None:
    """Look again and again.

    Raises: AssertionError when it doesn't come true.
    """
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)
