"""A flipped byte of one node's committed memory is reported where it must show, naming node, canister and page."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from configs.loader import topology_from_dict
from ic_types.errors import ConfigError, DivergenceError
from ic_types.principal import Principal
from subnet.lab import universal as u
from subnet.lab.universal import Program
from subnet.launch import ROOT
from tests.support import live_network as live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]
COUNTER, UNIVERSAL, IDLE = (Principal.canister(k) for k in range(3))
COUNTER_PAGE = 2
"""The counter's number lies at 8192."""
REHASH_ROUNDS = 6
PROGRAM = Program().set_page_byte(5, u.page_byte(5) + 1).reply()
"""Writes the first byte of a page in every round."""


def start(folder: Path, nodes: int, fault: str) -> Any:
    """A subnet on which two canisters work in every round, and a third never after its first message."""
    call = {"caller": "user", "rounds": 30}
    data = {
        "name": "faults",
        "profile": "minimal",
        "rehash_rounds": REHASH_ROUNDS,
        "subnet": [{"name": "app", "type": "system", "nodes": nodes}],
        "canister": [
            {"name": "counter", "wasm": "counter.wasm", "subnet": "app"},
            {"name": "universal", "wasm": "universal.wasm", "subnet": "app"},
            {"name": "idle", "wasm": "counter.wasm", "subnet": "app"},
        ],
        "workload": [
            call | {"name": "count", "canister": "counter", "method": "inc", "arg_hex": "01" + 7 * "00"},
            call | {"name": "write", "canister": "universal", "method": "update", "arg_hex": bytes(PROGRAM).hex()},
            {"name": "once", "canister": "idle", "method": "inc", "arg_hex": "05" + 7 * "00"},
        ],
    }
    topology = topology_from_dict(data, base=ROOT)
    return live.running(live.config(topology, folder, faults=(fault,), rehash_rounds=topology.rehash_rounds))


def report_of(folder: Path, nodes: int, fault: str) -> tuple[str, int]:
    """What the caller is told, and the height it is about."""
    with start(folder, nodes, fault) as network:
        with pytest.raises(DivergenceError) as caught:
            network.client.advance(to_height=40, timeout_s=50)
        assert caught.value.exit_code == 3
        summary = network.client.summary()
        assert summary["outcome"] == "divergence"
        assert summary["report"] == str(caught.value)
        assert [invariant["holds"] for invariant in summary["invariants"] if "hashes" in invariant["name"]] == [False]
    found = re.match(r"divergence on subnet app at height (\d+), ", str(caught.value))
    assert found is not None, str(caught.value)
    rows = sqlite3.connect(folder / "events.sqlite").execute("SELECT height, fields FROM events WHERE kind = 'divergence'")
    assert [(height, json.loads(fields)["detail"]) for height, fields in rows] == [(int(found[1]), str(caught.value))]
    return str(caught.value), int(found[1])


def test_a_byte_that_is_replied_with_shows_at_once(tmp_path: Path) -> None:
    """The next message replies with the byte: reported at the height of the flip."""
    report, height = report_of(tmp_path / "run", 4, f"flip:app/2,counter,{COUNTER_PAGE},3@12")
    assert height == 12
    assert "in the minority: node 2\n" in report
    assert f"canisters/canister {COUNTER}/heap/pages from 0/page {COUNTER_PAGE}: nodes 1, 3, 4 has " in report
    assert "history/" in report, "the reply differs too"


@pytest.mark.parametrize("nodes", [2, 4])
def test_a_byte_in_a_page_that_is_written_shows_at_once(tmp_path: Path, nodes: int) -> None:
    """The next message writes elsewhere in the page: reported at the height of the flip; two nodes are a tie."""
    page = scratch_page(tmp_path / "before")
    report, height = report_of(tmp_path / "run", nodes, f"flip:app/1,universal,{page},4000@9")
    assert height == 9
    assert ("a tie: node 1 against node 2" if nodes == 2 else "in the minority: node 1\n") in report
    assert f"canisters/canister {UNIVERSAL}/heap/pages from 0/page {page}: " in report
    assert "history/" not in report, "nothing else differs"


def scratch_page(folder: Path) -> int:
    """The page that the universal canister writes, asked of an undisturbed network."""
    with start(folder, 1, "flip:app/1,counter,0,0@1000") as network:
        network.client.advance(until_installed=True, timeout_s=50)
        reply = network.client.query(Principal(b"\x04"), UNIVERSAL, "query", bytes(Program().reply_int(u.scratch_address())))
        assert reply.status == "replied", reply
        return int.from_bytes(reply.reply, "little") // 4096 + 5


@pytest.mark.parametrize("page", [COUNTER_PAGE, 60], ids=["written", "never written"])
def test_a_byte_that_nobody_touches_shows_when_it_is_hashed_again(tmp_path: Path, page: int) -> None:
    """No message comes near it: reported within the configured number of rounds."""
    report, height = report_of(tmp_path / "run", 3, f"flip:app/3,{IDLE},{page},100@15")
    assert 15 <= height < 15 + REHASH_ROUNDS
    assert "in the minority: node 3\n" in report
    assert f"canisters/canister {IDLE}/heap/pages from 0/page {page}: " in report


def test_a_fault_for_nobody_is_refused(tmp_path: Path) -> None:
    """A node that doesn't exist: the first question is answered with what is allowed."""
    with (
        start(tmp_path / "run", 2, "flip:app/3,counter,0,0@5") as network,
        pytest.raises(Exception, match="nodes app/1 to app/2"),
    ):
        network.client.describe()
    assert ConfigError.exit_code == 2
