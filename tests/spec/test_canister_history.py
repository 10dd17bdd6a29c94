"""What canister_info tells: changes with their origins and versions, and how the list is trimmed.

Abstract behaviour, "IC Management Canister: Canister information", "Trimming canister history"; interface spec, "IC method
canister_info".
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ic_types.request_id import hash_of_map
from scheduler.canister import Canister
from scheduler.canister_history import CHANGE_BYTES, PRINCIPAL_BYTES
from scheduler.charging import uninstall
from tests.support.fake_executor import trap
from tests.support.management_world import OTHER, USER, ManagedSubnet, module
from tests.support.routing_world import canister_id

INFO = pytest.mark.spec("management-canister-info")
pytestmark = pytest.mark.spec("ic-canister_info")
ASKER = canister_id(0, 500_000)
EMPTY, OTHER_CODE = module(), module({"init": []})
BY_USER = {"from_user": {"user_id": USER}}


@pytest.fixture
def subnet() -> ManagedSubnet:
    """Nothing costs anything."""
    return ManagedSubnet()


def info(subnet: ManagedSubnet, canister: Canister, count: int | None = 100) -> Any:
    """What another canister is told."""
    args = {"canister_id": canister.canister_id, "num_requested_changes": count}
    result, refund = subnet.canister_call(ASKER, "canister_info", args, cycles=9)
    assert refund == 9
    return result


@INFO
def test_the_life_of_a_canister(subnet: ManagedSubnet) -> None:
    """Creation, deployments, new controllers, uninstallation: each with time, version after it, origin and details."""
    canister = subnet.create(environment_variables=[{"name": "a", "value": "b"}])
    created = subnet.time
    assert subnet.install(canister, EMPTY) is None
    canister.install_debit = type(canister.install_debit)(0)
    subnet.next_round()
    assert subnet.install(canister, OTHER_CODE, {"upgrade": None}) is None
    canister.install_debit = type(canister.install_debit)(0)
    where = {"canister_id": canister.canister_id}
    subnet.user_call("update_settings", {**where, "settings": {"controllers": [USER, OTHER]}})
    subnet.user_call("update_settings", {**where, "settings": {"freezing_threshold": 1}})
    assert subnet.install(canister, EMPTY, {"reinstall": None}) is None
    subnet.user_call("uninstall_code", where)
    told = info(subnet, canister)
    assert told["controllers"] == [OTHER, USER] == sorted([OTHER, USER])
    assert (told["module_hash"], told["total_num_changes"]) == (None, 6)
    changes = told["recent_changes"]
    assert [change["canister_version"] for change in changes] == [0, 1, 2, 3, 5, 6]
    assert [change["timestamp_nanos"] for change in changes] == [created] * 2 + [subnet.time] * 4
    assert all(change["origin"] == BY_USER for change in changes)
    variables = hash_of_map({"a": "b"})
    assert [change["details"] for change in changes] == [
        {"creation": {"controllers": [USER], "environment_variables_hash": variables}},
        {"code_deployment": {"mode": {"install": None}, "module_hash": hashlib.sha256(EMPTY).digest()}},
        {"code_deployment": {"mode": {"upgrade": None}, "module_hash": hashlib.sha256(OTHER_CODE).digest()}},
        {"controllers_change": {"controllers": [OTHER, USER]}},
        {"code_deployment": {"mode": {"reinstall": None}, "module_hash": hashlib.sha256(EMPTY).digest()}},
        {"code_uninstall": None},
    ]


@pytest.mark.spec("management-canister-info", condition=(2, 3))
def test_how_many_changes_are_told(subnet: ManagedSubnet) -> None:
    """None unless asked for; the newest so many; all there are when more are asked for."""
    canister = subnet.create()
    subnet.install(canister, EMPTY)
    assert info(subnet, canister, None)["recent_changes"] == []
    assert info(subnet, canister, 0)["recent_changes"] == []
    assert [list(c["details"]) for c in info(subnet, canister, 1)["recent_changes"]] == [["code_deployment"]]
    for more in (3, 99):
        assert [list(c["details"]) for c in info(subnet, canister, more)["recent_changes"]] == [
            ["creation"],
            ["code_deployment"],
        ]
    assert info(subnet, canister, None)["total_num_changes"] == 2
    assert info(subnet, canister)["module_hash"] == hashlib.sha256(EMPTY).digest()


@pytest.mark.spec("management-canister-info", condition=1)
@pytest.mark.parametrize("version", [None, 0, 17])
def test_changes_by_a_canister(subnet: ManagedSubnet, version: int | None) -> None:
    """The origin is the canister, with the version that it named, if it did."""
    parent = subnet.add_canister()
    child, _ = subnet.canister_call(parent.canister_id, "create_canister", {"sender_canister_version": version}, cycles=10**13)
    (change,) = info(subnet, subnet.canisters[child["canister_id"]])["recent_changes"]
    assert change["origin"] == {"from_canister": {"canister_id": parent.canister_id, "canister_version": version}}
    assert change["details"] == {"creation": {"controllers": [parent.canister_id], "environment_variables_hash": None}}


@INFO
def test_failed_and_idle_calls_leave_no_change(subnet: ManagedSubnet) -> None:
    """A trap in init, a stranger's call, start and stop: nothing to tell."""
    canister = subnet.create()
    subnet.install(canister, module({"init": [trap("no")]}))
    where = {"canister_id": canister.canister_id}
    subnet.user_call("uninstall_code", where, sender=OTHER)
    subnet.user_call("start_canister", where)
    assert info(subnet, canister)["total_num_changes"] == 1


@pytest.mark.spec("trimming-canister-history", condition=(1, 2))
def test_the_newest_twenty_are_kept(subnet: ManagedSubnet) -> None:
    """The number of all changes goes on, and memory is billed for those that are left."""
    canister = subnet.create()
    for number in range(25):
        controllers = [USER] if number % 2 else [USER, OTHER]
        subnet.user_call("update_settings", {"canister_id": canister.canister_id, "settings": {"controllers": controllers}})
        expected = min(number + 2, 20)
        told = info(subnet, canister)
        assert (told["total_num_changes"], len(told["recent_changes"])) == (number + 2, expected)
    versions = [change["canister_version"] for change in info(subnet, canister)["recent_changes"]]
    assert versions == list(range(6, 26))
    named = sum(
        len(change["details"]["controllers_change"]["controllers"]) for change in info(subnet, canister)["recent_changes"]
    )
    status = subnet.user_call("canister_status", {"canister_id": canister.canister_id})
    assert status["memory_metrics"]["canister_history_size"] == 20 * CHANGE_BYTES + named * PRINCIPAL_BYTES
    assert status["memory_size"] == sum(status["memory_metrics"].values()) == canister.memory_usage()


@pytest.mark.spec("canister-out-of-cycles")
def test_a_canister_out_of_cycles_forgets_its_changes(subnet: ManagedSubnet) -> None:
    """But not how many there were."""
    canister = subnet.create()
    subnet.install(canister, EMPTY)
    uninstall(subnet, canister)
    told = info(subnet, canister)
    assert (told["total_num_changes"], told["recent_changes"]) == (2, [])
