"""Settings, status, cycles and randomness."""

from __future__ import annotations

from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.reject import ErrorCode, Reject
from scheduler.canister_history import CHANGE_BYTES, PRINCIPAL_BYTES
from scheduler.cycles_account import BurnCause
from tests.support.fake_executor import FREE
from tests.support.management_world import OTHER, USER, ManagedSubnet, module


@pytest.fixture
def subnet() -> ManagedSubnet:
    """A subnet without prices."""
    return ManagedSubnet(fees=FREE)


def update(subnet: ManagedSubnet, canister: Any, **settings: Any) -> Any:
    """The user's update_settings."""
    return subnet.user_call("update_settings", {"canister_id": canister.canister_id, "settings": settings})


def error(result: object) -> ErrorCode | None:
    """The error code of a reject."""
    assert isinstance(result, Reject), result
    return result.error_code


def test_every_setting_can_be_changed_and_is_shown(subnet: ManagedSubnet) -> None:
    """What update_settings stores, canister_status tells; what it doesn't name stays."""
    canister = subnet.create()
    changes: dict[str, Any] = {
        "controllers": [USER, OTHER],
        "compute_allocation": 5,
        "memory_allocation": 1 << 30,
        "freezing_threshold": 77,
        "reserved_cycles_limit": 10**12,
        "minimum_incoming_canister_call_cycles": 3,
        "log_memory_limit": 1 << 20,
        "log_visibility": {"allowed_viewers": [OTHER]},
        "snapshot_visibility": {"public": None},
        "status_visibility": {"public": None},
        "wasm_memory_limit": 1 << 20,
        "wasm_memory_threshold": 99,
        "environment_variables": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
    }
    for name, value in changes.items():
        assert update(subnet, canister, **{name: value}) is None
    shown = subnet.user_call("canister_status", {"canister_id": canister.canister_id})["settings"]
    assert {**shown, "controllers": sorted(shown["controllers"])} == {**changes, "controllers": sorted([USER, OTHER])}
    assert canister.version == len(changes)
    assert subnet.scheduler.priority.total_allocation == 5


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"compute_allocation": 101}, ErrorCode.CANISTER_CONTRACT_VIOLATION),
        ({"memory_allocation": (1 << 48) + 1}, ErrorCode.CANISTER_CONTRACT_VIOLATION),
        ({"freezing_threshold": 1 << 64}, ErrorCode.CANISTER_CONTRACT_VIOLATION),
        ({"reserved_cycles_limit": 1 << 128}, ErrorCode.CANISTER_CONTRACT_VIOLATION),
        ({"wasm_memory_limit": (1 << 48) + 1}, ErrorCode.CANISTER_CONTRACT_VIOLATION),
        ({"wasm_memory_threshold": 1 << 64}, ErrorCode.CANISTER_CONTRACT_VIOLATION),
        ({"controllers": [USER] * 11}, ErrorCode.INVALID_MANAGEMENT_PAYLOAD),
        ({"log_visibility": {"allowed_viewers": [USER] * 11}}, ErrorCode.INVALID_MANAGEMENT_PAYLOAD),
        ({"environment_variables": [{"name": "A", "value": ""}] * 2}, ErrorCode.INVALID_MANAGEMENT_PAYLOAD),
        ({"environment_variables": [{"name": "A" * 129, "value": ""}]}, ErrorCode.INVALID_MANAGEMENT_PAYLOAD),
        ({"environment_variables": [{"name": "A", "value": "é" * 65}]}, ErrorCode.INVALID_MANAGEMENT_PAYLOAD),
        (
            {"environment_variables": [{"name": str(n), "value": ""} for n in range(21)]},
            ErrorCode.INVALID_MANAGEMENT_PAYLOAD,
        ),
        ({"compute_allocation": 100}, None),
        ({"controllers": [USER] * 10}, None),
        ({"controllers": []}, None),
    ],
)
def test_settings_are_checked(subnet: ManagedSubnet, settings: dict[str, Any], code: ErrorCode | None) -> None:
    """Values at the edge are allowed, beyond it refused without any change."""
    canister = subnet.create()
    before = canister.settings
    result = update(subnet, canister, **settings)
    if code is None:
        assert result is None
    else:
        assert error(result) is code
        assert canister.settings is before
        assert canister.version == 0


def test_compute_can_not_be_oversubscribed(subnet: ManagedSubnet) -> None:
    """Half of what the cores have beyond the first, less one percent."""
    first, second = subnet.create(), subnet.create()
    assert update(subnet, first, compute_allocation=100) is None
    result = update(subnet, second, compute_allocation=50)
    assert error(result) is ErrorCode.SUBNET_OVERSUBSCRIBED
    assert "remaining compute capacity is 49%" in result.message
    assert update(subnet, second, compute_allocation=49) is None
    assert update(subnet, first, compute_allocation=99) is None
    assert subnet.scheduler.priority.total_allocation == 148


def test_larger_allocations_must_be_affordable() -> None:
    """The balance covers the freezing threshold that follows from them; smaller ones always may."""
    subnet = ManagedSubnet(fees=CyclesCostSchedule())
    canister = subnet.create(amount=10**12)
    result = update(subnet, canister, compute_allocation=10)
    assert error(result) is ErrorCode.INSUFFICIENT_CYCLES_IN_COMPUTE_ALLOCATION
    result = update(subnet, canister, memory_allocation=1 << 40)
    assert error(result) is ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_ALLOCATION
    assert canister.settings.compute_allocation == 0
    canister.balance = canister.balance.__class__(10**18)
    assert update(subnet, canister, compute_allocation=10) is None
    canister.balance = canister.balance.__class__(0)
    assert update(subnet, canister, compute_allocation=1) is None


@pytest.mark.spec("management-update-settings", condition=15)
def test_reserved_limit_stays_above_what_is_reserved(subnet: ManagedSubnet) -> None:
    """IC0540."""
    canister = subnet.create()
    canister.reserved_balance = canister.balance.__class__(10)
    assert error(update(subnet, canister, reserved_cycles_limit=9)) is ErrorCode.RESERVED_CYCLES_LIMIT_IS_TOO_LOW
    assert update(subnet, canister, reserved_cycles_limit=10) is None


@pytest.mark.spec("management-update-settings", condition=11)
def test_wasm_memory_limit_stays_above_the_heap(subnet: ManagedSubnet) -> None:
    """Spec: the heap is at most the new limit, where there is one."""
    canister = subnet.create()
    assert subnet.install(canister, module(heap_pages=2)) is None
    assert error(update(subnet, canister, wasm_memory_limit=131_071)) is ErrorCode.CANISTER_CONTRACT_VIOLATION
    assert update(subnet, canister, wasm_memory_limit=131_072) is None
    assert update(subnet, canister, wasm_memory_limit=0) is None


def test_a_short_update_by_a_user_is_paid_afterwards() -> None:
    """By argument and method name, if the canister can; a canister's call isn't charged."""
    subnet = ManagedSubnet(fees=CyclesCostSchedule())
    canister = subnet.create(amount=10**15)
    assert update(subnet, canister, freezing_threshold=0) is None
    paid = subnet.tally.burned[BurnCause.INGRESS]
    assert paid > 1_200_000
    assert canister.balance == 10**15 - paid
    canister.balance = canister.balance.__class__(5)
    assert update(subnet, canister, freezing_threshold=1) is None
    assert canister.balance == 5


def test_status_is_for_controllers_and_the_canister_itself(subnet: ManagedSubnet) -> None:
    """Others get IC0542; the record has module hash, memory and cycles."""
    canister = subnet.create(amount=500)
    where = {"canister_id": canister.canister_id}
    assert error(subnet.user_call("canister_status", where, sender=OTHER)) is ErrorCode.CANISTER_STATUS_ACCESS_DENIED
    empty = subnet.user_call("canister_status", where)
    assert (empty["status"], empty["module_hash"], empty["memory_size"]) == (
        {"running": None},
        None,
        CHANGE_BYTES + PRINCIPAL_BYTES,
    )
    assert subnet.install(canister, module(heap_pages=3, sections=(("icp", True),))) is None
    result, refund = subnet.canister_call(canister.canister_id, "canister_status", where, cycles=7)
    assert refund == 7
    assert canister.execution is not None
    assert result["module_hash"] == canister.execution.module.module_hash
    assert result["memory_metrics"]["wasm_memory_size"] == 3 << 16
    assert result["memory_size"] == canister.memory_usage()
    assert (result["cycles"], result["version"]) == (500, 1)


def test_anyone_may_deposit_cycles(subnet: ManagedSubnet) -> None:
    """All that is attached stays; a missing canister gives it back."""
    giver, canister = subnet.add_canister(), subnet.create(amount=0)
    result = subnet.canister_call(giver.canister_id, "deposit_cycles", {"canister_id": canister.canister_id}, cycles=9)
    assert result == (None, 0)
    assert canister.balance == 9
    result, refund = subnet.canister_call(giver.canister_id, "deposit_cycles", {"canister_id": OTHER}, cycles=9)
    assert (error(result), refund) == (ErrorCode.CANISTER_NOT_FOUND, 9)


def test_top_up_mints(subnet: ManagedSubnet) -> None:
    """Provisional, so counted apart."""
    canister = subnet.create(amount=0)
    args = {"canister_id": canister.canister_id, "amount": 11}
    assert subnet.user_call("provisional_top_up_canister", args, sender=OTHER) is None
    assert (canister.balance, subnet.minted) == (11, 11)


def test_random_bytes_are_for_canisters_only(subnet: ManagedSubnet) -> None:
    """32 of them, from the round's generator."""
    caller = subnet.add_canister()
    assert subnet.canister_call(caller.canister_id, "raw_rand", cycles=3) == (bytes(range(32)), 3)
    assert error(subnet.user_call("raw_rand")) is ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE
