"""Abstract behaviour, "Calls with insufficient cycles are rejected"."""

from __future__ import annotations

import pytest

from ic_types.messages import Response
from ic_types.reject import Reject, RejectCode, Reply
from ic_types.units import Cycles
from tests.support.fake_executor import FakeWorld, call, reply

pytestmark = pytest.mark.spec("calls-with-insufficient-cycles-are-rejected")


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


def test_users_and_the_canister_itself_need_none() -> None:
    """Ingress and self-calls aren't subject to it."""
    world = FakeWorld()
    canister = world.add_canister(minimum_incoming_call_cycles=Cycles(100))
    message_id = world.ingress(canister, [call(canister.canister_id, on_reply=[reply(b"self")])])
    world.run_round()
    assert world.outcome(message_id) == b"self"
