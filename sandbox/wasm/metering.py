"""Walks function bodies: charges basic blocks, hooks `memory.grow`, moves function indices, checks limits of functions.

Rule module. Not in the spec: the replica's `injections` and `inject_metering`. This is the hot loop of installing code: one
table look-up per operator, and bytes between points of interest are copied in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sandbox.wasm import opcodes, simd
from sandbox.wasm.assembler import assemble
from sandbox.wasm.binary import I32, I64, Reader, unsigned
from sandbox.wasm.opcodes import (
    BREAK,
    BREAK_TABLE,
    BULK,
    CALL,
    COMPLEXITY_BYTES,
    GROW,
    KIND,
    LOOP,
    MARK_3,
    MARK_4,
    ONE_LEB,
    PLAIN,
    PREFIX_FC,
    PREFIX_FD,
    REF_FUNC,
    SKIP_4,
    SKIP_8,
    TABLE_SET,
    TWO_LEB,
    TYPED_SELECT,
    UNSUPPORTED,
)
from sandbox.wasm.rules import BrokenRule, Rule, undecodable
from sandbox.wasm.validation import MAX_FUNCTION_COMPLEXITY, MAX_FUNCTION_OPERATORS

_STATIC = "global.get $counter; i64.const $cost; i64.sub; global.set $counter"
_CHECK = "global.get $counter; i64.const 0; i64.lt_s; if; call $out_of_instructions; end"
STATIC_OPERATORS, CHECK_OPERATORS, GROW_OPERATORS = 4, 6, 3
"""Operators that a charge, a check for exhaustion and a hook of `memory.grow` add to the compile cost."""


class Meter:
    """Rewrites the function bodies of one module."""

    def __init__(self, wasm: bytes, wasm64: bool, function_indices: Sequence[int], names: Mapping[str, int]) -> None:
        """`function_indices` maps old function indices to new ones; `names` has `counter`, `decrement` and hidden imports."""
        self.wasm, self.wasm64, self.names = wasm, wasm64, names
        self.new_index = [unsigned(index) for index in function_indices]
        self.costs, self.simd_costs = opcodes.cost_table(wasm64), simd.cost_table(wasm64)
        self.operators = 0
        """Operators after the replica's instrumentation, of all bodies so far."""
        self.drops_data = False
        """A `data.drop` was seen: the module can leave traces in its instance."""
        self._plain: dict[int, bytes] = {}
        self._guarded: dict[int, bytes] = {}
        self._check = assemble(_CHECK, names)
        self._wide = assemble("call $decrement", names)
        self._narrow = assemble("i64.extend_i32_u; call $decrement; i32.wrap_i64", names)

    def _charge(self, cost: int, reentrant: bool) -> bytes:
        """The code of a static injection point."""
        if not cost and not reentrant:
            return b""
        cache = self._guarded if reentrant else self._plain
        code = cache.get(cost)
        if code is None:
            code = assemble(_STATIC, {**self.names, "cost": cost}) + (self._check if reentrant else b"")
            cache[cost] = code
        self.operators += STATIC_OPERATORS + CHECK_OPERATORS if reentrant else STATIC_OPERATORS
        return code

    def function(self, index: int, start: int, end: int, parameters: int) -> bytes:
        """The new body (with its size) of the local function whose old body lies at start..end.

        Raises: InvalidWasm when it is too large, too complex or has an unsupported operator.
        """
        reader = Reader(self.wasm, start, end)
        groups = reader.unsigned()
        groups_start, spare = reader.pos, parameters
        for _ in range(groups):
            spare += reader.unsigned()
            reader.byte()
        code, grows = self._code(index, reader.pos, end, spare)
        local_groups = self.wasm[groups_start : reader.pos]
        if grows:
            groups += 1
            local_groups += bytes((1, I64 if self.wasm64 else I32))
        head = unsigned(groups) + local_groups
        return unsigned(len(head) + len(code)) + head + code

    def _code(self, index: int, pos: int, end: int, spare: int) -> tuple[bytes, bool]:
        """New operators of a body, and whether they use the spare local."""
        data, kinds, costs, new_index = self.wasm, KIND, self.costs, self.new_index
        charge = self._charge
        seen = bytearray()
        note = seen.append
        pieces, slot, copied = [b""], 0, pos  # pieces[slot] becomes the charge of the open block
        cost, reentrant, grows = 1, True, False
        while pos < end:
            op = data[pos]
            kind = kinds[op]
            cost += costs[op]
            note(op)
            if kind == ONE_LEB:
                pos += 2
                while data[pos - 1] > 127:
                    pos += 1
            elif kind == PLAIN:
                pos += 1
            elif kind == TWO_LEB:
                pos += 2
                while data[pos - 1] > 127:
                    pos += 1
                pos += 1
                while data[pos - 1] > 127:
                    pos += 1
            elif kind in (CALL, REF_FUNC):
                pos += 1
                pieces.append(data[copied:pos])
                function = data[pos] & 127
                shift = 7
                while data[pos] > 127:
                    pos += 1
                    function |= (data[pos] & 127) << shift
                    shift += 7
                pos += 1
                pieces.append(new_index[function])
                copied = pos
            elif BREAK <= kind <= BREAK_TABLE:
                pos = _skip_immediates(data, pos, op, kind)
                pieces[slot] = charge(cost, reentrant)
                pieces.append(data[copied:pos])
                slot, copied = len(pieces), pos
                pieces.append(b"")
                cost, reentrant = 0, kind == LOOP
            elif kind == SKIP_8:
                pos += 9
            elif kind == SKIP_4:
                pos += 5
            elif kind == PREFIX_FD:
                added, pos = self._simd(pos)
                cost += added
            elif kind == PREFIX_FC:
                added, after, operand = self._bulk(index, pos, seen)
                cost += added
                if operand and copied == pos and slot == len(pieces) - 1:
                    # Nothing of the open block precedes: the charge by size comes before that of the block.
                    pieces.insert(slot, operand)
                    slot += 1
                elif operand:
                    pieces += (data[copied:pos], operand)
                    copied = pos
                pos = after
            elif kind == GROW:
                pieces += (data[copied:pos], self._grow_hook(spare))
                pos += 2
                copied, grows = pos, True
            elif kind == TYPED_SELECT:
                pos += 3
            else:
                raise _unsupported(index, "table.set" if kind == TABLE_SET else f"{op:#x}")
        pieces.append(data[copied:end])
        _check_limits(index, seen)
        self.operators += len(seen)
        return b"".join(pieces), grows

    def _grow_hook(self, spare: int) -> bytes:
        """`memory.grow` followed by the accounting of what was granted."""
        self.operators += GROW_OPERATORS
        source = "local.tee $spare; memory.grow 0; local.get $spare; call $try_grow_wasm_memory"
        return assemble(source, {**self.names, "spare": spare})

    def _simd(self, pos: int) -> tuple[int, int]:
        """(cost, position after) of the operator with prefix 0xFD."""
        reader = Reader(self.wasm, pos + 1)
        sub = reader.unsigned()
        if sub > simd.LAST:
            raise undecodable(f"unknown operator 0xfd {sub:#x}", offset=pos)
        lebs, fixed = simd.immediates(sub)
        for _ in range(lebs):
            reader.unsigned()
        return self.simd_costs[sub], reader.pos + fixed

    def _bulk(self, index: int, pos: int, seen: bytearray) -> tuple[int, int, bytes]:
        """(static cost, position after, charge of the size operand) of the operator with prefix 0xFC."""
        reader = Reader(self.wasm, pos + 1)
        sub = reader.unsigned()
        if sub < 8:
            seen[-1] = MARK_3
            return opcodes.bulk_cost(sub), reader.pos, b""
        name = BULK.get(sub)
        if name is None or name in UNSUPPORTED:
            raise _unsupported(index, name or f"0xfc {sub:#x}")
        for _ in range(2 if name in ("memory.init", "memory.copy") else 1):
            reader.unsigned()
        operand = b""
        if name in ("memory.copy", "memory.fill"):
            seen[-1] = MARK_4 if name == "memory.copy" else MARK_3
            operand = self._wide if self.wasm64 else self._narrow
        elif name == "memory.init":
            operand = self._narrow
        elif name == "data.drop":
            self.drops_data = True
        if operand:
            self.operators += 1 if operand is self._wide else 3
        return opcodes.bulk_cost(sub), reader.pos, operand


def _skip_immediates(data: bytes, pos: int, op: int, kind: int) -> int:
    """Position after an operator that ends a basic block."""
    pos += 1
    if op in _NO_IMMEDIATE:
        return pos
    count = 1
    if kind == BREAK_TABLE:
        reader = Reader(data, pos)
        count, pos = reader.unsigned() + 1, reader.pos
    for _ in range(count):
        while data[pos] > 127:
            pos += 1
        pos += 1
    return pos


_NO_IMMEDIATE = frozenset(opcodes.CODES[name] for name in ("else", "end", "return", "unreachable"))


def _unsupported(index: int, name: str) -> BrokenRule:
    why = f"Wasm module contains a function at index {index} with unsupported instruction {name}"
    return BrokenRule(Rule.UNSUPPORTED_WASM_INSTRUCTION, why, function=index)


def _check_limits(index: int, seen: bytearray) -> None:
    """A function is neither too complex nor too large."""
    # 50 is the greatest complexity of an operator.
    complexity = sum(seen.translate(COMPLEXITY_BYTES)) if len(seen) * 50 > MAX_FUNCTION_COMPLEXITY else 0
    start = f"Wasm module contains a function at index {index}"
    if complexity > MAX_FUNCTION_COMPLEXITY:
        allowed = f"exceeds the maximum complexity allowed {MAX_FUNCTION_COMPLEXITY}"
        why = f"{start} with complexity {complexity} which {allowed}"
        raise BrokenRule(Rule.FUNCTION_COMPLEXITY_TOO_HIGH, why, function=index)
    if len(seen) > MAX_FUNCTION_OPERATORS:
        why = f"{start} of size {len(seen)} that exceeds the maximum allowed size of {MAX_FUNCTION_OPERATORS}"
        raise BrokenRule(Rule.FUNCTION_TOO_LARGE, why, function=index)
