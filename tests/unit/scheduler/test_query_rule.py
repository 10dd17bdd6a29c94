"""Queries and inspection on a snapshot."""

from __future__ import annotations

from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from ic_types.units import Cycles
from sandbox.protocol import EntryPoint, Finished
from scheduler.canister import Canister, QueryStats, RunStatus
from scheduler.effects import Effect, EffectResult, ReleaseFork, RunMessage
from scheduler.query import QueryRun, execute_query
from scheduler.query_messages import inspect_message
from tests.support.fake_executor import USER, FakeWorld, Script, call, dirty, pickled, reject_with, reply, trap, work

FEES = CyclesCostSchedule()


def run_of(world: FakeWorld, canister: Canister) -> QueryRun:
    """A query of this canister on the world as it is."""
    return QueryRun(
        root=canister.canister_id,
        canisters=world.canisters.get,
        is_elsewhere=lambda _canister: False,
        management=lambda _caller, _method, _arg: Reply(b"managed"),
        time=world.time,
        data_certificate=b"cert",
        limits=world.limits,
        fees=world.fees,
    )


def ask(world: FakeWorld, canister: Canister, script: Script, method: str = "query") -> Any:
    """Run one query to its end; forks are released once each."""
    rule = execute_query(run_of(world, canister), USER, method, pickled(script))
    answer, open_forks = None, list[object]()
    try:
        while True:
            effect = rule.send(answer)
            if isinstance(effect, ReleaseFork):
                open_forks.remove(effect.execution)
                answer = None
                continue
            assert isinstance(effect, RunMessage)
            if effect.own_fork and effect.execution not in open_forks:
                open_forks.append(effect.execution)
            answer = world.executor(effect)  # type: ignore[assignment]
    except StopIteration as stop:
        assert not open_forks, "a fork is still held"
        return stop.value


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
    message = Ingress(
        message_id=bytes(32),
        sender=USER,
        receiver=canister.canister_id,
        method="update",
        arg=b"",
        expiry=world.time,
        raw_bytes=9,
    )
    rule = inspect_message(canister, message, world.time, world.limits)
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


def answers(world: FakeWorld, run: QueryRun, script: Script, method: str = "composite") -> Any:
    """Run a query of the run's root with its calls."""
    rule = execute_query(run, USER, method, pickled(script))
    answer: Any = None
    try:
        while True:
            effect = rule.send(answer)
            answer = None if isinstance(effect, ReleaseFork) else world.executor(effect)
    except StopIteration as stop:
        return stop.value


def test_statistics_of_a_call_graph() -> None:
    """Each method that ran counts for its canister: instructions, argument, reply; callbacks, rejects and refusals don't."""
    world = FakeWorld()
    a, b, empty = world.add_canister(), world.add_canister(), world.add_canister(empty=True)
    run = run_of(world, a)
    inner = [work(7), reply(b"four")]
    script = [
        work(5),
        call(b.canister_id, inner, method="query", on_reply=[work(1000)]),
        call(b.canister_id, [work(2), reject_with("no")], method="query", on_reject=[work(1000)]),
        call(empty.canister_id, [], method="query", on_reject=[reply(b"end")]),
    ]
    assert answers(world, run, script) == Reply(b"end")
    sizes = [len(pickled(inner)), len(pickled([work(2), reject_with("no")]))]
    assert run.stats[b.canister_id] == QueryStats(calls=2, instructions=9, request_bytes=sum(sizes), response_bytes=4)
    assert run.stats[a.canister_id] == QueryStats(calls=1, instructions=5, request_bytes=len(pickled(script)))
    assert empty.canister_id not in run.stats


def test_dirty_pages_of_composite_queries_are_charged() -> None:
    """A page that a composite query changes costs what it costs an update; one that a plain query changes nothing."""
    world = FakeWorld()
    canister = world.add_canister()
    for method, charged in (("composite", 3 * world.limits.dirty_page_overhead), ("query", 0)):
        run = run_of(world, canister)
        assert answers(world, run, [work(5), dirty(3), reply()], method) == Reply(b"")
        assert run.stats[canister.canister_id].instructions == 5 + charged


def test_queries_of_the_management_canister() -> None:
    """Asked by the user or by a composite query, which pays the overhead of a call."""
    world = FakeWorld()
    a = world.add_canister()
    run = run_of(world, a)
    run.root = MANAGEMENT_CANISTER
    assert answers(world, run, []) == Reply(b"managed")
    run = run_of(world, a)
    asked = [call(MANAGEMENT_CANISTER, [], method="canister_status", on_reply=[reply(b"told")])]
    assert answers(world, run, asked) == Reply(b"told")
    assert run.instructions_left == world.limits.instructions_per_query - world.limits.instruction_overhead_per_query_call


@pytest.mark.spec("query-call", condition=23)
def test_calls_of_another_subnet() -> None:
    """The context that makes one is rejected with 5 (IC0529); the root's answer, or told to its caller."""
    world = FakeWorld()
    a, b, far = world.add_canister(), world.add_canister(), world.add_canister()
    outside = [call(far.canister_id, [reply(b"far")], method="query", on_reply=[reply()], on_reject=[reply(b"told")])]
    run = run_of(world, a)
    run.is_elsewhere = lambda canister_id: canister_id == far.canister_id
    refused = answers(world, run, outside, "composite")
    assert (refused.code, refused.error_code) == (RejectCode.CANISTER_ERROR, ErrorCode.QUERY_CALL_GRAPH_INTERNAL)
    assert refused.message.endswith(f"calls canister {far.canister_id}, which is on another subnet.")
    through = [call(b.canister_id, outside, method="composite", on_reject=[reply(b"rejected")])]
    run = run_of(world, a)
    run.is_elsewhere = lambda canister_id: canister_id == far.canister_id
    assert answers(world, run, through, "composite") == Reply(b"rejected")
