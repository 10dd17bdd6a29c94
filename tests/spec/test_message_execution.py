"""Abstract behaviour, "Message execution"."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.candid import encoder
from ic_types.candid.types import nat64, opt, record
from ic_types.messages import Response
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.reject import ErrorCode, Reject, Reply
from ic_types.units import Cycles, TimeNs
from sandbox.protocol import EntryPoint
from scheduler.canister import Canister, RunStatus
from scheduler.cycles_account import BurnCause, call_cost, freezing_threshold
from tests.support.fake_executor import (
    USER,
    FakeWorld,
    Script,
    accept,
    burn,
    call,
    certify,
    dirty,
    grow,
    log,
    raw_call,
    reply,
    set_timer,
    trap,
    work,
)

pytestmark = pytest.mark.spec("rule-message-execution")
FAR = Principal.canister(77)
PAGE = 65536
CHANGES: Script = [certify(b"c"), set_timer(10**18), grow(1)]


@pytest.mark.spec("rule-message-execution", condition=2)
def test_update_increments_the_version() -> None:
    """New_canister_version = S.canister_version + 1 for updates, callbacks and tasks."""
    world = FakeWorld()
    canister, peer = world.add_canister(entry_points=["heartbeat"]), world.add_canister()
    world.ingress(canister, [call(peer.canister_id, on_reply=[reply()])])
    world.run_round()  # heartbeat, update, callback
    assert canister.version == 3
    assert [c.canister_version for c in world.executor.contexts if c.global_timer == 0][:2] == [0, 1]


@pytest.mark.spec("rule-message-execution", condition=3)
def test_query_method_keeps_state_and_version() -> None:
    """query_as_update: new_state = wasm_state, no certified data, no timer, same version."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [reply()], method="query")
    world.run_round()
    assert canister.version == 0
    assert canister.execution is not None
    assert canister.execution.version == 0


@pytest.mark.spec("rule-message-execution", condition=(13, 18))
def test_return_takes_effect() -> None:
    """New state, certified data, timer and logs."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [*CHANGES, log(b"l"), reply()])
    world.run_round()
    assert canister.execution is not None
    assert canister.execution.heap.wasm_pages == 2
    assert (canister.certified_data, canister.global_timer) == (b"c", 10**18)
    assert [(r.index, r.content, r.time) for r in canister.logs] == [(0, b"l", 1_000_000_000_000)]


def test_state_stays_even_if_the_call_fails_for_want_of_an_answer() -> None:
    """Returning without an answer isn't a trap."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [*CHANGES])
    world.run_round()
    assert canister.certified_data == b"c"


@pytest.mark.spec("rule-message-execution", condition=19)
def test_trap_takes_cycles_only() -> None:
    """messages without M, balance less min(cycles_used, MAX_CYCLES_PER_MESSAGE), nothing else."""
    fees = CyclesCostSchedule()
    world = FakeWorld(fees=fees)
    canister = world.add_canister()
    world.ingress(canister, [*CHANGES, work(500), dirty(2), call(FAR, cycles=9), trap()])
    world.run_round()
    assert canister.execution is not None
    assert canister.execution.heap.wasm_pages == 1
    assert (canister.certified_data, canister.global_timer, canister.version) == (b"", 0, 0)
    assert (canister.callbacks, canister.contexts, world.remote) == ({}, {}, [])
    assert 10**15 - canister.balance == fees.execution(500 + 2000)
    (outcome,) = [one.outcome for one in world.user_responses]
    assert isinstance(outcome, Reject)
    assert outcome.error_code is ErrorCode.CANISTER_CALLED_TRAP


@pytest.mark.spec("rule-message-execution", condition=18)
def test_logs_of_a_trap_stay() -> None:
    """Numbers go on from message to message."""
    world = FakeWorld()
    canister = world.add_canister()
    for script in ([log(b"1"), trap()], [log(b"2"), log(b"3"), reply()]):
        world.ingress(canister, script)
    world.run_round()
    assert [(record.index, record.content) for record in canister.logs] == [(0, b"1"), (1, b"2"), (2, b"3")]


@pytest.mark.spec("rule-message-execution", condition=8)
def test_accepted_cycles_leave_the_context() -> None:
    """available_cycles = Available - res.cycles_accepted while there is no response."""
    world = FakeWorld()
    canister = world.add_canister(100)
    world.request(canister, [accept(30), call(FAR)], cycles=70)
    world.run_round()
    (context,) = canister.contexts.values()
    assert (context.available_cycles, canister.balance) == (40, 130)


@pytest.mark.spec("rule-message-execution", condition=16)
def test_response_refunds_what_was_not_accepted() -> None:
    """refunded_cycles = Available - res.cycles_accepted; then needs_to_respond = false, available_cycles = 0."""
    world = FakeWorld()
    canister = world.add_canister(100)
    world.request(canister, [accept(30), call(FAR), reply(b"r")], cycles=70)
    world.run_round()
    (context,) = canister.contexts.values()
    assert (context.responded, context.available_cycles) == (True, 0)
    (response,) = [m for m in world.remote if isinstance(m, Response)]
    assert (response.refund, response.payload) == (40, Reply(b"r"))


@pytest.mark.spec("rule-message-execution", condition=(14, 15))
def test_calls_are_queued_in_order_with_their_cycles() -> None:
    """The new calls go to the end of the queue to their callee, in the order they were made."""
    world = FakeWorld()
    canister = world.add_canister(1000)
    world.ingress(canister, [call(FAR, cycles=1), call(FAR, cycles=2), call(FAR, cycles=3)])
    world.run_round()
    assert [m.payment for m in world.requests] == [1, 2, 3]
    assert [m.callback_id for m in world.requests] == list(canister.callbacks) == [1, 2, 3]
    (context,) = canister.contexts.values()
    assert context.outstanding_calls == 3
    assert canister.balance == 994


@pytest.mark.spec("call-context-creation", condition=6)
def test_messages_of_one_caller_run_in_order() -> None:
    """There is no older message with the same queue: calls from one canister to another keep their order."""
    world = FakeWorld()
    a, b = world.add_canister(), world.add_canister()
    world.ingress(a, [call(b.canister_id, [log(bytes([k])), reply()]) for k in range(8)])
    world.run_round()
    assert [r.content for r in b.logs] == [bytes([k]) for k in range(8)]


def test_task_has_no_answer_and_no_cycles() -> None:
    """system_task_as_update: response = NoResponse, cycles_accepted = 0."""
    world = FakeWorld()
    canister = world.add_canister(entry_points=["heartbeat"])
    world.executor.tasks[canister.canister_id, EntryPoint.HEARTBEAT] = [certify(b"c")]
    world.run_round()
    assert canister.certified_data == b"c"
    assert world.user_responses == []
    assert canister.contexts == {}


@pytest.mark.spec("rule-message-execution", condition=2)
def test_version_of_everything_that_returns() -> None:
    """A callback, a cleanup and a task that return count; what traps doesn't."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    world.ingress(canister, [work(1), call(peer.canister_id, on_reply=[trap()], on_cleanup=[work(1)])])
    world.run_round()
    assert canister.version == 2  # update and cleanup
    world.ingress(canister, [trap()])
    world.run_round()
    assert canister.version == 2


@pytest.mark.spec("rule-message-execution", condition=3)
def test_query_method_accepts_cycles() -> None:
    """cycles_accepted = res.cycles_accepted; its limit is that of queries, and it is never paused."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister()
    world.request(canister, [accept(30), reply()], method="query", cycles=70)
    world.run_round()
    assert world.responses[0].refund == 40
    assert canister.balance == 10**15 + 30 - CyclesCostSchedule().execution(0)
    (seen,) = world.executor.inputs
    assert seen.instruction_limit == seen.slice_limit == world.limits.instructions_per_query


@pytest.mark.spec("rule-message-execution", condition=4)
def test_heap_above_the_limit() -> None:
    """An update doesn't start on a heap above the canister's own limit (IC0539); a query method and a heartbeat do."""
    world = FakeWorld()
    canister = world.add_canister(heap_pages=3, wasm_memory_limit=3 * 65536 - 1, entry_points=["heartbeat"])
    update, query = world.ingress(canister, [reply()]), world.ingress(canister, [reply()], method="query")
    world.run_round()
    assert world.error_of(update)[0] is ErrorCode.CANISTER_WASM_MEMORY_LIMIT_EXCEEDED
    assert world.outcome(query) == b""
    assert [entry for _, entry, _ in world.executor.executed] == [EntryPoint.HEARTBEAT, EntryPoint.QUERY]
    assert [context.wasm_memory_limit for context in world.executor.contexts] == [0, 0]


@pytest.mark.spec("rule-message-execution", condition=4)
def test_heap_at_the_limit() -> None:
    """An update may start there, and is told how far it may grow."""
    world = FakeWorld()
    canister = world.add_canister(heap_pages=3, wasm_memory_limit=3 * 65536)
    update = world.ingress(canister, [reply()])
    world.run_round()
    assert world.outcome(update) == b""
    assert world.executor.contexts[0].wasm_memory_limit == 3 * 65536


@pytest.mark.spec("rule-message-execution", condition=5)
def test_message_sees_its_canister() -> None:
    """Env: balance, reserved balance, version, timer, status, controllers, allocations."""
    world = FakeWorld()
    canister = world.add_canister(77, compute_allocation=3, memory_allocation=1 << 20, freezing_threshold_s=9)
    canister.reserved_balance, canister.version, canister.global_timer = Cycles(5), 7, TimeNs(10**18)
    world.ingress(canister, [call(FAR, on_reply=[work(1)])])
    world.run_round()
    (seen,) = world.executor.contexts
    assert (seen.balance, seen.reserved_balance, seen.canister_version, seen.global_timer) == (77, 5, 7, 10**18)
    assert (seen.controllers, seen.compute_allocation, seen.memory_allocation) == ((USER,), 3, 1 << 20)
    assert (seen.freezing_threshold_s, seen.memory_usage, seen.status) == (9, canister.memory_usage(), 1)
    canister.status = RunStatus.STOPPING
    world.answer(world.requests[0], Reply(b""))
    world.run_round()
    assert world.executor.contexts[-1].status == 2


@pytest.mark.spec("rule-message-execution", condition=6)
@pytest.mark.parametrize(("named", "passes"), [(None, True), (3, True), (4, False)])
def test_version_named_to_the_management_canister(named: int | None, passes: bool) -> None:
    """A wrong one is answered with IC0504 and isn't sent; the version is that before the message."""
    world = FakeWorld()
    canister = world.add_canister()
    canister.version = 3
    arg = encoder.encode([record({"sender_canister_version": opt(nat64)})], [{"sender_canister_version": named}])
    world.ingress(canister, [work(1), raw_call(MANAGEMENT_CANISTER, "create_canister", arg, cycles=5, on_reject=[work(1)])])
    world.run_round()
    assert len(world.requests) == int(passes)
    if not passes:
        seen = world.executor.inputs[-1]
        assert (seen.entry, seen.reject_code, seen.cycles_refunded) == (EntryPoint.REJECT, 5, 5)
        assert seen.reject_message.startswith("IC0504: Management canister call payload includes sender canister version 4")


@pytest.mark.spec("rule-message-execution", condition=7)
def test_message_pays_for_what_it_used() -> None:
    """The base fee and its instructions; all of the limit when it exceeds that."""
    fees = CyclesCostSchedule(gib_storage_per_second=0, canister_base_per_second=0)
    world = FakeWorld(fees=fees)
    one, two = world.add_canister(), world.add_canister()
    world.ingress(one, [work(1234), reply()])
    world.ingress(two, [work(10**12), reply()])
    world.run_rounds()
    assert 10**15 - one.balance == fees.execution(1234)
    assert 10**15 - two.balance == fees.execution(world.limits.instructions_per_message)


@pytest.mark.spec("rule-message-execution", condition=8)
def test_accepting_what_is_not_there_is_no_answer() -> None:
    """The node doesn't believe a sandbox that has accepted more cycles than the context had."""
    world = FakeWorld()
    canister = world.add_canister()
    world.request(canister, [("accept_anything", 71), reply()], cycles=70)
    with pytest.raises(AssertionError, match="accepts what isn't there"):
        world.run_round()


@pytest.mark.spec("rule-message-execution", condition=14)
def test_calls_are_paid_when_they_are_made() -> None:
    """Attached cycles, transmission, and the prepayments of response and callback leave the balance."""
    fees = CyclesCostSchedule()
    world = FakeWorld(fees=fees)
    canister = world.add_canister()
    world.ingress(canister, [call(FAR, cycles=1000), reply()])
    world.run_round()
    (request,) = world.requests
    cost = call_cost(world, len("update") + len(request.arg), wasm64=False)
    assert 10**15 - canister.balance == 1000 + sum(cost) + fees.execution(0)
    (callback,) = canister.callbacks.values()
    assert (callback.cycles_sent, callback.prepaid_execution) == (1000, fees.execution(world.limits.instructions_per_message))
    assert callback.prepaid_transmission == fees.transmission(2 << 20)


@pytest.mark.spec("rule-message-execution", condition=20)
def test_burned_cycles_are_gone() -> None:
    """They leave the balance, and circulation."""
    world = FakeWorld()
    canister = world.add_canister(1000)
    world.ingress(canister, [burn(300), reply()])
    world.run_round()
    assert canister.balance == 700
    assert world.all_cycles() == 1000


@pytest.mark.parametrize(
    ("deadline_s", "method", "seen"), [(2000, "update", 2000 * 10**9), (2000, "query", 0), (0, "update", 0)]
)
@pytest.mark.spec("rule-message-execution", condition=21)
def test_deadline_of_the_context(deadline_s: int, method: str, seen: int) -> None:
    """deadline_of_context: that of the call being served, also in its callbacks."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    script = [reply()] if method == "query" else [work(1), call(peer.canister_id, on_reply=[work(1)])]
    world.request(canister, script, method=method, deadline_s=deadline_s)
    world.run_round()
    ran = zip(world.executor.executed, world.executor.inputs, strict=True)
    own = [message.deadline_ns for (who, _, _), message in ran if who == canister.canister_id]
    assert own == [seen] * (1 if method == "query" else 2)


# --- growing


def full_subnet(balance: int = 10**15, **settings: object) -> tuple[FakeWorld, Canister]:
    """A subnet of one core whose memory is used up to the threshold, where reservations begin."""
    limits = replace(SubnetLimits(), scheduler_cores=1, subnet_memory_threshold=100 * PAGE, subnet_memory_capacity=300 * PAGE)
    limits = replace(limits, response_memory_reserve=0)
    world = FakeWorld(fees=CyclesCostSchedule(update_execution_base=0, ten_instructions_wasm32=0), limits=limits)
    canister = world.add_canister(balance, **settings)  # type: ignore[arg-type]
    other = world.add_canister(
        memory_allocation=100 * PAGE - max(canister.memory_usage(), int(settings.get("memory_allocation", 0)))
    )
    assert other.canister_id != canister.canister_id
    return world, canister


def reservation(pages: int) -> int:
    """What growing by so many pages reserves at the threshold of such a subnet."""
    seconds = 300_000_000 * (pages * PAGE) // (200 * PAGE) // 2
    return pages * PAGE * 317_500 * seconds // (1 << 30)


@pytest.mark.spec("rule-message-execution", condition=11)
@pytest.mark.parametrize("pages", [1, 20])
def test_growing_reserves_cycles(pages: int) -> None:
    """cycles_to_reserve: half of what the growth costs for a period that follows from the subnet's fullness."""
    world, canister = full_subnet()
    world.ingress(canister, [work(1), grow(pages), reply()])
    world.run_round()
    assert canister.reserved_balance == reservation(pages) > 0
    assert 10**15 - canister.balance == reservation(pages)


@pytest.mark.spec("rule-message-execution", condition=11)
def test_growing_within_the_allocation_reserves_nothing() -> None:
    """That memory was taken when it was allocated; what goes beyond is reserved for."""
    world, canister = full_subnet(memory_allocation=10 * PAGE)
    inside = 10 - canister.memory_usage() // PAGE - 1
    world.ingress(canister, [work(1), grow(inside), reply()])
    world.run_round()
    assert canister.reserved_balance == 0
    left = 10 * PAGE - canister.memory_usage()
    world.ingress(canister, [work(1), grow(3), reply()])
    world.run_round()
    seconds = 300_000_000 * (3 * PAGE - left) // (200 * PAGE) // 2
    assert canister.reserved_balance == (3 * PAGE - left) * 317_500 * seconds // (1 << 30) > 0


@pytest.mark.spec("rule-message-execution", condition=11)
def test_growing_below_the_threshold_reserves_nothing() -> None:
    """A subnet with room asks for nothing."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister()
    world.ingress(canister, [work(1), grow(100), reply()])
    world.run_round()
    assert canister.reserved_balance == 0


@pytest.mark.spec("rule-message-execution", condition=12)
@pytest.mark.parametrize("short", [0, 1])
def test_the_node_holds_the_limit_of_reserved_cycles(short: int) -> None:
    """The limit that counts is that at the end of the message, whatever its first slice was told: IC0532, nothing stays."""
    world, canister = full_subnet()
    canister.settings.reserved_cycles_limit = Cycles(reservation(20) - short)
    message_id = world.ingress(canister, [work(1), grow(20), reply()])
    world.run_round()
    assert canister.reserved_balance == (0 if short else reservation(20))
    assert isinstance(world.outcome(message_id), Reject) == bool(short)
    if short:
        code, text = world.error_of(message_id)
        assert code is ErrorCode.RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_GROW
        assert f"grow memory by {20 * PAGE} bytes due to its reserved cycles limit" in text
        assert canister.balance == 10**15


# --- sliced messages


SLICED = replace(
    SubnetLimits(),
    instructions_per_round=99,
    instructions_per_slice=50,
    instructions_per_install_slice=50,
    instructions_per_message=1000,
    instruction_overhead_per_execution=0,
    instruction_overhead_per_canister=0,
    instruction_overhead_per_canister_finalization=0,
)


@pytest.mark.spec("rule-message-execution", condition=9)
@pytest.mark.parametrize(("debit", "fails"), [(0, False), (1, True)])
def test_sliced_message_must_leave_the_freezing_threshold(debit: int, fails: bool) -> None:
    """What it burns and what was charged meanwhile must leave the threshold: IC0207, and only instructions are paid."""
    fees = CyclesCostSchedule()
    world = FakeWorld(fees=fees, limits=SLICED, interval_ns=1000)
    canister = world.add_canister(freezing_threshold_s=10**6)
    message_id = world.ingress(canister, [work(120), burn(10**15), reply()])
    world.run_round()
    long = canister.long_execution
    assert long is not None
    long.ingress_debit = Cycles(debit)
    world.run_rounds()
    assert isinstance(world.outcome(message_id), Reject) == fails
    if fails:
        assert world.error_of(message_id)[0] is ErrorCode.CANISTER_OUT_OF_CYCLES
        assert 10**15 - canister.balance == debit + fees.execution(120)
    else:
        assert canister.balance == freezing_threshold(canister, fees) + fees.execution(1000) - fees.execution(120)


@pytest.mark.spec("rule-message-execution", condition=9)
def test_sliced_message_must_leave_the_threshold_of_its_new_memory() -> None:
    """A message that grew while fees were noted fails if the balance doesn't reach for more memory."""
    fees = CyclesCostSchedule()
    world = FakeWorld(fees=fees, limits=SLICED, interval_ns=1000)
    canister = world.add_canister(freezing_threshold_s=10**6)
    message_id = world.ingress(canister, [work(120), grow(1000), reply()])
    world.run_round()
    assert canister.long_execution is not None
    canister.balance = Cycles(freezing_threshold(canister, fees, 1000 * PAGE) - 1)
    world.run_rounds()
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_OUT_OF_CYCLES
    assert canister.execution is not None
    assert canister.execution.heap.wasm_pages == 1


@pytest.mark.spec("rule-message-execution", condition=10)
def test_callback_may_spend_all() -> None:
    """Min_balance = 0: a callback burns cycles that keep the canister alive, but none that aren't there."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister(freezing_threshold_s=10**6)
    world.ingress(canister, [call(FAR, on_reply=[("burn_anything", 10**12)]), reply()])
    world.run_round()
    canister.balance = Cycles(10**12)
    world.answer(world.requests[0], Reply(b""))
    world.run_round()
    fees, limits = world.fees, world.limits
    assert canister.balance == fees.transmission(2 << 20) + fees.instructions(limits.instructions_per_message)
    assert world.tally.burned[BurnCause.CYCLES_BURN] == 10**12
