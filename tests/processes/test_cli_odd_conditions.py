"""What users meet by accident: networks that can't start, numbers that are none, damaged caches."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from ic_types.errors import NetworkError
from subnet.launch import RunningNetwork
from tests.support.cli_runs import COUNTER, icsim, wait_until_nothing_is_left, write

pytestmark = pytest.mark.slow


def test_a_network_that_can_not_start_says_why_and_where_to_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the last words of its processes and the file that has the rest; exit code 1; nothing is left."""
    tired = "import sys; 'subnet.zygote' not in sys.orig_argv or sys.exit('tired')"
    (tmp_path / "sitecustomize.py").write_text(tired)
    monkeypatch.setattr("tests.support.cli_runs.ROOT", f"{tmp_path}:{Path(__file__).resolve().parents[2]}")
    done = icsim(tmp_path, "run", write(tmp_path, COUNTER), "--out", "out")
    assert done.returncode == 1, done.stderr
    assert done.stderr == "icsim: the network ended by itself (exit code 1): SystemExit: tired (more in out/logs/stderr.txt)\n"
    wait_until_nothing_is_left(tmp_path)


@pytest.mark.parametrize("number", [("--seconds", "inf"), ("--seconds", "nan"), ("--seconds", "1e30"), (str(10**30),)])
def test_advancing_by_what_is_no_amount_is_bad_input(tmp_path: Path, number: tuple[str, ...]) -> None:
    """One line that says what is allowed, no traceback."""
    done = icsim(tmp_path, "advance", *number)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "at most 1,000,000,000" in done.stderr


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that end without a word because nothing can be written: the message says that the disk is full."""
    process = subprocess.Popen(["false"])
    process.wait()
    with open(tmp_path / "stderr.txt", "w+b") as output:
        network = RunningNetwork(tmp_path / "sockets", process, output, background=False)
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(NetworkError, match=r"exit code 1\): the disk is full where .*stderr.txt is"):
            network.check()
        monkeypatch.undo()
        with pytest.raises(NetworkError, match=r"exit code 1\)$"):
            network.check()
