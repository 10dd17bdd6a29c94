"""Golden instruction counts of whole messages, worked out by hand: code, System API, stable memory, traps, limits."""

from __future__ import annotations

import pytest
from sandbox_harness import Harness, message

from ic_types.reject import ErrorCode
from sandbox.protocol import Finished, ReplyData, Trapped

WIDTHS = pytest.mark.parametrize("bits", [32, 64])
ARGUMENT = (7).to_bytes(8, "little")


def canister(bits: int) -> str:
    """The canister whose methods are counted below, with a heap of this width."""
    text = """(module
 (import "ic0" "msg_arg_data_size" (func $size (result P)))
 (import "ic0" "msg_arg_data_copy" (func $copy (param P P P)))
 (import "ic0" "msg_reply_data_append" (func $append (param P P)))
 (import "ic0" "msg_reply" (func $reply))
 (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
 (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
 (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
 (memory W 1)
 (func $double (param P) (result P) (P.mul (local.get 0) (P.const 2)))
 (func (export "canister_update go") (local $n P)
  (call $copy (P.const 0) (P.const 0) (call $size))
  (local.set $n (P.const 10))
  (loop $again
   (P.store (P.const 64) (P.add (P.load (P.const 64)) (call $double (local.get $n))))
   (br_if $again (P.ne (local.tee $n (P.sub (local.get $n) (P.const 1))) (P.const 0))))
  (memory.fill (P.const 128) (i32.const 7) (P.const 300))
  (drop (call $grow (i64.const 1)))
  (call $write (i64.const 0) (i64.const 128) (i64.const 300))
  (call $read (i64.const 1024) (i64.const 0) (i64.const 300))
  (call $append (P.const 64) (P.const 4))
  (call $reply))
 (func (export "canister_update fail")
  (drop (call $size)) (P.store (P.const 8192) (P.const 1)) unreachable)
 (func (export "canister_update outside")
  (call $append (P.const 65530) (P.const 10)) nop)
 (func (export "canister_update spin") (loop $again (br $again)))
 (func (export "canister_update sum")
  (drop (call $size)) (drop (call $size)) (drop (call $size))))"""
    return text.replace("W", "i64" if bits == 64 else "").replace("P", f"i{bits}")


@WIDTHS
def test_a_message_that_ends_well(bits: int) -> None:
    """A loop of ten turns with a call each, bulk memory, a stable page written and read, argument and reply."""
    access = 2 if bits == 64 else 1
    entry = 1 + (1 + 1 + 5 + 5) + (1 + 1)  # copy(const, const, call size), call; const, set; loop 0
    turn = (1 + 1 + access + 1 + 5 + 1 + access) + (1 + 1 + 1 + 1 + 1 + 1 + 2)
    double = 1 + 1 + 1 + 1
    rest = (3 + 100) + (1 + 5 + 1) + (3 + 5) + (3 + 5) + (2 + 5) + 5
    fill, grow, write, read = 300, 100, 20 + 300 + 1000, 20 + 300
    api = 500 + (500 + len(ARGUMENT)) + (500 + 50 * 4) + 500
    with Harness(canister(bits)) as box:
        answer = box.one(message(arg=ARGUMENT))
        assert isinstance(answer, Finished)
        assert answer.instructions == entry + 10 * (turn + double) + rest + fill + grow + write + read + api
        assert answer.response == ReplyData((2 * 55).to_bytes(4, "little"))
        assert answer.stable_dirty_marks == 1
        assert answer.heap.indices == (0,)


@WIDTHS
def test_a_trap_counts_the_block_it_is_in(bits: int) -> None:
    """Everything up to `unreachable` is charged at entry; the call's charge comes when it is made."""
    with Harness(canister(bits)) as box:
        answer = box.one(message("fail", arg=ARGUMENT))
        assert isinstance(answer, Trapped)
        assert answer.error_code == ErrorCode.CANISTER_TRAPPED
        assert answer.instructions == 1 + (5 + 1) + (1 + 1 + (2 if bits == 64 else 1)) + 1 + 500
        assert answer.heap.indices == (2,)


@WIDTHS
def test_a_call_that_fails_is_charged(bits: int) -> None:
    """The System API's charge is taken before it looks at its arguments."""
    with Harness(canister(bits)) as box:
        answer = box.one(message("outside", arg=ARGUMENT))
        assert answer.error_code == ErrorCode.CANISTER_CONTRACT_VIOLATION
        assert answer.instructions == 1 + (1 + 1 + 5) + 1 + (500 + 50 * 10)


@WIDTHS
@pytest.mark.parametrize("slice_limit", [10_000, 2_500, 999])
def test_exhaustion_costs_the_whole_limit(bits: int, slice_limit: int) -> None:
    """However the limit is cut into slices."""
    with Harness(canister(bits)) as box:
        reply = box.execute(message("spin", instruction_limit=10_000, slice_limit=slice_limit))
        while reply.stop.value == "paused":
            reply = box.resume()
        answer = reply.answers[-1]
        assert isinstance(answer, Trapped)
        assert (answer.error_code, answer.instructions) == (ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED, 10_000)


@WIDTHS
@pytest.mark.parametrize(("limit", "ends"), [(1 + 3 * 6 + 3 * 500, True), (1 + 3 * 6 + 3 * 500 - 1, False)])
def test_the_last_instruction_decides(bits: int, limit: int, ends: bool) -> None:
    """Three calls of 5 + 500 and three drops fit exactly; with one instruction less the last charge is too much."""
    with Harness(canister(bits)) as box:
        answer = box.one(message("sum", arg=ARGUMENT, instruction_limit=limit, slice_limit=limit))
        assert isinstance(answer, Finished) == ends
        assert answer.instructions == limit
