"""Abstract behaviour, "Call context creation"."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.reject import ErrorCode, Reject
from ic_types.units import Cycles, TimeNs
from sandbox.protocol import EntryPoint
from scheduler.canister import CanisterOrigin, IngressOrigin, RunStatus, SystemOrigin
from tests.support.fake_executor import USER, FakeWorld, call, log, reply, set_timer, trap, work

FAR = Principal.canister(77)
MAX_CYCLES_PER_MESSAGE = CyclesCostSchedule().execution(40_000_000_000)


@pytest.mark.spec("call-context-creation", condition=(7, 8))
def test_ingress_opens_a_context_from_the_user() -> None:
    """A call by a user has its message as origin and no cycles."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [call(FAR)])
    world.run_round()
    (context,) = canister.contexts.values()
    assert context.origin == IngressOrigin(message_id, USER)
    assert (context.responded, context.deleted, context.available_cycles) == (False, False, 0)


@pytest.mark.spec("call-context-creation", condition=(7, 8))
def test_request_opens_a_context_from_the_canister() -> None:
    """A call by a canister has caller, callback and deadline as origin, and the attached cycles."""
    world = FakeWorld()
    canister = world.add_canister()
    request = world.request(canister, [call(FAR)], cycles=55, deadline_s=2_000)
    world.run_round()
    (context,) = canister.contexts.values()
    assert context.origin == CanisterOrigin(request.sender, request.callback_id, 2_000)
    assert (context.responded, context.available_cycles) == (False, 55)


@pytest.mark.spec("call-context-creation", condition=2)
@pytest.mark.parametrize("status", [RunStatus.STOPPING, RunStatus.STOPPED])
def test_no_context_unless_running(status: RunStatus) -> None:
    """A stopping or stopped canister opens none, for calls, heartbeats and timers alike."""
    world = FakeWorld()
    canister = world.add_canister(entry_points=["heartbeat", "global_timer"])
    world.ingress(canister, [call(FAR)])
    canister.global_timer = TimeNs(1)
    canister.status = status
    world.touch(canister.canister_id)
    world.run_round()
    assert canister.contexts == {}
    assert world.executor.executed == []


@pytest.mark.spec("call-context-creation", condition=2)
def test_timer_of_a_stopped_canister() -> None:
    """A timer that was set before its canister was stopped stays set, and nobody pays for anything."""
    world = FakeWorld(fees=CyclesCostSchedule(gib_storage_per_second=0, canister_base_per_second=0))
    canister = world.add_canister(entry_points=["global_timer"])
    canister.global_timer = TimeNs(world.time + 1)
    world.touch(canister.canister_id)
    world.run_round()
    canister.status = RunStatus.STOPPED
    world.touch(canister.canister_id)
    world.run_round()
    assert (canister.balance, canister.next_scheduled) == (10**15, 0)
    assert canister.global_timer > 0


@pytest.mark.spec("call-context-creation", condition=1)
def test_no_context_of_an_empty_canister() -> None:
    """IC0537, and nothing runs."""
    world = FakeWorld()
    canister = world.add_canister(empty=True)
    message_id = world.ingress(canister, [])
    world.run_round()
    code, text = world.error_of(message_id)
    assert code is ErrorCode.CANISTER_WASM_MODULE_NOT_FOUND
    assert text.startswith(f"Error from Canister {canister.canister_id}: Attempted to execute a message, but the canister")
    assert canister.contexts == {}


@pytest.mark.spec("call-context-creation", condition=10)
def test_method_is_looked_up() -> None:
    """Updates and queries run; composite queries (IC0527) and unknown names (IC0536) don't."""
    world = FakeWorld()
    canister = world.add_canister()
    found = {name: world.ingress(canister, [reply()], method=name) for name in ("update", "query", "composite", "nothing")}
    world.run_round()
    assert [method for _, _, method in world.executor.executed] == ["update", "query"]
    assert world.outcome(found["update"]) == world.outcome(found["query"]) == b""
    assert world.error_of(found["composite"]) == (
        ErrorCode.COMPOSITE_QUERY_CALLED_IN_REPLICATED_MODE,
        "Composite query cannot be called in replicated mode",
    )
    code, text = world.error_of(found["nothing"])
    assert code is ErrorCode.CANISTER_METHOD_NOT_FOUND
    assert text.startswith(f"Error from Canister {canister.canister_id}: Canister has no update method 'nothing'.")


@pytest.mark.spec("call-context-creation", condition=11)
def test_refused_call_pays_the_base_fee() -> None:
    """All attached cycles go back; of the prepayment the price of no instructions stays."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister()
    world.request(canister, [reply()], method="nothing", cycles=9)
    world.run_round()
    (response,) = world.responses
    assert isinstance(response.payload, Reject)
    assert response.refund == 9
    assert canister.balance == 10**15 - CyclesCostSchedule().execution(0)
    assert canister.contexts == {}


@pytest.mark.spec("call-context-creation", condition=5)
def test_ids_of_contexts_are_new() -> None:
    """Every message that opens a context has an id of its own, whether the context stays or not."""
    world = FakeWorld()
    canister = world.add_canister()
    for script in ([reply()], [call(FAR)], [trap()], [call(FAR)]):
        world.ingress(canister, script)
    world.run_round()
    assert list(canister.contexts) == [2, 4]


@pytest.mark.spec("call-context-creation", condition=6)
def test_oldest_message_of_a_queue_goes_first() -> None:
    """Calls from one canister to another are sent, delivered and run in the order in which they were made."""
    world = FakeWorld()
    a, b = world.add_canister(), world.add_canister()
    world.ingress(a, [call(b.canister_id, [log(bytes([k])), reply()]) for k in range(8)])
    world.run_rounds()
    assert [record.content for record in b.logs] == [bytes([k]) for k in range(8)]


@pytest.mark.spec("call-context-creation", condition=9)
def test_message_has_what_the_call_brings() -> None:
    """Caller, method name and argument."""
    world = FakeWorld()
    canister = world.add_canister()
    request = world.request(canister, [work(1), reply()], method="query")
    world.run_round()
    (seen,) = world.executor.inputs
    assert (seen.caller, seen.method, seen.arg) == (request.sender, "query", request.arg)


@pytest.mark.spec("call-context-creation", condition=16)
def test_tasks_that_cannot_be_paid() -> None:
    """A timer stays set and runs when there are cycles; a heartbeat is left out."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister(MAX_CYCLES_PER_MESSAGE - 1, entry_points=["heartbeat", "global_timer"])
    canister.global_timer = TimeNs(1)
    world.touch(canister.canister_id)
    world.run_round()
    assert (world.executor.executed, canister.global_timer, canister.tasks) == ([], 1, [])
    canister.balance = Cycles(10**15)
    world.run_round()
    assert [entry for _, entry, _ in world.executor.executed] == [EntryPoint.HEARTBEAT, EntryPoint.GLOBAL_TIMER]
    assert canister.global_timer == 0


@pytest.mark.spec("call-context-creation", condition=4)
def test_wasm64_pays_twice_per_instruction() -> None:
    """The price of the largest message follows from the module's memory."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister(wasm64=True)
    world.ingress(canister, [reply()])
    world.run_round()
    price = CyclesCostSchedule().execution(40_000_000_000, wasm64=True)
    assert world.executor.contexts[0].balance == 10**15 - price


@pytest.mark.spec("call-context-creation", condition=3)
def test_price_must_be_there_above_the_freezing_threshold() -> None:
    """The balance alone isn't enough: what keeps the canister alive can't be spent. IC0207, and the balance is untouched."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister(MAX_CYCLES_PER_MESSAGE + 10**9, freezing_threshold_s=10**7)
    message_id = world.ingress(canister, [reply()])
    before = canister.balance
    world.run_round()
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_OUT_OF_CYCLES
    assert canister.balance == before


@pytest.mark.spec("call-context-creation", condition=(12, 14))
def test_tasks_need_their_export() -> None:
    """A module without the entry points gets no tasks, and isn't looked at."""
    fees = CyclesCostSchedule(gib_storage_per_second=0, canister_base_per_second=0)
    world = FakeWorld(fees=fees)
    neither, beating = world.add_canister(), world.add_canister(entry_points=["heartbeat"])
    timed = world.add_canister(entry_points=["global_timer"])
    for one in (neither, beating, timed):
        one.global_timer = TimeNs(1)
        world.touch(one.canister_id)
    world.run_round()
    ran = [(who, entry) for who, entry, _ in world.executor.executed]
    assert sorted(ran, key=str) == sorted(
        [(beating.canister_id, EntryPoint.HEARTBEAT), (timed.canister_id, EntryPoint.GLOBAL_TIMER)], key=str
    )
    assert (neither.global_timer, beating.global_timer, timed.global_timer) == (1, 1, 0)
    assert [10**15 - one.balance for one in (neither, beating, timed)] == [0, fees.execution(0), fees.execution(0)]


@pytest.mark.spec("call-context-creation", condition=13)
def test_callbacks_of_a_task_have_its_caller() -> None:
    """The management canister."""
    world = FakeWorld()
    canister, callee = world.add_canister(entry_points=["heartbeat"]), world.add_canister()
    world.executor.tasks[canister.canister_id, EntryPoint.HEARTBEAT] = [work(1), call(callee.canister_id)]
    world.run_round()
    (seen,) = [one for one in world.executor.inputs if one.entry is EntryPoint.REPLY]
    assert (seen.caller, seen.may_reply) == (MANAGEMENT_CANISTER, False)


@pytest.mark.spec("call-context-creation", condition=14)
def test_timer_that_is_off() -> None:
    """0 is never."""
    world = FakeWorld()
    world.add_canister(entry_points=["global_timer", "heartbeat"])
    world.run_round()
    assert [entry for _, entry, _ in world.executor.executed] == [EntryPoint.HEARTBEAT]


@pytest.mark.spec("call-context-creation", condition=15)
def test_timer_whose_task_traps() -> None:
    """It is off all the same."""
    world = FakeWorld()
    canister = world.add_canister(entry_points=["global_timer"])
    world.executor.tasks[canister.canister_id, EntryPoint.GLOBAL_TIMER] = [set_timer(10**18), trap()]
    canister.global_timer = TimeNs(1)
    world.touch(canister.canister_id)
    world.run_round()
    assert canister.global_timer == 0


@pytest.mark.spec("call-context-creation", condition=(3, 4))
@pytest.mark.parametrize(("missing", "runs"), [(0, 1), (1, 0)])
def test_context_needs_the_price_of_the_largest_message(missing: int, runs: int) -> None:
    """The liquid balance must cover the whole instruction limit."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister(MAX_CYCLES_PER_MESSAGE - missing)
    world.ingress(canister, [reply()])
    world.run_round()
    assert len(world.executor.executed) == runs


@pytest.mark.spec("call-context-creation", condition=4)
def test_message_sees_the_balance_without_its_prepayment() -> None:
    """What is set aside isn't on the balance while the message runs."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister()
    world.ingress(canister, [reply()])
    world.run_round()
    assert world.executor.contexts[0].balance == 10**15 - MAX_CYCLES_PER_MESSAGE


@pytest.mark.spec("call-context-creation", condition=(12, 13))
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


@pytest.mark.spec("call-context-creation", condition=(14, 15))
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


@pytest.mark.spec("call-context-creation", condition=15)
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
