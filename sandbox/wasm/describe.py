"""What people want to know of a module: names of functions, sizes of sections, the place of a byte.

Rule module. Works on refused modules too, as far as they can be read. Format of names: WebAssembly core specification,
"Name Section".
"""

from __future__ import annotations

from collections.abc import Iterator

from ic_types.errors import InvalidWasm
from sandbox.wasm import binary
from sandbox.wasm.binary import Reader
from sandbox.wasm.module import Kind, Module, decode
from sandbox.wasm.rules import BrokenRule

_SECTION_NAMES = (
    "custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data",
    "data count",
)  # fmt: skip
_FUNCTION_NAMES = 1
"""Subsection of the name section."""


def section_sizes(wasm: bytes) -> list[tuple[str, int]]:
    """(name, bytes) of every section in file order; custom ones with their own names.

    Raises: InvalidWasm when the bytes are not a sequence of sections.
    """
    found = []
    for part in binary.sections(wasm):
        name = section_name(part.kind)
        if part.kind == binary.CUSTOM:
            name = f"custom {Reader(wasm, part.start, part.end).name()!r}"
        found.append((name, part.end - part.start))
    return found


def section_name(kind: int) -> str:
    """`code`, or a number if unknown."""
    return _SECTION_NAMES[kind] if kind < len(_SECTION_NAMES) else f"unknown {kind}"


def function_names(module: Module) -> list[str]:
    """A name for each function by its index: that of the name section, else of its export, else `function 12`."""
    imported = module.imported_functions
    names = [f"{one.module}.{one.name}" for one in imported]
    names += [f"function {len(imported) + k}" for k in range(len(module.functions))]
    for one in reversed(module.exports):
        if one.kind is Kind.FUNCTION and len(imported) <= one.index < len(names):
            names[one.index] = one.name
    for index, name in _named_functions(module):
        if len(imported) <= index < len(names) and name:
            names[index] = name
    return names


def _named_functions(module: Module) -> Iterator[tuple[int, str]]:
    """The name section is no part of the program, so a broken one names what it can."""
    for title, content in module.custom:
        reader = Reader(content)
        try:
            while title == "name" and reader.more:
                kind, size = reader.byte(), reader.unsigned()
                following = reader.pos + size
                if kind == _FUNCTION_NAMES:
                    for _ in range(reader.unsigned()):
                        yield reader.unsigned(), reader.name()
                reader.pos = following
        except InvalidWasm:
            continue


def place(wasm: bytes, error: BrokenRule) -> str:
    """Where a rule is broken: an item, a function or a byte; empty if the error doesn't tell."""
    parts = [error.item] if error.item else []
    if error.function is not None:
        parts.append(_function(wasm, error.function))
    if error.offset is not None:
        parts.append(_byte(wasm, error.offset))
    return ", ".join(parts)


def _function(wasm: bytes, index: int) -> str:
    """A function by its index among the module's own ones."""
    try:
        module = decode(wasm)
        index += len(module.imported_functions)
        name = function_names(module)[index]
    except (InvalidWasm, IndexError, ValueError):
        return f"own function {index}"
    return name if name == f"function {index}" else f"function {index} `{name}`"


def _byte(wasm: bytes, offset: int) -> str:
    shown = f"byte {offset:#x}"
    reader, kind, start, end = Reader(wasm, len(binary.HEADER)), -1, 0, 0
    try:
        while reader.more and reader.pos <= offset:
            kind, size = reader.byte(), reader.unsigned()
            start, end = reader.pos, reader.pos + size
            reader.pos = end
        if kind < 0 or offset > end:
            return shown
        if kind != binary.CODE:
            return f"{shown} in section {section_name(kind)}"
        return f"{shown} in {_function(wasm, _own_function_at(Reader(wasm, start, end), offset))}"
    except InvalidWasm:
        return shown if kind < 0 else f"{shown} in section {section_name(kind)}"


def _own_function_at(code: Reader, offset: int) -> int:
    for index in range(code.unsigned()):
        size = code.unsigned()
        if offset < code.pos + size:
            return index
        code.take(size)
    return 0
