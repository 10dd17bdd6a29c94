"""Unmodified agents from the package registries, and a browser, against a live network. Run by `make test-agents`.

Not collected by `make test`: they need Node packages, Chromium and a virtual environment of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli_runs import ROOT
from tests.support.http_network import HttpNetwork, http_network

HERE = Path(__file__).parent
PYTHON = ROOT / ".icsim" / "agents" / "bin" / "python"
SIGNERS = ("query and call as anonymous", "query and call as ed25519", "query and call as secp256k1")
CORE = (
    "fetches the root key",
    *SIGNERS,
    "query and call as p256",
    "delegated session with targets",
    "delegation for another canister is refused",
    "expired delegation is refused",
    "asynchronous call and polling",
    "rejects carry code and error code",
    "canister status by certificate",
    "subnet status by certificate",
    "creates and installs a canister",
    "good certificate",
    "a flipped bit in a certificate is refused",
    "another subnet's signature is refused",
    "another root key is refused",
    "a canister outside the subnet's ranges is refused",
)
BROWSER = (
    "the page lists subnets, nodes, canisters and methods",
    "heights on the page grow",
    "the form calls a method from its Candid",
    "a canister's page at its own host",
    "a canister's page at ?canisterId=",
    "an agent in the browser",
    "no script failed",
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpNetwork]:
    """One for all agents."""
    with http_network(tmp_path_factory.mktemp("agents")) as started:
        yield started


def run(network: HttpNetwork, *command: str | Path) -> dict[str, tuple[bool, str]]:
    """Checks that a script tells of, by name: whether they hold, and what they found."""
    whole = [str(part) for part in (*command[:2], network.home / "ready.json", *command[2:])]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=240, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, done.stderr[-2000:]
    return {one["name"]: (one["ok"], one["value"]) for one in told}


def check(told: dict[str, tuple[bool, str]], *names: str) -> None:
    """Every check ran, and holds."""
    assert not {name: value for name, (ok, value) in told.items() if not ok}
    assert sorted(told) == sorted(names)


def test_icp_sdk_core(network: HttpNetwork) -> None:
    """@icp-sdk/core with certificates, query signatures and refusals verified by it."""
    check(run(network, "node", HERE / "js" / "core.mjs", ROOT / "examples" / "canisters" / "counter.wasm"), *CORE)


def test_dfinity_agent(network: HttpNetwork) -> None:
    """@dfinity/agent, one generation before."""
    check(run(network, "node", HERE / "js" / "dfinity.mjs"), "query and call")


def test_ic_py(network: HttpNetwork) -> None:
    """ic-py speaks version 2 of everything and polls."""
    check(run(network, PYTHON, HERE / "py" / "ic_py.py"), *SIGNERS, "reads the state")


def test_icp_py_core(network: HttpNetwork) -> None:
    """icp-py-core speaks the newest versions."""
    check(run(network, PYTHON, HERE / "py" / "icp_py_core.py"), *SIGNERS, "reads the state")


def test_browser(network: HttpNetwork) -> None:
    """Chromium shows the network's page and a canister's, and runs their scripts."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "Chromium is missing: apt install chromium"
    check(run(network, "node", HERE / "js" / "browser.mjs", "-", chromium), *BROWSER)
