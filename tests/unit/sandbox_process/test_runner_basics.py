"""Messages, replies, traps, globals and pages of one canister."""

from __future__ import annotations

import gc
import os

import pytest
from sandbox_harness import Harness, drive, message

from ic_types.reject import ErrorCode
from sandbox.protocol import Finished, ReplyData, Stop, Trapped
from tests.support.wasm_samples import module

ADDING = module(
    """
 (memory 1)
 (global $calls (mut i32) (i32.const 0))
 (data (i32.const 100) "xyz")
 (func (export "canister_update add")
   (call $msg_arg_data_copy (i32.const 64) (i32.const 0) (call $msg_arg_data_size))
   (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
   (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.load (i32.const 64))))
   (call $msg_reply_data_append (i32.const 8192) (i32.const 8)) (call $msg_reply))
 (func (export "canister_update fail")
   (global.set $calls (i32.const 99))
   (i64.store (i32.const 8192) (i64.const 77))
   (i64.store (i32.const 16384) (i64.const 77))
   (call $trap (i32.const 100) (i32.const 3)))
 (func (export "canister_update unreachable") unreachable)
 (func (export "canister_update outside") (drop (i32.load (i32.const 65536))))
 (func (export "canister_update divide") (drop (i32.div_u (i32.const 1) (i32.const 0))))""",
    "msg_arg_data_size",
    "msg_arg_data_copy",
    "msg_reply_data_append",
    "msg_reply",
    "trap",
)


def number(value: int) -> bytes:
    """As the module reads it."""
    return value.to_bytes(8, "little")


def test_update_reads_its_argument_and_replies() -> None:
    """A message sees its argument and what earlier messages left in memory and globals."""
    with Harness(ADDING) as box:
        first = box.one(message("add", arg=number(5)))
        assert first.response == ReplyData(number(5))
        assert set(first.heap.indices) == {0, 2}
        second = box.one(message("add", arg=number(6)))
        assert second.response == ReplyData(number(11))
        assert second.globals == (2,)
        assert second.instructions > 0
        assert (second.heap_pages, second.stable_pages) == (1, 0)


def test_batch_answers_each_message() -> None:
    """A batch runs its messages in order, each on the pages of the one before."""
    with Harness(ADDING) as box:
        reply = box.execute(*(message("add", arg=number(k)) for k in range(5)))
        assert reply.stop is Stop.END
        assert [a.response for a in reply.answers if isinstance(a, Finished)] == [
            ReplyData(number(k)) for k in (0, 1, 3, 6, 10)
        ]


def test_trap_is_rolled_back_by_reset() -> None:
    """A trap ends the batch; after the reset nothing of the failed message is left."""
    with Harness(ADDING) as box:
        reply = box.execute(message("add", arg=number(5)), message("fail"), message("add", arg=number(1)))
        assert reply.stop is Stop.TRAPPED
        _finished, trapped = reply.answers
        assert isinstance(trapped, Trapped)
        assert trapped.error_code == ErrorCode.CANISTER_CALLED_TRAP
        assert trapped.message.startswith("Canister called `ic0.trap` with message: 'xyz'")
        assert set(trapped.heap_touched) == {2, 4}
        assert os.pread(box.buffer, 8, trapped.heap.buffer_offset or 0) == number(77)
        box.reset(trapped.heap_touched)
        assert box.one(message("add", arg=number(1))).response == ReplyData(number(6))
        assert box.globals == (2,)


@pytest.mark.parametrize(
    ("method", "code", "text"),
    [
        ("unreachable", ErrorCode.CANISTER_TRAPPED, "Canister trapped: unreachable."),
        ("outside", ErrorCode.CANISTER_TRAPPED, "Canister trapped: heap out of bounds."),
        ("divide", ErrorCode.CANISTER_TRAPPED, "Canister trapped: integer division by 0."),
        ("missing", ErrorCode.CANISTER_METHOD_NOT_FOUND, "Canister has no update method 'missing'."),
    ],
)
def test_wasm_traps_have_the_replicas_texts(method: str, code: ErrorCode, text: str) -> None:
    """Each kind of failure has its error code and text."""
    with Harness(ADDING) as box:
        answer = box.one(message(method))
        assert isinstance(answer, Trapped)
        assert answer.error_code == code
        assert answer.message.startswith(text)


def test_endless_recursion_overflows_the_stack() -> None:
    """The stack's end is a trap like any other."""
    with Harness(module('(func $deeper (call $deeper)) (export "canister_update go" (func $deeper))')) as box:
        assert box.one().message.startswith("Canister trapped: stack overflow.")
        box.reset()
        assert box.one().error_code == ErrorCode.CANISTER_TRAPPED


KINDS = """(module (memory i64 1)
 (global $a (mut i32) (i32.const -1)) (global $b (mut i64) (i64.const -2)) (global $c (mut f32) (f32.const 1.5))
 (global $d (mut f64) (f64.const -0.25)) (global $e (mut v128) (v128.const i64x2 1 2)) (global $f i32 (i32.const 7))
 (func (export "canister_update go")
   (global.set $a (i32.add (global.get $a) (i32.const 1)))
   (global.set $e (i64x2.add (global.get $e) (global.get $e)))
   (if (i64.ne (memory.grow (i64.const 1)) (i64.const 1)) (then unreachable)))
 (func (export "canister_update fail")
   (global.set $b (i64.const 0)) (global.set $c (f32.const 0)) (global.set $d (f64.const 0)) (global.set $a (i32.const 5))
   (global.set $e (v128.const i64x2 0 0)) (drop (memory.grow (i64.const 1))) unreachable))"""


def test_globals_of_every_kind() -> None:
    """Bits of all mutable globals are reported, and restored after a failure; here with a 64-bit heap."""
    others = ((1 << 64) - 2, 0x3FC00000, 0xBFD0000000000000)
    with Harness(KINDS) as box:
        assert box.globals == (0xFFFFFFFF, *others, 2 << 64 | 1)
        assert box.execute(message("fail")).stop is Stop.TRAPPED
        box.reset()
        answer = box.one()
        assert isinstance(answer, Finished), answer
        assert answer.globals == (0, *others, 4 << 64 | 2)
        assert answer.heap_pages == 2


DROPPING = """(module (memory 1) (data $d "abc")
 (func (export "canister_update go") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3)) (data.drop $d)))"""


def test_dropped_segments_are_back_for_the_next_message() -> None:
    """A module that drops data runs every message on a new instance."""
    with Harness(DROPPING) as box:
        assert not box.info.reuse_safe
        for _ in range(3):
            assert isinstance(box.one(), Finished)
        assert box.heap.content(0)[:4] == b"abc\0"


def test_module_without_memory() -> None:
    """A canister needs no memory to run."""
    with Harness('(module (func (export "canister_update go")))') as box:
        assert box.one().heap_pages == 0


STABLE = module(
    """(memory 2)
 (func (export "canister_update grow") (drop (call $stable64_grow (i64.const 2000))))
 (func (export "canister_update write")
   (call $stable64_write (i64.const 100000) (i64.const 0) (i64.const 5000))
   (call $stable64_write (i64.const 120000000) (i64.const 0) (i64.const 1)))
 (func (export "canister_update read") (call $stable64_read (i64.const 0) (i64.const 100000) (i64.const 5000)))""",
    "stable64_grow",
    "stable64_write",
    "stable64_read",
)


def test_stable_pages_are_found_by_their_marks() -> None:
    """Written stable pages are reported per message, also in a bytemap of many pages."""
    with Harness(STABLE) as box:
        box.one(message("grow"))
        for _ in range(2):
            answer = box.one(message("write"))
            assert answer.stable.indices == (24, 25, 29296)
            assert answer.stable_dirty_marks == 3
        assert box.one(message("read")).stable.indices == ()
        assert box.one(message("read")).stable_dirty_marks == 0


def test_traps_leave_no_garbage() -> None:
    """The collector is off in a sandbox, so failing messages may not leave cycles behind."""
    with Harness(ADDING) as box:
        drive(box, [message("fail")], 1)
        gc.collect()
        gc.disable()
        try:
            drive(box, [message("fail"), message("unreachable")] * 50, 1)
            assert gc.collect() < 100
        finally:
            gc.enable()
