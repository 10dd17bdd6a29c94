"""`icsim doctor`: what it looks at, what a lack means, and its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def _doctor(shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = f"{shell} exec {sys.executable} -m subnet.cli.main doctor"
    with_path = {"PATH": "/usr/bin:/bin", **environment}
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, env=with_path)


def test_machine_that_runs_these_tests_is_good_enough() -> None:
    """Every kind of thing is looked at, and nothing fatal lacks where sandboxes run."""
    told = _doctor()
    assert told.returncode == 0, told.stdout + told.stderr
    for name in (
        "Python",
        "wasmtime",
        "userfaultfd",
        "PAGEMAP_SCAN",
        "landlock",
        "seccomp",
        "memory files",
        "open files",
        "TMPDIR",
    ):
        assert name in told.stdout


def test_limited_address_space_is_fatal_and_explained() -> None:
    """A limit under which no module can be loaded is named with its remedy; the exit code is 1."""
    told = _doctor("ulimit -v 60000000;")
    assert told.returncode == 1
    assert "address space (ulimit -v): memories reserve 512 GiB" in told.stdout
    assert "icsim can't run here: 512 GiB reserved, address space (ulimit -v)" in told.stdout


def test_long_tmpdir_is_fatal_and_explained(tmp_path: Path) -> None:
    """Sockets have short addresses: the allowed length is told."""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    told = _doctor(TMPDIR=str(folder))
    assert told.returncode == 1
    assert "toolongforsocketaddresses" in "".join(told.stdout.split())
    assert "set TMPDIR to a short local path" in told.stdout


def test_small_limits_only_weaken() -> None:
    """Fewer descriptors than a large network needs are worth a word, not a refusal."""
    told = _doctor("ulimit -n 900;")
    assert told.returncode == 0
    assert "open files (ulimit -Hn): a node holds four for each canister that is active" in told.stdout
