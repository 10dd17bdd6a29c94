"""Abstract behaviour, "Call context starvation" and "Call context removal"."""

from __future__ import annotations

import pytest

from ic_types.messages import Request, Response
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from tests.support.fake_executor import FakeWorld, Script, accept, call, reply, trap, work

FAR = Principal.canister(77)


@pytest.mark.spec("rule-starvation")
@pytest.mark.parametrize("script", [[], [trap()], [call(Principal.canister(2), on_reply=[])]])
def test_call_that_nobody_can_answer_is_rejected_once(script: Script) -> None:
    """No message, no outstanding call: Reject (CANISTER_ERROR, ...)."""
    world = FakeWorld()
    canister, _ = world.add_canister(), world.add_canister()
    message_id = world.ingress(canister, script)
    world.run_round()
    outcome = world.outcome(message_id)
    assert isinstance(outcome, Reject)
    assert outcome.code is RejectCode.CANISTER_ERROR


@pytest.mark.spec("rule-starvation", "refunded_cycles = Ctxt.available_cycles")
def test_starved_call_gets_its_unaccepted_cycles_back() -> None:
    """Cycles accepted by messages that returned stay accepted."""
    world = FakeWorld()
    canister = world.add_canister(0)
    world.request(canister, [accept(10), call(FAR, on_reply=[accept(5)])], cycles=100)
    world.run_round()
    (request,) = [m for m in world.remote if isinstance(m, Request)]
    world.answer(request, Reply(b""))
    world.run_round()
    (response,) = [m for m in world.remote if isinstance(m, Response)]
    assert isinstance(response.payload, Reject)
    assert (response.payload.code, response.refund) == (RejectCode.CANISTER_ERROR, 85)
    assert canister.balance == 15


@pytest.mark.spec("rule-starvation", "no outstanding calls")
def test_open_call_keeps_the_context_waiting() -> None:
    """While a callback may still come nothing is decided, even after a trap in another one."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [call(FAR, on_reply=[trap()]), call(FAR, on_reply=[reply(b"2")])])
    world.run_round()
    first, second = (m for m in list(world.remote) if isinstance(m, Request))
    world.answer(first, Reply(b""))
    world.run_round()
    assert world.outcome(message_id) is None
    world.answer(second, Reply(b""))
    world.run_round()
    assert world.outcome(message_id) == b"2"


@pytest.mark.spec("call-context-removal")
def test_context_goes_when_answered_and_without_calls() -> None:
    """needs_to_respond = false and no outstanding call: the context is removed."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [work(1), call(FAR), reply()])
    world.run_round()
    assert [c.responded for c in canister.contexts.values()] == [True]
    (request,) = world.remote
    assert isinstance(request, Request)
    world.answer(request, Reject(RejectCode.SYS_TRANSIENT, "later"))
    world.run_round()
    assert (canister.contexts, canister.callbacks) == ({}, {})


@pytest.mark.spec("rule-starvation")
def test_error_of_the_last_message_is_the_answer() -> None:
    """A context that starves by a trap is answered with that trap's error."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [trap("why")])
    world.run_round()
    code, text = world.error_of(message_id)
    assert code is ErrorCode.CANISTER_CALLED_TRAP
    assert "why" in text
