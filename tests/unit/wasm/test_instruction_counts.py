"""Golden instruction counts, worked out by hand from the cost table."""

from __future__ import annotations

import pytest
import wasmtime

from sandbox.wasm.instrumentation import COUNTER
from tests.support.metered import Metered, OutOfInstructions

WIDTHS = pytest.mark.parametrize("bits", [32, 64])


def _function(body: str, bits: int = 32, signature: str = "") -> Metered:
    """A module whose export `f` has this body; `P` stands for the pointer type."""
    return Metered(
        f'(module (memory {"i64 " if bits == 64 else ""}1 100) (func (export "f") {signature} {body}))'.replace(
            "P.", f"i{bits}."
        )
    )


def test_empty_function_costs_one() -> None:
    """The block of a function starts at 1; `end` is free."""
    assert _function("").cost("f") == 1


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        ("nop", 1),
        ("(drop (i32.const 1))", 2),
        ("(drop (i32.add (i32.const 1) (i32.const 2)))", 4),
        ("(drop (i32.div_u (i32.const 1) (i32.const 2)))", 13),
        ("(drop (i64.rem_s (i64.const 1) (i64.const 2)))", 13),
        ("(drop (f32.div (f32.const 1) (f32.const 2)))", 6),
        ("(drop (f64.div (f64.const 1) (f64.const 2)))", 8),
        ("(drop (f64.min (f64.const 1) (f64.const 2)))", 21),
        ("(drop (f64.sqrt (f64.const 1)))", 10),
        ("(drop (f32.sqrt (f32.const 1)))", 7),
        ("(drop (f64.copysign (f64.const 1) (f64.const 2)))", 6),
        ("(drop (f64.convert_i64_u (i64.const 1)))", 18),
        ("(drop (f64.convert_i64_s (i64.const 1)))", 5),
        ("(drop (i32.trunc_sat_f64_u (f64.const 1)))", 22),
        ("(drop (i32.trunc_f64_u (f64.const 1)))", 22),
        ("(drop (f64.lt (f64.const 1) (f64.const 1)))", 6),
        ("(drop (memory.size))", 21),
        ("(drop (select (i32.const 1) (i32.const 2) (i32.const 3)))", 5),
        ("(drop (select (result i32) (i32.const 1) (i32.const 2) (i32.const 3)))", 5),
        ("(drop (ref.is_null (ref.null func)))", 7),
        ("(drop (i32x4.mul (v128.const i64x2 1 2) (v128.const i64x2 1 2)))", 5),
        ("(drop (f64x2.sqrt (v128.const i64x2 1 2)))", 16),
        (
            "(drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (v128.const i64x2 1 2) (v128.const i64x2 1 2)))",
            6,
        ),
    ],
)
@WIDTHS
def test_straight_line(body: str, cost: int, bits: int) -> None:
    """One block: 1 + the sum of its operators, whatever the width of the memory."""
    assert _function(body, bits).cost("f") == 1 + cost


@WIDTHS
def test_memory_access_is_dearer_in_wasm64(bits: int) -> None:
    """Loads and stores, also of vectors, cost 1 or 2."""
    body = (
        "(i32.store (P.const 8) (i32.load (P.const 16)))"
        "(v128.store (P.const 8) (v128.load8_lane 1 (P.const 0) (v128.const i64x2 1 2)))"
    )
    accesses, rest = 4, 5
    assert _function(body, bits).cost("f") == 1 + rest + accesses * (2 if bits == 64 else 1)


def test_branches_charge_what_runs() -> None:
    """Entry 1 + local.get 1 + if 2; then-arm: nop 1; else-arm: two nops 2; after `end`: nop 1."""
    f = _function("(if (local.get 0) (then nop) (else nop nop)) nop", signature="(param i32)")
    assert f.cost("f", 1) == 4 + 1 + 1
    assert f.cost("f", 0) == 4 + 2 + 1


def test_code_after_a_call_is_charged_up_front() -> None:
    """A call doesn't split a block: call 5, nop 1 and entry 1 are gone before the callee (1 + nop 1) runs."""
    module = Metered('(module (func $g nop unreachable) (func (export "f") (call $g) nop))')
    module.set(COUNTER, 100)
    with pytest.raises(wasmtime.Trap):
        module.run("f")
    assert 100 - module.get(COUNTER) == 7 + 3


def test_indirect_calls() -> None:
    """call_indirect 10 and its index 1, entry 1; the callee 1."""
    module = Metered('(module (table funcref (elem $g)) (func $g) (func (export "f") (call_indirect (i32.const 0))))')
    assert module.cost("f") == 1 + 10 + 1 + 1


def test_loop_is_charged_on_every_turn() -> None:
    """Entry: 1 + const 1 + set 1 = 3 (loop 0); a turn: get, const, sub, tee, br_if = 1+1+1+1+2; after it nothing."""
    body = "(local i32) (local.set 0 (i32.const 10)) (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))"
    assert _function(body).cost("f") == 3 + 10 * 6


def test_br_table_and_return() -> None:
    """A block ends at br_table (2) and return (1); what follows is charged only when reached."""
    body = "(block (block (br_table 0 1 (local.get 0))) nop (return)) nop nop"
    f = _function(body, signature="(param i32)")
    assert f.cost("f", 0) == 1 + 1 + 2 + 2  # after the inner end: nop, return
    assert f.cost("f", 1) == 1 + 1 + 2 + 2  # after the outer end: two nops


@WIDTHS
def test_bulk_memory_is_charged_per_byte(bits: int) -> None:
    """fill and copy: 100 + 3 operands + one per byte."""
    assert _function("(memory.fill (P.const 0) (i32.const 1) (P.const 500))", bits).cost("f") == 1 + 103 + 500
    assert _function("(memory.copy (P.const 0) (P.const 1000) (P.const 300))", bits).cost("f") == 1 + 103 + 300


@WIDTHS
def test_memory_init_takes_its_bytes_from_the_passive_segment(bits: int) -> None:
    """init 100 + 3 operands + one per byte; data.drop 300; the size is an i32 in either width."""
    wide = "i64 " if bits == 64 else ""
    module = Metered(
        f'(module (memory {wide}1) (data (i{bits}.const 8) "active") (data "passive") (func (export "f") '
        f"(memory.init 1 (i{bits}.const 100) (i32.const 0) (i32.const 7)) (data.drop 1)))"
    )
    assert module.cost("f") == 1 + 103 + 300 + 7
    assert module.memory("memory").read(module.store, 100, 107) == b"passive"
    assert module.memory("memory").read(module.store, 8, 14) == b"active"
    assert not module.prepared.info.reuse_safe


@WIDTHS
def test_memory_grow_costs_300_and_is_reported(bits: int) -> None:
    """grow 300, operand 1, drop 1; the host hears of the old size and the pages asked for, also of a failure."""
    module = _function("(drop (memory.grow (P.const 2))) (drop (memory.grow (P.const 1000)))", bits)
    assert module.cost("f") == 1 + 2 * 302
    assert module.calls == [("try_grow_wasm_memory", 1, 2), ("try_grow_wasm_memory", -1, 1000)]


def test_memory_grow_takes_the_hosts_result() -> None:
    """What the hook returns is what the canister sees."""
    module = Metered(
        '(module (memory 1) (func (export "f") (param i64 i32) (result i32) (local i32 i32 f64) (memory.grow (i32.const 1))))',
        answers={"try_grow_wasm_memory": lambda result, pages: 77},
    )
    module.set(COUNTER, 1000)
    assert module.run("f", 1, 1) == 77


def test_exhaustion_is_noticed_at_loop_heads_and_entries() -> None:
    """The counter goes below zero at the turn that is too much, and stays there for the host to see."""
    module = _function("(loop (br 0))")
    module.set(COUNTER, 100)
    with pytest.raises(OutOfInstructions):
        module.run("f")
    assert module.get(COUNTER) == -1  # entry 1, 50 turns of br 2


def test_further_slices_go_on_where_the_last_ended() -> None:
    """The handler's new counter is used from there on; nothing is charged twice."""
    body = "(local i32) (local.set 0 (i32.const 100)) (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))"
    module = _function(body)
    module.slices = [200, 200, 200]
    module.set(COUNTER, 100)
    module.run("f")
    # 3 + 100 turns of 6; each slice ends with the turn that overshoots.
    first = 3 + 17 * 6  # 105
    assert len(module.slices) == 0
    left = 100 * 6 - 17 * 6 - 2 * 34 * 6
    assert (first, module.get(COUNTER)) == (105, 200 - left)


def test_bulk_exhaustion_is_noticed_before_the_bytes_are_written() -> None:
    """The charge by size is checked at once."""
    module = _function("(memory.fill (i32.const 0) (i32.const 1) (i32.const 5000))")
    module.set(COUNTER, 1000)
    with pytest.raises(OutOfInstructions):
        module.run("f")
    assert module.get(COUNTER) == 1000 - 104 - 5000
    assert module.memory("memory").read(module.store, 0, 4) == bytes(4)


def test_huge_size_exhausts_and_cannot_wrap() -> None:
    """A 64-bit size that would turn the counter around sets it to the minimum."""
    module = _function("(memory.fill (i64.const 0) (i32.const 1) (i64.const -5))", 64)
    module.set(COUNTER, 1000)
    with pytest.raises(OutOfInstructions):
        module.run("f")
    assert module.get(COUNTER) == -(1 << 63)


def test_size_charge_at_the_start_of_a_block_comes_before_the_blocks() -> None:
    """With operands from before a loop, the charge by size is the first injection, so the loop's own isn't taken yet."""
    body = "(i32.const 0) (i32.const 1) (i32.const 50) (loop (param i32 i32 i32) memory.fill nop)"
    module = _function(body)
    assert module.cost("f") == 1 + 3 + 100 + 1 + 50
    module.set(COUNTER, 30)
    with pytest.raises(OutOfInstructions):
        module.run("f")
    assert module.get(COUNTER) == 30 - 4 - 50


def test_start_function_is_an_export_of_its_own() -> None:
    """Instantiation doesn't run it; called, it is metered like any function."""
    module = Metered("(module (global (mut i32) (i32.const 5)) (func $s (global.set 0 (i32.const 9))) (start $s))")
    assert module.get("__persistent_mutable_global_0") == 5
    assert module.cost("canister_start") == 1 + 1 + 2
    assert module.get("__persistent_mutable_global_0") == 9
