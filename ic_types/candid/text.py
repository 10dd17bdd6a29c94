"""Candid text, both ways: what users write on the command line and read in answers.

Rule module. Spec: Candid specification, "Values". Numbers are printed with their types, so that printed text
reads back as the same types.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.candid.encoder import encode, principal_of
from ic_types.candid.skipping import MAX_DEPTH
from ic_types.candid.text_parser import parse_args
from ic_types.candid.text_typing import TextTyping
from ic_types.candid.values import Some, Value
from ic_types.candid.wire_types import read_head
from ic_types.errors import CandidError

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}
_DECIMAL_BITS = 10_000
"""Larger numbers are printed in hexadecimal; Python refuses to print thousands of decimal digits."""


def encode_text(text: str, types: Sequence[t.Type] | None = None, name: str = "Candid text") -> bytes:
    """The DIDL message of `(value, value, ...)`, at the given types or at inferred ones.

    Raises: CandidError naming line and column.
    """
    kinds, values = parse_text(text, types, name)
    return encode(kinds, values)


def parse_text(text: str, types: Sequence[t.Type] | None = None, name: str = "Candid text") -> tuple[list[t.Type], list[Value]]:
    """Types and values of `(value, value, ...)`; arguments that may be null may be left out at the end.

    Raises: CandidError naming line and column.
    """
    cursor, nodes = parse_args(text, name)
    typing = TextTyping(cursor)
    kinds = [typing.infer(node) for node in nodes] if types is None else list(types)
    if len(nodes) > len(kinds):
        listed = ", ".join(map(str, kinds))
        cursor.fail(f"{len(nodes)} arguments are given; expected are ({listed})", nodes[len(kinds)].position)
    values = [typing.value(node, kind) for node, kind in zip(nodes, kinds, strict=False)]
    for index, kind in enumerate(kinds[len(nodes) :], len(nodes)):
        if not t.nullable(kind):
            cursor.fail(f"argument {index} of type {kind} is missing; expected are ({', '.join(map(str, kinds))})")
        values.append(None)
    return kinds, values


def to_text(raw: bytes, types: Sequence[t.Type] | None = None, *, max_depth: int = MAX_DEPTH) -> str:
    """A DIDL message as text; field names come from the types, without them fields show as numbers.

    A `max_depth` above MAX_DEPTH needs an interpreter that recurses three frames for each level.

    Raises: CandidError when the bytes are malformed or don't fit the types.
    """
    kinds = read_head(raw).types if types is None else list(types)
    return args_to_text(kinds, decode(raw, kinds, max_depth=max_depth))


def args_to_text(types: Sequence[t.Type], values: Sequence[Value]) -> str:
    """`(value, value, ...)` of values at their types."""
    return f"({', '.join([value_to_text(kind, value) for kind, value in zip(types, values, strict=True)])})"


def value_to_text(kind: t.Type, value: Value) -> str:
    """One value at its type."""
    match t.resolve(kind):
        case t.Prim() as prim:
            return _prim(prim, value)
        case t.Opt(inner):
            return _opt(inner, value)
        case t.Vec(inner):
            if t.resolve(inner) is t.nat8:
                return f"blob {_quoted_bytes(bytes(value))}"
            return _braced("vec", [value_to_text(inner, item) for item in value])
        case t.Record() as record:
            return _record(record, value)
        case t.Variant(fields):
            ((key, inner_value),) = value.items()
            field = next(f for f in fields if f.key == key)
            shown = "" if t.resolve(field.type) is t.null else f" = {value_to_text(field.type, inner_value)}"
            return f"variant {{ {field.label}{shown} }}"
        case t.Func():
            return f'func "{value.canister}".{t.quote_name(value.method)}'
        case t.Service():
            return f'service "{principal_of(value)}"'
    return "null"


def _braced(word: str, parts: Sequence[str]) -> str:
    return f"{word} {{ {'; '.join(parts)} }}" if parts else f"{word} {{}}"


def _record(kind: t.Record, value: Value) -> str:
    if kind.is_tuple:
        return _braced("record", [value_to_text(f.type, item) for f, item in zip(kind.fields, value, strict=True)])
    return _braced("record", [f"{f.label} = {value_to_text(f.type, value[f.key])}" for f in kind.fields])


def _opt(inner: t.Type, value: Value) -> str:
    if value is None:
        return "null"
    shown = value_to_text(inner, value.value if isinstance(value, Some) else value)
    target = t.resolve(inner)
    annotated = type(target) is t.Prim and target not in (t.null, t.bool_, t.text, t.principal)
    return f"opt ({shown})" if annotated else f"opt {shown}"


def _prim(kind: t.Prim, value: Value) -> str:
    if kind is t.null:
        return "null"
    if kind is t.bool_:
        return "true" if value else "false"
    if kind is t.text:
        return quoted(value)
    if kind is t.principal:
        return f'principal "{principal_of(value)}"'
    if kind is t.float32 or kind is t.float64:
        return f"{_float(float(value))} : {kind}"
    if kind is t.reserved or kind is t.empty:
        return f"null : {kind}"
    return f"{_integer(value)} : {kind}"


def _integer(value: int) -> str:
    if value.bit_length() > _DECIMAL_BITS:
        return hex(value)
    return f"{value:_}" if abs(value) >= 10_000 else str(value)


def _float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return repr(value)


def quoted(value: str) -> str:
    """A text in quotes."""
    out = []
    for char in value:
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        else:
            out.append(char if char.isprintable() else f"\\u{{{ord(char):x}}}")
    return f'"{"".join(out)}"'


def _quoted_bytes(value: bytes) -> str:
    plain = "".join(chr(b) if 32 <= b < 127 and b not in b'\\"' else f"\\{b:02x}" for b in value)
    return f'"{plain}"'


__all__ = ["CandidError", "args_to_text", "encode_text", "parse_text", "quoted", "to_text", "value_to_text"]
