"""The operator table: names, immediates, instruction cost and complexity of every operator a canister may use.

Rule module. Costs are the replica's `instruction_to_cost`, complexity its `wasm_function_complexity`. What is not
listed costs 1 and has complexity 1.
"""

from __future__ import annotations

# Kinds of operators for the metering loop. Those below CALL have nothing but immediates; BREAK to BREAK_TABLE end a block.
PLAIN, ONE_LEB, TWO_LEB, SKIP_4, SKIP_8 = range(5)
CALL, BREAK, END, IF, LOOP, RETURN, BREAK_TABLE = range(5, 12)
PREFIX_FC, PREFIX_FD, GROW, REF_FUNC, TYPED_SELECT, TABLE_SET, UNKNOWN = range(12, 19)

_CONVERSIONS = (
    "i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u i64.extend_i32_s i64.extend_i32_u "
    "i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u f32.convert_i32_s f32.convert_i32_u f32.convert_i64_s "
    "f32.convert_i64_u f32.demote_f64 f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s f64.convert_i64_u f64.promote_f32 "
    "i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64 i32.extend8_s i32.extend16_s "
    "i64.extend8_s i64.extend16_s i64.extend32_s"
)
_INTEGER = "clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr"
_FLOAT = "abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign"
_COMPARE_INTEGER = "eqz eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u"
_COMPARE_FLOAT = "eq ne lt gt le ge"
_LOADS = (
    "i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u i64.load8_s i64.load8_u "
    "i64.load16_s i64.load16_u i64.load32_s i64.load32_u"
)
_STORES = "i32.store i64.store f32.store f64.store i32.store8 i32.store16 i64.store8 i64.store16 i64.store32"
_STRUCTURE = {
    0x00: "unreachable",
    0x01: "nop",
    0x02: "block",
    0x03: "loop",
    0x04: "if",
    0x05: "else",
    0x0B: "end",
    0x0C: "br",
    0x0D: "br_if",
    0x0E: "br_table",
    0x0F: "return",
    0x10: "call",
    0x11: "call_indirect",
    0x1A: "drop",
    0x1B: "select",
    0x1C: "select_typed",
    0x20: "local.get",
    0x21: "local.set",
    0x22: "local.tee",
    0x23: "global.get",
    0x24: "global.set",
    0x25: "table.get",
    0x26: "table.set",
    0x3F: "memory.size",
    0x40: "memory.grow",
    0x41: "i32.const",
    0x42: "i64.const",
    0x43: "f32.const",
    0x44: "f64.const",
    0xD0: "ref.null",
    0xD1: "ref.is_null",
    0xD2: "ref.func",
}
_TRUNC_SAT = (
    "i32.trunc_sat_f32_s i32.trunc_sat_f32_u i32.trunc_sat_f64_s i32.trunc_sat_f64_u i64.trunc_sat_f32_s i64.trunc_sat_f32_u "
    "i64.trunc_sat_f64_s i64.trunc_sat_f64_u"
)
BULK = {
    8: "memory.init",
    9: "data.drop",
    10: "memory.copy",
    11: "memory.fill",
    12: "table.init",
    13: "elem.drop",
    14: "table.copy",
    15: "table.grow",
    16: "table.size",
    17: "table.fill",
}
"""Names behind the prefix 0xFC, from 8 on."""


def _prefixed(prefix: str, names: str) -> list[str]:
    return [f"{prefix}.{one}" for one in names.split()]


def _names() -> dict[int, str]:
    """Name of every one-byte operator."""
    names = dict(_STRUCTURE)
    names.update(enumerate(_LOADS.split() + _STORES.split(), 0x28))
    rows = _prefixed("i32", _COMPARE_INTEGER) + _prefixed("i64", _COMPARE_INTEGER)
    rows += _prefixed("f32", _COMPARE_FLOAT) + _prefixed("f64", _COMPARE_FLOAT)
    rows += _prefixed("i32", _INTEGER) + _prefixed("i64", _INTEGER) + _prefixed("f32", _FLOAT) + _prefixed("f64", _FLOAT)
    names.update(enumerate(rows + _CONVERSIONS.split(), 0x45))
    return names


NAMES = _names()
CODES = {name: code for code, name in NAMES.items()}
TRUNC_SAT = _TRUNC_SAT.split()


def _table(default: int, rows: list[tuple[int, str]]) -> dict[str, int]:
    table = dict.fromkeys(list(CODES) + TRUNC_SAT + list(BULK.values()), default)
    for value, names in rows:
        for one in names.split():
            assert one in table, f"no operator is called {one}"
            table[one] = value
    return table


def _both(names: str, prefixes: str = "i32 i64") -> str:
    return " ".join(f"{prefix}.{one}" for prefix in prefixes.split() for one in names.split())


_FLOATS = "f32 f64"
_CONVERT_U = _both("convert_i32_u convert_i64_u", _FLOATS)
_CONVERT_S = _both("convert_i32_s convert_i64_s", _FLOATS)
_TRUNCS = _both("trunc_f32_s trunc_f32_u trunc_f64_s trunc_f64_u")

COST = _table(
    1,
    [
        (0, "block loop else end"),
        (10, _both("div_s div_u rem_s rem_u")),
        (2, _both("add sub mul ceil floor trunc nearest", _FLOATS)),
        (3, "f32.div f64.copysign " + _both(_COMPARE_FLOAT, _FLOATS)),
        (5, "f64.div f32.sqrt table.get table.set call ref.is_null"),
        (18, _both("min max", _FLOATS)),
        (2, "f32.copysign global.get global.set if br br_if br_table"),
        (8, "f64.sqrt"),
        (3, _CONVERT_S),
        (16, _CONVERT_U),
        (20, f"{_TRUNCS} {_TRUNC_SAT} memory.size"),
        (300, "table.grow memory.grow data.drop elem.drop"),
        (100, "table.size memory.fill memory.copy memory.init table.fill table.copy table.init"),
        (10, "call_indirect"),
        (130, "ref.func"),
    ],
)
"""Instructions per scalar operator with a 32-bit main memory."""

COMPLEXITY = _table(
    1,
    [
        (50, "block loop if br br_if br_table call call_indirect memory.grow"),
        (14, "table.get"),
        (8, "ref.func"),
        (6, "ref.is_null"),
        (5, f"{_TRUNCS} {_CONVERT_S} {_CONVERT_U} i64.extend_i32_s i64.extend_i32_u f32.demote_f64"),
        (4, _both("neg abs", _FLOATS) + " memory.copy"),
        (3, "f32.copysign f64.copysign f64.eq memory.fill " + _both("div_s div_u rem_s rem_u") + f" {_LOADS} {_TRUNC_SAT}"),
        (2, f"global.get i32.popcnt i64.popcnt select memory.size {_STORES} " + _both(_COMPARE_INTEGER)),
        (2, _both("ne lt gt le ge ceil floor sqrt trunc", _FLOATS) + " f32.eq i32.wrap_i64 f64.promote_f32"),
        (2, "i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64"),
        (2, "i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s"),
    ],
)
UNSUPPORTED = frozenset({"table.grow", "table.set", "table.fill", "table.copy", "table.init"})
"""Refused wherever they stand in a function."""

_KINDS = {
    ONE_LEB: "block local.get local.set local.tee global.get global.set table.get memory.size i32.const i64.const ref.null",
    TWO_LEB: f"call_indirect {_LOADS} {_STORES}",
    SKIP_4: "f32.const",
    SKIP_8: "f64.const",
    CALL: "call",
    BREAK: "br br_if",
    END: "end else",
    IF: "if",
    LOOP: "loop",
    RETURN: "return unreachable",
    BREAK_TABLE: "br_table",
    GROW: "memory.grow",
    REF_FUNC: "ref.func",
    TYPED_SELECT: "select_typed",
    TABLE_SET: "table.set",
}


def _kind_table() -> list[int]:
    kinds = [PLAIN if code in NAMES else UNKNOWN for code in range(256)]
    for kind, names in _KINDS.items():
        for one in names.split():
            kinds[CODES[one]] = kind
    kinds[0xFC], kinds[0xFD] = PREFIX_FC, PREFIX_FD
    return kinds


KIND = _kind_table()
"""Kind of each one-byte operator."""

MARK_3, MARK_4 = 0xF0, 0xF1
"""Stand-ins for two-byte operators of complexity 3 and 4 where a function's operators are kept as one byte each."""
COMPLEXITY_BYTES = bytearray(COMPLEXITY.get(NAMES.get(code, ""), 1) for code in range(256))
COMPLEXITY_BYTES[MARK_3], COMPLEXITY_BYTES[MARK_4] = 3, 4


def cost_table(wasm64: bool) -> list[int]:
    """Cost of each one-byte operator; 0 for the prefixes, whose operators are looked up by their second number."""
    table = [COST.get(NAMES.get(code, ""), 0) for code in range(256)]
    if wasm64:
        for code in range(0x28, 0x3F):
            table[code] = 2
    return table


def bulk_cost(sub: int) -> int:
    """Static cost of an operator behind the prefix 0xFC."""
    return COST[TRUNC_SAT[sub] if sub < 8 else BULK[sub]]
