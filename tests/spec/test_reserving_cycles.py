"""Cycles that the management canister sets aside for storage on a subnet that fills up, and canisters that can't have them.

Abstract behaviour, "Cycles balance and reserved balance": `cycles_to_reserve` in the transitions that take memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.reject import ErrorCode, Reject
from ic_types.units import Cycles
from scheduler.canister import Canister
from tests.spec.test_every_management_method import METADATA
from tests.support.fake_executor import dirty
from tests.support.management_world import ManagedSubnet, module

pytestmark = [
    pytest.mark.spec("management-update-settings"),
    pytest.mark.spec("management-upload-chunk"),
    pytest.mark.spec("management-install-code"),
    pytest.mark.spec("management-take-snapshot"),
    pytest.mark.spec("management-load-snapshot"),
    pytest.mark.spec("management-upload-snapshot-metadata"),
    pytest.mark.spec("management-upload-snapshot-data"),
]
GIB = 1 << 30
LIMITS = SubnetLimits(
    instructions_per_install=10**6, subnet_memory_capacity=20 * GIB, subnet_memory_threshold=1 << 16, response_memory_reserve=0
)
WASM = module({"init": [dirty(3, 2)]}, heap_pages=200)
GROWN = module({"init": []}, heap_pages=600)
Work = Callable[[ManagedSubnet, Canister], Any]


def call(method: str, **more: Any) -> Work:
    """A call about the canister."""
    return lambda subnet, canister: subnet.user_call(method, {"canister_id": canister.canister_id, **more})


def load(subnet: ManagedSubnet, canister: Canister) -> Any:
    """Bring back a snapshot that is larger than what the canister has now."""
    (snapshot,) = canister.snapshots
    return subnet.user_call("load_canister_snapshot", {"canister_id": canister.canister_id, "snapshot_id": snapshot})


def upload_piece(subnet: ManagedSubnet, canister: Canister) -> Any:
    """A chunk for an uploaded snapshot."""
    (snapshot,) = canister.snapshots
    return call("upload_canister_snapshot_data", snapshot_id=snapshot, kind={"wasm_chunk": None}, chunk=b"x")(subnet, canister)


def prepared(subnet: ManagedSubnet, what: str) -> Canister:
    """A canister on a subnet of which another one takes half."""
    subnet.create(10**18, reserved_cycles_limit=10**18, memory_allocation=10 * GIB)
    canister = subnet.create(10**18, reserved_cycles_limit=10**18)
    if what != "install":
        assert subnet.install(canister, WASM) is None
    if what == "load":
        assert not isinstance(call("take_canister_snapshot")(subnet, canister), Reject)
        assert call("uninstall_code")(subnet, canister) is None
    if what == "piece":
        assert not isinstance(call("upload_canister_snapshot_metadata", **METADATA)(subnet, canister), Reject)
    return canister


GROWS: dict[str, Work] = {
    "install": lambda subnet, canister: subnet.install(canister, WASM),
    "upgrade": lambda subnet, canister: subnet.install(canister, GROWN, mode={"upgrade": None}),
    "chunk": call("upload_chunk", chunk=b"chunk"),
    "snapshot": call("take_canister_snapshot"),
    "metadata": call("upload_canister_snapshot_metadata", **{**METADATA, "wasm_memory_size": 1 << 24}),
    "piece": upload_piece,
    "load": load,
    "allocation": call("update_settings", settings={"memory_allocation": GIB}),
}
IN_GROWTH = ErrorCode.RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_GROW
IN_ALLOCATION = ErrorCode.RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_ALLOCATION


def used(subnet: ManagedSubnet) -> int:
    """Memory of all canisters."""
    return LIMITS.subnet_memory_capacity - subnet.available_memory()


@pytest.mark.parametrize("what", GROWS)
def test_growing_reserves_cycles(what: str) -> None:
    """The price of the growth for a time that depends on how full the subnet is; from the main to the reserved balance."""
    subnet = ManagedSubnet(limits=LIMITS, fees=CyclesCostSchedule())
    canister = prepared(subnet, what)
    canister.install_debit = type(canister.install_debit)(0)
    before, reserved, total = used(subnet), canister.reserved_balance, subnet.everything()
    assert not isinstance(GROWS[what](subnet, canister), Reject)
    history = 192 + 40
    expected = subnet.fees.storage_reservation(used(subnet) - before, before, 1 << 16, LIMITS.subnet_memory_capacity)
    slack = subnet.fees.storage_reservation(history, used(subnet), 1 << 16, LIMITS.subnet_memory_capacity)
    assert 0 < canister.reserved_balance - reserved <= expected
    assert expected - (canister.reserved_balance - reserved) <= slack, "history is free"
    assert subnet.everything() == total


@pytest.mark.spec("management-install-code", condition=6)
@pytest.mark.spec("management-upgrade-code", condition=9)
@pytest.mark.spec("management-upload-chunk", condition=5)
@pytest.mark.spec("management-take-snapshot", condition=6)
@pytest.mark.spec("management-load-snapshot", condition=7)
@pytest.mark.spec("management-upload-snapshot-metadata", condition=4)
@pytest.mark.spec("management-upload-snapshot-data", condition=6)
@pytest.mark.parametrize("what", GROWS)
def test_a_limit_on_what_is_reserved(what: str) -> None:
    """The canister stays as it was; the error tells by how much the limit would be exceeded."""
    subnet = ManagedSubnet(limits=LIMITS, fees=CyclesCostSchedule())
    canister = prepared(subnet, what)
    canister.install_debit = type(canister.install_debit)(0)
    limit = canister.reserved_balance + 10
    canister.settings = replace(canister.settings, reserved_cycles_limit=Cycles(limit))
    before = canister.memory_usage(), canister.reserved_balance, canister.settings, canister.execution
    outcome = GROWS[what](subnet, canister)
    assert isinstance(outcome, Reject), outcome
    assert outcome.error_code is (IN_ALLOCATION if what == "allocation" else IN_GROWTH), outcome
    assert f"due to its reserved cycles limit. The current limit ({limit:_}) would be exceeded by " in outcome.message
    assert before == (canister.memory_usage(), canister.reserved_balance, canister.settings, canister.execution)


@pytest.mark.parametrize("what", [name for name in GROWS if name not in ("install", "upgrade")])
def test_too_few_cycles_to_reserve(what: str) -> None:
    """The reservation has to come out of the balance."""
    subnet = ManagedSubnet(limits=LIMITS, fees=CyclesCostSchedule())
    canister = prepared(subnet, what)
    canister.balance = Cycles(subnet.fees.instructions(5_000_000_000))
    canister.settings = replace(canister.settings, freezing_threshold_s=0)
    before = canister.memory_usage(), canister.reserved_balance, canister.settings
    outcome = GROWS[what](subnet, canister)
    assert isinstance(outcome, Reject), outcome
    in_allocation = ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_ALLOCATION
    assert outcome.error_code is (in_allocation if what == "allocation" else ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW)
    assert before == (canister.memory_usage(), canister.reserved_balance, canister.settings)


def test_nothing_is_reserved_below_the_threshold() -> None:
    """On a subnet with room."""
    subnet = ManagedSubnet(limits=replace(LIMITS, subnet_memory_threshold=19 * GIB), fees=CyclesCostSchedule())
    canister = prepared(subnet, "snapshot")
    assert not isinstance(GROWS["snapshot"](subnet, canister), Reject)
    assert canister.reserved_balance == 0


def test_the_reserve_for_responses_counts_as_taken() -> None:
    """What responses may still take brings the subnet nearer to being full, for the management canister as in messages."""
    limits = replace(LIMITS, subnet_memory_threshold=12 * GIB, response_memory_reserve=4 * GIB)
    subnet = ManagedSubnet(limits=limits, fees=CyclesCostSchedule())
    canister = prepared(subnet, "snapshot")
    assert not isinstance(GROWS["snapshot"](subnet, canister), Reject)
    assert canister.reserved_balance > 0
