"""Abstract behaviour, "Callback invocation"."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Request, Response
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from ic_types.units import Cycles
from sandbox.protocol import EntryPoint
from scheduler import call_context_rules, error_texts
from scheduler.canister import RunStatus
from scheduler.cycles_account import LossCause
from tests.support.fake_executor import (
    FREE,
    USER,
    FakeWorld,
    Script,
    call,
    certify,
    fake_execution,
    grow,
    log,
    reply,
    trap,
    work,
)

pytestmark = pytest.mark.spec("callback-invocation")
FAR = Principal.canister(77)


def called(fees: CyclesCostSchedule | None = None) -> tuple[FakeWorld, Request, bytes]:
    """A canister waits for one call with a hundred cycles."""
    world = FakeWorld() if fees is None else FakeWorld(fees=fees)
    canister = world.add_canister()
    message_id = world.ingress(canister, [call(FAR, cycles=100, on_reply=[work(1), reply(b"cb")])])
    world.run_round()
    (request,) = world.remote
    assert isinstance(request, Request)
    return world, request, message_id


@pytest.mark.spec("callback-invocation", condition=(3, 5, 6))
def test_refund_is_credited_before_the_callback_runs() -> None:
    """balances = balances + refunded_cycles; the callback sees both."""
    world, request, _ = called()
    world.answer(request, Reply(b"x"), kept=40)
    world.run_round()
    message, context = world.executor.inputs[-1], world.executor.contexts[-1]
    assert (message.entry, message.arg, message.cycles_refunded) == (EntryPoint.REPLY, b"x", 60)
    assert context.balance == 10**15 - 40


@pytest.mark.spec("callback-invocation", condition=4)
def test_caller_is_that_of_the_context() -> None:
    """A callback has the caller of the call being served."""
    world, request, _ = called()
    world.answer(request, Reply(b""))
    world.run_round()
    assert world.executor.inputs[-1].caller == USER


@pytest.mark.spec("callback-invocation", condition=9)
@pytest.mark.parametrize("status", [RunStatus.STOPPING])
def test_stopping_canister_runs_callbacks(status: RunStatus) -> None:
    """Callbacks only need the context to be there."""
    world, request, message_id = called()
    world.canisters[request.sender].status = status
    world.answer(request, Reply(b""))
    world.run_round()
    assert world.outcome(message_id) == b"cb"


@pytest.mark.spec("callback-invocation", condition=7)
def test_deleted_context_gets_refund_and_prepayment() -> None:
    """balances + refunded_cycles + MAX_CYCLES_PER_RESPONSE, no invocation (the base fee of 5 M is the system's)."""
    fees = CyclesCostSchedule()
    world, request, _ = called(fees)
    canister = world.canisters[request.sender]
    (callback,) = canister.callbacks.values()
    canister.execution = None
    call_context_rules.delete_all(canister, error_texts.uninstalled(), world)
    world.answer(request, Reply(b""))
    before, runs = canister.balance, len(world.executor.executed)
    world.run_round()
    base = fees.execution(0)
    assert canister.balance == before + 100 + callback.prepaid_execution - base + callback.prepaid_transmission
    assert len(world.executor.executed) == runs


def late(world: FakeWorld, request: Request, refund: int, deadline_s: int) -> None:
    """Another response to this call, when nobody waits for it any more."""
    canister = world.canisters[request.sender]
    canister.queues.push_output_request(request, world.time)
    canister.queues.pop_output(request.receiver)
    answer = Response(
        originator=request.sender, respondent=request.receiver, callback_id=request.callback_id, refund=Cycles(refund),
        payload=Reply(b""), deadline_s=deadline_s,
    )  # fmt: skip
    assert canister.queues.push_input_response(answer, local=False) is not None
    world.touch(canister.canister_id)


@pytest.mark.spec("callback-invocation", condition=1)
def test_response_without_a_callback() -> None:
    """Nothing runs; the cycles of a bounded-wait call are credited."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [call(FAR, timeout_s=100, on_reply=[reply()])])
    world.run_round()
    (request,) = world.requests
    world.answer(request, Reply(b""))
    world.run_round()
    runs = len(world.executor.executed)
    late(world, request, 7, request.deadline_s)
    world.run_round()
    assert (len(world.executor.executed), canister.balance) == (runs, 10**15 + 7)


@pytest.mark.spec("callback-invocation", condition=8)
def test_callback_runs_once() -> None:
    """It is gone afterwards."""
    world, request, message_id = called()
    world.answer(request, Reply(b""))
    world.run_round()
    assert world.canisters[request.sender].callbacks == {}
    assert world.outcome(message_id) == b"cb"


@pytest.mark.spec("callback-invocation", condition=5)
def test_reject_callback() -> None:
    """on_reject runs, with code, message and the refunded cycles."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [call(FAR, cycles=9, on_reply=[reply(b"reply")], on_reject=[reply(b"reject")])])
    world.run_round()
    world.answer(world.requests[0], Reject(RejectCode.CANISTER_REJECT, "no way"))
    world.run_round()
    seen = world.executor.inputs[-1]
    assert (seen.entry, seen.arg, seen.reject_code, seen.reject_message) == (EntryPoint.REJECT, b"", 4, "no way")
    assert seen.cycles_refunded == 9
    assert world.outcome(message_id) == b"reject"


@pytest.mark.spec("callback-invocation", condition=6)
def test_refund_above_the_payment() -> None:
    """No honest subnet sends that: the callback sees what was sent, the rest is lost."""
    world, request, _ = called()
    world.answer(request, Reply(b""), kept=-50)
    world.run_round()
    assert world.executor.inputs[-1].cycles_refunded == 100
    assert world.canisters[request.sender].balance == 10**15
    assert world.tally.lost == {LossCause.EXCESS_REFUND: 50}


@pytest.mark.spec("callback-invocation", condition=3)
def test_refund_stays_if_the_callback_traps() -> None:
    """It is no change of the callback's."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [call(FAR, cycles=100, on_reply=[trap()])])
    world.run_round()
    world.answer(world.requests[0], Reply(b""), kept=40)
    world.run_round()
    assert canister.balance == 10**15 - 40


@pytest.mark.spec("callback-invocation", condition=4)
def test_caller_of_a_context_by_a_canister() -> None:
    """The calling canister."""
    world = FakeWorld()
    canister = world.add_canister()
    made = world.request(canister, [call(FAR, on_reply=[work(1)])])
    world.run_round()
    world.answer(world.requests[0], Reply(b""))
    world.run_round()
    assert world.executor.inputs[-1].caller == made.sender


@pytest.mark.spec("callback-invocation", condition=9)
@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.STOPPING])
def test_frozen_canister_runs_callbacks(status: RunStatus) -> None:
    """They were paid for."""
    world, request, message_id = called(CyclesCostSchedule())
    canister = world.canisters[request.sender]
    canister.settings.freezing_threshold_s, canister.status = 10**12, status
    world.answer(request, Reply(b""))
    world.run_round()
    assert world.outcome(message_id) == b"cb"


@pytest.mark.spec("callback-invocation", condition=2)
def test_deleted_context_runs_nothing() -> None:
    """Not even when the canister has new code."""
    world, request, _ = called()
    canister = world.canisters[request.sender]
    call_context_rules.delete_all(canister, error_texts.uninstalled(), world)
    canister.execution = fake_execution()
    world.answer(request, Reply(b""))
    runs = len(world.executor.executed)
    world.run_round()
    assert (len(world.executor.executed), canister.contexts, canister.callbacks) == (runs, {}, {})


@pytest.mark.spec("callback-invocation", condition=10)
def test_transmission_costs_what_came() -> None:
    """Prepaid for the largest response, paid for the bytes of this one."""
    fees = CyclesCostSchedule(gib_storage_per_second=0, canister_base_per_second=0)
    world, request, _ = called(fees)
    canister = world.canisters[request.sender]
    before = canister.balance
    world.answer(request, Reply(bytes(1000)))
    world.run_round()
    execution = fees.execution(world.limits.instructions_per_message) - fees.execution(1)
    assert canister.balance == before + 100 + fees.transmission(2 << 20) - fees.transmission(1000) + execution


@pytest.mark.spec("callback-invocation", condition=11)
def test_change_to_64_bits_meanwhile() -> None:
    """The callback's instructions cost twice as much; what is missing of the prepayment is taken."""
    fees = CyclesCostSchedule(gib_storage_per_second=0, canister_base_per_second=0)
    world, request, _ = called(fees)
    canister = world.canisters[request.sender]
    canister.execution = fake_execution(wasm64=True)
    (callback,) = canister.callbacks.values()
    before = canister.balance + callback.prepaid_execution + callback.prepaid_transmission
    world.answer(request, Reply(b""))
    world.run_round()
    assert canister.balance == before + 100 - fees.execution(1, wasm64=True)


@pytest.mark.spec("rule-message-execution", condition=17)
def test_answered_context_cannot_answer_again() -> None:
    """A callback that tries traps; the first answer stands."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [call(FAR, on_reply=[certify(b"c"), reply(b"2")]), reply(b"1")])
    world.run_round()
    world.answer(world.requests[0], Reply(b""))
    world.run_round()
    assert (world.outcome(message_id), canister.certified_data) == (b"1", b"")


# --- cleanup


TRAPS: Script = [certify(b"callback"), trap("first")]


def failing(cleanup: Script | None, callback: Script = TRAPS) -> tuple[FakeWorld, bytes]:
    """A call whose callback runs this and then its cleanup; the answer has come."""
    world = FakeWorld(fees=FREE)
    canister = world.add_canister()
    message_id = world.ingress(canister, [call(FAR, on_reply=callback, on_cleanup=cleanup)])
    world.run_round()
    world.answer(world.requests[0], Reply(b""))
    world.run_round()
    return world, message_id


@pytest.mark.spec("concrete-canister-module", condition=(1, 3))
def test_cleanup_after_a_trap() -> None:
    """It runs on the state before the callback and keeps its changes; the call fails with the callback's error."""
    world, message_id = failing([work(1), grow(2), log(b"cleaned")])
    (canister,) = world.canisters.values()
    assert [entry for _, entry, _ in world.executor.executed][1:] == [EntryPoint.REPLY, EntryPoint.CLEANUP]
    assert canister.execution is not None
    assert (canister.execution.heap.wasm_pages, canister.certified_data) == (3, b"")
    code, text = world.error_of(message_id)
    assert code is ErrorCode.CANISTER_CALLED_TRAP
    assert "first" in text
    assert "cleanup" not in text


@pytest.mark.spec("concrete-canister-module", condition=2)
def test_no_cleanup_without_a_trap() -> None:
    """If and only if the callback traps."""
    world, message_id = failing([certify(b"cleaned")], [reply(b"fine")])
    assert world.outcome(message_id) == b"fine"
    assert EntryPoint.CLEANUP not in [entry for _, entry, _ in world.executor.executed]


@pytest.mark.spec("concrete-canister-module", condition=1)
def test_no_cleanup_named() -> None:
    """Then the callback's trap is the end."""
    world, message_id = failing(None)
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_CALLED_TRAP
    assert len(world.executor.executed) == 2


@pytest.mark.spec("concrete-canister-module", condition=(3, 4, 6))
def test_cleanup_that_fails() -> None:
    """It tries to reply: its changes are gone, and its error stands behind the callback's."""
    world, message_id = failing([certify(b"cleaned"), reply()])
    (canister,) = world.canisters.values()
    code, text = world.error_of(message_id)
    assert code is ErrorCode.CANISTER_CALLED_TRAP
    first, second = text.split("\n\ncall_on_cleanup also failed:\n\n")
    assert "first" in first
    assert second == "Canister violated contract: responded twice"
    assert canister.certified_data == b""


@pytest.mark.spec("concrete-canister-module", condition=5)
def test_callback_and_cleanup_share_a_limit() -> None:
    """The callback has 95 % of a message's instructions, the cleanup what is left; both are paid."""
    fees = CyclesCostSchedule(gib_storage_per_second=0, canister_base_per_second=0)
    world = FakeWorld(fees=fees)
    canister, limit = world.add_canister(), world.limits.instructions_per_message
    world.ingress(canister, [call(FAR, on_reply=[work(10**9), trap()], on_cleanup=[work(10**6)])])
    world.run_round()
    (callback,) = canister.callbacks.values()
    before = canister.balance + callback.prepaid_execution + callback.prepaid_transmission
    world.answer(world.requests[0], Reply(b""))
    world.run_rounds()
    reply_, cleanup = world.executor.inputs[-2:]
    assert (reply_.instruction_limit, cleanup.instruction_limit) == (limit * 95 // 100, limit - 10**9)
    assert canister.balance == before - fees.execution(10**9 + 10**6)
