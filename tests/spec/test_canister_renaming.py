"""A canister takes the id of a canister of another subnet.

Abstract behaviour, "Canister renaming".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import icsim
from ic_types.candid import decoder
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from message_routing.routing_table import RoutingTable
from subnet.lab.universal import Program, argument, get_global, self_id
from subnet.management.methods import METHODS
from tests.support.lone_node import example
from tests.support.routing_world import subnet_id
from tests.support.spec_node import management_arg

pytestmark = pytest.mark.spec("canister-renaming")
TOPOLOGY: dict[str, Any] = {
    "profile": "minimal",
    "identities": ["alice", "bob"],
    "subnet": [
        {"name": "nns", "type": "system", "nodes": 1},
        {"name": "here", "type": "application", "nodes": 4},
        {"name": "there", "type": "application", "nodes": 1},
    ],
}
SHOW = bytes(Program().append(self_id()).append(get_global()).reply())


@pytest.fixture
def net() -> Iterator[icsim.Network]:
    """Three subnets without canisters."""
    with icsim.network(TOPOLOGY) as started:
        yield started


def test_single_ids_are_routed_apart() -> None:
    """Before, in and after ranges; again and again."""
    a, b = subnet_id(0), subnet_id(1)
    ids = [Principal.canister(k) for k in range(20)]
    table = RoutingTable(a, [(ids[0], ids[9], a), (ids[10], ids[19], b)])
    assert table.route(ids[4]) == a
    table.assign(ids[4], b)
    table.assign(ids[0], b)
    table.assign(ids[19], a)
    assert [table.route(one) == b for one in ids] == [k in (0, 4, *range(10, 19)) for k in range(20)]
    table.assign(ids[4], a)
    table.assign(ids[4], a)
    assert [table.route(one) == b for one in ids] == [k in (0, *range(10, 19)) for k in range(20)]
    assert table.ranges_of(a) == ((ids[1], ids[3]), (ids[4], ids[4]), (ids[5], ids[9]), (ids[19], ids[19]))


def pair(net: icsim.Network, **settings: Any) -> tuple[icsim.Canister, icsim.Canister]:
    """A canister with code, and one of another subnet whose id it is to have; both stopped."""
    shared: dict[str, Any] = {"controllers": [net.identities["alice"], icsim.ORCHESTRATOR], **settings}
    moved, former = net.create_canister("here", as_="alice"), net.create_canister("there", as_="alice")
    moved.install(example("universal"), raw=bytes(Program().set_global(b"kept")))
    for canister in (moved, former):
        canister.stop()
        canister.update_settings(**shared)
    return moved, former


@pytest.mark.slow
@pytest.mark.spec("canister-renaming", condition=(6, 7))
def test_a_canister_moves_to_another_id(net: icsim.Network) -> None:
    """Code, data, cycles and settings go along; history and version follow the rules; nothing is left of the rest."""
    moved, former = pair(net)
    old_id, new_id = moved.id, former.id
    before, replaced = moved.info(), former.info()
    caller = net.create_canister("nns")
    caller.install(example("universal"))
    renamed = net.rename_canister(old_id, new_id, as_="alice")
    assert (renamed.id, renamed.subnet) == (new_id, "here")
    after = renamed.info()
    assert {row["id"] for name in ("here", "there") for row in net.caller.canister_rows(net.caller.subnet(name))} == {new_id}
    assert after["version"] == max(before["version"], replaced["version"]) + 1
    assert after["changes"] == replaced["changes"] + 1
    assert (after["status"], after["module_hash"]) == ("stopped", before["module_hash"])
    assert before["cycles"] - 10**9 < after["cycles"] <= before["cycles"]
    assert set(after["controllers"]) == set(before["controllers"])
    renamed.start()
    assert renamed.call_raw("update", SHOW) == bytes(new_id) + b"kept"
    assert renamed.query_raw("query", SHOW) == bytes(new_id) + b"kept"
    with pytest.raises(icsim.CallRejected, match=f"Canister {old_id} not found"):
        net.raw_call(old_id, "update", SHOW)
    there = Program().call(new_id, "update", SHOW, on_reply=Program().reply(argument()))
    assert caller.call_raw("update", bytes(there)) == bytes(new_id) + b"kept"
    info = Program().call(
        MANAGEMENT_CANISTER,
        "canister_info",
        management_arg("canister_info", {"canister_id": new_id, "num_requested_changes": 20}),
        on_reply=Program().reply(argument()),
    )
    found = decoder.decode(caller.call_raw("update", bytes(info)), METHODS["canister_info"].results)[0]
    last = found["recent_changes"][-1]
    assert last["origin"] == {"from_canister": {"canister_id": icsim.ORCHESTRATOR, "canister_version": 0}}
    assert last["details"] == {
        "rename_canister": {
            "canister_id": old_id,
            "total_num_changes": before["changes"],
            "rename_to": {"canister_id": new_id, "version": replaced["version"], "total_num_changes": replaced["changes"]},
            "requested_by": net.identities["alice"],
        }
    }
    assert found["total_num_changes"] == replaced["changes"] + 1
    hashes = net.state_hashes()
    net.kill_node("here/2")
    net.tick()
    assert renamed.query_raw("query", SHOW, node=2) == bytes(new_id) + b"kept"
    assert net.state_hashes() != hashes
    assert net.cycles_audit().holds


@pytest.mark.slow
@pytest.mark.spec("canister-renaming", condition=(1, 2, 3, 4, 5))
def test_when_a_canister_keeps_its_id(net: icsim.Network) -> None:
    """Each condition in turn; both canisters stay as they are."""
    moved, former = pair(net)
    before = [one.info() for one in (moved, former)]

    def refused(code: str, text: str, who: str = "alice") -> None:
        with pytest.raises(icsim.CallRejected, match=text) as error:
            net.rename_canister(moved.id, former.id, as_=who)
        assert error.value.error_code == code

    refused("IC0406", "The caller is not authorized to call this method.", "bob")
    for one in (moved, former):
        one.update_settings(controllers=[net.identities["alice"]])
        refused("IC0406", "The caller is not authorized to call this method.")
        one.update_settings(controllers=[net.identities["alice"], icsim.ORCHESTRATOR])
        one.start()
        refused("IC0510", f"Canister {one.id} must be stopped before it is renamed.")
        one.stop()
    value = management_arg("take_canister_snapshot", {"canister_id": moved.id})
    net.raw_call(MANAGEMENT_CANISTER, "take_canister_snapshot", value, effective=moved.id)
    refused("IC0514", f"Canister {moved.id} must not have any snapshots before it is renamed.")
    with pytest.raises(icsim.BadInput, match="are both on subnet here"):
        net.rename_canister(moved.id, net.create_canister("here").id)
    with pytest.raises(icsim.CallRejected, match="not found"):
        net.rename_canister(moved.id, Principal.canister(former.id.canister_index() + 5))  # type: ignore[operator]
    net.tick()
    after = [one.info() for one in (moved, former)]
    assert [one["module_hash"] for one in after] == [one["module_hash"] for one in before]
    assert [one["status"] for one in after] == ["stopped", "stopped"]


@pytest.mark.slow
def test_a_run_with_a_renaming_is_replayed(tmp_path: Path) -> None:
    """The recorded batches have it: the same hashes again."""
    from subnet.network_config import CoordinatorConfig
    from tests.support import live_network as live

    first, again = tmp_path / "first", tmp_path / "again"
    with icsim.network(TOPOLOGY, out=first) as net:
        here = net.subnets["here"].id
        moved, former = pair(net)
        net.rename_canister(moved.id, former.id, as_="alice").start()
        assert net.canister(former.id).call_raw("update", SHOW) == bytes(former.id) + b"kept"
        height = net.height
    settings = CoordinatorConfig(
        name="again", plan=b"", socket_dir="", cache_dir=live.CACHE, out_dir=str(again), mode="replay", replay_dir=str(first)
    )
    with live.running(settings) as network:
        network.client.advance(to_height=height, timeout_s=60)
        assert dict(network.client.describe().moved) == {former.id: here}
    assert live.agreed(again) == live.agreed(first)
