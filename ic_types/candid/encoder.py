"""Candid values to bytes.

Rule module. Spec: Candid specification, "Binary Format", functions M and B.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from ic_types.candid import types as t
from ic_types.candid.leb128 import encode_signed, encode_unsigned
from ic_types.candid.skipping import MAX_DEPTH
from ic_types.candid.type_table import header, text_bytes
from ic_types.candid.values import FuncRef, Some, Value
from ic_types.errors import CandidError, InvalidPrincipal
from ic_types.principal import Principal

FORMATS = {
    **{t.nat8: "B", t.nat16: "H", t.nat32: "I", t.nat64: "Q", t.int8: "b", t.int16: "h", t.int32: "i", t.int64: "q"},
    **{t.float32: "f", t.float64: "d"},
}
"""Numbers of fixed size, as `struct` calls them."""
_RANGES = {
    t.nat8: (0, (1 << 8) - 1),
    t.nat16: (0, (1 << 16) - 1),
    t.nat32: (0, (1 << 32) - 1),
    t.nat64: (0, (1 << 64) - 1),
    t.int8: (-(1 << 7), (1 << 7) - 1),
    t.int16: (-(1 << 15), (1 << 15) - 1),
    t.int32: (-(1 << 31), (1 << 31) - 1),
    t.int64: (-(1 << 63), (1 << 63) - 1),
}


def encode(types: Sequence[t.Type], values: Sequence[Value]) -> bytes:
    """The DIDL message of an argument or result list.

    Raises: CandidError naming the argument, the path inside it, what was found and what is allowed.
    """
    if len(types) != len(values):
        raise CandidError(f"{len(values)} values for {len(types)} argument types")
    out = bytearray(header(tuple(types)))
    for index, (kind, value) in enumerate(zip(types, values, strict=True)):
        try:
            _write(kind, value, out, 0)
        except CandidError as error:
            raise CandidError(f"argument {index}: {error}") from None
    return bytes(out)


def check(kind: t.Type, value: Value) -> None:
    """Whether a value is one of the type.

    Raises: CandidError naming the path inside it, what was found and what is allowed.
    """
    _write(kind, value, bytearray(), 0)


def _write(kind: t.Type, value: Value, out: bytearray, depth: int) -> None:
    kind = t.resolve(kind)
    if depth > MAX_DEPTH:
        raise CandidError(f"the value is nested deeper than {MAX_DEPTH} levels")
    _WRITERS[type(kind)](kind, value, out, depth)


def _write_prim(kind: t.Prim, value: Value, out: bytearray, _depth: int) -> None:
    if bounds := _RANGES.get(kind):
        number = _integer(kind, value)
        if not bounds[0] <= number <= bounds[1]:
            raise CandidError(f"{_short(value)} is outside {kind} ({bounds[0]} to {bounds[1]})")
        out += (number & ((1 << 8 * kind.size) - 1)).to_bytes(kind.size, "little")
    elif kind is t.nat:
        if _integer(kind, value) < 0:
            raise CandidError(f"{_short(value)} is negative; a nat was expected")
        out += encode_unsigned(value)
    elif kind is t.int_:
        out += encode_signed(_integer(kind, value))
    elif kind is t.text:
        if not isinstance(value, str):
            raise _expected(kind, value)
        out += text_bytes(value)
    elif kind is t.bool_:
        if not isinstance(value, bool):
            raise _expected(kind, value)
        out.append(value)
    elif kind is t.principal:
        _write_principal(value, out)
    elif kind is t.float32 or kind is t.float64:
        _write_float(kind, value, out)
    elif kind is t.empty or (kind is t.null and value is not None):
        raise _expected(kind, value)


def _write_float(kind: t.Prim, value: Value, out: bytearray) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _expected(kind, value)
    try:
        out += struct.pack("<f" if kind is t.float32 else "<d", value)
    except OverflowError:
        raise CandidError(f"{_short(value)} is too large for {kind}") from None


def _write_principal(value: Value, out: bytearray) -> None:
    raw = principal_of(value)
    out.append(1)
    out.append(len(raw))
    out += raw


def _write_opt(kind: t.Opt, value: Value, out: bytearray, depth: int) -> None:
    if value is None:
        out.append(0)
        return
    if isinstance(value, Some):
        value = value.value
    elif t.nullable(kind.inner) and t.resolve(kind.inner) is not t.reserved:
        raise CandidError(f"a present value of {kind} must be given as Some(...), found {_short(value)}")
    out.append(1)
    _write(kind.inner, value, out, depth + 1)


def _write_vec(kind: t.Vec, value: Value, out: bytearray, depth: int) -> None:
    inner = t.resolve(kind.inner)
    if inner is t.nat8 and isinstance(value, bytes | bytearray | memoryview):
        out += encode_unsigned(len(value))
        out += value
        return
    if not isinstance(value, list | tuple):
        raise _expected(kind, value)
    out += encode_unsigned(len(value))
    if (packed := _packed(inner, value)) is not None:
        out += packed
        return
    write = _WRITERS[type(inner)]
    if depth >= MAX_DEPTH:
        raise CandidError(f"the value is nested deeper than {MAX_DEPTH} levels")
    for index, item in enumerate(value):
        try:
            write(inner, item, out, depth + 1)
        except CandidError as error:
            raise CandidError(f"element {index}: {error}") from None


def _packed(kind: t.Type, values: Sequence[Value]) -> bytes | None:
    """Many numbers of one type at once; None for other types, and for wrong values, whose errors are found one by one."""
    if type(kind) is not t.Prim or (kind not in FORMATS and kind is not t.nat):
        return None
    if not {*map(type, values)} <= ({int, float} if kind is t.float32 or kind is t.float64 else {int}):
        return None
    if kind is t.nat:
        if min(values, default=0) < 0:
            return None
        return b"".join([encode_unsigned(value) for value in values])
    try:
        return struct.pack(f"<{len(values)}{FORMATS[kind]}", *values)
    except (struct.error, OverflowError):
        return None


def _write_record(kind: t.Record, value: Value, out: bytearray, depth: int) -> None:
    by_id = _record_items(kind, value)
    for field in kind.fields:
        if field.id not in by_id and not t.nullable(field.type):
            raise CandidError(f"field {field.label} is missing; its type is {field.type}")
        try:
            _write(field.type, by_id.get(field.id), out, depth + 1)
        except CandidError as error:
            raise CandidError(f"field {field.label}: {error}") from None


def _record_items(kind: t.Record, value: Value) -> dict[int, Value]:
    """The value's items by field id; unknown names are refused, as they are most likely typing errors."""
    if isinstance(value, list | tuple) and (kind.is_tuple or not kind.fields):
        if len(value) > len(kind.fields):
            raise CandidError(f"{len(value)} items for {kind}")
        return dict(enumerate(value))
    if not isinstance(value, dict):
        raise _expected(kind, value)
    ids = {f.key: f.id for f in kind.fields}
    known = {f.id for f in kind.fields}
    items: dict[int, Value] = {}
    for key, item in value.items():
        number = ids.get(key)
        if number is None:
            number = t.make_field(key, t.null).id
        if number not in known:
            names = ", ".join(f.label for f in kind.fields) or "none"
            raise CandidError(f"the record has no field {key!r}; its fields are: {names}")
        items[number] = item
    return items


def _write_variant(kind: t.Variant, value: Value, out: bytearray, depth: int) -> None:
    if isinstance(value, str):
        value = {value: None}
    if not isinstance(value, dict) or len(value) != 1:
        raise _expected(kind, value)
    ((key, item),) = value.items()
    number = next((f.id for f in kind.fields if f.key == key), None)
    if number is None:
        number = t.make_field(key, t.null).id
    for index, field in enumerate(kind.fields):
        if field.id == number:
            out += encode_unsigned(index)
            try:
                _write(field.type, item, out, depth + 1)
            except CandidError as error:
                raise CandidError(f"case {field.label}: {error}") from None
            return
    cases = ", ".join(f.label for f in kind.fields) or "none"
    raise CandidError(f"the variant has no case {key!r}; its cases are: {cases}")


def _write_func(kind: t.Func, value: Value, out: bytearray, _depth: int) -> None:
    if not isinstance(value, FuncRef):
        raise _expected(kind, value)
    out.append(1)
    _write_principal(value.canister, out)
    out += text_bytes(value.method)


def _write_service(_kind: t.Service, value: Value, out: bytearray, _depth: int) -> None:
    _write_principal(value, out)


def _write_future(kind: t.Future, _value: Value, _out: bytearray, _depth: int) -> None:
    raise CandidError(f"values of {kind} can't be encoded")


_WRITERS: dict[type, Any] = {
    t.Prim: _write_prim,
    t.Opt: _write_opt,
    t.Vec: _write_vec,
    t.Record: _write_record,
    t.Variant: _write_variant,
    t.Func: _write_func,
    t.Service: _write_service,
    t.Future: _write_future,
    t.Rec: _write,
}


def principal_of(value: Value) -> Principal:
    """A principal from its bytes or text.

    Raises: CandidError.
    """
    try:
        if isinstance(value, str):
            return Principal.from_text(value)
        if isinstance(value, bytes):
            return Principal(value)
    except InvalidPrincipal as error:
        raise CandidError(str(error)) from None
    raise _expected(t.principal, value)


def _integer(kind: t.Prim, value: Value) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _expected(kind, value)
    return value


def _expected(kind: t.Type, value: Value) -> CandidError:
    return CandidError(f"expected {kind}, found {_short(value)} ({type(value).__name__})")


def _short(value: Value) -> str:
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a huge number"
    try:
        shown = repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        return "a huge value"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
