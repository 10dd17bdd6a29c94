"""A Wasm module as a record, decoded once; code stays bytes.

Rule module. Decoding follows engine validation, so it trusts types and indices; it still refuses what it doesn't know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from sandbox.wasm import binary
from sandbox.wasm.binary import Reader
from sandbox.wasm.rules import BrokenRule, Rule, undecodable


class ModuleLimits(Protocol):
    """What the rules for modules depend on; `SubnetLimits` and `CompileRequest` have it."""

    @property
    def max_stable_memory(self) -> int:
        """Bytes."""

    @property
    def max_wasm32_heap(self) -> int:
        """Bytes."""

    @property
    def max_wasm64_heap(self) -> int:
        """Bytes."""

    @property
    def dirty_page_overhead(self) -> int:
        """Instructions per stable page that a write dirties."""

    @property
    def compile_cost_per_operator(self) -> int:
        """Instructions."""


class Kind(IntEnum):
    """What an import or export is."""

    FUNCTION = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3
    TAG = 4


@dataclass(frozen=True, slots=True)
class FunctionType:
    """Value types of parameters and results."""

    params: bytes
    results: bytes

    def encoded(self) -> bytes:
        """As an entry of the type section."""
        return b"\x60" + b"".join(binary.unsigned(len(side)) + side for side in (self.params, self.results))


@dataclass(frozen=True, slots=True)
class Import:
    """An import; `type_index` counts for functions only."""

    module: str
    name: str
    kind: Kind
    type_index: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """Size limits in Wasm pages."""

    wasm64: bool
    minimum: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class Table:
    """Size limits in elements."""

    minimum: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class Global:
    """A defined global with the bits of its initial value."""

    value_type: int
    mutable: bool
    initial: int


@dataclass(frozen=True, slots=True)
class Export:
    """An export."""

    name: str
    kind: Kind
    index: int


@dataclass(frozen=True, slots=True)
class DataSegment:
    """Where the bytes lie in the module; `offset` is None for passive segments, the constant for active ones."""

    offset: int | None
    offset_type: int | None
    """Value type of a single-constant offset; None if the offset is anything else."""
    start: int
    end: int


@dataclass(slots=True)
class Module:
    """A decoded module."""

    wasm: bytes
    types: list[FunctionType] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    imported_functions: list[Import] = field(default_factory=list)
    """Imports of functions, in the order of their indices."""
    functions: list[int] = field(default_factory=list)
    """Type index of each local function."""
    tables: list[Table] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)
    globals: list[Global] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    start: int | None = None
    data: list[DataSegment] = field(default_factory=list)
    custom: list[tuple[str, bytes]] = field(default_factory=list)
    raw: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Where the payload of each known section lies."""

    @property
    def wasm64(self) -> bool:
        """The main memory is 64-bit."""
        return bool(self.memories) and self.memories[0].wasm64

    def payload(self, kind: int) -> bytes:
        """Bytes of a section, empty if absent."""
        start, end = self.raw.get(kind, (0, 0))
        return self.wasm[start:end]

    def type_of(self, function: int) -> FunctionType:
        """Type of a function by its index among imported and local ones."""
        imported = self.imported_functions
        if function < len(imported):
            return self.types[imported[function].type_index]
        return self.types[self.functions[function - len(imported)]]


def decode(wasm: bytes) -> Module:
    """The record of a valid module.

    Raises: InvalidWasm for what validation should have refused.
    """
    module = Module(wasm)
    for part in binary.sections(wasm):
        reader = Reader(wasm, part.start, part.end)
        if part.kind == binary.CUSTOM:
            module.custom.append((reader.name(), wasm[reader.pos : part.end]))
            continue
        module.raw[part.kind] = (part.start, part.end)
        if part.kind == binary.START:
            module.start = reader.unsigned()
        elif part.kind == binary.FUNCTION:
            module.functions = [reader.unsigned() for _ in range(reader.unsigned())]
        elif step := _SECTIONS.get(part.kind):
            for _ in range(reader.unsigned()):
                step(module, reader)
    return module


def constant(reader: Reader) -> list[tuple[int, int]]:
    """The operators of a constant expression without its `end`: (code, value bits or index)."""
    found: list[tuple[int, int]] = []
    while (code := reader.byte()) != 0x0B:
        if code == 0x41 or code == 0x42:
            found.append((code, reader.signed() & (0xFFFFFFFF if code == 0x41 else 0xFFFFFFFFFFFFFFFF)))
        elif code in (0x43, 0x44):
            found.append((code, int.from_bytes(reader.take(4 if code == 0x43 else 8), "little")))
        elif code == 0xFD and reader.unsigned() == 0x0C:
            found.append((code, int.from_bytes(reader.take(16), "little")))
        elif code in (0x23, 0xD2):
            found.append((code, reader.unsigned()))
        elif code == 0xD0:
            found.append((code, reader.signed()))
        elif code in _ARITHMETIC:
            found.append((code, 0))
        else:
            raise undecodable(f"operator {code:#x} in a constant expression", offset=reader.pos - 1)
    return found


# Extended constant expressions: i32 add, sub, mul, i64 add, sub, mul.
_ARITHMETIC = {0x6A: 32, 0x6B: 32, 0x6C: 32, 0x7C: 64, 0x7D: 64, 0x7E: 64}


def evaluate(expression: list[tuple[int, int]]) -> int:
    """Bits of the value of a constant expression over numbers; references count as 0."""
    stack: list[int] = []
    for code, value in expression:
        if width := _ARITHMETIC.get(code):
            right, left = stack.pop(), stack.pop()
            step = code - (0x6A if width == 32 else 0x7C)
            result = (left + right, left - right, left * right)[step]
            stack.append(result & ((1 << width) - 1))
        elif code == 0x23:
            why = "Wasm module has an invalid global section. Initial value depends on another global."
            raise BrokenRule(Rule.INVALID_GLOBAL_SECTION, why)
        else:
            stack.append(value if code != 0xD0 else 0)
    return stack[-1]


def _limits(reader: Reader) -> tuple[int, int, int | None]:
    flags = reader.byte()
    if flags & ~0x05:
        raise undecodable(f"unknown memory or table flags {flags:#x}", offset=reader.pos - 1)
    minimum = reader.unsigned()
    return flags, minimum, reader.unsigned() if flags & 1 else None


def _type(module: Module, reader: Reader) -> None:
    if reader.byte() != 0x60:
        raise undecodable("not a function type", offset=reader.pos - 1)
    params = reader.take(reader.unsigned())
    module.types.append(FunctionType(params, reader.take(reader.unsigned())))


def _import(module: Module, reader: Reader) -> None:
    source, field_name, code = reader.name(), reader.name(), reader.byte()
    if code > Kind.TAG:
        raise undecodable(f"unknown kind of import {code:#x}", offset=reader.pos - 1)
    kind, index = Kind(code), 0
    if kind is Kind.FUNCTION:
        index = reader.unsigned()
    elif kind is Kind.TABLE:
        reader.byte()
        _limits(reader)
    elif kind is Kind.MEMORY:
        _limits(reader)
    else:
        reader.take(2)
    module.imports.append(Import(source, field_name, kind, index))
    if kind is Kind.FUNCTION:
        module.imported_functions.append(module.imports[-1])


def _table(module: Module, reader: Reader) -> None:
    if reader.byte() not in (binary.FUNCREF, binary.EXTERNREF):
        raise undecodable("unknown kind of table", offset=reader.pos - 1)
    _, minimum, maximum = _limits(reader)
    module.tables.append(Table(minimum, maximum))


def _memory(module: Module, reader: Reader) -> None:
    flags, minimum, maximum = _limits(reader)
    module.memories.append(Memory(bool(flags & 4), minimum, maximum))


def _global(module: Module, reader: Reader) -> None:
    value_type, mutable = reader.byte(), reader.byte()
    expression = constant(reader)
    numeric = value_type not in (binary.FUNCREF, binary.EXTERNREF)
    module.globals.append(Global(value_type, bool(mutable), evaluate(expression) if numeric else 0))


def _export(module: Module, reader: Reader) -> None:
    module.exports.append(Export(reader.name(), Kind(reader.byte()), reader.unsigned()))


def _data(module: Module, reader: Reader) -> None:
    flags = reader.unsigned()
    offset = offset_type = None
    if flags == 2:
        reader.unsigned()
    if flags != 1:
        expression = constant(reader)
        code, offset = expression[0]
        if len(expression) == 1 and code in (0x41, 0x42):
            offset_type = binary.I32 if code == 0x41 else binary.I64
    length = reader.unsigned()
    module.data.append(DataSegment(offset, offset_type, reader.pos, reader.pos + length))
    reader.take(length)


_SECTIONS = {
    binary.TYPE: _type,
    binary.IMPORT: _import,
    binary.TABLE: _table,
    binary.MEMORY: _memory,
    binary.GLOBAL: _global,
    binary.EXPORT: _export,
    binary.DATA: _data,
}
