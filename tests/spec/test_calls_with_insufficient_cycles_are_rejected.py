"""Abstract behaviour, "Calls with insufficient cycles are rejected"."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Response
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from ic_types.units import Cycles
from tests.support.fake_executor import FakeWorld, call, reply

pytestmark = pytest.mark.spec("calls-with-insufficient-cycles-are-rejected")


@pytest.mark.spec("calls-with-insufficient-cycles-are-rejected", condition=(3, 4))
@pytest.mark.parametrize(("attached", "accepted"), [(99, False), (100, True)])
def test_call_of_another_canister_needs_the_minimum(attached: int, accepted: bool) -> None:
    """Fewer cycles: Reject (CANISTER_ERROR, ...) and all of them back, nothing runs and nothing is charged."""
    world = FakeWorld()
    canister = world.add_canister(minimum_incoming_call_cycles=Cycles(100))
    world.request(canister, [reply()], cycles=attached)
    world.run_round()
    (response,) = world.remote
    assert isinstance(response, Response)
    assert response.refund == attached
    if accepted:
        assert response.payload == Reply(b"")
    else:
        assert isinstance(response.payload, Reject)
        assert response.payload.code is RejectCode.CANISTER_ERROR
        assert world.executor.executed == []


@pytest.mark.spec("calls-with-insufficient-cycles-are-rejected", condition=(1, 2))
def test_users_and_the_canister_itself_need_none() -> None:
    """Ingress and self-calls aren't subject to it."""
    world = FakeWorld()
    canister = world.add_canister(minimum_incoming_call_cycles=Cycles(100))
    message_id = world.ingress(canister, [call(canister.canister_id, on_reply=[reply(b"self")])])
    world.run_round()
    assert world.outcome(message_id) == b"self"


@pytest.mark.spec("calls-with-insufficient-cycles-are-rejected", condition=4)
def test_rejected_call_is_not_charged() -> None:
    """Not even the base fee; the text names both amounts."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister(minimum_incoming_call_cycles=Cycles(1000))
    world.request(canister, [reply()], cycles=5)
    world.run_round()
    (response,) = world.responses
    text = f"IC0520: Canister {canister.canister_id} asks for at least 1_000 cycles per call, but only 5 were attached"
    assert response.payload == Reject(RejectCode.CANISTER_ERROR, text, ErrorCode.INSUFFICIENT_CYCLES_IN_CALL)
    assert (response.refund, canister.balance) == (5, 10**15)


@pytest.mark.spec("calls-with-insufficient-cycles-are-rejected", condition=4)
def test_poor_callee_still_says_why() -> None:
    """The minimum is looked at before the callee's own cycles."""
    world = FakeWorld(fees=CyclesCostSchedule())
    canister = world.add_canister(5, minimum_incoming_call_cycles=Cycles(1000))
    world.request(canister, [reply()], cycles=5)
    world.run_round()
    assert isinstance(world.responses[0].payload, Reject)
    assert world.responses[0].payload.code is RejectCode.CANISTER_ERROR
