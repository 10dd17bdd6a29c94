"""Responses: reply, reject and cleanup callbacks, refunds, and contexts that are gone."""

from __future__ import annotations

from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Request, Response
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from ic_types.units import Cycles
from sandbox.protocol import EntryPoint
from scheduler import call_context_rules, error_texts
from scheduler.canister import Canister
from scheduler.core import Core
from scheduler.cycles_account import BurnCause, LossCause
from scheduler.invariants import broken
from tests.support.fake_executor import (
    USER,
    FakeWorld,
    accept,
    call,
    certify,
    fake_execution,
    reject_with,
    reply,
    trap,
    work,
)

FEES = CyclesCostSchedule()
FAR = Principal.canister(77)
EMPTY = Reply(b"")


def answer(world: FakeWorld, canister: Canister, payload: Reply | Reject = EMPTY, refund: int = 0) -> None:
    """Answer the one request that this canister sent elsewhere."""
    (request,) = [m for m in world.remote if isinstance(m, Request)]
    world.remote.remove(request)
    response = Response(
        originator=canister.canister_id,
        respondent=request.receiver,
        callback_id=request.callback_id,
        refund=Cycles(refund),
        payload=payload,
        deadline_s=request.deadline_s,
    )
    assert canister.queues.push_input_response(response, local=False) is not None
    world.touch(canister.canister_id)


def test_reply_callback_answers_the_original_call() -> None:
    """Call, reply, callback, answer: all in one round on one subnet."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    message_id = world.ingress(canister, [call(peer.canister_id, [reply(b"x")], on_reply=[reply(b"done")])])
    summary = world.run_round()
    assert world.outcome(message_id) == b"done"
    assert summary.iterations == 3
    assert [(e, m) for _, e, m in world.executor.executed] == [
        (EntryPoint.UPDATE, "update"),
        (EntryPoint.UPDATE, "update"),
        (EntryPoint.REPLY, ""),
    ]
    last = world.executor.inputs[-1]
    assert (last.arg, last.caller, last.already_responded) == (b"x", USER, False)
    assert (canister.contexts, canister.callbacks) == ({}, {})
    assert canister.version == 2


def test_reject_callback_sees_code_and_text() -> None:
    """A rejected call runs the reject callback with what the callee said."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    message_id = world.ingress(canister, [call(peer.canister_id, [reject_with("never")], on_reject=[reply(b"oh")])])
    world.run_round()
    assert world.outcome(message_id) == b"oh"
    last = world.executor.inputs[-1]
    assert (last.entry, last.reject_code, last.reject_message) == (EntryPoint.REJECT, 4, "never")


def test_unaccepted_cycles_come_back_with_the_response() -> None:
    """The refund is on the balance before the callback runs and is what it sees as refunded."""
    world = FakeWorld()
    canister, peer = world.add_canister(1000), world.add_canister(1000)
    world.ingress(canister, [call(peer.canister_id, [accept(30), reply()], cycles=100, on_reply=[reply()])])
    world.run_round()
    assert world.executor.inputs[-1].cycles_refunded == 70
    assert world.executor.contexts[-1].balance == 970
    assert (canister.balance, peer.balance) == (970, 1030)


def test_response_costs_what_its_payload_costs() -> None:
    """Of both prepayments only the bytes that came and the instructions that ran are kept."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    world.ingress(canister, [call(FAR, on_reply=[work(100), reply()])])
    world.run_round()
    before = canister.balance
    (callback,) = canister.callbacks.values()
    answer(world, canister, Reply(b"12345"))
    world.run_round()
    prepaid = callback.prepaid_execution + callback.prepaid_transmission
    assert canister.balance == before + prepaid - 5 * 1000 - 5_000_000 - 100
    assert world.all_cycles() == 10**15


def test_trap_in_callback_answers_for_the_context() -> None:
    """If nothing else is open, a trapped callback is the end of the call, with its error."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    message_id = world.ingress(canister, [call(peer.canister_id, on_reply=[certify(b"c"), trap("cb")])])
    world.run_round()
    code, text = world.error_of(message_id)
    assert code is ErrorCode.CANISTER_CALLED_TRAP
    assert text.endswith("with message: 'cb'")
    assert canister.certified_data == b""
    assert canister.version == 1


def test_trap_in_callback_leaves_a_context_with_open_calls() -> None:
    """Another open call may still answer."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    message_id = world.ingress(
        canister, [call(peer.canister_id, on_reply=[trap("first")]), call(peer.canister_id, on_reply=[reply(b"second")])]
    )
    world.run_round()
    assert world.outcome(message_id) == b"second"


def test_cleanup_runs_after_a_trap_and_its_changes_stay() -> None:
    """Cleanup gets the instructions that the callback left, sees no reply, and the callback's error is what counts."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    message_id = world.ingress(
        canister, [call(peer.canister_id, on_reply=[work(1000), trap("cb")], on_cleanup=[work(5), certify(b"clean")])]
    )
    world.run_round()
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_CALLED_TRAP
    assert canister.certified_data == b"clean"
    assert canister.version == 2
    callback, cleanup = world.executor.inputs[-2:]
    limit = world.limits.instructions_per_message
    assert callback.instruction_limit == limit * 95 // 100
    assert cleanup.entry is EntryPoint.CLEANUP
    assert cleanup.instruction_limit == cleanup.slice_limit == limit - 1000
    assert canister.metrics.instructions == 1005


def test_failing_cleanup_adds_its_error() -> None:
    """Code of the callback's error, both texts."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    message_id = world.ingress(canister, [call(peer.canister_id, on_reply=[trap("cb")], on_cleanup=[trap("cl")])])
    world.run_round()
    code, text = world.error_of(message_id)
    assert code is ErrorCode.CANISTER_CALLED_TRAP
    assert text == (
        f"Error from Canister {canister.canister_id}: Canister called `ic0.trap` with message: 'cb'\n\n"
        "call_on_cleanup also failed:\n\nCanister called `ic0.trap` with message: 'cl'"
    )


def test_cleanup_after_reject_knows_the_code() -> None:
    """The reject code of the response is visible to cleanup."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    world.ingress(canister, [call(peer.canister_id, [reject_with("n")], on_reject=[trap()], on_cleanup=[])])
    world.run_round()
    assert world.executor.inputs[-1].reject_code == 4


def test_callback_instructions_add_up_over_the_context() -> None:
    """performance_counter(1) goes on where the last message of the context stopped."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    world.ingress(canister, [work(10), call(peer.canister_id, on_reply=[work(7), call(peer.canister_id, on_reply=[reply()])])])
    world.run_round()
    assert [c.call_context_instructions for c in world.executor.contexts] == [0, 0, 10, 0, 17]


def test_callback_after_answer_knows_that() -> None:
    """A second answer would be a contract violation."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    message_id = world.ingress(canister, [call(peer.canister_id, on_reply=[reply(b"again")]), reply(b"once")])
    world.run_round()
    assert world.outcome(message_id) == b"once"
    assert world.executor.inputs[-1].already_responded


def test_deleted_context_only_takes_refunds() -> None:
    """After an uninstall responses bring their cycles back and nothing runs; the base fee is kept."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    message_id = world.ingress(canister, [call(FAR, cycles=500)])
    world.run_round()
    canister.execution = None
    call_context_rules.delete_all(canister, error_texts.uninstalled(), world)
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_REJECTED_MESSAGE
    assert not list(broken(canister))
    answer(world, canister, refund=400)
    runs = len(world.executor.executed)
    before = canister.balance
    (callback,) = canister.callbacks.values()
    world.run_round()
    assert len(world.executor.executed) == runs
    assert (canister.contexts, canister.callbacks) == ({}, {})
    assert canister.balance == before + 400 + callback.prepaid_execution + callback.prepaid_transmission - 5_000_000
    assert world.all_cycles() == 10**15 - 100  # 100 were accepted far away


def test_delete_all_answers_each_open_call_once() -> None:
    """Contexts that answered already stay silent; contexts with open calls stay until these return."""
    world = FakeWorld()
    canister = world.add_canister()
    world.request(canister, [call(FAR), reply(b"ok")], cycles=5)
    world.request(canister, [call(FAR)], cycles=6)
    world.run_round()
    call_context_rules.delete_all(canister, error_texts.uninstalled(), world)
    answers = canister.queues.peers[Principal.canister(10**6)].outputs.values()
    assert [m.refund for m, _ in answers if isinstance(m, Response)] == [6]
    assert all(c.deleted and c.responded and c.available_cycles == 0 for c in canister.contexts.values())
    assert len(canister.contexts) == 2


def core_of(world: FakeWorld) -> Core:
    """A core outside any round."""
    return Core(time=world.time, round_number=1, limits=world.limits, fees=world.fees, batch_size=1, instructions_left=10**12)


@pytest.mark.parametrize(("deadline_s", "balance", "lost"), [(2000, 107, {}), (0, 100, {LossCause.UNKNOWN_CALLBACK: 7})])
def test_response_nobody_waits_for(deadline_s: int, balance: int, lost: dict[LossCause, int]) -> None:
    """A late response to a bounded-wait call brings its refund; any other one is lost and counted."""
    from scheduler.callbacks import execute_response

    world = FakeWorld()
    canister = world.add_canister(100)
    core = core_of(world)
    response = Response(
        originator=canister.canister_id,
        respondent=FAR,
        callback_id=9,  # type: ignore[arg-type]
        refund=Cycles(7),
        payload=Reply(b""),
        deadline_s=deadline_s,
    )
    with pytest.raises(StopIteration):
        next(execute_response(core, canister, response))
    assert canister.balance == balance
    assert core.tally.lost == lost


def test_refund_above_payment_is_cut_and_counted() -> None:
    """A response can't bring more than the call sent."""
    world = FakeWorld()
    canister = world.add_canister(100)
    world.ingress(canister, [call(FAR, cycles=40, on_reply=[reply()])])
    world.run_round()
    answer(world, canister, refund=50)
    world.run_round()
    assert canister.balance == 100
    assert world.tally.lost == {LossCause.EXCESS_REFUND: 10}


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_change_of_price_class_between_call_and_response(before: bool, after: bool) -> None:
    """The prepayment is brought to the class in which the callback runs; nothing appears or vanishes."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister(wasm64=before)
    world.ingress(canister, [call(FAR, on_reply=[work(1000), reply()])])
    world.run_round()
    canister.execution = fake_execution(wasm64=after)
    answer(world, canister)
    world.run_round()
    price = 2 if after else 1
    first = 5_000_000 + 260_000 + world.tally.burned[BurnCause.TRANSMISSION] - 260_000
    assert 10**15 - canister.balance == first + 5_000_000 + 1000 * price
    assert world.all_cycles() == 10**15


def test_callbacks_run_on_a_frozen_canister() -> None:
    """Callbacks were paid for in advance."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    message_id = world.ingress(canister, [call(FAR, on_reply=[reply(b"late")])])
    world.run_round()
    world.tally.add_lost(LossCause.CANISTER_GONE, canister.balance)
    canister.balance = Cycles(0)
    answer(world, canister)
    world.run_round()
    assert world.outcome(message_id) == b"late"


def test_bounded_wait_deadline_is_capped_and_in_whole_seconds() -> None:
    """Deadline = time + min(timeout, 300 s), rounded down."""
    world = FakeWorld(time=1_000_900_000_000)  # type: ignore[arg-type]
    canister = world.add_canister()
    world.ingress(canister, [call(FAR, timeout_s=10), call(FAR, timeout_s=4000), call(FAR)])
    world.run_round()
    assert [m.deadline_s for m in world.remote] == [1010, 1300, 0]
    assert [c.deadline_s for c in canister.callbacks.values()] == [1010, 1300, 0]


def test_call_tree_grows_with_each_call() -> None:
    """Depth counts calls from the first message; the start time stays."""
    world = FakeWorld()
    canister, peer = world.add_canister(), world.add_canister()
    inner: Any = [call(FAR)]
    world.ingress(canister, [call(peer.canister_id, inner)])
    start = world.time
    world.run_round()
    (request,) = [m for m in world.remote if isinstance(m, Request)]
    assert (request.call_tree_depth, request.call_tree_start) == (2, start)


def test_reject_code_of_remote_reject_reaches_the_callback() -> None:
    """Rejects by the system look the same whatever subnet they come from."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [call(FAR, on_reject=[reply()])])
    world.run_round()
    answer(world, canister, Reject(RejectCode.DESTINATION_INVALID, "No route"))
    world.run_round()
    assert world.executor.inputs[-1].reject_code == 3
