"""Statistics of queries on real canisters. Abstract behaviour, "Query call" and "Canister status", `query_stats`."""

from __future__ import annotations

from typing import Any

import pytest

from configs.limits import SubnetLimits
from ic_types.principal import CanisterId
from subnet.lab.universal import Program
from tests.support.spec_node import SpecNode

pytestmark = [pytest.mark.slow, pytest.mark.spec("query-call"), pytest.mark.spec("management-canister-status")]
EPOCH = 8
NODE_OPTIONS = {"limits": SubnetLimits(query_stats_epoch_length=EPOCH)}


def totals(node: SpecNode, canister: CanisterId) -> Any:
    """What canister_status tells, once every query so far is aggregated."""
    while node.replica.state.height % EPOCH:
        node.round()
    node.rounds(2 * EPOCH + 2)
    return node.done("canister_status", {"canister_id": canister})["query_stats"]


@pytest.mark.spec("query-call", condition=21)
def test_queries_are_counted(node: SpecNode) -> None:
    """Calls, instructions, bytes of arguments and replies; rejected and trapped ones too, refused ones not."""
    canister, empty = node.universal(), node.create()
    assert set(totals(node, canister).values()) == {0}
    short, long = Program().reply(b"four"), Program().burn_loop(100_000).reply(b"five.")
    for program in (short, long, Program().trap(b"no"), Program().reject(b"not counted")):
        node.query(canister, program)
    node.query(canister, short, "missing")
    node.query(empty, short)
    found = totals(node, canister)
    sizes = [len(bytes(program)) for program in (short, long, Program().trap(b"no"), Program().reject(b"not counted"))]
    assert (found["num_calls_total"], found["request_payload_bytes_total"]) == (4, sum(sizes))
    assert found["response_payload_bytes_total"] == len(b"four") + len(b"five.")
    assert 700_000 < found["num_instructions_total"] < 2_000_000
    assert set(totals(node, empty).values()) == {0}
    node.query(canister, short)
    assert totals(node, canister)["num_calls_total"] == 5


def test_called_canisters_are_counted(node: SpecNode) -> None:
    """Each method of a composite query's graph counts for its canister; replicated queries don't count."""
    a, b = node.universal(), node.universal()
    inner = Program().reply(b"inner")
    node.query(a, Program().call(b, "query", inner, on_reply=Program().call(b, "query", inner)), "composite_query")
    node.ask(a, Program().reply(b"replicated"), "query")
    found = [totals(node, canister) for canister in (a, b)]
    assert [one["num_calls_total"] for one in found] == [1, 2]
    assert [one["response_payload_bytes_total"] for one in found] == [0, 10]
    assert found[1]["request_payload_bytes_total"] == 2 * len(bytes(inner))


def test_what_is_state(node: SpecNode) -> None:
    """Counting changes no hash; the totals do, and they stay when the code is replaced or removed."""
    canister = node.universal()
    totals(node, canister)
    twin = node.replica.hash.part_digests(canister)
    node.query(canister, Program().reply())
    node.round()
    assert node.replica.hash.part_digests(canister)[b"cycles"] == twin[b"cycles"]
    assert totals(node, canister)["num_calls_total"] == 1
    node.done("uninstall_code", {"canister_id": canister})
    assert totals(node, canister)["num_calls_total"] == 1


def test_quiet_epochs_leave_batches_empty(node: SpecNode) -> None:
    """Without queries nothing is submitted."""
    canister = node.universal()
    totals(node, canister)
    before = node.replica.state.query_records.to_canonical()
    for _ in range(3 * EPOCH):
        assert node.round().query_stats is None
    assert node.replica.state.query_records.to_canonical() == before
