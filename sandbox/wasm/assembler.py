"""A tiny assembler for the functions that instrumentation adds.

Rule module. Source is one operator per `;` or line, as in the text format; `$names` stand for numbers given by the caller.
Memory operators name their memory first: `i32.load8_u 2`, `memory.copy 1 0` (to 1 from 0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sandbox.wasm.binary import F32, F64, I32, I64, signed, unsigned, vector
from sandbox.wasm.opcodes import CODES

VALUE_TYPES = {"i32": I32, "i64": I64, "f32": F32, "f64": F64}
_BLOCKS = {"block", "loop", "if"}
_BULK = {"memory.copy": b"\xfc\x0a", "memory.fill": b"\xfc\x0b"}
_SEPARATOR = re.compile(r"[;\n]")


def assemble(source: str, names: Mapping[str, int]) -> bytes:
    """The operators' bytes, without a final `end` of a function body."""
    out = bytearray()
    for line in _SEPARATOR.split(source):
        words = line.split()
        if words:
            out += _operator(words[0], words[1:], names)
    return bytes(out)


def function_body(source: str, names: Mapping[str, int], local_types: Sequence[str] = ()) -> bytes:
    """A code section entry: size, locals, operators, `end`."""
    groups = vector(b"\x01" + bytes((VALUE_TYPES[kind],)) for kind in local_types)
    body = groups + assemble(source, names) + b"\x0b"
    return unsigned(len(body)) + body


def _number(word: str, names: Mapping[str, int]) -> int:
    return names[word[1:]] if word.startswith("$") else int(word, 0)


def _operator(name: str, words: list[str], names: Mapping[str, int]) -> bytes:
    if name in _BLOCKS:
        return bytes((CODES[name], VALUE_TYPES[words[0]] if words else 0x40))
    numbers = [_number(word, names) for word in words]
    if name in _BULK:
        return _BULK[name] + b"".join(map(unsigned, numbers))
    code = bytes((CODES[name],))
    if name.endswith(".const"):
        return code + signed(numbers[0])
    if 0x28 <= code[0] <= 0x3E:  # memory in bit 6 of the alignment, offset 0
        return code + b"\x40" + unsigned(numbers[0]) + b"\x00"
    return code + b"".join(map(unsigned, numbers))
