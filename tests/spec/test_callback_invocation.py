"""Abstract behaviour, "Callback invocation"."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Request
from ic_types.principal import Principal
from ic_types.reject import Reply
from sandbox.protocol import EntryPoint
from scheduler import call_context_rules, error_texts
from scheduler.canister import RunStatus
from tests.support.fake_executor import USER, FakeWorld, call, reply, work

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


def test_refund_is_credited_before_the_callback_runs() -> None:
    """balances = balances + refunded_cycles; the callback sees both."""
    world, request, _ = called()
    world.answer(request, Reply(b"x"), kept=40)
    world.run_round()
    message, context = world.executor.inputs[-1], world.executor.contexts[-1]
    assert (message.entry, message.arg, message.cycles_refunded) == (EntryPoint.REPLY, b"x", 60)
    assert context.balance == 10**15 - 40


def test_caller_is_that_of_the_context() -> None:
    """A callback has the caller of the call being served."""
    world, request, _ = called()
    world.answer(request, Reply(b""))
    world.run_round()
    assert world.executor.inputs[-1].caller == USER


@pytest.mark.parametrize("status", [RunStatus.STOPPING])
def test_stopping_canister_runs_callbacks(status: RunStatus) -> None:
    """Callbacks only need the context to be there."""
    world, request, message_id = called()
    world.canisters[request.sender].status = status
    world.answer(request, Reply(b""))
    world.run_round()
    assert world.outcome(message_id) == b"cb"


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
