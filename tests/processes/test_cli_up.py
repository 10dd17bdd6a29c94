"""`icsim up` and the commands that act on it, as processes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.cli_runs import COUNTER, icsim, processes_of, started, wait_until, wait_until_nothing_is_left, write

pytestmark = pytest.mark.slow
LEDGER = """
name = "bank"
profile = "minimal"
identities = ["minter", "alice"]

[[subnet]]
name = "nns"
type = "system"
nodes = 1

[[subnet]]
name = "app"
type = "application"
nodes = 1

[[canister]]
name = "ledger"
wasm = "ledger.wasm"
subnet = "app"
init = '(record { symbol = "GOLD"; minter = {identity:minter} })'
"""


def test_a_network_in_the_background_serves_commands(tmp_path: Path) -> None:
    """up, status, call, query, advance, logs, down; answers and errors as a user sees them."""
    topology = write(tmp_path, LEDGER, "bank.toml")
    up = icsim(tmp_path, "up", topology, "--background", "--virtual-time", "--ready-file", "ready.json")
    assert up.returncode == 0, up.stderr
    assert "network bank is ready" in up.stdout
    assert json.loads((tmp_path / "ready.json").read_text())["name"] == "bank"

    status = json.loads(icsim(tmp_path, "status", "--json").stdout)
    assert (status["phase"], [one["name"] for one in status["subnets"]]) == ("idle", ["nns", "app"])
    shown = icsim(tmp_path, "status").stdout
    assert "ledger" in shown
    assert f"HTTP: {status['url']}\n" in shown
    assert f"HTTP: {status['url']}\n" in up.stdout

    mint = icsim(tmp_path, "call", "ledger", "mint", "({identity:alice}, 500)", "--as", "minter")
    assert (mint.returncode, mint.stdout) == (0, "(variant { ok = 1 : nat })\n")
    balance = icsim(tmp_path, "query", "ledger", "balance_of", "({identity:alice})")
    assert (balance.returncode, balance.stdout) == (0, "(500 : nat)\n")
    hexadecimal = icsim(tmp_path, "query", "ledger", "symbol", "4449444c0000", "--hex")
    assert bytes.fromhex(hexadecimal.stdout).endswith(b"GOLD")

    advanced = icsim(tmp_path, "advance", "--seconds", "10", "--quiet")
    assert f"height {status['height'] + 11}" in advanced.stdout
    assert icsim(tmp_path, "advance", "2", "--quiet").returncode == 0
    assert icsim(tmp_path, "advance", "--until-idle", "--quiet").stdout.endswith("no work is left\n")
    assert icsim(tmp_path, "logs", "ledger").returncode == 0
    pem = icsim(tmp_path, "identity", "export", "minter", "--network", "bank")
    write(tmp_path, pem.stdout, "minter.pem")
    principal = icsim(tmp_path, "identity", "import", "copy", "minter.pem").stdout.strip()
    again = icsim(tmp_path, "call", "ledger", "mint", f'(principal "{principal}", 1)', "--as", "copy")
    assert again.stdout == "(variant { ok = 2 : nat })\n"
    canister_status = icsim(
        tmp_path, "call", "management", "canister_status", "(record { canister_id = {canister:ledger} })", "--as", "minter"
    )
    assert "running" in canister_status.stdout

    for arguments, code, words in (
        (("call", "ledger", "nope"), 2, "its methods are: approve"),
        (("call", "nobody", "x"), 2, "canisters: ledger"),
        (("call", "ledger", "mint", "(1)"), 2, "expected"),
        (("call", "ledger", "mint", "({identity:alice}, 1)", "--as", "eve"), 2, "there is no identity 'eve'"),
        (("call", "ledger", "absent", "--hex"), 1, "IC0536"),
        (("query", "ledger", "symbol", "zz", "--hex"), 2, "not hexadecimal"),
        (("logs", "nobody"), 2, "canisters: ledger"),
        (("advance", "0"), 2, "more than 0"),
    ):
        done = icsim(tmp_path, *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1) or "\n" in done.stderr, done.stderr
        assert words in done.stderr

    down = icsim(tmp_path, "down")
    assert (down.returncode, down.stdout) == (0, "network bank has ended\n")
    wait_until_nothing_is_left(tmp_path)
    gone = icsim(tmp_path, "status")
    assert gone.returncode == 1
    assert "no network runs" in gone.stderr


def test_two_networks_run_at_once_and_dir_picks_one(tmp_path: Path) -> None:
    """Names are made different; without --dir the error names all that run."""
    topology = write(tmp_path, COUNTER)
    assert icsim(tmp_path, "up", topology, "--background", "--virtual-time", "--quiet").returncode == 0
    assert icsim(tmp_path, "up", topology, "--background", "--virtual-time", "--quiet", "--out", "second").returncode == 0
    try:
        unclear = icsim(tmp_path, "status")
        assert unclear.returncode == 1
        assert "tiny, tiny-2" in unclear.stderr
        call = ("call", "counter", "inc", "0200000000000000", "--hex")
        assert icsim(tmp_path, *call, "--dir", "tiny").stdout == "0200000000000000\n"
        assert icsim(tmp_path, *call, "--dir", "second").stdout == "0200000000000000\n"
        assert icsim(tmp_path, *call, "--dir", "tiny-2").stdout == "0400000000000000\n"
        taken = icsim(tmp_path, "up", topology, "--background", "--name", "tiny")
        assert (taken.returncode, "runs already" in taken.stderr) == (2, True)
    finally:
        assert icsim(tmp_path, "down", "--all").returncode == 0
    wait_until_nothing_is_left(tmp_path)


@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_network_in_the_foreground_ends_with_its_command(tmp_path: Path, end: signal.Signals, code: int) -> None:
    """Ctrl-C or kill -9: nothing is left, and later commands say that no network runs."""
    ready = tmp_path / "ready.json"
    with started(tmp_path, "up", write(tmp_path, COUNTER), "--ready-file", ready, "--quiet") as process:
        wait_until(ready.exists, "the network is ready")
        assert icsim(tmp_path, "call", "counter", "inc", "0100000000000000", "--hex").stdout == "0100000000000000\n"
        process.send_signal(end)
        assert process.wait(60) == code
    wait_until_nothing_is_left(tmp_path)
    assert icsim(tmp_path, "status").returncode == 1


def test_a_broken_invariant_ends_a_network_in_the_foreground(tmp_path: Path) -> None:
    """The command says what is broken and ends with exit code 1; nothing is left."""
    fault = "forge:app,ledger,77@8"
    with started(tmp_path, "up", write(tmp_path, LEDGER), "--check-invariants", "--fault", fault, "--quiet") as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "an invariant is broken at height 8: subnet app: minted - burned - lost" in told
    wait_until_nothing_is_left(tmp_path)


def test_down_ends_a_network_in_the_foreground(tmp_path: Path) -> None:
    """Its command ends with exit code 0."""
    ready = tmp_path / "ready.json"
    with started(tmp_path, "up", write(tmp_path, COUNTER), "--ready-file", ready, "--quiet") as process:
        wait_until(ready.exists, "the network is ready")
        assert icsim(tmp_path, "down").returncode == 0
        assert process.wait(60) == 0
    wait_until_nothing_is_left(tmp_path)


@pytest.mark.parametrize("victim", ["coordinator", "zygote"])
def test_a_network_whose_heart_is_killed_leaves_nothing(tmp_path: Path, victim: str) -> None:
    """kill -9 of coordinator or zygote: all processes end, and commands say that no network runs."""
    assert icsim(tmp_path, "up", write(tmp_path, COUNTER), "--background", "--virtual-time", "--quiet").returncode == 0
    assert len(processes_of(tmp_path)) >= 5
    titles = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(tmp_path)}
    pid = next(pid for pid, title in titles.items() if f"icsim {victim}".encode() in title)
    signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)
    wait_until(lambda: not processes_of(tmp_path), "all processes have ended")
    assert icsim(tmp_path, "status").returncode == 1
    assert icsim(tmp_path, "run", tmp_path / "tiny.toml", "--quiet").returncode == 0
    wait_until_nothing_is_left(tmp_path)
