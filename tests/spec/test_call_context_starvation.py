"""Abstract behaviour, "Call context starvation" and "Call context removal"."""

from __future__ import annotations

import pytest

from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from tests.support.fake_executor import FakeWorld, Script, accept, call, reply, trap, work

FAR = Principal.canister(77)


@pytest.mark.spec("rule-starvation", condition=(1, 5))
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


@pytest.mark.spec("rule-starvation", condition=4)
def test_starved_call_gets_its_unaccepted_cycles_back() -> None:
    """Cycles accepted by messages that returned stay accepted."""
    world = FakeWorld()
    canister = world.add_canister(0)
    world.request(canister, [accept(10), call(FAR, on_reply=[accept(5)])], cycles=100)
    world.run_round()
    (request,) = world.requests
    world.answer(request, Reply(b""))
    world.run_round()
    (response,) = world.responses
    assert isinstance(response.payload, Reject)
    assert (response.payload.code, response.refund) == (RejectCode.CANISTER_ERROR, 85)
    assert canister.balance == 15


@pytest.mark.spec("rule-starvation", condition=2)
def test_open_call_keeps_the_context_waiting() -> None:
    """While a callback may still come nothing is decided, even after a trap in another one."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [call(FAR, on_reply=[trap()]), call(FAR, on_reply=[reply(b"2")])])
    world.run_round()
    first, second = world.requests
    world.answer(first, Reply(b""))
    world.run_round()
    assert world.outcome(message_id) is None
    world.answer(second, Reply(b""))
    world.run_round()
    assert world.outcome(message_id) == b"2"


@pytest.mark.spec("call-context-removal", condition=(2, 3, 4))
def test_context_goes_when_answered_and_without_calls() -> None:
    """needs_to_respond = false and no outstanding call: the context is removed."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [work(1), call(FAR), reply()])
    world.run_round()
    assert [c.responded for c in canister.contexts.values()] == [True]
    (request,) = world.requests
    world.answer(request, Reject(RejectCode.SYS_TRANSIENT, "later"))
    world.run_round()
    assert (canister.contexts, canister.callbacks) == ({}, {})


@pytest.mark.spec("rule-starvation", condition=5)
def test_error_of_the_last_message_is_the_answer() -> None:
    """A context that starves by a trap is answered with that trap's error."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [trap("why")])
    world.run_round()
    code, text = world.error_of(message_id)
    assert code is ErrorCode.CANISTER_CALLED_TRAP
    assert "why" in text


@pytest.mark.spec("rule-starvation", condition=1)
def test_answered_call_does_not_starve() -> None:
    """A call that was answered gets no second answer when its message or its last callback ends."""
    world = FakeWorld()
    canister = world.add_canister()
    world.request(canister, [reply(b"one")])
    world.request(canister, [reply(b"two"), call(FAR, on_reply=[trap()])])
    world.run_round()
    assert [response.payload for response in world.responses] == [Reply(b"one"), Reply(b"two")]
    world.answer(world.requests[0], Reply(b""))
    world.run_round()
    assert len(world.responses) == 2


@pytest.mark.spec("rule-starvation", condition=(3, 4))
def test_answered_context_has_nothing_left() -> None:
    """needs_to_respond = false, available_cycles = 0: nothing can be accepted or answered any more."""
    world = FakeWorld()
    canister = world.add_canister(0)
    world.request(canister, [call(FAR, on_reply=[accept(50)], on_cleanup=[]), reply()], cycles=100)
    world.run_round()
    (context,) = canister.contexts.values()
    assert (context.responded, context.available_cycles) == (True, 0)
    (request,) = world.requests
    world.answer(request, Reply(b""))
    world.run_round()
    assert canister.balance == 0


@pytest.mark.spec("rule-starvation", condition=5)
def test_canister_that_does_not_reply() -> None:
    """CANISTER_ERROR: a user learns IC0506, a canister `No response`."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [work(1)])
    world.request(canister, [work(1)])
    world.run_round()
    code, text = world.error_of(message_id)
    assert (code, text) == (
        ErrorCode.CANISTER_DID_NOT_REPLY,
        f"Error from Canister {canister.canister_id}: Canister did not reply to the call",
    )
    (response,) = world.responses
    assert response.payload == Reject(RejectCode.CANISTER_ERROR, "No response", ErrorCode.CANISTER_DID_NOT_REPLY)


@pytest.mark.spec("call-context-removal", condition=(1, 2))
def test_contexts_with_open_calls_stay() -> None:
    """Whether they have responded or not."""
    world = FakeWorld()
    canister = world.add_canister()
    world.ingress(canister, [call(FAR)])
    world.ingress(canister, [call(FAR), reply()])
    world.run_round()
    assert [context.responded for context in canister.contexts.values()] == [False, True]
