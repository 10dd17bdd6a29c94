"""Motoko programs on real networks: errors in callbacks, cycles, timers, upgrades that keep the heap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import icsim

pytestmark = pytest.mark.slow
PROBE = Path(__file__).resolve().parents[1] / "canisters" / "motoko_probe.wasm"
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
