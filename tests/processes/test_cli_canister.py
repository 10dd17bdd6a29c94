"""The command line's canisters on a real network: made, deployed, called, snapshotted, deleted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from configs.canister_reader import EXAMPLES
from subnet.lab.http_agent import MAINNET_ROOT_KEY
from tests.support.cli_runs import icsim, wait_until_nothing_is_left, write

pytestmark = pytest.mark.slow

NETWORK = """
name = "lab"
profile = "minimal"
seed = 5

[[subnet]]
name = "nns"
type = "system"
nodes = 1

[[subnet]]
name = "app"
type = "application"
nodes = 1
"""
PROJECT = """
[[canister]]
name = "market"
wasm = "exchange.wasm"
init = '(record { base = {canister:gold}; quote = {canister:silver} })'

[[canister]]
name = "gold"
wasm = "ledger.wasm"
init = '(record { symbol = "GOLD"; minter = {identity:self} })'
[canister.settings]
freezing_threshold = 1000

[[canister]]
name = "silver"
wasm = "ledger.wasm"
init = '(record { symbol = "SILVER"; minter = {identity:self} })'
subnet = "nns"
"""


class Shell:
    """Commands in one folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stderr = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Standard output of a command that ends with this code."""
        done = icsim(self.home, *arguments)
        self.stderr = done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What it prints for programs."""
        return json.loads(self(*arguments, "--output", "json", code=code))


def test_a_project_on_a_real_network(tmp_path: Path) -> None:
    """Deployed over two subnets with keys of three kinds, used, changed, deployed again, taken apart."""
    for module in ("ledger", "exchange"):
        shutil.copy(EXAMPLES / f"{module}.wasm", tmp_path)
    (tmp_path / "icsim.toml").write_text(PROJECT)
    shell = Shell(tmp_path)
    for name, kind in (("me", "ed25519"), ("bob", "secp256k1"), ("eve", "prime256v1")):
        shell("identity", "new", name, "--type", kind)
    shell("up", str(write(tmp_path, NETWORK, "lab.toml")), "--background", "--quiet", "--virtual-time")
    try:
        _deploy_and_use(shell)
        _snapshot(shell)
    finally:
        shell("down")
    wait_until_nothing_is_left(tmp_path)


def test_a_project_behind_a_url(tmp_path: Path) -> None:
    """Live time over HTTP: everything is certified or signed by nodes; names are shared with the control socket."""
    for module in ("ledger", "exchange"):
        shutil.copy(EXAMPLES / f"{module}.wasm", tmp_path)
    (tmp_path / "icsim.toml").write_text(PROJECT.partition("subnet = ")[0])
    shell = Shell(tmp_path)
    shell("identity", "new", "me", "--type", "secp256k1")
    ready = tmp_path / "ready.json"
    shell("up", "--background", "--quiet", "--port", "0", "--ready-file", str(ready))
    url = ("--network", json.loads(ready.read_text())["url"])
    try:
        rows = {row["canister"]: row for row in shell.json("deploy", *url)["canisters"]}
        assert [row["done"].count("installed") for row in rows.values()] == [1, 1, 1]
        assert {row["done"] for row in shell.json("deploy")["canisters"]} == {"unchanged"}
        assert shell("canister", "call", "gold", "mint", "({identity:self}, 100)", *url) == "(variant { ok = 1 : nat })\n"
        assert shell("canister", "query", "gold", "balance_of", "({identity:self})", *url) == "(100 : nat)\n"
        assert shell.json("canister", "info", "gold", *url)["module_hash"] == rows["gold"]["module"]
        assert shell.json("canister", "logs", "gold", *url) == {"records": []}
        shell("canister", "stop", "gold", *url)
        assert shell.json("canister", "status", "gold", *url)["status"] == "stopped"
        rejected = shell.json("canister", "call", "gold", "mint", "({identity:self}, 1)", *url, code=1)["error"]
        assert (rejected["reject_code"], rejected["error_code"]) == (5, "IC0508")
        gold = rows["gold"]["id"]
        other_network = ("--root-key", MAINNET_ROOT_KEY.hex())
        assert shell.json("canister", "info", gold, *url, *other_network, code=1)["error"]["kind"] == "CertificationError"
    finally:
        shell("down")
    wait_until_nothing_is_left(tmp_path)
    shell("canister", "info", "gold", *url, code=1)
    assert "nobody answers at http://127.0.0.1:" in shell.stderr


def _deploy_and_use(shell: Shell) -> None:
    rows = {row["canister"]: row for row in shell.json("deploy")["canisters"]}
    assert {name: (row["subnet"], row["done"]) for name, row in rows.items()} == {
        "gold": ("app", "created, installed, settings changed"),
        "silver": ("nns", "created, installed"),
        "market": ("app", "created, installed, settings changed"),
    }
    assert {row["done"] for row in shell.json("deploy")["canisters"]} == {"unchanged"}
    market = rows["market"]["id"]
    variables = shell.json("canister", "settings", "market")["environment_variables"]
    assert variables == {f"PUBLIC_CANISTER_ID:{name}": rows[name]["id"] for name in ("gold", "silver")}
    assert shell("canister", "call", "gold", "mint", "({identity:self}, 100)") == "(variant { ok = 1 : nat })\n"
    assert shell("canister", "call", "silver", "mint", "({canister:market}, 100)") == "(variant { ok = 1 : nat })\n"
    assert shell("canister", "call", "gold", "approve", f'(principal "{market}", 30)') == "(variant { ok = 30 : nat })\n"
    assert "ok" in shell.json("canister", "call", "market", "swap", "(30)")["values"][0]
    assert shell("canister", "query", "gold", "balance_of", "({identity:self})") == "(70 : nat)\n"
    info = shell.json("canister", "info", "silver")
    assert (info["subnet"], info["module_hash"]) == ("nns", rows["silver"]["module"])
    shell("canister", "settings", "gold", "--freezing-threshold", "2000")
    rows = {row["canister"]: row["done"] for row in shell.json("deploy", "--upgrade-unchanged")["canisters"]}
    assert rows == {"gold": "upgraded, settings changed", "silver": "upgraded", "market": "upgraded"}
    assert shell("canister", "query", "gold", "balance_of", "({identity:self})") == "(70 : nat)\n"
    shell("canister", "stop", "gold", "--identity", "bob", code=1)
    assert "rejected with code 5 (IC0512)" in shell.stderr


def _snapshot(shell: Shell) -> None:
    shell("canister", "stop", "gold")
    snapshot = shell("canister", "snapshot", "take", "gold").strip()
    shell("canister", "start", "gold")
    shell("canister", "call", "gold", "mint", "({identity:self}, 5)")
    assert shell("canister", "query", "gold", "balance_of", "({identity:self})") == "(75 : nat)\n"
    assert [one["id"] for one in shell.json("canister", "snapshot", "list", "gold")["snapshots"]] == [snapshot]
    shell("canister", "stop", "gold")
    shell("canister", "snapshot", "load", "gold", snapshot)
    shell("canister", "start", "gold")
    assert shell("canister", "query", "gold", "balance_of", "({identity:self})") == "(70 : nat)\n"
    shell("canister", "snapshot", "delete", "gold", snapshot)
    assert shell("canister", "snapshot", "list", "gold") == "no snapshots\n"
    assert shell.json("canister", "call", "gold", "absent", "--hex", code=1)["error"]["error_code"] == "IC0536"
    shell("canister", "delete", "gold", code=1)
    assert "(IC0510)" in shell.stderr
    shell("canister", "stop", "gold")
    shell("canister", "delete", "gold")
    assert "'gold' is neither" in (shell("canister", "status", "gold", code=2) or shell.stderr)
