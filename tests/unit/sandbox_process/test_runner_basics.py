"""Messages, replies, traps, globals and pages of one canister."""

from __future__ import annotations

import pytest
from sandbox_harness import Harness, message

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
        assert trapped.heap.content[:8] == number(77)
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
