"""Queries and the acceptance of calls with real processes: Python API, command line, statistics, replay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import icsim
from ic_types.candid.decoder import decode
from ic_types.candid.encoder import encode
from ic_types.hash_tree import Found
from ic_types.principal import MANAGEMENT_CANISTER
from subnet.certification.certificate import verify_certificate
from subnet.lab.calls import CallRejected
from subnet.lab.universal import Program, argument, certificate, get_global, method_name
from subnet.management import candid_types
from tests.support.cli_runs import icsim as command

pytestmark = pytest.mark.slow
NODES, QUERIES, EPOCH = 4, 40, 6
TOPOLOGY: dict[str, Any] = {
    "profile": "minimal",
    "limits": {"query_stats_epoch_length": EPOCH},
    "identities": ["alice"],
    "subnet": [
        {"name": "nns", "type": "system", "nodes": 1},
        {"name": "app", "type": "application", "nodes": NODES},
    ],
    "canister": [
        {"name": "far", "wasm": "universal", "subnet": "nns"},
        {"name": "here", "wasm": "universal", "subnet": "app"},
        {"name": "there", "wasm": "universal", "subnet": "app"},
    ],
}
Start = Callable[..., icsim.Network]


def statistics(net: icsim.Network, canister: icsim.Canister) -> Any:
    """`query_stats` of canister_status."""
    arg = encode([candid_types.CANISTER_ID], [{"canister_id": canister.id}])
    raw = net.raw_call(MANAGEMENT_CANISTER, "canister_status", arg, as_="alice", effective=canister.id)
    return decode(raw, [candid_types.CANISTER_STATUS])[0]["query_stats"]


def test_calls_that_a_canister_refuses(icsim_network: Start) -> None:
    """The refusal comes at once with its codes, makes no round and leaves no trace; what is accepted is executed."""
    net = icsim_network(TOPOLOGY)
    here = net.canisters["here"]
    by_method = Program().if_(method_name().size().equals(6), Program().accept())
    here.call_raw("update", bytes(Program().on_inspect(by_method).reply()))
    height = net.height
    with pytest.raises(CallRejected) as refused:
        here.call_raw("other")
    assert (refused.value.code, refused.value.error_code) == (4, "IC0406")
    assert net.caller.client.status().height == height
    with pytest.raises(CallRejected) as stranger:
        net.canisters["there"].stop(as_="anonymous")
    assert (stranger.value.code, stranger.value.error_code) == (5, "IC0512")
    assert here.call_raw("update", bytes(Program().reply(b"in"))) == b"in"


def test_composite_queries_and_their_statistics(icsim_network: Start, tmp_path: Path) -> None:
    """Nodes answer in turn; what they counted is in canister_status after two epochs, and the run replays with its hashes."""
    net = icsim_network(TOPOLOGY, out=tmp_path / "run")
    here, there, far = (net.canisters[name] for name in ("here", "there", "far"))
    net.tick()
    write = Program().set_global(b"seen by the callback: ")
    program = write + Program().call(
        there.id, "query", Program().reply(b"hello"), on_reply=Program().reply(get_global().concat(argument()))
    )
    client, sender = net.caller.client, net.identities["alice"]
    answered = []
    for _ in range(QUERIES):
        reply = client.query(sender, here.id, "composite_query", bytes(program))
        assert (reply.status, reply.reply) == ("replied", b"seen by the callback: hello")
        assert (reply.height, reply.time_ns) == (net.height, net.time)
        answered.append(reply.node_index)
    assert sorted(set(answered)) == list(range(1, NODES + 1))
    assert {answered.count(node) for node in set(answered)} == {QUERIES // NODES}
    away = Program().call(far.id, "query", Program().reply(), on_reject=Program().reply())
    with pytest.raises(CallRejected, match="which is on another subnet") as elsewhere:
        here.query_raw("composite_query", bytes(away), as_="alice")
    assert (elsewhere.value.code, elsewhere.value.error_code) == (5, "IC0529")
    root_key = net.caller.description.registry.subnets[0].public_key
    for canister in (here, far):
        raw = canister.query_raw("query", bytes(Program().reply(certificate())), as_="alice")
        shown = verify_certificate(raw, root_key, canister_id=canister.id)
        assert (shown.delegation is None) == (canister is far), "the root subnet needs no delegation"
        assert (shown.lookup(b"canister", canister.id, b"certified_data"), shown.time()) == (Found(b""), net.time)
    net.tick(4 * EPOCH)
    found = statistics(net, there)
    assert (found["num_calls_total"], found["response_payload_bytes_total"]) == (QUERIES, QUERIES * len(b"hello"))
    assert statistics(net, here)["num_calls_total"] == QUERIES, "the median of the nodes, times their number"
    hashes = net.state_hashes()
    net.close()
    replayed = command(tmp_path, "replay", "run", "--out", "again")
    assert replayed.returncode == 0, replayed.stderr
    assert hashes["app"] in (tmp_path / "again" / "heights.jsonl").read_text()


def test_a_query_that_is_rejected_on_the_command_line(tmp_path: Path) -> None:
    """Reject code and error code are told, exit code 1; so are those of a call that isn't accepted."""
    (tmp_path / "net.toml").write_text(
        'name = "net"\nprofile = "minimal"\nidentities = ["alice"]\n'
        '[[subnet]]\nname = "app"\ntype = "system"\nnodes = 1\n'
        '[[canister]]\nname = "here"\nwasm = "universal.wasm"\nsubnet = "app"\n'
    )
    assert command(tmp_path, "up", "net.toml", "--background").returncode == 0
    try:
        trap, closed = bytes(Program().trap(b"ouch")).hex(), Program().on_inspect(Program().drop(method_name()))
        status = command(tmp_path, "query", "management", "canister_status", "(record { canister_id = {canister:here} })")
        assert "num_calls_total" in status.stdout, status.stderr
        for arguments, words in (
            (("query", "here", "query", trap, "--hex"), "query query rejected with code 5 (IC0503): "),
            (("query", "here", "absent", "--hex"), "query absent rejected with code 5 (IC0536): "),
            (("query", "management", "raw_rand"), "IC0536"),
        ):
            done = command(tmp_path, *arguments)
            assert (done.returncode, words in done.stderr) == (1, True), done.stderr
        assert command(tmp_path, "call", "here", "update", bytes(closed.reply()).hex(), "--hex").returncode == 0
        refused = command(tmp_path, "call", "here", "update", bytes(Program().reply()).hex(), "--hex")
        assert refused.returncode == 1
        assert "call of update rejected with code 4 (IC0406): " in refused.stderr
    finally:
        command(tmp_path, "down")
