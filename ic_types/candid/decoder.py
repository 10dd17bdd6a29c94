"""Bytes to Candid values, at the types that the receiver expects.

Rule module. Spec: Candid specification, "Deserialisation" and "Coercion". Two kinds of failure are kept apart:
malformed bytes are always an error, a value that doesn't fit the expected type reads as null under the nearest `opt`.

Bounded against hostile input: nesting (MAX_DEPTH) and the number of values read or skipped, which is a small
multiple of the message's length, since some values take no bytes at all.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from ic_types.candid import types as t
from ic_types.candid.encoder import MAX_DEPTH
from ic_types.candid.leb128 import decode_signed, decode_unsigned
from ic_types.candid.subtyping import is_subtype
from ic_types.candid.values import FuncRef, Some, Value
from ic_types.candid.wire_types import read_head
from ic_types.errors import CandidError
from ic_types.principal import MAX_BYTES, Principal

FREE_VALUES = 200_000
VALUES_PER_BYTE = 4
_FORMATS = {
    **{t.nat8: "B", t.nat16: "H", t.nat32: "I", t.nat64: "Q", t.int8: "b", t.int16: "h", t.int32: "i", t.int64: "q"},
    **{t.float32: "f", t.float64: "d"},
}
_FIXED = {prim: struct.Struct("<" + code) for prim, code in _FORMATS.items()}


def decode(raw: bytes, expected: Sequence[t.Type] | None = None) -> list[Value]:
    """The values of a DIDL message; without expected types, at the types that the message itself declares.

    Missing arguments read as None where the type has null; surplus ones are ignored, as the format asks.

    Raises: CandidError naming byte or argument, what was found and what was expected.
    """
    kinds, position = read_head(raw)
    reader = _Reader(raw, position)
    wanted = list(kinds) if expected is None else list(expected)
    values: list[Value] = []
    for index, kind in enumerate(kinds):
        if index >= len(wanted):
            reader.skip(kind, 0)
            continue
        try:
            values.append(reader.value(kind, wanted[index], 0))
        except _MisfitError as error:
            raise CandidError(f"argument {index}{error}") from None
    if reader.position != len(raw):
        raise CandidError(f"byte {reader.position}: {len(raw) - reader.position} bytes follow the last argument")
    for index, kind in enumerate(wanted[len(kinds) :], len(kinds)):
        if not t.nullable(kind):
            raise CandidError(f"argument {index} is missing; its type is {kind}")
        values.append(None)
    return values


class _MisfitError(Exception):
    """A well-formed value that doesn't fit the expected type; grows its path on the way out."""

    def __init__(self, found: t.Type, expected: t.Type, note: str = "") -> None:
        super().__init__()
        self.path = ""
        self.reason = note or f"expected {expected}, found {_shape(found)}"

    def under(self, label: str) -> _MisfitError:
        """The same, one level further out."""
        self.path = f", {label}{self.path}"
        return self

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def _shape(kind: t.Type) -> str:
    """A type named briefly; table types may refer to themselves."""
    target = t.resolve(kind)
    return target.name if isinstance(target, t.Prim) else type(target).__name__.lower()


class _Reader:
    __slots__ = ("_fits", "budget", "position", "raw")

    def __init__(self, raw: bytes, position: int) -> None:
        self.raw = raw
        self.position = position
        self.budget = FREE_VALUES + VALUES_PER_BYTE * len(raw)
        self._fits: dict[tuple[int, int], bool] = {}

    # --- reading at an expected type

    def value(self, wire: t.Type, wanted: t.Type, depth: int) -> Value:
        """The next value, of type `wire`, coerced to `wanted`."""
        wire, wanted = t.resolve(wire), t.resolve(wanted)
        self._charge(depth)
        if wanted is t.reserved:
            self.skip(wire, depth)
            return None
        if wire is t.empty:
            raise CandidError(f"byte {self.position}: a value of type empty can't exist")
        coerce = _COERCE[type(wanted)]
        return coerce(self, wire, wanted, depth)

    def prim(self, wire: t.Type, wanted: t.Prim, depth: int) -> Value:
        """A primitive value."""
        if wire is wanted:
            return self.own(wanted)
        if wanted is t.int_ and wire is t.nat:
            return self.unsigned()
        if wanted is t.principal and type(wire) is t.Service:
            return self.principal()
        raise _MisfitError(wire, wanted)

    def own(self, kind: t.Prim) -> Value:
        """A primitive value at its own type."""
        if (form := _FIXED.get(kind)) is not None:
            return form.unpack(self.take(kind.size))[0]
        if kind is t.nat:
            return self.unsigned()
        if kind is t.text:
            return self.text()
        if kind is t.principal:
            return self.principal()
        if kind is t.int_:
            number, self.position = decode_signed(self.raw, self.position)
            return number
        if kind is t.bool_:
            return self.flag("a bool") == 1
        if kind is t.empty:
            raise CandidError(f"byte {self.position}: a value of type empty can't exist")
        return None

    def opt(self, wire: t.Type, wanted: t.Opt, depth: int) -> Value:
        """An optional value; what doesn't fit reads as None."""
        inner: t.Type = wire
        if type(wire) is t.Opt:
            if not self.flag("an opt"):
                return None
            inner = wire.inner
        elif wire is t.null or wire is t.reserved:
            return None
        start = self.position
        try:
            found = self.value(inner, wanted.inner, depth + 1)
        except _MisfitError:
            self.position = start
            self.skip(inner, depth + 1)
            return None
        return Some(found) if t.nullable(wanted.inner) else found

    def vec(self, wire: t.Type, wanted: t.Vec, depth: int) -> Value:
        """A list, or bytes for a blob."""
        if type(wire) is not t.Vec:
            raise _MisfitError(wire, wanted)
        count = self.unsigned()
        source, target = t.resolve(wire.inner), t.resolve(wanted.inner)
        if source is t.nat8 and target is t.nat8:
            return self.take(count)
        if source is target and type(source) is t.Prim and source in _FORMATS:
            return list(struct.unpack(f"<{count}{_FORMATS[source]}", self.take(count * source.size)))
        if not count and target is t.nat8:
            return b""
        found: list[Value] = []
        for number in range(count):
            try:
                found.append(self.value(source, target, depth + 1))
            except _MisfitError as error:
                raise error.under(f"element {number}") from None
        return found

    def record(self, wire: t.Type, wanted: t.Record, depth: int) -> Value:
        """A dict, or a tuple for a tuple-like record."""
        if type(wire) is not t.Record:
            raise _MisfitError(wire, wanted)
        fields = {f.id: f for f in wanted.fields}
        found: dict[int, Value] = {}
        for part in wire.fields:
            field = fields.get(part.id)
            if field is None:
                self.skip(part.type, depth + 1)
                continue
            try:
                found[field.id] = self.value(part.type, field.type, depth + 1)
            except _MisfitError as error:
                raise error.under(f"field {field.label}") from None
        for field in wanted.fields:
            if field.id not in found:
                if not t.nullable(field.type):
                    raise _MisfitError(wire, wanted, f"field {field.label} of type {field.type} is missing")
                found[field.id] = None
        if wanted.is_tuple:
            return tuple([found[f.id] for f in wanted.fields])
        return {f.key: found[f.id] for f in wanted.fields}

    def variant(self, wire: t.Type, wanted: t.Variant, depth: int) -> Value:
        """A dict of one item."""
        if type(wire) is not t.Variant:
            raise _MisfitError(wire, wanted)
        part = self.case(wire)
        field = next((f for f in wanted.fields if f.id == part.id), None)
        if field is None:
            cases = ", ".join(f.label for f in wanted.fields) or "none"
            raise _MisfitError(wire, wanted, f"case {part.label} is not one of: {cases}")
        try:
            return {field.key: self.value(part.type, field.type, depth + 1)}
        except _MisfitError as error:
            raise error.under(f"case {field.label}") from None

    def func(self, wire: t.Type, wanted: t.Func, depth: int) -> Value:
        """A function reference; its declared type must be a subtype."""
        if type(wire) is not t.Func or not self.fits(wire, wanted):
            raise _MisfitError(wire, wanted)
        return self.func_ref()

    def service(self, wire: t.Type, wanted: t.Service, depth: int) -> Value:
        """A service reference; its declared type must be a subtype."""
        if type(wire) is not t.Service or not self.fits(wire, wanted):
            raise _MisfitError(wire, wanted)
        return self.principal()

    def future(self, wire: t.Type, wanted: t.Future, depth: int) -> Value:
        """A value of an unknown type, when the message is read at its own types."""
        self.skip(wire, depth)
        return None

    def fits(self, wire: t.Type, wanted: t.Type) -> bool:
        """Subtyping of reference types, decided once per pair and message."""
        key = (id(wire), id(wanted))
        if key not in self._fits:
            self._fits[key] = is_subtype(wire, wanted)
        return self._fits[key]

    # --- reading past

    def skip(self, wire: t.Type, depth: int) -> None:
        """Read past the next value, which must be well-formed all the same."""
        wire = t.resolve(wire)
        self._charge(depth)
        match wire:
            case t.Prim():
                self.own(wire)
            case t.Opt(inner):
                if self.flag("an opt"):
                    self.skip(inner, depth + 1)
            case t.Vec(inner):
                self._skip_vec(t.resolve(inner), depth)
            case t.Record(fields):
                for field in fields:
                    self.skip(field.type, depth + 1)
            case t.Variant():
                self.skip(self.case(wire).type, depth + 1)
            case t.Func():
                self.func_ref()
            case t.Service():
                self.principal()
            case _:
                size, references = self.unsigned(), self.unsigned()
                self.take(size)
                if references:
                    raise CandidError(f"byte {self.position}: a future value with references, which a message can't carry")

    def _skip_vec(self, inner: t.Type, depth: int) -> None:
        count = self.unsigned()
        if type(inner) is t.Prim and inner in _FORMATS:
            self.take(count * inner.size)
            return
        for _ in range(count):
            self.skip(inner, depth + 1)

    # --- pieces

    def _charge(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise CandidError(f"byte {self.position}: values are nested deeper than {MAX_DEPTH} levels")
        self.budget -= 1
        if self.budget < 0:
            raise CandidError(f"byte {self.position}: the message describes far more values than its length allows")

    def take(self, size: int) -> bytes:
        """The next bytes."""
        end = self.position + size
        if end > len(self.raw):
            raise CandidError(f"byte {self.position}: {size} bytes are announced, {len(self.raw) - self.position} are left")
        data = self.raw[self.position : end]
        self.position = end
        return data

    def unsigned(self) -> int:
        """The next unsigned number."""
        number, self.position = decode_unsigned(self.raw, self.position)
        return number

    def flag(self, what: str) -> int:
        """A byte that is 0 or 1."""
        start = self.position
        byte = self.take(1)[0]
        if byte > 1:
            raise CandidError(f"byte {start}: {byte} is no tag of {what}; allowed are 0 and 1")
        return byte

    def text(self) -> str:
        """A text."""
        start = self.position
        try:
            return self.take(self.unsigned()).decode()
        except UnicodeDecodeError:
            raise CandidError(f"byte {start}: the text is not UTF-8") from None

    def principal(self) -> Principal:
        """A principal or service reference."""
        start = self.position
        if self.take(1) != b"\x01":
            raise CandidError(f"byte {start}: an opaque reference; only principals (tag 1) can be read")
        size = self.unsigned()
        if size > MAX_BYTES:
            raise CandidError(f"byte {start}: a principal of {size} bytes; at most {MAX_BYTES} are allowed")
        return Principal(self.take(size))

    def func_ref(self) -> FuncRef:
        """A function reference."""
        start = self.position
        if self.take(1) != b"\x01":
            raise CandidError(f"byte {start}: an opaque function reference; only public methods (tag 1) can be read")
        return FuncRef(self.principal(), self.text())

    def case(self, wire: t.Variant) -> t.Field:
        """The case of a variant that the next number selects."""
        start = self.position
        number = self.unsigned()
        if number >= len(wire.fields):
            raise CandidError(f"byte {start}: case {number} of a variant with {len(wire.fields)} cases")
        return wire.fields[number]


_COERCE: dict[type, Any] = {
    t.Prim: _Reader.prim,
    t.Opt: _Reader.opt,
    t.Vec: _Reader.vec,
    t.Record: _Reader.record,
    t.Variant: _Reader.variant,
    t.Func: _Reader.func,
    t.Service: _Reader.service,
    t.Future: _Reader.future,
}
