"""Random canisters: valid modules that run, grown from a seed, and valid mutations of real ones.

Expressions are grown by the type that is wanted, as wasm-smith does it. Loops count down, calls mostly go to later functions,
addresses are mostly masked; what still runs too long or out of bounds traps, which is a result like any other.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from sandbox.wasm import binary, opcodes
from sandbox.wasm.binary import F32, F64, FUNCREF, I32, I64, V128, signed, unsigned, vector
from sandbox.wasm.imports import SIGNATURES
from sandbox.wasm.module import decode

NUMBERS = (I32, I64, F32, F64)


def _words(text: str) -> list[str]:
    return text.split()


_PREFIX = {I32: "i32", I64: "i64", F32: "f32", F64: "f64"}
_INTEGER = [
    "add",
    "sub",
    "mul",
    "div_s",
    "div_u",
    "rem_s",
    "rem_u",
    "and",
    "or",
    "xor",
    "shl",
    "shr_s",
    "shr_u",
    "rotl",
    "rotr",
]
_FLOAT = ["add", "sub", "mul", "div", "min", "max", "copysign"]
_UNARY_INTEGER, _UNARY_FLOAT = ["clz", "ctz", "popcnt"], ["abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt"]
_COMPARE_INTEGER = ["eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"]
_COMPARE_FLOAT = ["eq", "ne", "lt", "gt", "le", "ge"]
_CONVERSIONS: dict[int, list[tuple[str, int]]] = {
    I32: [
        ("i32.wrap_i64", I64),
        ("i32.reinterpret_f32", F32),
        ("i32.extend8_s", I32),
        ("i32.extend16_s", I32),
        ("i32.eqz", I32),
    ],
    I64: [("i64.extend_i32_s", I32), ("i64.extend_i32_u", I32), ("i64.reinterpret_f64", F64), ("i64.extend32_s", I64)],
    F32: [("f32.convert_i32_s", I32), ("f32.convert_i64_u", I64), ("f32.demote_f64", F64), ("f32.reinterpret_i32", I32)],
    F64: [("f64.convert_i32_u", I32), ("f64.convert_i64_s", I64), ("f64.promote_f32", F32), ("f64.reinterpret_i64", I64)],
}
_TRAPPING = {
    I32: [("i32.trunc_f32_s", F32), ("i32.trunc_f64_u", F64)],
    I64: [("i64.trunc_f32_u", F32), ("i64.trunc_f64_s", F64)],
}
_LOADS = {
    I32: ["i32.load", "i32.load8_s", "i32.load8_u", "i32.load16_s", "i32.load16_u"],
    I64: ["i64.load", "i64.load8_s", "i64.load8_u", "i64.load16_u", "i64.load32_s", "i64.load32_u"],
    F32: ["f32.load"], F64: ["f64.load"],
}  # fmt: skip
_STORES = {
    I32: ["i32.store", "i32.store8", "i32.store16"], I64: ["i64.store", "i64.store8", "i64.store16", "i64.store32"],
    F32: ["f32.store"], F64: ["f64.store"],
}  # fmt: skip
_APIS = _words(
    "msg_arg_data_size msg_arg_data_copy msg_reply msg_reply_data_append msg_reject stable64_size stable64_grow stable64_read "
    "stable64_write time performance_counter canister_version global_timer_set certified_data_set debug_print trap "
    "canister_cycle_balance128 msg_cycles_available128 msg_cycles_accept128 in_replicated_execution msg_caller_size "
    "msg_caller_copy"
)
_APIS_32 = ["stable_size", "stable_grow", "stable_read", "stable_write"]
METHODS = ("a", "b", "c")
_MASKS = (0xFFF, 0xFFFF, 0x1FFFF, 0xFFFFFFFF)


def _op(name: str) -> bytes:
    return bytes((opcodes.CODES[name],))


@dataclass
class _Function:
    """A function while it is grown."""

    params: bytes
    results: bytes
    index: int
    locals: list[int] = field(default_factory=list)
    """Types, parameters first."""
    counters: list[int] = field(default_factory=list)
    """Locals that count turns of open loops, which nothing else may write."""
    labels: list[bool] = field(default_factory=list)
    """Open structures; True where a branch goes forward."""

    def new_local(self, kind: int) -> int:
        """A further local."""
        self.locals.append(kind)
        return len(self.locals) - 1


class _Grower:
    """One module."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.wide = rng.random() < 0.3
        self.pointer = I64 if self.wide else I32
        self.apis = [name for name in _APIS + ([] if self.wide else _APIS_32) if rng.random() < 0.6]
        self.apis += [name for name in ("msg_reply", "msg_reply_data_append") if name not in self.apis]
        self.signatures = [SIGNATURES[self.wide][name] for name in self.apis]
        self.heap_min, self.passive = rng.randint(1, 3), rng.random() < 0.4
        self.simd, self.floats = rng.random() < 0.4, rng.random() < 0.8
        self.globals = [
            (rng.choice([*NUMBERS, V128] if self.simd else NUMBERS), rng.random() < 0.85) for _ in range(rng.randint(1, 5))
        ]
        self.functions = self._plan()
        self.turns = rng.choice((3, 20, 200, 2000))

    def _plan(self) -> list[_Function]:
        """Types of all own functions: entries first, helpers after them, so that calls go forward."""
        rng = self.rng
        found = [_Function(b"", b"", len(self.apis) + k) for k in range(len(METHODS) + 2)]
        for k in range(rng.randint(1, 5)):
            params = bytes(rng.choice(NUMBERS) for _ in range(rng.randint(0, 3)))
            results = bytes(rng.choice(NUMBERS) for _ in range(rng.choice((0, 1, 1, 1, 2))))
            if k == 0:
                params, results = bytes((I32,)), bytes((I32,))  # the type of indirect calls
            found.append(_Function(params, results, len(self.apis) + len(METHODS) + 2 + k))
        for one in found:
            one.locals = list(one.params)
        return found

    # --- expressions

    def const(self, kind: int) -> bytes:
        rng = self.rng
        if kind in (I32, I64):
            bits = 32 if kind == I32 else 64
            value = rng.choice((0, 1, -1, rng.randint(-64, 64), rng.getrandbits(bits) - (1 << bits - 1), (1 << bits - 1) - 1))
            return _op(f"{_PREFIX[kind]}.const") + signed(value)
        if kind == V128:
            return b"\xfd\x0c" + rng.randbytes(16)
        number = rng.choice((0.0, -0.0, 1.5, -2.25, 1e30, float("inf"), float("nan"), rng.uniform(-1e6, 1e6)))
        if kind == F32:
            return _op("f32.const") + (struct.pack("<f", number) if rng.random() < 0.7 else rng.randbytes(4))
        return _op("f64.const") + (struct.pack("<d", number) if rng.random() < 0.7 else rng.randbytes(8))

    def small(self, most: int) -> bytes:
        """A pointer-wide number from 0 to `most`."""
        return _op(f"{_PREFIX[self.pointer]}.const") + signed(self.rng.randint(0, most))

    def expression(self, f: _Function, kind: int, depth: int) -> bytes:
        """Code that leaves one value of this type."""
        rng = self.rng
        if depth <= 0 or rng.random() < 0.15:
            return self.leaf(f, kind)
        if kind == V128:
            return self.vector(f, depth)
        ways: list[Callable[[_Function, int, int], bytes]] = [
            self.binary, self.binary, self.binary, self.unary, self.convert, self.load, self.leaf, self.select, self.if_value,
            self.tee, self.call_value, self.block_value,
        ]  # fmt: skip
        if kind == I32:
            ways += [self.compare, self.compare]
        return rng.choice(ways)(f, kind, depth - 1)

    def leaf(self, f: _Function, kind: int, _depth: int = 0) -> bytes:
        rng = self.rng
        options = [lambda: self.const(kind)]
        locals_ = [k for k, one in enumerate(f.locals) if one == kind]
        if locals_:
            options += [lambda: _op("local.get") + unsigned(rng.choice(locals_))] * 3
        globals_ = [k for k, (one, _) in enumerate(self.globals) if one == kind]
        if globals_:
            options += [lambda: _op("global.get") + unsigned(rng.choice(globals_))] * 2
        if kind == self.pointer:
            options.append(lambda: _op("memory.size") + b"\0")
        for api in (
            "time",
            "performance_counter",
            "stable64_size",
            "msg_arg_data_size",
            "stable_size",
            "in_replicated_execution",
        ):
            if api in self.apis and SIGNATURES[self.wide][api][1] == bytes((kind,)):
                argument = _op("i32.const") + b"\0" if api == "performance_counter" else b""
                options.append(lambda api=api, argument=argument: argument + self.call_api(api))  # type: ignore[misc]
        return rng.choice(options)()

    def binary(self, f: _Function, kind: int, depth: int) -> bytes:
        names = _INTEGER if kind in (I32, I64) else _FLOAT
        if not self.floats and kind in (F32, F64):
            return self.leaf(f, kind)
        name = self.rng.choice(names)
        right = self.expression(f, kind, depth)
        if name.startswith(("div_", "rem_")) and self.rng.random() < 0.8:
            right += _op(f"{_PREFIX[kind]}.const") + b"\1" + _op(f"{_PREFIX[kind]}.or")
        return self.expression(f, kind, depth) + right + _op(f"{_PREFIX[kind]}.{name}")

    def unary(self, f: _Function, kind: int, depth: int) -> bytes:
        names = _UNARY_INTEGER if kind in (I32, I64) else _UNARY_FLOAT
        return self.expression(f, kind, depth) + _op(f"{_PREFIX[kind]}.{self.rng.choice(names)}")

    def convert(self, f: _Function, kind: int, depth: int) -> bytes:
        if kind in _TRAPPING and self.rng.random() < 0.3:
            if self.rng.random() < 0.3:
                name, source = self.rng.choice(_TRAPPING[kind])
                return self.expression(f, source, depth) + _op(name)
            base = 0 if kind == I32 else 4
            sub = self.rng.randrange(4)
            return self.expression(f, F32 if sub < 2 else F64, depth) + b"\xfc" + unsigned(base + sub)
        name, source = self.rng.choice(_CONVERSIONS[kind])
        return self.expression(f, source, depth) + _op(name)

    def compare(self, f: _Function, _kind: int, depth: int) -> bytes:
        source = self.rng.choice(NUMBERS)
        names = _COMPARE_INTEGER if source in (I32, I64) else _COMPARE_FLOAT
        both = self.expression(f, source, depth) + self.expression(f, source, depth)
        return both + _op(f"{_PREFIX[source]}.{self.rng.choice(names)}")

    def address(self, f: _Function, depth: int) -> bytes:
        mask = self.rng.choices(_MASKS, (4, 10, 2, 1))[0]
        if mask == 0xFFFFFFFF and not self.wide:
            mask = -1
        code = self.expression(f, self.pointer, min(depth, 1))
        return code + _op(f"{_PREFIX[self.pointer]}.const") + signed(mask) + _op(f"{_PREFIX[self.pointer]}.and")

    def memarg(self) -> bytes:
        return b"\0" + unsigned(self.rng.choice((0, 0, 8, 100, 5000)))

    def load(self, f: _Function, kind: int, depth: int) -> bytes:
        return self.address(f, depth) + _op(self.rng.choice(_LOADS[kind])) + self.memarg()

    def select(self, f: _Function, kind: int, depth: int) -> bytes:
        values = self.expression(f, kind, depth) + self.expression(f, kind, depth) + self.expression(f, I32, depth)
        return values + (_op("select") if self.rng.random() < 0.7 else _op("select_typed") + b"\1" + bytes((kind,)))

    def if_value(self, f: _Function, kind: int, depth: int) -> bytes:
        code = self.expression(f, I32, depth) + _op("if") + bytes((kind,))
        f.labels.append(False)  # a branch there would have to carry a value
        then, other = self.expression(f, kind, depth), self.expression(f, kind, depth)
        f.labels.pop()
        return code + then + _op("else") + other + _op("end")

    def block_value(self, f: _Function, kind: int, depth: int) -> bytes:
        f.labels.append(False)
        inner = self.statements(f, depth, 2) + self.expression(f, kind, depth)
        if self.rng.random() < 0.4:
            inner += self.expression(f, I32, depth) + _op("br_if") + b"\0"
        f.labels.pop()
        return _op("block") + bytes((kind,)) + inner + _op("end")

    def tee(self, f: _Function, kind: int, depth: int) -> bytes:
        free = [k for k, one in enumerate(f.locals) if one == kind and k not in f.counters]
        local = self.rng.choice(free) if free and self.rng.random() < 0.7 else f.new_local(kind)
        return self.expression(f, kind, depth) + _op("local.tee") + unsigned(local)

    def call_value(self, f: _Function, kind: int, depth: int) -> bytes:
        """A call with one result of this type, else something simpler."""
        rng = self.rng
        if kind == I32 and rng.random() < 0.3:
            index = _op("i32.const") + signed(rng.choice((0, 0, 0, 1, 2, 3, 9)))
            return self.expression(f, I32, depth) + index + _op("call_indirect") + unsigned(self.type_of(self.indirect)) + b"\0"
        later = [one for one in self.functions if one.results == bytes((kind,)) and one.index > f.index]
        if not later:
            return self.leaf(f, kind)
        return self.call(f, rng.choice(later), depth)

    def call(self, f: _Function, target: _Function, depth: int) -> bytes:
        return b"".join(self.expression(f, one, min(depth, 1)) for one in target.params) + _op("call") + unsigned(target.index)

    def vector(self, f: _Function, depth: int) -> bytes:
        rng = self.rng

        def two() -> bytes:
            return self.expression(f, V128, depth - 1)

        match rng.randrange(6):
            case 0:
                return self.expression(f, I32, depth - 1) + b"\xfd\x11"  # i32x4.splat
            case 1:
                return self.expression(f, F64, depth - 1) + b"\xfd\x14"  # f64x2.splat
            case 2:
                # i32x4.add, i64x2.mul, f32x4.mul, f64x2.div, f64x2.min, v128.xor, i8x16.sub, i32x4.lt_u
                return two() + two() + b"\xfd" + unsigned(rng.choice((0xAE, 0xD5, 0xE6, 0xF3, 0xF4, 0x51, 0x71, 0x3A)))
            case 3:
                return two() + b"\xfd" + unsigned(rng.choice((0xE3, 0x4D, 0x62, 0xE1, 0xF8)))  # sqrt, not, popcnt, neg, trunc
            case 4:
                return self.address(f, 1) + b"\xfd\x00" + self.memarg()
            case _:
                return two() + two() + b"\xfd\x0d" + bytes(rng.randrange(32) for _ in range(16))

    # --- statements

    def statements(self, f: _Function, depth: int, most: int) -> bytes:
        return b"".join(self.statement(f, depth) for _ in range(self.rng.randint(0, most)))

    def statement(self, f: _Function, depth: int) -> bytes:
        ways = [
            self.set_local, self.set_local, self.store, self.store, self.set_global, self.set_global, self.drop, self.call_void,
            self.api, self.api, self.bulk, self.branch, self.nothing,
        ]  # fmt: skip
        if depth > 0:
            ways += [self.loop, self.loop, self.if_, self.if_, self.block]
        return self.rng.choice(ways)(f, depth - 1)

    def nothing(self, _f: _Function, _depth: int) -> bytes:
        return _op("nop")

    def set_local(self, f: _Function, depth: int) -> bytes:
        kind = self.rng.choice(NUMBERS)
        return self.tee(f, kind, max(depth, 1)) + _op("drop")

    def set_global(self, f: _Function, depth: int) -> bytes:
        mutable = [k for k, (_, one) in enumerate(self.globals) if one]
        if not mutable:
            return b""
        index = self.rng.choice(mutable)
        return self.expression(f, self.globals[index][0], depth) + _op("global.set") + unsigned(index)

    def store(self, f: _Function, depth: int) -> bytes:
        if self.simd and self.rng.random() < 0.2:
            return self.address(f, depth) + self.expression(f, V128, depth) + b"\xfd\x0b" + self.memarg()
        kind = self.rng.choice(NUMBERS)
        return self.address(f, depth) + self.expression(f, kind, depth) + _op(self.rng.choice(_STORES[kind])) + self.memarg()

    def drop(self, f: _Function, depth: int) -> bytes:
        return self.expression(f, self.rng.choice(NUMBERS), depth) + _op("drop")

    def call_void(self, f: _Function, depth: int) -> bytes:
        later = [one for one in self.functions if one.index > f.index and one.params + one.results]
        if not later:
            return b""
        target = self.rng.choice(later)
        return self.call(f, target, depth) + _op("drop") * len(target.results)

    def bulk(self, f: _Function, depth: int) -> bytes:
        rng = self.rng
        match rng.randrange(5 if self.passive else 3):
            case 0:
                return self.address(f, depth) + self.expression(f, I32, 0) + self.small(3000) + b"\xfc\x0b\0"
            case 1:
                return self.address(f, depth) + self.address(f, depth) + self.small(3000) + b"\xfc\x0a\0\0"
            case 2:
                return self.small(rng.choice((0, 1, 1, 2, 70_000))) + _op("memory.grow") + b"\0" + _op("drop")
            case 3:
                offset = _op("i32.const") + signed(rng.randint(0, 6))
                return self.address(f, depth) + offset + _op("i32.const") + signed(rng.randint(0, 5)) + b"\xfc\x08\0\0"
            case _:
                return b"\xfc\x09\0" if rng.random() < 0.2 else b""

    def branch(self, f: _Function, depth: int) -> bytes:
        rng = self.rng
        forward = [k for k, ahead in enumerate(reversed(f.labels)) if ahead]
        if not forward or rng.random() < 0.1:
            if f.results or rng.random() < 0.7:
                return b""
            return self.expression(f, I32, depth) + _op("if") + b"\x40" + _op("return") + _op("end")
        if rng.random() < 0.3:
            targets = [rng.choice(forward) for _ in range(rng.randint(1, 4))]
            inner = (
                self.expression(f, I32, depth) + _op("br_table") + vector(map(unsigned, targets[1:])) + unsigned(targets[0] + 1)
            )
            # In a block of its own, as what follows br_table can't be reached.
            targets = [one + 1 for one in targets]
            table = _op("br_table") + vector(map(unsigned, targets[1:])) + unsigned(targets[0])
            inner = _op("block") + b"\x40" + self.expression(f, I32, depth) + table + _op("end")
            return inner
        return self.expression(f, I32, depth) + _op("br_if") + unsigned(rng.choice(forward))

    def loop(self, f: _Function, depth: int) -> bytes:
        counter = f.new_local(I32)
        f.counters.append(counter)
        f.labels.append(False)
        inner = self.statements(f, depth, 4)
        f.labels.pop()
        f.counters.remove(counter)
        turns = _op("i32.const") + signed(self.rng.randint(1, self.turns)) + _op("local.set") + unsigned(counter)
        down = _op("local.get") + unsigned(counter) + _op("i32.const") + b"\1" + _op("i32.sub")
        return (
            turns
            + _op("loop")
            + b"\x40"
            + inner
            + down
            + _op("local.tee")
            + unsigned(counter)
            + _op("br_if")
            + b"\0"
            + _op("end")
        )

    def busy(self, f: _Function) -> bytes:
        """A loop that always ends well, long enough to be sliced; it writes a few pages."""
        counter, value = f.new_local(I32), f.new_local(I64)
        turns = _op("i32.const") + signed(self.rng.choice((10, 1000, 20_000))) + _op("local.set") + unsigned(counter)
        mixed = _op("local.get") + unsigned(value) + _op("local.get") + unsigned(counter) + _op("i64.extend_i32_u")
        mixed += _op(f"i64.{self.rng.choice(('add', 'xor', 'mul', 'rotl'))}") + self.const(I64) + _op("i64.add")
        mixed += _op("local.set") + unsigned(value)
        at = _op("local.get") + unsigned(counter) + _op("i32.const") + signed(0x7FF8) + _op("i32.and")
        at += _op("i64.extend_i32_u") if self.wide else b""
        store = at + _op("local.get") + unsigned(value) + _op("i64.store") + b"\0\0"
        down = _op("local.get") + unsigned(counter) + _op("i32.const") + b"\1" + _op("i32.sub")
        down += _op("local.tee") + unsigned(counter) + _op("br_if") + b"\0" + _op("end")
        return turns + _op("loop") + b"\x40" + mixed + store + down

    def keep(self) -> bytes:
        """Stable memory grown and written, as far as there are functions for it."""
        numbers = [_op("i64.const") + signed(self.rng.randint(0, most)) for most in (1, 60_000, 1000, 5000)]
        code = numbers[0] + self.call_api("stable64_grow") + _op("drop") if "stable64_grow" in self.apis else b""
        return code + (b"".join(numbers[1:]) + self.call_api("stable64_write") if "stable64_write" in self.apis else b"")

    def if_(self, f: _Function, depth: int) -> bytes:
        condition = self.expression(f, I32, depth)
        f.labels.append(True)
        inner = self.statements(f, depth, 3)
        if self.rng.random() < 0.5:
            inner += _op("else") + self.statements(f, depth, 3)
        f.labels.pop()
        return condition + _op("if") + b"\x40" + inner + _op("end")

    def block(self, f: _Function, depth: int) -> bytes:
        f.labels.append(True)
        inner = self.statements(f, depth, 4)
        f.labels.pop()
        return _op("block") + b"\x40" + inner + _op("end")

    def call_api(self, name: str) -> bytes:
        return _op("call") + unsigned(self.apis.index(name))

    def api(self, f: _Function, depth: int) -> bytes:
        rng = self.rng
        stable = [one for one in self.apis if one.startswith("stable")]
        name = rng.choice(stable if stable and rng.random() < 0.3 else self.apis)
        if name in ("trap", "msg_reply", "msg_reject") and rng.random() < 0.8:
            return b""
        params, results = SIGNATURES[self.wide][name]
        code = b""
        for k, one in enumerate(params):
            if name.startswith("stable64_") and rng.random() < 0.9:
                most = 2 if name == "stable64_grow" else 60_000 if k < 2 else 5000
                code += _op("i64.const") + signed(rng.randint(0, most))
            elif rng.random() < 0.9:
                most = 3 if name == "stable_grow" else 30 if k == len(params) - 1 else 500
                code += _op(f"{_PREFIX[one]}.const") + signed(rng.randint(0, most))
            else:
                code += self.expression(f, one, min(depth, 1))
        return code + self.call_api(name) + _op("drop") * len(results)

    # --- the module

    def body(self, f: _Function) -> bytes:
        code = self.statements(f, 3, 6)
        if f.index - len(self.apis) < len(METHODS) and self.rng.random() < 0.5:
            code = self.busy(f) + code
        if f.index - len(self.apis) < len(METHODS) and self.rng.random() < 0.4:
            code = self.keep() + code
        if f.index - len(self.apis) == len(METHODS) and "stable64_grow" in self.apis:  # canister_init
            code = _op("i64.const") + b"\2" + self.call_api("stable64_grow") + _op("drop") + code
        for one in f.results:
            code += self.expression(f, one, 2)
        if f.index - len(self.apis) < len(METHODS):
            code += self.answer(f)
        own = f.locals[len(f.params) :]
        entry = vector(b"\1" + bytes((kind,)) for kind in own) + code + b"\x0b"
        return unsigned(len(entry)) + entry

    def answer(self, f: _Function) -> bytes:
        """Reply with some of the heap and of the globals."""
        code = b""
        for index, (kind, _) in enumerate(self.globals):
            if kind in NUMBERS:
                code += self.small(64) + _op("global.get") + unsigned(index) + _op(_STORES[kind][0]) + b"\0\0"
        code += self.small(0) + self.small(200) + self.call_api("msg_reply_data_append")
        return code + self.address(f, 1) + self.small(100) + self.call_api("msg_reply_data_append") + self.call_api("msg_reply")

    def type_of(self, f: _Function) -> int:
        return self.types.index((f.params, f.results))

    def module(self) -> bytes:
        rng = self.rng
        self.indirect = self.functions[len(METHODS) + 2]
        self.types = list(dict.fromkeys(self.signatures + [(one.params, one.results) for one in self.functions]))
        bodies = [self.body(one) for one in self.functions]
        types = vector(b"\x60" + vector(bytes((x,)) for x in p) + vector(bytes((x,)) for x in r) for p, r in self.types)
        imports = vector(
            binary.name("ic0") + binary.name(name) + b"\0" + unsigned(self.types.index(SIGNATURES[self.wide][name]))
            for name in self.apis
        )
        first = len(self.apis)
        names = [f"canister_{rng.choice(('update', 'update', 'query'))} {name}" for name in METHODS]
        names += ["canister_init", "canister_heartbeat"]
        exports = vector(binary.name(name) + b"\0" + unsigned(first + k) for k, name in enumerate(names))
        most = self.heap_min + rng.randint(0, 4)
        memory = b"\1" + bytes((5 if self.wide else 1,)) + unsigned(self.heap_min) + unsigned(most)
        zero = (b"\x42" if self.wide else b"\x41") + signed(rng.choice((0, 100, 4090)))
        active = b"\0" + zero + b"\x0b" + vector(rng.randbytes(1) for _ in range(rng.randint(0, 200)))
        data = [b"\1" + unsigned(8) + rng.randbytes(8), active] if self.passive else [active]
        globals_ = vector(bytes((kind, mutable)) + self.const(kind) + b"\x0b" for kind, mutable in self.globals)
        targets = [self.indirect.index, self.indirect.index, self.functions[0].index]
        parts = [
            binary.section(binary.TYPE, types),
            binary.section(binary.IMPORT, imports),
            binary.section(binary.FUNCTION, vector(unsigned(self.type_of(one)) for one in self.functions)),
            binary.section(binary.TABLE, b"\1" + bytes((FUNCREF,)) + b"\0" + unsigned(4)),
            binary.section(binary.MEMORY, memory),
            binary.section(binary.GLOBAL, globals_),
            binary.section(binary.EXPORT, exports),
            binary.section(binary.ELEMENT, b"\1\0\x41\0\x0b" + vector(map(unsigned, targets))),
            binary.section(binary.DATA_COUNT, unsigned(len(data))),
            binary.section(binary.CODE, vector(bodies)),
            binary.section(binary.DATA, vector(data)),
        ]
        return binary.HEADER + b"".join(parts)


def random_module(seed: int) -> bytes:
    """A valid module; the same for the same seed."""
    return _Grower(seed).module()


# --- mutations of real modules

_SWAPS: tuple[tuple[str, ...], ...] = (
    tuple(f"i32.{name}" for name in _INTEGER),
    tuple(f"i64.{name}" for name in _INTEGER),
    tuple(f"f64.{name}" for name in _FLOAT),
    tuple(f"i32.{name}" for name in _COMPARE_INTEGER),
    tuple(f"i64.{name}" for name in _COMPARE_INTEGER),
    tuple(f"i32.{name}" for name in _UNARY_INTEGER),
)
_CLASS = {opcodes.CODES[name]: bytes(opcodes.CODES[one] for one in names) for names in _SWAPS for name in names}


def mutated(wasm: bytes, seed: int, changes: int = 3) -> bytes:
    """The module with some operators replaced by others of the same type, and some bytes of constants changed."""
    rng, out = random.Random(seed), bytearray(wasm)
    operators, constants = places(wasm)
    for _ in range(changes):
        if constants and rng.random() < 0.4:
            at = rng.choice(constants)
            out[at] = out[at] & 0x80 | rng.getrandbits(6)
        elif operators:
            at = rng.choice(operators)
            out[at] = rng.choice(_CLASS[out[at]])
    return bytes(out)


@lru_cache(maxsize=64)
def places(wasm: bytes) -> tuple[list[int], list[int]]:
    """Positions of operators that have others of the same type, and of the first bytes of integer constants."""
    start, end = decode(wasm).raw.get(binary.CODE, (0, 0))
    if start == end:
        return [], []
    reader, operators, constants = binary.Reader(wasm, start, end), [], []
    for _ in range(reader.unsigned()):
        size = reader.unsigned()
        last = reader.pos + size
        for _ in range(reader.unsigned()):
            reader.unsigned()
            reader.byte()
        while reader.pos < last:
            code = reader.byte()
            if code in _CLASS:
                operators.append(reader.pos - 1)
            elif code in (0x41, 0x42):
                constants.append(reader.pos)
            _skip(reader, code)
        assert reader.pos == last
    return operators, constants


def _skip(reader: binary.Reader, code: int) -> None:
    """Past the immediates of an operator."""
    kind = opcodes.KIND[code]
    if kind == opcodes.BREAK_TABLE:
        for _ in range(reader.unsigned() + 1):
            reader.unsigned()
    elif kind == opcodes.TWO_LEB:
        reader.unsigned()
        reader.unsigned()
    elif kind in (opcodes.SKIP_4, opcodes.SKIP_8):
        reader.take(4 if kind == opcodes.SKIP_4 else 8)
    elif kind == opcodes.PREFIX_FC:
        sub = reader.unsigned()
        for _ in range(0 if sub < 8 else 2 if sub in (8, 10) else 1):
            reader.unsigned()
    elif kind == opcodes.PREFIX_FD:
        raise AssertionError("no module that is mutated here has SIMD")
    elif kind == opcodes.TYPED_SELECT:
        reader.take(2)
    elif kind not in (opcodes.PLAIN, opcodes.RETURN, opcodes.END):
        reader.signed()
