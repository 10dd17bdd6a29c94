"""Motoko programs on real networks: errors in callbacks, cycles, timers, upgrades that keep the heap, composite queries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import icsim

pytestmark = pytest.mark.slow
CANISTERS = Path(__file__).resolve().parents[1] / "canisters"
PROBE, SHARDS = CANISTERS / "motoko_probe.wasm", CANISTERS / "motoko_shards.wasm"
TOPOLOGY: dict[str, Any] = {
    "profile": "minimal",
    "identities": ["alice"],
    "subnet": [
        {"name": "nns", "type": "system", "nodes": 1},
        {"name": "here", "type": "application", "nodes": 1},
        {"name": "there", "type": "application", "nodes": 1},
    ],
}


def probe(net: icsim.Network, subnet: str) -> icsim.Canister:
    """A fresh probe on a subnet."""
    canister = net.create_canister(subnet)
    canister.install(PROBE)
    return canister


def test_errors_of_calls_reach_catch_and_finally(icsim_network: Callable[..., icsim.Network]) -> None:
    """Trap, reject, absent method, deadline and refund look alike whether the callee is near or far."""
    net = icsim_network(TOPOLOGY)
    caller = probe(net, "here")
    for callee in (probe(net, "here"), probe(net, "there")):
        where = f"Error from Canister {callee.id}: Canister"

        def attempt(what: str, other: icsim.Canister = callee) -> str:
            return str(caller.call("attempt", other.id, what))

        assert attempt("boom").startswith(f"#canister_error IC0503: {where} called `ic0.trap` with message: 'on purpose'.")
        assert attempt("refuse") == "#canister_reject not today"
        assert attempt("absent").startswith(f"#canister_error IC0536: {where} has no update method 'absent'.")
        assert attempt("late") == "#system_unknown Call deadline has expired."
        assert attempt("cycles") == "(300_000_000, 700_000_000)"
        assert attempt("note") == "fine"
        net.tick(3)
        assert callee.query("state") == ("", 7)
        before = caller.query("state")[1]
        with pytest.raises(icsim.CallRejected, match="after await") as error:
            caller.call("trap_after_await", callee.id)
        assert error.value.error_code == "IC0503"
        assert caller.query("state")[1] == before + 11
    assert caller.query("state") == ("", 34)
    assert net.cycles_audit().holds


def test_deep_recursion_is_a_stack_overflow(icsim_network: Callable[..., icsim.Network]) -> None:
    """A depth that fits is computed; one that doesn't traps, and the canister goes on."""
    net = icsim_network()
    canister = probe(net, "main")
    assert canister.call("deep", 10_000) == 10_000
    with pytest.raises(icsim.CallRejected, match="stack overflow") as error:
        canister.call("deep", 1_000_000)
    assert error.value.error_code == "IC0502"
    assert canister.call("deep", 10_000) == 10_000


def test_timers_and_upgrades_that_keep_the_heap(icsim_network: Callable[..., icsim.Network]) -> None:
    """A timer that traps leaves no trace; variables outlive an upgrade with the heap kept, and not one that replaces it."""
    net = icsim_network()
    canister = probe(net, "main")
    canister.call("start_timers")
    net.advance(20)
    told = "once again again again end"
    assert canister.query("state") == (told, 0)
    assert any("timer traps" in line.text for line in canister.logs())
    with pytest.raises(icsim.CallRejected, match="requires the `wasm_memory_persistence` upgrade option") as error:
        canister.upgrade(PROBE)
    assert error.value.error_code == "IC0504"
    canister.upgrade(PROBE, keep_heap=True)
    assert canister.query("state") == (f"{told} pre post", 0)
    canister.upgrade(PROBE, keep_heap=False)
    assert canister.query("state") == (" post", 0)


def shards(net: icsim.Network, *subnets: str) -> list[icsim.Canister]:
    """Fresh shards; the k-th starts at 10 to the power of k."""
    made = []
    for place, subnet in enumerate(subnets):
        canister = net.create_canister(subnet)
        canister.install(SHARDS)
        canister.call("put", 10**place, as_="alice")
        made.append(canister)
    return made


def test_composite_queries_ask_other_canisters(icsim_network: Callable[..., icsim.Network]) -> None:
    """async/await in composite queries: loops, calls side by side, errors that are caught, traps; nothing stays."""
    net = icsim_network(TOPOLOGY)
    a, b, c, far = shards(net, "here", "here", "here", "there")
    ids = [b.id, c.id, b.id]
    height = net.height
    assert a.query("sum", ids, 1) == 3_000_000 + 11 + 101 + 11
    assert a.query("sum", ids, 1) == 3_000_000 + 11 + 101 + 11, "the counter was forgotten"
    assert a.query("together", b.id, c.id) == (11, 102)
    assert b.query("nested", [a.id, c.id]) == 2_000_000 + 1 + 100, "a nested composite query that asks its own canister too"
    assert a.query("careful", b.id).startswith(
        f"#canister_error Error from Canister {b.id}: Canister called `ic0.trap` with message: 'a bad shard'"
    )
    with pytest.raises(icsim.CallRejected, match="which is on another subnet") as error:
        a.query("careful", far.id)
    assert (error.value.code, error.value.error_code) == (5, "IC0529")
    with pytest.raises(icsim.CallRejected, match="after await") as error:
        a.query("falls", b.id)
    assert (error.value.code, error.value.error_code) == (5, "IC0503")
    with pytest.raises(icsim.CallRejected) as error:
        a.call("sum", ids, 1)
    assert (error.value.code, error.value.error_code) == (5, "IC0527")
    assert [canister.query("count") for canister in (a, b, c)] == [0, 0, 0]
    assert net.caller.client.status().height == height


def test_inspect_decides_what_comes_in(icsim_network: Callable[..., icsim.Network]) -> None:
    """By caller, by argument; a refused call costs the canister nothing."""
    net = icsim_network(TOPOLOGY)
    (canister,) = shards(net, "here")
    assert canister.call("only_named", as_="alice") == net.identities["alice"]
    before = canister.cycles
    for method, arguments, who in (("only_named", (), "anonymous"), ("put", (1001,), "alice")):
        with pytest.raises(icsim.CallRejected) as error:
            canister.call(method, *arguments, as_=who)
        assert (error.value.code, error.value.error_code) == (5, "IC0503"), "Motoko traps to refuse"
        assert "'canister_inspect_message explicitly refused message'" in error.value.message
    assert canister.cycles == before
    assert canister.query("get", 1) == 2
