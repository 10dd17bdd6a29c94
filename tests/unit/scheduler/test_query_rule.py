"""Queries and inspection on a snapshot."""

from __future__ import annotations

from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Ingress
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from ic_types.units import Cycles
from sandbox.protocol import EntryPoint, Finished
from scheduler.canister import Canister, RunStatus
from scheduler.effects import Effect, EffectResult
from scheduler.query import Query, execute_query, inspect_message
from tests.support.fake_executor import USER, FakeWorld, Script, dirty, pickled, reject_with, reply, trap, work

FEES = CyclesCostSchedule()


def ask(world: FakeWorld, canister: Canister, script: Script, method: str = "query") -> Any:
    """Run one query to its end."""
    query = Query(caller=USER, method=method, arg=pickled(script), time=world.time, data_certificate=b"cert")
    rule = execute_query(canister, query, world.limits, world.fees)
    try:
        effect = next(rule)
        rule.send(world.executor(effect))
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a query is one effect")


@pytest.mark.parametrize(("method", "entry"), [("query", EntryPoint.QUERY), ("composite", EntryPoint.COMPOSITE_QUERY)])
def test_query_replies_and_changes_nothing(method: str, entry: EntryPoint) -> None:
    """The answer comes back; version, balance and memory stay."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    assert ask(world, canister, [work(9), dirty(3), reply(b"q")], method) == Reply(b"q")
    assert (canister.balance, canister.version) == (10**15, 0)
    message = world.executor.inputs[0]
    assert (message.entry, message.replicated, message.data_certificate) == (entry, False, b"cert")
    assert message.instruction_limit == message.slice_limit == world.limits.instructions_per_query


def test_query_outcomes() -> None:
    """Rejects, traps and silence are rejects with their codes."""
    world = FakeWorld()
    canister = world.add_canister()
    assert ask(world, canister, [reject_with("r")]) == Reject(
        RejectCode.CANISTER_REJECT, "r", ErrorCode.CANISTER_REJECTED_MESSAGE
    )
    assert ask(world, canister, [trap("t")]).error_code is ErrorCode.CANISTER_CALLED_TRAP
    assert ask(world, canister, []).error_code is ErrorCode.CANISTER_DID_NOT_REPLY


def test_queries_that_cannot_run() -> None:
    """Unknown method, update method, stopped, frozen, empty."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    for method in ("absent", "update"):
        assert ask(world, canister, [], method).error_code is ErrorCode.CANISTER_METHOD_NOT_FOUND
    canister.settings.freezing_threshold_s = 2_592_000
    canister.balance = Cycles(5)
    frozen = ask(world, canister, [])
    assert frozen.error_code is ErrorCode.CANISTER_OUT_OF_CYCLES
    assert "unable to process query calls because it's frozen" in frozen.message
    canister.status = RunStatus.STOPPED
    assert ask(world, canister, []).error_code is ErrorCode.CANISTER_STOPPED
    assert ask(world, world.add_canister(empty=True), []).error_code is ErrorCode.CANISTER_WASM_MODULE_NOT_FOUND


def inspect(world: FakeWorld, canister: Canister, answer: EffectResult) -> Reject | None:
    """Inspect a message, the sandbox giving this answer."""
    call = Ingress(
        message_id=bytes(32),
        sender=USER,
        receiver=canister.canister_id,
        method="update",
        arg=b"",
        expiry=world.time,
        raw_bytes=9,
    )
    rule = inspect_message(canister, call, world.time, world.limits)
    try:
        effect: Effect = next(rule)
        assert effect.message.entry is EntryPoint.INSPECT_MESSAGE  # type: ignore[union-attr]
        rule.send(answer)
    except StopIteration as stop:
        found: Reject | None = stop.value
        return found
    raise AssertionError("inspection is one effect")


def test_inspection() -> None:
    """Without the hook everything is accepted; with it only what it accepts."""
    world = FakeWorld()
    assert inspect(world, world.add_canister(), None) is None
    canister = world.add_canister(entry_points=["inspect_message"])
    assert inspect(world, canister, Finished(instructions=1, slice_instructions=1, accepted=True)) is None
    refused = inspect(world, canister, Finished(instructions=1, slice_instructions=1))
    assert refused is not None
    assert refused.error_code is ErrorCode.CANISTER_REJECTED_MESSAGE
