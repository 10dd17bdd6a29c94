"""Batches, settling, slices, aborts and resets: whatever is asked for, messages see the committed state and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_harness import CONTEXT, Harness, contents, drive, essence, message

from ic_types.errors import SandboxFailure
from ic_types.principal import Principal
from ic_types.reject import ErrorCode
from sandbox.dirty_pages import DirtyPages, PagemapEntries, PrivatePages, WriteProtection
from sandbox.protocol import (
    EntryPoint,
    ExecutionContext,
    ExecutionInput,
    Finished,
    Pages,
    Paused,
    ReplyData,
    Stop,
    Trapped,
)
from sandbox.requests import Execute
from subnet.lab import universal as u
from subnet.lab.universal import Program
from tests.support import wasm_samples

WASM = (Path(__file__).resolve().parents[3] / "examples" / "canisters" / "universal.wasm").read_bytes()
PEER = Principal.canister(8)
SLICE = 100_000


def update(program: Program, **fields: Any) -> ExecutionInput:
    """An update call of the universal canister."""
    return message("update", arg=bytes(program), **fields)


def replied(answer: Any) -> bytes:
    """The bytes of a reply."""
    assert isinstance(answer, Finished), answer
    assert isinstance(answer.response, ReplyData)
    return answer.response.data


# --- settling


def test_later_message_waits_for_its_context() -> None:
    """The second message of a batch gets its balance only after the first was committed."""
    with Harness(WASM) as box:
        balance = update(Program().reply(u.cycles_balance()))
        reply = box.execute(update(Program().reply("first")), balance, balance)
        assert (len(reply.answers), reply.stop) == (1, Stop.SETTLE)
        reply = box.settled(ExecutionContext(balance=5))
        assert (len(reply.answers), reply.stop) == (1, Stop.SETTLE)
        assert replied(reply.answers[0]) == (5).to_bytes(16, "little")
        reply = box.settled(ExecutionContext(balance=6))
        assert (len(reply.answers), reply.stop) == (1, Stop.END)
        assert replied(reply.answers[0]) == (6).to_bytes(16, "little")


@pytest.mark.parametrize(
    "program",
    [
        Program().append(u.liquid_balance()),
        Program().call(PEER, "m"),
        Program().drop(u.cycles_accept(1)),
        Program().drop(u.cycles_burn(1)),
        Program().drop(u.performance_counter(1)),
        Program().drop(u.memory_grow(1)),
        Program().drop(u.stable_grow(1)),
        Program().drop(u.canister_version()),
        Program().drop(u.canister_status()),
        Program().drop(u.set_timer(1)),
        Program().drop(u.is_controller(PEER)),
        Program().drop(u.env_var_count()),
    ],
)
def test_what_depends_on_earlier_messages_settles(program: Program) -> None:
    """Functions whose value the earlier messages can change ask for the context, once."""
    with Harness(WASM) as box:
        reply = box.execute(update(Program()), update(program + program))
        assert reply.stop is Stop.SETTLE
        reply = box.settled()
        assert reply.stop is Stop.END
        assert isinstance(reply.answers[0], Finished)


def test_what_is_fixed_does_not_settle() -> None:
    """Argument, caller, time, answers and memory need nobody."""
    program = Program().append(u.caller()).append(u.argument()).append(u.time().to_blob()).append(u.self_id())
    program = program.set_global("x").set_page_byte(3, 4).certified_data("y").print("z").send_reply()
    program = program.drop(u.performance_counter(0)).drop(u.cycles_accept(1))
    with Harness(WASM) as box:
        assert box.execute(update(Program()), update(program)).stop is Stop.END


def test_abort_while_settling() -> None:
    """A message that waits for its context can be given up; earlier answers stay good."""
    with Harness(WASM) as box:
        reply = box.execute(update(Program().set_global("kept")), update(Program().set_global("lost").drop(u.cycles_balance())))
        assert reply.stop is Stop.SETTLE
        aborted = box.abort()
        assert aborted.heap_touched
        box.reset(aborted.heap_touched, aborted.stable_touched)
        assert replied(box.one(update(Program().reply(u.get_global())))) == b"kept"


# --- messages sent behind others


def behind(box: Harness, *inputs: ExecutionInput) -> Execute:
    """A request that goes on from the one before it."""
    return Execute(cookie=box.cookie(), inputs=inputs, behind=True)


def test_messages_go_on_from_the_last_request() -> None:
    """A request without context runs on top of one that was answered to its end, and asks for what it needs."""
    with Harness(WASM) as box:
        box.execute(update(Program().set_global("before")))
        reply = box.take(
            box.ask(behind(box, update(Program().reply(u.get_global())), update(Program().drop(u.cycles_balance()))))
        )
        assert (len(reply.answers), reply.stop) == (1, Stop.SETTLE)
        assert replied(reply.answers[0]) == b"before"
        assert box.settled().stop is Stop.END


def test_nothing_runs_behind_what_was_not_answered_to_its_end() -> None:
    """While a message waits or is paused, after a trap and after a reset, what was sent behind is skipped."""
    with Harness(WASM) as box:
        box.execute(update(Program()))
        for first in (update(Program().drop(u.cycles_balance())), sliced(LONG)):
            reply = box.execute(update(Program()), first)
            assert reply.stop in (Stop.SETTLE, Stop.PAUSED)
            skipped = box.ask(behind(box, update(Program())))
            assert (skipped.answers, skipped.stop) == ((), Stop.SKIPPED)
            aborted = box.abort()
            assert box.ask(behind(box, update(Program()))).stop is Stop.SKIPPED
            box.reset(aborted.heap_touched, aborted.stable_touched)
            assert box.ask(behind(box, update(Program()))).stop is Stop.SKIPPED
        reply = box.execute(update(Program().trap("no")), update(Program()))
        assert reply.stop is Stop.TRAPPED
        assert box.ask(behind(box, update(Program()))).stop is Stop.SKIPPED


def test_large_answers_of_two_replies_lie_apart() -> None:
    """What a reply points to in the buffer stays as it is while the next one is made."""
    with Harness(WASM) as box:
        box.execute(update(Program().drop(u.stable_grow(10))))
        fills = [update(Program().stable_write(0, bytes([k]) * 4096 * 100)) for k in (1, 2)]
        first = box.ask(Execute(cookie=box.cookie(), inputs=(fills[0],), context=CONTEXT))
        second = box.ask(behind(box, fills[1]))
        for k, reply in enumerate((first, second), 1):
            (answer,) = reply.answers
            assert len(answer.stable.indices) == 100
            assert os.pread(box.buffer, 4096 * 100, answer.stable.buffer_offset) == bytes([k]) * 4096 * 100


# --- slices


def sliced(program: Program, limit: int = 10**8, slice_limit: int = SLICE) -> ExecutionInput:
    """An update that may pause."""
    return update(program, instruction_limit=limit, slice_limit=slice_limit)


LONG = Program().set_global("new").burn_loop(50_000).reply(u.performance_counter(0).to_blob())


def test_long_message_pauses_and_goes_on() -> None:
    """Every slice is reported, and their instructions add up to what an unsliced run takes."""
    with Harness(WASM) as box:
        whole = box.one(update(LONG))
    with Harness(WASM) as box:
        reply, total, pauses = box.execute(sliced(LONG)), 0, 0
        while reply.stop is Stop.PAUSED:
            paused = reply.answers[-1]
            assert isinstance(paused, Paused)
            total += paused.slice_instructions
            pauses += 1
            assert paused.instructions == total
            reply = box.resume()
        finished = reply.answers[0]
        assert isinstance(finished, Finished)
        assert pauses >= 3
        assert finished.instructions == total + finished.slice_instructions == whole.instructions
        assert finished.response == whole.response


def test_instruction_limit() -> None:
    """The last slice can't be exceeded."""
    with Harness(WASM) as box:
        (answer,) = drive(box, [sliced(LONG, limit=250_000)], 1)
        assert isinstance(answer, Trapped)
        assert answer.error_code == ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED
        assert answer.message.startswith("Canister exceeded the limit of 250000 instructions for single message execution.")
        assert answer.instructions == 250_000
        (answer,) = drive(box, [update(LONG, instruction_limit=1000, slice_limit=1000)], 1)
        assert answer.instructions == 1000


def test_abort_of_a_paused_message() -> None:
    """After an abort and a reset nothing of the message is left, and it can run again."""
    with Harness(WASM) as box:
        box.one(update(Program().set_global("old")))
        assert box.execute(sliced(LONG), update(Program())).stop is Stop.PAUSED
        aborted = box.abort()
        box.reset(aborted.heap_touched, aborted.stable_touched)
        assert replied(box.one(update(Program().reply(u.get_global())))) == b"old"
        drive(box, [sliced(LONG)], 1)
        assert replied(box.one(update(Program().reply(u.get_global())))) == b"new"


def test_messages_after_a_pause_are_dropped() -> None:
    """The rest of a batch is asked for again after a pause."""
    with Harness(WASM) as box:
        assert box.execute(sliced(LONG), update(Program().reply("second"))).stop is Stop.PAUSED
        reply = box.resume()
        while reply.stop is Stop.PAUSED:
            reply = box.resume()
        assert (len(reply.answers), reply.stop) == (1, Stop.END)


def test_large_operation_overruns_the_slice() -> None:
    """One operation that takes more than a whole further slice fails the message."""
    source = wasm_samples.module(
        """(memory 4)
 (func (export "canister_update go") (memory.fill (i32.const 0) (i32.const 1) (i32.const 250000)))"""
    )
    with Harness(source) as box:
        answer = box.one(message(instruction_limit=10**7, slice_limit=100_000))
        assert answer.error_code == ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED
        assert "attempted to perform a large memory operation" in answer.message


# --- resets


def test_nothing_runs_before_the_reset() -> None:
    """A failed message must be undone first."""
    with Harness(WASM) as box:
        box.one(update(Program().set_global("x").unreachable()))
        with pytest.raises(SandboxFailure, match="before reset"):
            box.one(update(Program()))


def test_growth_of_a_failed_message_is_undone() -> None:
    """Memory sizes are those of the committed state again, also if an older private page has to move along."""
    sizes = u.memory_size().to_blob().concat(u.stable_size().to_blob())
    with Harness(WASM) as box:
        before = replied(box.one(update(Program().set_global("kept").stable_write(0, "").reply(sizes))))
        box.one(update(Program().drop(u.stable_grow(1)).stable_write(10, "stable")))
        failing = Program().drop(u.memory_grow(3)).drop(u.stable_grow(2)).stable_write(70_000, "x").unreachable()
        answer = box.one(update(failing))
        box.reset(answer.heap_touched, answer.stable_touched)
        after = box.one(update(Program().reply(sizes.concat(u.get_global()).concat(u.stable_read(10, 6)))))
        assert replied(after) == before[:8] + (1).to_bytes(8, "little") + b"keptstable"


def test_reset_shows_what_others_committed() -> None:
    """A sandbox that is behind is brought forward, larger memories included."""
    with Harness(WASM) as ahead, Harness(WASM) as behind:
        ahead.one(update(Program().set_global("newer").drop(u.memory_grow(2)).drop(u.stable_grow(1)).stable_write(5, "s")))
        for mine, theirs in ((behind.heap, ahead.heap), (behind.stable, ahead.stable)):
            for page, content in contents(theirs).items():
                mine.commit(Pages((page,), content), behind.buffer)
        behind.heap.wasm_pages, behind.stable.wasm_pages = ahead.heap.wasm_pages, ahead.stable.wasm_pages
        behind.globals = ahead.globals
        behind.reset()
        program = Program().reply(u.get_global().concat(u.stable_read(5, 1)).concat(u.memory_size().to_blob()))
        assert replied(behind.one(update(program))) == replied(ahead.one(update(program)))


def test_page_contents_lie_in_the_buffer() -> None:
    """Written pages of several messages of one reply follow each other in the buffer file, however many they are."""
    source = wasm_samples.module(
        """(memory 64)
 (func (export "canister_update go")
   (memory.fill (i32.const 0) (i32.add (i32.load8_u (i32.const 9)) (i32.const 1)) (i32.const 1000000)))"""
    )
    with Harness(source) as box:
        reply = box.execute(message(), message())
        offsets = [a.heap.buffer_offset for a in reply.answers if isinstance(a, Finished)]
        assert offsets[0] == 0
        assert offsets[1] == 245 * 4096
        assert box.heap.content(244)[: 1000000 % 4096] == b"\x02" * (1000000 % 4096)


def test_queries_leave_nothing() -> None:
    """Without tracking every message runs on the state that was opened, whatever the ones before did."""
    with Harness(WASM, tracking=False) as box:
        changing = Program().append(u.get_global()).append(u.memory_size().to_blob()).append(u.stable_size().to_blob())
        changing = changing.set_global("changed").drop(u.stable_grow(1)).stable_write(1, "x").set_page_byte(5, 5)
        item = message("query", EntryPoint.QUERY, arg=bytes(changing.drop(u.memory_grow(1)).send_reply()))
        first = box.one(item)
        assert isinstance(first, Finished)
        assert not first.heap.indices
        assert not first.stable.indices
        assert box.one(message("query", EntryPoint.QUERY, arg=bytes(Program().set_page_byte(1, 1).unreachable()))).error_code
        assert replied(box.one(item)) == replied(first)


# --- everything at once

STATEMENTS = st.one_of(
    st.binary(max_size=20).map(lambda b: Program().set_global(b)),
    st.tuples(st.integers(0, 63), st.integers(0, 3)).map(lambda pv: Program().set_page_byte(*pv)),
    st.integers(1, 2).map(lambda n: Program().drop(u.stable_grow(n))),
    st.tuples(st.integers(0, 200_000), st.binary(min_size=1, max_size=9)).map(lambda w: Program().stable_write(*w)),
    st.tuples(st.integers(0, 200_000), st.integers(0, 9)).map(lambda r: Program().append(u.stable_read(*r))),
    st.just(Program().append(u.get_global())),
    st.integers(0, 63).map(lambda page: Program().append(u.page_byte(page).to_blob())),
    st.just(Program().append(u.memory_size().to_blob())),
    st.just(Program().drop(u.memory_grow(1))),
    st.just(Program().append(u.cycles_burn(3))),
    st.just(Program().burn_loop(20_000)),
    st.just(Program().print("log")),
    st.just(Program().append(u.set_timer(5).to_blob())),
    st.just(Program().call(PEER, "m", on_reply=Program(), on_reject=Program())),
    st.just(Program().trap("on purpose")),
)
PROGRAMS = st.lists(STATEMENTS, min_size=1, max_size=5).map(lambda parts: sum(parts, Program()).send_reply())


@settings(deadline=None, max_examples=25)
@given(programs=st.lists(PROGRAMS, min_size=1, max_size=6), batch=st.sampled_from([2, 3, 7]))
def test_batch_size_reuse_and_detector_change_nothing(programs: list[Program], batch: int) -> None:
    """One by one or in batches, on new or used instances, found this way or that: answers and memories are equal."""
    inputs = [sliced(program) for program in programs]
    outcomes = []
    for size, reuse, detector in (
        (1, True, WriteProtection),
        (batch, True, WriteProtection),
        (batch, False, WriteProtection),
        (batch, True, PrivatePages),
        (1, False, PagemapEntries),
    ):
        with Harness(WASM, reuse=reuse, detector=opener(detector)) as box:
            answers = [essence(answer) for answer in drive(box, inputs, size)]
            outcomes.append((answers, contents(box.heap), contents(box.stable), box.globals))
    assert all(outcome == outcomes[0] for outcome in outcomes[1:])


def opener(kind: Callable[[int], DirtyPages]) -> Callable[[], DirtyPages]:
    """Opens this detector."""
    return lambda: kind(os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))
