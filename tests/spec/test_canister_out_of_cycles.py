"""Abstract behaviour, "Canister out of cycles", "Calls to frozen canisters are rejected" and "... stopped/stopping ..."."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Request, Response
from ic_types.principal import Principal
from ic_types.reject import Reject, RejectCode
from ic_types.units import Cycles
from scheduler.canister import RunStatus
from scheduler.charging import uninstall
from tests.support.fake_executor import FakeWorld, call, certify, log, reply, set_timer

FAR = Principal.canister(77)


@pytest.mark.spec("canister-out-of-cycles")
def test_canister_out_of_cycles_loses_its_code() -> None:
    """Empty, no certified data, logs, timer or allocations; version + 1; open contexts rejected and deleted."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister(compute_allocation=1, memory_allocation=5)
    world.request(canister, [certify(b"c"), log(b"l"), set_timer(10**18), call(FAR)], cycles=9)
    world.run_round()
    uninstall(world, canister)
    world.run_round()
    assert canister.execution is None
    assert (canister.certified_data, list(canister.logs), canister.global_timer, canister.version) == (b"", [], 0, 2)
    assert (canister.settings.compute_allocation, canister.settings.memory_allocation) == (0, 0)
    (context,) = canister.contexts.values()
    assert (context.deleted, context.responded, context.available_cycles) == (True, True, 0)
    (response,) = [m for m in world.remote if isinstance(m, Response)]
    assert isinstance(response.payload, Reject)
    assert (response.payload.code, response.refund) == (RejectCode.CANISTER_REJECT, 9)


@pytest.mark.spec("calls-to-frozen-canisters-are-rejected")
def test_frozen_canister_rejects_calls_transiently() -> None:
    """Reject (SYS_TRANSIENT, ...) with all cycles."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister(5)
    world.request(canister, [reply()], cycles=11)
    world.run_round()
    (response,) = world.remote
    assert isinstance(response, Response)
    assert isinstance(response.payload, Reject)
    assert (response.payload.code, response.refund) == (RejectCode.SYS_TRANSIENT, 11)
    assert canister.balance <= Cycles(5)


@pytest.mark.spec("calls-to-stopped-stopping-canisters-are-rejected")
@pytest.mark.parametrize("status", [RunStatus.STOPPED, RunStatus.STOPPING])
def test_stopped_canister_rejects_calls(status: RunStatus) -> None:
    """Reject (CANISTER_ERROR, ...) with all cycles."""
    world = FakeWorld()
    canister = world.add_canister()
    world.request(canister, [reply()], cycles=11)
    canister.status = status
    world.run_round()
    (response,) = world.remote
    assert not isinstance(response, Request)
    assert isinstance(response.payload, Reject)
    assert (response.payload.code, response.refund) == (RejectCode.CANISTER_ERROR, 11)
