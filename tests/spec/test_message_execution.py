"""Abstract behaviour, "Message execution"."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Response
from ic_types.principal import Principal
from ic_types.reject import Reply
from sandbox.protocol import EntryPoint
from tests.support.fake_executor import (
    FakeWorld,
    Script,
    accept,
    call,
    certify,
    dirty,
    grow,
    log,
    reply,
    set_timer,
    trap,
    work,
)

pytestmark = pytest.mark.spec("rule-message-execution")
FAR = Principal.canister(77)
CHANGES: Script = [certify(b"c"), set_timer(10**18), grow(1)]


def test_update_increments_the_version() -> None:
    """New_canister_version = S.canister_version + 1 for updates, callbacks and tasks."""
    world = FakeWorld()
    canister, peer = world.add_canister(entry_points=["heartbeat"]), world.add_canister()
    world.ingress(canister, [call(peer.canister_id, on_reply=[reply()])])
    world.run_round()  # heartbeat, update, callback
    assert canister.version == 3
    assert [c.canister_version for c in world.executor.contexts if c.global_timer == 0][:2] == [0, 1]


def test_query_method_keeps_state_and_version() -> None:
    """query_as_update: new_state = wasm_state, no certified data, no timer, same version."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [reply()], method="query")
    world.run_round()
    assert canister.version == 0
    assert canister.execution is not None
    assert canister.execution.version == 0


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


def test_accepted_cycles_leave_the_context() -> None:
    """available_cycles = Available - res.cycles_accepted while there is no response."""
    world = FakeWorld()
    canister = world.add_canister(100)
    world.request(canister, [accept(30), call(FAR)], cycles=70)
    world.run_round()
    (context,) = canister.contexts.values()
    assert (context.available_cycles, canister.balance) == (40, 130)


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


def test_calls_are_queued_in_order_with_their_cycles() -> None:
    """The new calls go to the end of the queue to their callee, in the order they were made."""
    world = FakeWorld()
    canister = world.add_canister(1000)
    world.ingress(canister, [call(FAR, cycles=1), call(FAR, cycles=2), call(FAR, cycles=3)])
    world.run_round()
    assert [m.payment for m in world.remote] == [1, 2, 3]  # type: ignore[union-attr]
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
