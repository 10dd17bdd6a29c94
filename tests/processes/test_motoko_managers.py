"""Motoko programs that manage canisters: `ic:aaaaa-aa`, actor classes; stable variables in upgrades, both persistence modes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import icsim
from tests.processes.test_motoko_programs import TOPOLOGY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.spec("management-install-code"),
    pytest.mark.spec("management-upgrade-code"),
]
CANISTERS = Path(__file__).resolve().parents[1] / "canisters"
FACTORY, KEEPER, CLASSIC = (CANISTERS / f"motoko_{name}.wasm" for name in ("factory", "keeper", "keeper_classic"))
T = 1_000_000_000_000


def factory_on(net: icsim.Network, subnet: str) -> icsim.Canister:
    """A fresh factory."""
    canister = net.create_canister(subnet)
    canister.install(FACTORY)
    return canister


def test_a_factory_manages_canisters(icsim_network: Callable[..., icsim.Network]) -> None:
    """Create, install, upgrade, reinstall, configure, top up, stop, delete; errors reach `catch`."""
    net = icsim_network(TOPOLOGY)
    factory = factory_on(net, "here")
    made = factory.call("create", 2 * T)
    wasm = KEEPER.read_bytes()
    assert factory.call("status", made)[::2] == ("#running", False)
    assert net.canister(made).subnet == "here"
    factory.call("install", made, {"install": None}, wasm, b"DIDL\0\0")
    keeper = net.canister(made)
    keeper.call("put", "one", 1)
    with pytest.raises(icsim.CallRejected, match="requires the `wasm_memory_persistence` upgrade option"):
        factory.call("install", made, {"upgrade": None}, wasm, b"DIDL\0\0")
    assert keeper.query("counts") == (1, 0, 1)
    factory.call("install", made, {"reinstall": None}, CLASSIC.read_bytes(), b"DIDL\0\0")
    assert keeper.query("counts") == (0, 0, 0)
    keeper.call("put", "two", 2)
    factory.call("install", made, {"upgrade": None}, CLASSIC.read_bytes(), b"DIDL\0\0")
    assert (keeper.query("get", "two"), keeper.query("counts")) == (2, (1, 1, 0))
    before = factory.call("status", made)[1]
    assert factory.call("top_up", made, 10**9) == 0, "all was taken"
    assert factory.call("status", made)[1] > before
    assert factory.call("changes", made) == 4
    alice = net.identities["alice"]
    factory.call("name", made, alice)
    assert set(factory.call("status", made)[3]) == {alice, factory.id}
    assert factory.call("delete", made).startswith(f"#canister_error Canister {made} must be stopped before it is deleted.")
    factory.call("stop", made)
    assert factory.call("status", made)[0] == "#stopped"
    factory.call("start", made)
    factory.call("uninstall", made)
    assert factory.call("status", made)[::2] == ("#running", False)
    factory.call("stop", made)
    assert factory.call("delete", made) == "gone"
    assert factory.call("delete", made).startswith("#destination_invalid ")
    assert factory.call("random") != factory.call("random")
    assert net.cycles_audit().holds


def test_a_canister_of_another_subnet_is_managed_alike(icsim_network: Callable[..., icsim.Network]) -> None:
    """`aaaaa-aa` leads to the subnet of the canister that the call is about."""
    net = icsim_network(TOPOLOGY)
    factory = factory_on(net, "here")
    far = net.create_canister("there")
    far.update_settings(controllers=[net.identities["alice"], factory.id])
    factory.call("install", far.id, {"install": None}, CLASSIC.read_bytes(), b"DIDL\0\0")
    keeper = net.canister(far.id)
    keeper.call("put", "far", 5)
    factory.call("install", far.id, {"upgrade": None}, CLASSIC.read_bytes(), b"DIDL\0\0")
    assert (keeper.query("get", "far"), keeper.query("counts")) == (5, (1, 1, 0))
    before = factory.call("status", far.id)[1]
    assert factory.call("top_up", far.id, 10**12) == 0
    assert factory.call("status", far.id)[1] > before
    assert factory.call("changes", far.id) == 4
    factory.call("stop", far.id)
    assert factory.call("delete", far.id) == "gone"
    assert net.cycles_audit().holds


def test_actor_classes(icsim_network: Callable[..., icsim.Network]) -> None:
    """`await Worker(...)` creates and installs; `(system Worker)` upgrades with the state kept, reinstalls, takes over."""
    net = icsim_network(TOPOLOGY)
    factory = factory_on(net, "here")
    first = factory.call("hire", "Ada")
    assert factory.call("work", 3) == (3, "I am Ada")
    factory.call("rename", "Bob", True)
    assert factory.call("work", 4) == (7, "I am Bob")
    factory.call("rename", "Cid", False)
    assert factory.call("work", 5) == (5, "I am Cid")
    second = factory.call("create", 2 * T)
    factory.call("place", second, "Dan")
    assert factory.call("work", 6) == (6, "I am Dan")
    assert (net.canister(first).query("about")[1], net.canister(second).query("about")[1]) == (5, 6)


@pytest.mark.parametrize(
    ("wasm", "kept"), [(KEEPER, True), (CLASSIC, None)], ids=["enhanced orthogonal persistence", "classical persistence"]
)
def test_stable_variables_outlive_upgrades(icsim_network: Callable[..., icsim.Network], wasm: Path, kept: bool | None) -> None:
    """A map of thousands of entries, over several upgrades; transient variables start again; a reinstall forgets all."""
    net = icsim_network()
    keeper = net.create_canister("main")
    keeper.install(wasm)
    keeper.call("fill", 5000)
    for turn in range(1, 4):
        keeper.call("put", f"turn {turn}", turn)
        keeper.upgrade(wasm, keep_heap=kept)
        assert keeper.query("counts") == (5000 + turn, turn, 0)
    assert [keeper.query("get", f"turn {turn}") for turn in (1, 2, 3)] == [1, 2, 3]
    keeper.reinstall(wasm)
    assert keeper.query("counts") == (0, 0, 0)


def test_a_runtime_that_refuses_an_upgrade_changes_nothing(icsim_network: Callable[..., icsim.Network]) -> None:
    """Motoko's new runtime traps on the heap of the old one: the canister goes on with its old code and all of its data."""
    net = icsim_network()
    keeper = net.create_canister("main")
    keeper.install(CLASSIC)
    keeper.call("put", "kept", 7)
    before = keeper.info()["module_hash"]
    with pytest.raises(icsim.CallRejected, match="Detected implicit upgrade from classical orthogonal persistence"):
        keeper.upgrade(KEEPER, keep_heap=True)
    assert keeper.info()["module_hash"] == before
    assert (keeper.query("get", "kept"), keeper.query("counts")) == (7, (1, 0, 1))
