"""Mutated modules: nothing but InvalidWasm ever comes out, and what is accepted compiles."""

from __future__ import annotations

import contextlib
import gzip

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.limits import GIB, SubnetLimits
from ic_types.errors import InvalidWasm
from sandbox.engine_config import make_engine
from sandbox.wasm import binary
from sandbox.wasm.prepare import prepare
from tests.support.wasm_samples import CALLER, LIFECYCLE, SAMPLES, STABLE, compile_wat

LIMITS = SubnetLimits(max_stable_memory=1 * GIB)
MIXED = """(module
  (import "ic0" "trap" (func (param i32 i32))) (import "ic0" "stable_read" (func (param i32 i32 i32)))
  (memory 1 3) (table 4 funcref) (elem (i32.const 1) 0 2) (elem declare func 3) (elem func 1)
  (elem (i32.const 0) funcref (ref.func 2))
  (global (mut i64) (i64.const 5)) (global (mut v128) (v128.const i64x2 1 2)) (global (export "g") (mut f32) (f32.const 1))
  (data (i32.const 4) "abc") (data "passive")
  (func (export "canister_update x") (param) (local i32 i64 f64)
    (block (loop (br_if 1 (local.get 0)) (br_table 0 1 0 (i32.const 3))))
    (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 1))
    (drop (select (result i32) (i32.const 1) (i32.const 2) (memory.grow (i32.const 1)))) (data.drop 1)
    (drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (global.get 1) (v128.load8_lane 3 (i32.const 0) (global.get 1))))
    (call_indirect (type 0) (i32.const 0) (i32.const 0) (i32.const 1)) (drop (ref.func 3))
    (f32.store (i32.const 1) (f32.const 2)))
  (func (export "canister_query y") (if (i32.const 1) (then (call 0 (i32.const 0) (i32.const 1))) (else (return))))
  (start 3))"""
SOURCES = [compile_wat(text) for text in (MIXED, CALLER, STABLE, LIFECYCLE)]
_ENGINE: list[wasmtime.Engine] = []


def _try(wasm: bytes) -> bool:
    """Prepare; if that works, the result must compile. True when accepted."""
    try:
        prepared = prepare(wasm, LIMITS)
    except InvalidWasm as error:
        # `prepare` would hide a decoder that stumbles behind a refusal.
        if isinstance(error.__cause__, (IndexError, OverflowError)):
            raise error.__cause__ from error
        return False
    if not _ENGINE:
        _ENGINE.append(make_engine())
    wasmtime.Module.validate(_ENGINE[0], prepared.code)
    return True


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_samples_are_accepted(name: str) -> None:
    """As they are, and packed."""
    wasm = compile_wat(SAMPLES[name])
    assert _try(wasm)
    assert _try(gzip.compress(wasm))


def test_unmutated_modules_are_accepted() -> None:
    """Otherwise the mutations below would test little."""
    assert all(_try(wasm) for wasm in SOURCES)


def test_every_truncation() -> None:
    """A module cut anywhere is refused, or is a smaller valid one."""
    for wasm in SOURCES:
        for size in range(len(wasm)):
            _try(wasm[:size])


def test_every_byte_replaced() -> None:
    """Each byte set to a few telling values."""
    for wasm in SOURCES[:2]:
        for position in range(8, len(wasm)):
            for value in (0x00, 0x40, 0x7F, 0x80, 0xFF, wasm[position] ^ 1, wasm[position] + 1 & 255):
                _try(wasm[:position] + bytes((value,)) + wasm[position + 1 :])


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_random_edits(data: st.DataObject) -> None:
    """Bytes replaced, inserted, removed and repeated."""
    wasm = bytearray(data.draw(st.sampled_from(SOURCES)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(wasm) - 1))
        match data.draw(st.sampled_from("rida")):
            case "r":
                wasm[at] = data.draw(st.integers(0, 255))
            case "i":
                wasm[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case "d":
                del wasm[at : at + data.draw(st.integers(1, 8))]
            case "a":
                wasm[at:at] = wasm[at : at + data.draw(st.integers(1, 32))]
    _try(bytes(wasm))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_sections_moved_and_mixed(data: st.DataObject) -> None:
    """Sections of two modules in any order and number."""
    pool = [
        binary.section(part.kind, wasm[part.start : part.end])
        for wasm in data.draw(st.lists(st.sampled_from(SOURCES), min_size=1, max_size=2))
        for part in binary.sections(wasm)
    ]
    chosen = data.draw(st.lists(st.sampled_from(pool), max_size=len(pool)))
    _try(
        binary.HEADER
        + b"".join(chosen if data.draw(st.booleans()) else sorted(chosen, key=lambda part: (part[0] == 0, part[0])))
    )


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=64))
def test_random_bytes(raw: bytes) -> None:
    """Bare, after the header, and as gzip streams."""
    for wasm in (raw, binary.HEADER + raw, b"\x1f\x8b\x08" + raw, gzip.compress(binary.HEADER + raw)):
        _try(wasm)


@given(st.integers(0, (1 << 64) - 1))
def test_unsigned_numbers(value: int) -> None:
    """LEB128 there and back."""
    raw = binary.unsigned(value)
    assert binary.Reader(raw).unsigned() == value
    assert len(raw) == max(1, -(-value.bit_length() // 7))


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_signed_numbers(value: int) -> None:
    """LEB128 there and back."""
    assert binary.Reader(binary.signed(value)).signed() == value


@given(st.binary(max_size=12))
def test_reader_refuses_cleanly(raw: bytes) -> None:
    """Whatever the bytes, a number or InvalidWasm."""
    for step in (binary.Reader.unsigned, binary.Reader.signed, binary.Reader.name):
        with contextlib.suppress(InvalidWasm):
            step(binary.Reader(raw))
