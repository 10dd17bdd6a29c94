"""The operator table against the text format's own idea of every operator's number."""

from __future__ import annotations

import pytest

from sandbox.wasm import opcodes, simd
from sandbox.wasm.binary import CODE, Reader, sections
from sandbox.wasm.module import decode
from tests.support.wasm_samples import compile_wat

NEED_IMMEDIATE = {
    "block": "end",
    "loop": "end",
    "if": "end",
    **dict.fromkeys(("br", "br_if", "br_table", "call", "local.get", "local.set", "local.tee"), "0"),
    **dict.fromkeys(("global.get", "global.set", "i32.const", "i64.const", "f32.const", "f64.const"), "0"),
    "call_indirect": "(type 0)",
    "ref.null": "func",
    "ref.func": "0",
    "memory.init": "0",
    "data.drop": "0",
    "elem.drop": "0",
    "table.init": "0",
}
SKIP = {"else", "end", "select_typed"}

# Names as the text format spells them, with their costs for both widths where they differ from 1.
SIMD_COSTS = {
    "i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15": 3,
    **dict.fromkeys([f"{lanes}.{step}_u" for lanes in ("i8x16", "i16x8", "i32x4") for step in ("lt", "gt")], 2),
    **{"i8x16.popcnt": 3, "i8x16.shl": 3, "i8x16.shr_s": 3, "i8x16.shr_u": 2, "i64x2.shr_s": 3},
    **dict.fromkeys([f"{lanes}.{step}" for lanes in ("i16x8", "i32x4") for step in ("shl", "shr_s", "shr_u")], 2),
    **{"i64x2.shl": 2, "i64x2.shr_u": 2, "i32x4.mul": 2, "i64x2.mul": 4},
    **{"i16x8.extadd_pairwise_i8x16_u": 2, "i32x4.extadd_pairwise_i16x8_u": 3},
    **{"i16x8.extmul_high_i8x16_s": 2, "i16x8.extmul_high_i8x16_u": 2},
    **{f"i32x4.extmul_{half}_i16x8_{sign}": 2 for half in ("low", "high") for sign in "su"},
    **{
        f"{lanes}.{step}": 2
        for lanes in ("f32x4", "f64x2")
        for step in ["ceil", "floor", "trunc", "nearest", "abs", "neg", "add", "sub", "mul"]
    },
    **{"f32x4.sqrt": 5, "f64x2.sqrt": 14, "f32x4.div": 10, "f64x2.div": 12},
    **{"f32x4.min": 4, "f32x4.max": 4, "f64x2.min": 4, "f64x2.max": 5},
    **{"i32x4.trunc_sat_f32x4_s": 2, "i32x4.trunc_sat_f32x4_u": 4, "f32x4.convert_i32x4_u": 4},
    **{"i32x4.trunc_sat_f64x2_s_zero": 2, "i32x4.trunc_sat_f64x2_u_zero": 3},
}
SIMD_MEMORY = [
    *[f"v128.load{shape}" for shape in ("", "8x8_s", "8x8_u", "16x4_s", "16x4_u", "32x2_s", "32x2_u", "32_zero", "64_zero")],
    *[f"v128.load{bits}_splat" for bits in (8, 16, 32, 64)],
    *[f"v128.{step}{bits}_lane" for step in ("load", "store") for bits in (8, 16, 32, 64)],
    "v128.store",
]


def _body(operator: str) -> bytes:
    """The bytes of one operator, by the assembler of the engine (which doesn't check types)."""
    context = '(type (func)) (memory 1) (table 1 funcref) (data "") (elem func) (global i32 (i32.const 0))'
    wasm = compile_wat(f"(module {context} (func {operator}))")
    (code,) = [part for part in sections(wasm) if part.kind == CODE]
    reader = Reader(wasm, code.start, code.end)
    reader.unsigned()  # functions
    reader.unsigned()  # size
    assert reader.byte() == 0  # locals
    return wasm[reader.pos : code.end - 1]


@pytest.mark.parametrize("name", [name for name in opcodes.CODES if name not in SKIP])
def test_scalar_operators(name: str) -> None:
    """Number, and immediates as the metering loop skips them."""
    raw = _body(f"{name} {NEED_IMMEDIATE.get(name, '')}")
    assert raw[0] == opcodes.CODES[name]
    lengths = {opcodes.PLAIN: 1, opcodes.ONE_LEB: 2, opcodes.TWO_LEB: 3, opcodes.SKIP_4: 5, opcodes.SKIP_8: 9}
    kind = opcodes.KIND[raw[0]]
    if kind in lengths:
        assert len(raw) == lengths[kind] + (name == "block")


@pytest.mark.parametrize("sub", range(18))
def test_prefixed_operators(sub: int) -> None:
    """Numbers behind 0xFC."""
    name = opcodes.TRUNC_SAT[sub] if sub < 8 else opcodes.BULK[sub]
    assert _body(f"{name} {NEED_IMMEDIATE.get(name, '')}")[:2] == bytes((0xFC, sub))


@pytest.mark.parametrize(("text", "cost"), SIMD_COSTS.items())
def test_dear_vector_operators(text: str, cost: int) -> None:
    """Cost by number, the same in both widths."""
    reader = Reader(_body(text), 1)
    sub = reader.unsigned()
    assert simd.cost_table(False)[sub] == simd.cost_table(True)[sub] == cost


def test_no_other_vector_operator_is_dear() -> None:
    """All numbers whose cost isn't 1 are named above."""
    known = {Reader(_body(text), 1).unsigned() for text in SIMD_COSTS}
    assert {sub for sub, cost in enumerate(simd.cost_table(False)) if cost != 1} == known


@pytest.mark.parametrize("name", SIMD_MEMORY)
def test_vector_memory_operators(name: str) -> None:
    """1 or 2 by width; alignment, offset and lane are skipped exactly."""
    raw = _body(f"{name} 1" if "lane" in name else name)
    reader = Reader(raw, 1)
    sub = reader.unsigned()
    assert (simd.cost_table(False)[sub], simd.cost_table(True)[sub]) == (1, 2)
    lebs, fixed = simd.immediates(sub)
    assert len(raw) == reader.pos + lebs + fixed


@pytest.mark.parametrize("text", ["v128.const i64x2 1 2", "i8x16.extract_lane_s 3", "f64x2.replace_lane 1", "v128.bitselect"])
def test_vector_immediates(text: str) -> None:
    """Constants have 16 bytes, lanes one, the rest none."""
    raw = _body(text)
    reader = Reader(raw, 1)
    expected = sum(simd.immediates(reader.unsigned()))
    assert len(raw) == reader.pos + expected


@pytest.mark.parametrize(
    ("names", "complexity"),
    [
        ("block loop if br br_if br_table call call_indirect memory.grow", 50),
        ("table.get", 14),
        ("ref.func", 8),
        ("ref.is_null", 6),
        ("i32.trunc_f64_s f64.convert_i64_u i64.extend_i32_u f32.demote_f64", 5),
        ("f32.neg f64.abs memory.copy", 4),
        ("f64.copysign f64.eq i64.div_s i32.rem_u memory.fill i32.load8_s f64.load i64.trunc_sat_f32_u", 3),
        ("global.get i64.popcnt select memory.size i64.store32 i32.eqz f32.eq f64.ne f32.ceil f64.sqrt i32.wrap_i64", 2),
        ("i64.extend32_s f64.promote_f32 i32.reinterpret_f32 f64.trunc", 2),
        ("f64.nearest local.get global.set i32.add f64.add nop i32.clz f32.min end return ref.null", 1),
    ],
)
def test_complexity(names: str, complexity: int) -> None:
    """The replica's score."""
    assert {opcodes.COMPLEXITY[name] for name in names.split()} == {complexity}


def test_decoder_reads_what_the_assembler_writes() -> None:
    """A module with everything decodes to the right counts."""
    module = decode(
        compile_wat(
            '(module (import "ic0" "time" (func (result i64))) (memory i64 1 5) (table 3 4 externref) (global (mut v128) '
            '(v128.const i64x2 1 2)) (func) (start 1) (export "x" (func 1)) (data (i64.const 7) "ab") (data "c"))'
        )
    )
    assert module.wasm64
    assert (len(module.imports), len(module.functions), module.start) == (1, 1, 1)
    assert module.globals[0].initial == 1 | 2 << 64
    assert [(one.offset, one.end - one.start) for one in module.data] == [(7, 2), (None, 1)]
