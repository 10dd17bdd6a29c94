"""Outcalls with transform functions and signatures on networks of real processes, in Motoko; recorded, replayed, resumed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

import icsim
from tests.support import cli_runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
MOTOKO = Path(__file__).resolve().parents[1] / "canisters" / "motoko_outcalls.wasm"
URL = "https://prices.example/gold"
TOPOLOGY: dict[str, Any] = {
    "profile": "minimal",
    "identities": ["alice"],
    "subnet": [{"name": "nns", "type": "system", "nodes": 1}, {"name": "app", "type": "application", "nodes": 4}],
    "canister": [
        {"name": "near", "wasm": str(MOTOKO), "subnet": "app"},
        {"name": "far", "wasm": str(MOTOKO), "subnet": "nns"},
    ],
}


def fetched(net: icsim.Network, what: str, canister: str = "near") -> tuple[str, Any]:
    """`ok` and the response, or `err` and code and text."""
    ((kind, value),) = net.canisters[canister].call("fetch", URL, what).items()
    return kind, value


def test_nodes_agree_after_the_transform_function(icsim_network: Callable[..., icsim.Network]) -> None:
    """Each node gets another header; the function leaves it out. Without it, and with bodies that differ, they don't agree."""
    net = icsim_network(TOPOLOGY)
    for node in (1, 2, 3, 4):
        net.outcalls.mock(URL, b"42", headers={"x-served-by": f"server {node}"}, node=node)
    kind, response = fetched(net, "clean")
    assert (kind, response["status"], response["body"]) == ("ok", 200, b"42")
    assert [one["value"] for one in response["headers"]] == ["aaaaa-aa", '"\\01\\02"']
    assert net.canisters["near"].query("count") == 0
    kind, text = fetched(net, "none")
    assert kind == "err"
    assert text.startswith("#system_transient No consensus could be reached. Replicas had different responses. Details: ")
    assert text.count(": 1]") == 4
    net.outcalls.clear()
    net.outcalls.mock(URL, [b"42", b"42", b"42", b"43"])
    assert fetched(net, "none")[1]["body"] == b"42"  # three of four are enough
    net.outcalls.mock(URL, [b"1", b"2", b"3", b"4"])
    assert fetched(net, "constant")[1] == {"status": 203, "headers": [], "body": b"always"}
    assert fetched(net, "boom")[1].startswith("#canister_error IC0503: ")
    assert fetched(net, "refuse")[1] == "#canister_reject not this one"
    net.outcalls.fail(URL, "Connection refused")
    assert fetched(net, "clean")[1] == "#system_transient Connection refused"
    assert net.cycles_audit().holds


def test_dead_nodes_do_not_vote(icsim_network: Callable[..., icsim.Network]) -> None:
    """A node is killed while an outcall waits; the three others are enough, and it has the same state when it is back."""
    net = icsim_network(TOPOLOGY)
    waiting = net.canisters["near"].submit("fetch", URL, "clean")
    net.tick(4)
    (outcall,) = net.outcalls.pending()
    assert (outcall.subnet, outcall.request.url, outcall.request.node_index) == ("app", URL, 0)
    net.kill_node("app/2")
    outcall.answer(b"42")
    assert net.wait_all([waiting])[0]["ok"]["body"] == b"42"
    assert net.outcalls.pending() == []
    net.tick(3)
    assert len(set(net.subnets["app"].status().nodes)) == 4


def test_outcalls_that_nobody_answers_time_out(icsim_network: Callable[..., icsim.Network]) -> None:
    """After 60 seconds of network time."""
    net = icsim_network({**TOPOLOGY, "subnet": [{**one, "nodes": 1} for one in TOPOLOGY["subnet"]]})
    start = net.time
    assert fetched(net, "none") == ("err", "#system_transient Canister http request timed out")
    assert 60 <= (net.time - start) / 1e9 <= 70


@pytest.mark.parametrize("canister", ["near", "far"])
def test_signatures_verify(icsim_network: Callable[..., icsim.Network], canister: str) -> None:
    """By both libraries, for a canister of the subnet with the key and of another."""
    net = icsim_network(TOPOLOGY)
    digest = hashlib.sha256(b"message").digest()
    public, signature = net.canisters[canister].call("sign", digest)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    der = utils.encode_dss_signature(r, s)
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), public)
    key.verify(der, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    coincurve = pytest.importorskip("coincurve", reason="coincurve has no wheel for this Python")
    assert coincurve.PublicKey(public).verify(der, digest, hasher=None)


# --- recorded runs

RUN = f"""
name = "web"
profile = "minimal"
identities = ["alice"]
subnet = [{{ name = "nns", type = "system", nodes = 1 }}, {{ name = "app", type = "application", nodes = 4 }}]

[[canister]]
name = "near"
wasm = "{MOTOKO}"
subnet = "app"

[[workload]]
canister = "near"
method = "fetch"
arg = '("{URL}", "clean")'
calls_per_round = 2
rounds = 4

[[workload]]
canister = "near"
method = "sign"
arg = '(blob "0123456789abcdef0123456789abcdef")'
rounds = 4
"""


@contextmanager
def web_server() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine: its address, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['host']} {self.headers['user-agent']}")
            self.send_response(200)
            self.send_header("content-length", "4")
            self.end_headers()
            self.wfile.write(b"gold")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/base", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_run_with_a_web_server_replays_without_it(tmp_path: Path) -> None:
    """The server is asked once per node; the journal has what became of it, and a recorded file answers another run alike."""
    with web_server() as (address, asked):
        path = cli_runs.write(tmp_path, RUN + f'[[outcall]]\nurl = "https://prices.example/*"\nforward = "{address}"\n')
        ran = cli_runs.icsim(tmp_path, "run", path, "--out", tmp_path / "run", "--quiet")
    assert ran.returncode == 0, ran.stderr
    assert len(asked) == 8 * 4
    assert set(asked) == {"/base/gold prices.example ic/1.0"}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["ingress"]
    assert summary["rejected"] == 0
    replayed = cli_runs.icsim(tmp_path, "replay", tmp_path / "run", "--quiet")
    assert replayed.returncode == 0, replayed.stderr
    lines = (tmp_path / "run" / "outcalls.jsonl").read_text().splitlines()
    assert len(lines) == 8 * 4
    again = cli_runs.write(tmp_path, RUN + f'[[outcall]]\nfile = "{tmp_path}/run/outcalls.jsonl"\n', "again.toml")
    ran = cli_runs.icsim(tmp_path, "run", again, "--out", tmp_path / "again", "--quiet")
    assert ran.returncode == 0, ran.stderr
    assert state_hashes(tmp_path / "again") == state_hashes(tmp_path / "run")


def state_hashes(folder: Path) -> list[Any]:
    """What all nodes had at every height."""
    return [(row["subnet"], row["height"], row["node"], row["state_hash"]) for row in cli_runs.heights(folder)]


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Killed while outcalls and signatures are under way, continued: the hashes are those of a run that nobody disturbed."""
    path = cli_runs.write(tmp_path, RUN + '[[outcall]]\nbody = "gold"\n')
    whole = cli_runs.icsim(tmp_path, "run", path, "--out", tmp_path / "whole", "--quiet")
    assert whole.returncode == 0, whole.stderr
    with cli_runs.started(tmp_path, "run", path, "--out", tmp_path / "cut", "--rounds", "9", "--quiet") as process:
        process.wait(timeout=60)
    resumed = cli_runs.icsim(tmp_path, "run", "--resume", tmp_path / "cut", "--quiet")
    assert resumed.returncode == 0, resumed.stderr
    expected = state_hashes(tmp_path / "whole")
    assert sorted(set(state_hashes(tmp_path / "cut"))) == sorted(set(expected))


def test_outcalls_on_the_command_line(tmp_path: Path) -> None:
    """They are listed, mocked and answered; what is wrong is told."""
    quiet = RUN.split("[[workload]]")[0]
    path = cli_runs.write(tmp_path, quiet)

    def icsim_(*arguments: str) -> str:
        done = cli_runs.icsim(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    icsim_("up", str(path), "--background", "--virtual-time", "--quiet")
    try:
        assert "no outcall waits" in icsim_("outcalls", "list")
        icsim_("outcalls", "mock", "https://prices.example/*", "--body", "gold", "--times", "1")
        assert "gold" in icsim_("call", "near", "fetch", f'("{URL}", "none")')
        wrong = cli_runs.icsim(tmp_path, "outcalls", "answer", "app", "77", "--body", "x")
        assert wrong.returncode != 0
        assert "no open outcall 77" in wrong.stderr
        assert cli_runs.icsim(tmp_path, "outcalls", "mock", "*", "--header", "nonsense").returncode == 2
    finally:
        icsim_("down")
