"""Abstract behaviour, "Canister out of cycles", "Calls to frozen canisters are rejected" and "... stopped/stopping ..."."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Request, Response
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from ic_types.units import Cycles, NumInstructions, TimeNs
from scheduler.canister import Canister, RunStatus
from scheduler.charging import daily_costs, uninstall
from scheduler.chunk_store import EMPTY_STORE
from scheduler.cycles_account import BurnCause, freezing_threshold
from tests.support.fake_executor import USER, FakeWorld, call, certify, log, reply, set_timer
from tests.support.management_world import ManagedSubnet, module
from tests.support.routing_world import FakeStatus, RoutingWorld, rejects_of
from tests.support.script_subnets import script_subnet

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


# --- what time costs

DAY = 86_400
PLAIN = CyclesCostSchedule()


def passed(world: FakeWorld, canister: Canister, seconds: int) -> None:
    """Let a round end so many seconds after the last one, with the canister touched."""
    world.time = TimeNs(world.time - world.interval_ns + seconds * 10**9)
    world.touch(canister.canister_id)
    world.run_round()


@pytest.mark.spec("canister-out-of-cycles", condition=(1, 2, 3))
@pytest.mark.spec("time-progressing", condition=(2, 7))
@pytest.mark.parametrize(("short", "alive"), [(0, True), (1, False)])
@pytest.mark.parametrize("reserved", [0, 10**9])
def test_balance_that_just_reaches(short: int, alive: bool, reserved: int) -> None:
    """A canister pays to its last cycle, reserved ones first; with one cycle less it loses its code, and the rest is burned."""
    world = FakeWorld(fees=PLAIN)
    canister = world.add_canister(compute_allocation=10, freezing_threshold_s=10**6)
    world.run_round()
    cost = sum(day * 100 // DAY for _, day in daily_costs(canister, PLAIN))
    canister.reserved_balance = Cycles(reserved)
    canister.balance = Cycles(cost - reserved - short)
    passed(world, canister, 100)
    assert (canister.execution is not None) == alive
    assert (canister.balance, canister.reserved_balance) == (0, 0)
    assert (BurnCause.UNINSTALL in world.tally.burned) == (not alive)


@pytest.mark.spec("time-progressing", condition=2)
def test_reserved_cycles_go_first() -> None:
    """The main balance is untouched until they are used up."""
    world = FakeWorld(fees=PLAIN)
    canister = world.add_canister()
    world.run_round()
    canister.reserved_balance = Cycles(10**12)
    passed(world, canister, 100)
    assert canister.balance == 10**15
    assert 0 < canister.reserved_balance < 10**12


@pytest.mark.spec("time-progressing", condition=(3, 4, 5))
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, lambda used: used * 317_500 * DAY // (1 << 30)),
        ({"memory_allocation": 1 << 30}, lambda used: 317_500 * DAY),
        ({"memory_allocation": 1}, lambda used: used * 317_500 * DAY // (1 << 30)),
    ],
)
def test_memory_is_paid(settings: dict[str, int], expected: Callable[[int], int]) -> None:
    """The larger of allocation and use, at 317,500 cycles per GiB and second; 10,000 a second for existing."""
    world = FakeWorld(fees=PLAIN)
    canister = world.add_canister(**settings)
    world.run_round()
    before, used = canister.balance, canister.memory_usage()
    passed(world, canister, DAY)
    assert before - canister.balance == expected(used) + 10_000 * DAY
    assert canister.last_charged == world.time - world.interval_ns


@pytest.mark.spec("time-progressing", condition=4)
def test_compute_is_paid() -> None:
    """10 M cycles per percent and second."""
    world = FakeWorld(fees=CyclesCostSchedule(gib_storage_per_second=0, canister_base_per_second=0))
    canister = world.add_canister(compute_allocation=7)
    world.run_round()
    passed(world, canister, 50)
    assert 10**15 - canister.balance == 7 * 50 * 10_000_000


@pytest.mark.spec("time-progressing", condition=3)
def test_message_memory_is_paid() -> None:
    """The reservation of an open call is storage like any other."""
    world = FakeWorld(fees=CyclesCostSchedule(canister_base_per_second=0, ten_instructions_wasm32=0, update_execution_base=0))
    canister = world.add_canister()
    world.ingress(canister, [call(FAR)])
    world.run_round()
    before, bytes_ = canister.balance, canister.message_memory
    assert bytes_ > 2 << 20
    passed(world, canister, DAY)
    storage = [size * 317_500 * DAY // (1 << 30) for size in (canister.memory_usage(), bytes_)]
    assert before - canister.balance == sum(storage)


@pytest.mark.spec("time-progressing", condition=5)
@pytest.mark.parametrize(("seconds", "charged"), [(9, False), (10, True)])
def test_charged_every_ten_seconds(seconds: int, charged: bool) -> None:
    """Not before; then for the whole time."""
    world = FakeWorld(fees=CyclesCostSchedule(gib_storage_per_second=0))
    canister = world.add_canister()
    world.run_round()
    passed(world, canister, seconds)
    assert 10**15 - canister.balance == (10_000 * seconds if charged else 0)


@pytest.mark.spec("canister-out-of-cycles", condition=(4, 5, 6, 7))
def test_state_after() -> None:
    """Every part of the state after: those that are open are answered once, those that were answered aren't again."""
    world = FakeWorld(fees=PLAIN)
    canister = world.add_canister(compute_allocation=1, memory_allocation=5)
    world.request(canister, [certify(b"c"), log(b"l"), set_timer(10**18), call(FAR)], cycles=9)
    world.request(canister, [call(FAR), reply(b"answered")], cycles=4)
    world.run_round()
    version = canister.version
    uninstall(world, canister)
    world.run_round()
    assert canister.execution is None
    assert (canister.certified_data, list(canister.logs), canister.global_timer) == (b"", [], 0)
    assert (canister.settings.compute_allocation, canister.settings.memory_allocation) == (0, 0)
    assert canister.version == version + 1
    assert [(c.deleted, c.responded, c.available_cycles) for c in canister.contexts.values()] == [(True, True, 0)] * 2
    answered, rejected = world.responses
    assert (answered.payload, answered.refund) == (Reply(b"answered"), 4)
    assert isinstance(rejected.payload, Reject)
    assert (rejected.payload.code, rejected.refund) == (RejectCode.CANISTER_REJECT, 9)


@pytest.mark.spec("canister-out-of-cycles", condition=8)
def test_nothing_is_kept_beside_the_settings() -> None:
    """Snapshots, chunks, logs and the list of changes go; how many changes there were stays."""
    subnet = ManagedSubnet()
    canister = subnet.create()
    about = {"canister_id": canister.canister_id}
    assert subnet.install(canister, module({"init": [log(b"l")]})) is None
    canister.install_debit = NumInstructions(0)
    for method, more in (("upload_chunk", {"chunk": b"c"}), ("take_canister_snapshot", {})):
        assert not isinstance(subnet.user_call(method, {**about, **more}), Reject)
    assert (len(canister.logs), len(canister.snapshots), len(canister.history.changes)) == (1, 1, 2)
    uninstall(subnet, canister)
    assert (list(canister.logs), list(canister.snapshots), canister.chunk_store) == ([], [], EMPTY_STORE)
    assert (canister.history.total, canister.history.changes) == (2, ())


@pytest.mark.spec("time-progressing", condition=1)
def test_time_never_goes_back() -> None:
    """A batch with an earlier time is executed at the time of the last one."""
    subnet = script_subnet()
    subnet.round(seconds=5)
    before = subnet.state.time
    subnet.round(seconds=-3)
    assert subnet.state.time == before
    subnet.round(seconds=1)
    assert subnet.state.time == before + 10**9
