"""Abstract behaviour, "Call context creation"."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.units import TimeNs
from sandbox.protocol import EntryPoint
from scheduler.canister import CanisterOrigin, IngressOrigin, RunStatus, SystemOrigin
from tests.support.fake_executor import USER, FakeWorld, call, reply, set_timer, work

FAR = Principal.canister(77)
MAX_CYCLES_PER_MESSAGE = CyclesCostSchedule().execution(40_000_000_000)


@pytest.mark.spec("call-context-creation", "public entry points: origin, needs_to_respond, available_cycles")
def test_ingress_opens_a_context_from_the_user() -> None:
    """A call by a user has its message as origin and no cycles."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [call(FAR)])
    world.run_round()
    (context,) = canister.contexts.values()
    assert context.origin == IngressOrigin(message_id, USER)
    assert (context.responded, context.deleted, context.available_cycles) == (False, False, 0)


@pytest.mark.spec("call-context-creation", "public entry points: origin, needs_to_respond, available_cycles")
def test_request_opens_a_context_from_the_canister() -> None:
    """A call by a canister has caller, callback and deadline as origin, and the attached cycles."""
    world = FakeWorld()
    canister = world.add_canister()
    request = world.request(canister, [call(FAR)], cycles=55, deadline_s=2_000)
    world.run_round()
    (context,) = canister.contexts.values()
    assert context.origin == CanisterOrigin(request.sender, request.callback_id, 2_000)
    assert (context.responded, context.available_cycles) == (False, 55)


@pytest.mark.spec("call-context-creation", "S.canister_status[CM.callee] = Running")
@pytest.mark.parametrize("status", [RunStatus.STOPPING, RunStatus.STOPPED])
def test_no_context_unless_running(status: RunStatus) -> None:
    """A stopping or stopped canister opens none."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [call(FAR)])
    canister.status = status
    world.run_round()
    assert canister.contexts == {}
    assert world.executor.executed == []


@pytest.mark.spec("call-context-creation", "liquid_balance(S, CM.callee) >= MAX_CYCLES_PER_MESSAGE")
@pytest.mark.parametrize(("missing", "runs"), [(0, 1), (1, 0)])
def test_context_needs_the_price_of_the_largest_message(missing: int, runs: int) -> None:
    """The liquid balance must cover the whole instruction limit."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister(MAX_CYCLES_PER_MESSAGE - missing)
    world.ingress(canister, [reply()])
    world.run_round()
    assert len(world.executor.executed) == runs


@pytest.mark.spec("call-context-creation", "balances[CM.callee] = S.balances[CM.callee] - MAX_CYCLES_PER_MESSAGE")
def test_message_sees_the_balance_without_its_prepayment() -> None:
    """What is set aside isn't on the balance while the message runs."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister()
    world.ingress(canister, [reply()])
    world.run_round()
    assert world.executor.contexts[0].balance == 10**15 - MAX_CYCLES_PER_MESSAGE


@pytest.mark.spec("call-context-creation", "heartbeat")
def test_heartbeat_context_comes_from_the_system() -> None:
    """The caller is the management canister, nobody is answered, no cycles are there."""
    world = FakeWorld()
    canister = world.add_canister(entry_points=["heartbeat"])
    world.executor.tasks[canister.canister_id, EntryPoint.HEARTBEAT] = [call(FAR)]
    world.run_round()
    (context,) = canister.contexts.values()
    assert context.origin == SystemOrigin(EntryPoint.HEARTBEAT)
    assert context.available_cycles == 0
    assert world.executor.inputs[0].caller == MANAGEMENT_CANISTER
    assert not world.executor.inputs[0].may_reply


@pytest.mark.spec("call-context-creation", "global timer: set, expired, deactivated")
@pytest.mark.parametrize(("offset_ns", "runs"), [(0, 1), (1, 0)])
def test_timer_context_when_the_time_has_passed(offset_ns: int, runs: int) -> None:
    """S.time >= S.global_timer and S.global_timer != 0; then the timer is off."""
    world = FakeWorld()
    canister = world.add_canister(entry_points=["global_timer"])
    world.executor.tasks[canister.canister_id, EntryPoint.GLOBAL_TIMER] = [work(1)]
    canister.global_timer = TimeNs(world.time + offset_ns)
    world.touch(canister.canister_id)
    world.run_round()
    assert len(world.executor.executed) == runs
    assert (canister.global_timer == 0) == bool(runs)


@pytest.mark.spec("call-context-creation", "global timer: deactivated before the task runs")
def test_timer_task_sees_no_timer_and_may_set_one() -> None:
    """The task's own new timer stays."""
    world = FakeWorld()
    canister = world.add_canister(entry_points=["global_timer"])
    world.executor.tasks[canister.canister_id, EntryPoint.GLOBAL_TIMER] = [set_timer(10**18)]
    canister.global_timer = TimeNs(1)
    world.touch(canister.canister_id)
    world.run_round()
    assert world.executor.contexts[0].global_timer == 0
    assert canister.global_timer == 10**18
