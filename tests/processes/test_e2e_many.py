"""One sandbox per active canister and node, and far more canisters than sandboxes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cbor2
import pytest

from configs.loader import topology_from_dict
from ic_types import wire
from ic_types.principal import ANONYMOUS, Principal
from subnet.account import SubnetAccount
from subnet.launch import ROOT
from subnet.zygote_protocol import ChildProcess
from tests.support import live_network as live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
CANISTERS, SANDBOXES = 2000, 60


def title(process: ChildProcess) -> str:
    """What `ps` shows; empty if it has just ended."""
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0 ").decode()
    except OSError:
        return ""


def test_one_update_sandbox_per_active_canister_and_node(tmp_path: Path) -> None:
    """While the network runs no canister has two on a node; in the end each that was called has one on every node."""
    seen: Counter[int] = Counter()
    with live.running(live.config(live.everything(), tmp_path / "run")) as network:
        client = network.client
        cookie = client.start_advance(to_height=live.HEIGHT)
        while client.poll_advance(cookie) is None:
            sandboxes = [one for one in client.processes().processes if one.kind == "sandbox"]
            titles = Counter(name for one in sandboxes if (name := title(one)).startswith("icsim sandbox"))
            assert not [name for name, count in titles.items() if count > 1]
            seen[len(titles)] += 1
        processes = client.processes().processes
        nodes = {one.pid: one.name for one in processes if one.kind == "node"}
        assert sorted(nodes.values()) == ["app/1", "app/2", "nns/1", "nns/2"]
        names = {"nns": [], "app": []}  # type: dict[str, list[str]]
        for canister in client.describe().canisters:
            record = next(r for r in client.describe().registry.subnets if r.subnet_id == canister.subnet)
            names[record.name].append(str(canister.canister_id))
        expected = {f"{subnet}/{k} {canister}" for subnet in names for k in (1, 2) for canister in names[subnet]}
        sandboxes = [one for one in processes if one.kind == "sandbox"]
        assert {one.name for one in sandboxes} == expected
        assert len(sandboxes) == len(expected)
        assert {title(one) for one in sandboxes} == {f"icsim sandbox {name}" for name in expected}
        assert all(nodes[one.owner_pid] == one.name.split()[0] for one in sandboxes)
        client.query(ANONYMOUS, live.NEAR, "query", b"")
        queries = [one for one in client.processes().processes if one.kind == "query"]
        assert [title(one) for one in queries] == [f"icsim query {one.name}" for one in queries]
        assert len(queries) == 1
    assert len(seen) > 3, "sandboxes appeared while the network ran"


def test_two_thousand_canisters_on_sixty_sandboxes(tmp_path: Path) -> None:
    """All are installed and called; at no time there are more sandboxes than allowed."""
    call = {"canister": "counter", "method": "inc", "calls_per_round": CANISTERS // 4}
    data = {
        "name": "many",
        "profile": "minimal",
        "subnet": [{"name": "app", "type": "system", "nodes": 1}],
        "canister": [{"name": "counter", "wasm": "counter.wasm", "subnet": "app", "count": CANISTERS}],
        "workload": [call | {"name": "inc", "arg_hex": "07" + "00" * 7, "rounds": 4}],
    }
    topology = topology_from_dict(data, base=ROOT)
    most = 0
    with live.running(live.config(topology, tmp_path / "run", max_sandboxes=SANDBOXES)) as network:
        client = network.client
        installed = client.advance(until_installed=True, timeout_s=100)
        assert installed.height < 10
        for height in range(installed.height + 1, installed.height + 8):
            client.advance(to_height=height, timeout_s=100)
            alive = [one for one in client.processes().processes if one.kind == "sandbox" and title(one)]
            most = max(most, len(alive))
        summary = client.summary()
        assert summary["ingress"] == {"submitted": 3 * CANISTERS, "replied": 3 * CANISTERS, "rejected": 0, "pending": 0}
        assert [row["messages"] for row in summary["canisters"]] == [1] * CANISTERS
        for index in range(0, CANISTERS, 400):
            reply = client.query(ANONYMOUS, Principal.canister(index), "read", b"")
            assert reply.reply == (7).to_bytes(8, "little")
        subnet = client.describe().registry.subnets[0].subnet_id
        account = wire.decode(cbor2.loads(client.inspect(subnet, "invariants"))["account"], SubnetAccount)
        assert account.breaches == ()
        statistics = cbor2.loads(client.inspect(subnet, "statistics"))
        assert statistics["sandboxes"] == SANDBOXES
        assert statistics["evicted"] >= CANISTERS - SANDBOXES
    assert most == SANDBOXES
