"""Abstract behaviour, "Canister out of cycles", "Calls to frozen canisters are rejected" and "... stopped/stopping ..."."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Request, Response
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, RejectCode
from ic_types.units import Cycles
from scheduler.canister import RunStatus
from scheduler.charging import uninstall
from scheduler.cycles_account import freezing_threshold
from tests.support.fake_executor import USER, FakeWorld, call, certify, log, reply, set_timer
from tests.support.routing_world import FakeStatus, RoutingWorld, rejects_of

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


@pytest.mark.spec("calls-to-frozen-canisters-are-rejected", condition=(1, 2, 3))
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


@pytest.mark.spec("calls-to-frozen-canisters-are-rejected", condition=(1, 2, 3))
@pytest.mark.parametrize("sender", [USER, Principal(b"\x01stranger\x02")])
def test_frozen_canister_rejects_messages_of_users(sender: Principal) -> None:
    """IC0207; its controllers learn how many cycles are missing, others don't; the balance stays."""
    fees = CyclesCostSchedule()
    world = FakeWorld(fees=fees)
    canister = world.add_canister(10**12, freezing_threshold_s=10**10)
    threshold = freezing_threshold(canister, fees)
    message_id = world.ingress(canister, [reply()], sender=sender)
    world.run_round()
    code, text = world.error_of(message_id)
    assert code is ErrorCode.CANISTER_OUT_OF_CYCLES
    missing = threshold + fees.execution(world.limits.instructions_per_message) - 10**12
    told = f": please top up the canister with at least {missing:_} additional cycles" if sender == USER else ""
    assert text == f"Canister {canister.canister_id} is out of cycles{told}"
    assert canister.balance == 10**12


@pytest.mark.spec("calls-to-stopped-stopping-canisters-are-rejected", condition=(1, 3, 4))
@pytest.mark.parametrize("status", ["stopped", "stopping"])
def test_call_of_a_canister_that_does_not_run(status: str) -> None:
    """It isn't delivered: CANISTER_ERROR with all cycles."""
    world = RoutingWorld()
    caller, callee = world.canister(0), world.canister(1)
    callee.status = FakeStatus(status)
    world.call(caller, callee.canister_id, cycles=11)
    world.build()
    world.receive()
    assert not callee.queues.has_input()
    world.take_input(caller)
    (why,) = rejects_of(caller)
    assert (why.code, why.message) == (RejectCode.CANISTER_ERROR, f"Canister {callee.canister_id} is {status}")
    assert caller.balance == 10**15


@pytest.mark.spec("calls-to-stopped-stopping-canisters-are-rejected", condition=(2, 3, 4))
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
    stopped = status is RunStatus.STOPPED
    assert response.payload.error_code is (ErrorCode.CANISTER_STOPPED if stopped else ErrorCode.CANISTER_STOPPING)
    assert world.executor.executed == []
