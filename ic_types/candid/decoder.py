"""Bytes to Candid values, at the types that the receiver expects.

Rule module. Spec: Candid specification, "Deserialisation" and "Coercion". Two kinds of failure are kept apart:
malformed bytes are always an error, a value that doesn't fit the expected type reads as null under the nearest `opt`.

Bounded against hostile input: nesting, the number of values read or skipped (a small multiple of the message's length,
since some values take no bytes at all), the work of comparing reference types, and on request what is skipped; see `skipping`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from ic_types.candid import types as t
from ic_types.candid.encoder import FORMATS
from ic_types.candid.skipping import MAX_DEPTH, SkippingReader, no_value_of_empty
from ic_types.candid.subtyping import Comparison
from ic_types.candid.values import Some, Value
from ic_types.candid.wire_types import Head, read_head
from ic_types.errors import CandidError

_KEPT_PLANS = 256
_FIXED = {prim: struct.Struct("<" + code) for prim, code in FORMATS.items()}


def decode(
    raw: bytes,
    expected: Sequence[t.Type] | None = None,
    *,
    skipping_quota: int | None = None,
    max_depth: int = MAX_DEPTH,
    max_values: int | None = None,
) -> list[Value]:
    """The values of a DIDL message; without expected types, at the types that the message itself declares.

    Missing arguments read as None where the type has null; surplus ones are ignored, as the format asks. `skipping_quota`
    limits the cost of surplus arguments and fields and of values that don't fit their `opt`, in the units of `skipping`.
    `max_values` bounds the work whatever the length: so many values, a blob or text being one, and so many items of the
    type table.
    A `max_depth` above MAX_DEPTH needs an interpreter that recurses two frames for each level.

    Raises: CandidError naming byte and argument, what was found and what was expected.
    """
    head = read_head(raw, max_values)
    reader = _Reader(raw, head, skipping_quota, max_depth, max_values)
    kinds = head.types
    wanted = kinds if expected is None else expected
    values: list[Value] = []
    for index, kind in enumerate(kinds):
        if index >= len(wanted):
            reader.skip(kind, 0)
            continue
        try:
            values.append(reader.value(kind, wanted[index], 0))
        except _MisfitError as error:
            raise CandidError(f"byte {error.position}: argument {index}{error}") from None
    if reader.position != len(raw):
        raise CandidError(f"byte {reader.position}: {len(raw) - reader.position} bytes follow the last argument")
    for index, kind in enumerate(wanted[len(kinds) :], len(kinds)):
        if not t.nullable(kind):
            raise CandidError(f"argument {index} is missing; its type is {kind}")
        values.append(None)
    return values


class _MisfitError(Exception):
    """A well-formed value that doesn't fit the expected type; grows its path on the way out."""

    def __init__(self, position: int, found: t.Type, expected: t.Type, note: str = "") -> None:
        super().__init__()
        self.position = position
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


class _RecordStep(NamedTuple):
    """What to do with one field of the message."""

    source: t.Type
    field: t.Field | None
    """None for a field that is not asked for."""
    plain: t.Prim | None
    """The primitive type that is sent and expected, the common case."""


class _RecordPlan(NamedTuple):
    """How a record of the message becomes one of the expected type; made once per pair of types."""

    wanted: t.Record
    steps: tuple[_RecordStep, ...]
    blank: dict[str, Value]
    missing: t.Field | None
    plain: int
    is_tuple: bool


class _VariantPlan(NamedTuple):
    """Which case of the expected type each case of the message is; made once per pair of types."""

    wanted: t.Variant
    cases: tuple[t.Field | None, ...]


def _plan_record(wire: t.Record, wanted: t.Record) -> _RecordPlan:
    fields = {f.id: f for f in wanted.fields}
    steps = []
    for part in wire.fields:
        field = fields.pop(part.id, None)
        plain = part.type if isinstance(part.type, t.Prim) and field is not None and field.type is part.type else None
        steps.append(_RecordStep(part.type, field, plain))
    missing = next((f for f in fields.values() if not t.nullable(f.type)), None)
    count = sum(step.plain is not None for step in steps)
    return _RecordPlan(wanted, tuple(steps), {f.key: None for f in wanted.fields}, missing, count, wanted.is_tuple)


class _Reader(SkippingReader):
    __slots__ = ("_comparison", "_plans")

    def __init__(self, raw: bytes, head: Head, quota: int | None, max_depth: int, max_values: int | None) -> None:
        super().__init__(raw, head.position, head.table_size, quota, max_depth, max_values)
        self._comparison: Comparison | None = None
        self._plans = head.plans

    def value(self, wire: t.Type, wanted: t.Type, depth: int) -> Value:
        """The next value, of type `wire`, coerced to `wanted`."""
        wanted = t.resolve(wanted)
        if wanted is t.reserved:
            self.skip(wire, depth)
            return None
        wire = t.resolve(wire)
        self.charge(depth)
        if wire is t.empty:
            raise no_value_of_empty(self.position)
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
        raise _MisfitError(self.position, wire, wanted)

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
            return self.signed()
        if kind is t.bool_:
            return self.flag("a bool") == 1
        if kind is t.empty:
            raise no_value_of_empty(self.position)
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
            raise _MisfitError(self.position, wire, wanted)
        count = self.unsigned()
        source, target = t.resolve(wire.inner), t.resolve(wanted.inner)
        if source is t.nat8 and target is t.nat8:
            return self.take(count)
        if source is target and type(source) is t.Prim and source in FORMATS:
            return list(struct.unpack(f"<{count}{FORMATS[source]}", self.take(count * source.size)))
        if not count and target is t.nat8:
            return b""
        if source is target and type(source) is t.Prim:
            self.charge(depth, count)
            read = {t.nat: self.unsigned, t.int_: self.signed, t.text: self.text}.get(source)
            return [self.own(source) for _ in range(count)] if read is None else [read() for _ in range(count)]
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
            raise _MisfitError(self.position, wire, wanted)
        plan = self._record_plan(wire, wanted)
        if plan.missing is not None:
            note = f"field {plan.missing.label} of type {t.brief(plan.missing.type)} is missing"
            raise _MisfitError(self.position, wire, wanted, note)
        self.charge(depth + 1, plan.plain)
        found: dict[str, Value] = plan.blank.copy()
        for step in plan.steps:
            if step.field is None:
                self.skip(step.source, depth + 1)
            elif step.plain is not None:
                found[step.field.key] = self.own(step.plain)
            else:
                try:
                    found[step.field.key] = self.value(step.source, step.field.type, depth + 1)
                except _MisfitError as error:
                    raise error.under(f"field {step.field.label}") from None
        return tuple(found.values()) if plan.is_tuple else found

    def _record_plan(self, wire: t.Record, wanted: t.Record) -> _RecordPlan:
        plans = self._plans
        plan: _RecordPlan | None = plans.get((id(wire), id(wanted)))
        if plan is None or plan.wanted is not wanted:
            if len(plans) >= _KEPT_PLANS:
                plans.clear()
            plan = plans[id(wire), id(wanted)] = _plan_record(wire, wanted)
        return plan

    def variant(self, wire: t.Type, wanted: t.Variant, depth: int) -> Value:
        """A dict of one item."""
        if type(wire) is not t.Variant:
            raise _MisfitError(self.position, wire, wanted)
        start = self.position
        number = self.unsigned()
        plan = self._variant_plan(wire, wanted)
        if number >= len(plan.cases):
            raise self.no_case(start, number, wire)
        part, field = wire.fields[number], plan.cases[number]
        if field is None:
            cases = ", ".join(f.label for f in wanted.fields) or "none"
            raise _MisfitError(start, wire, wanted, f"case {part.label} is not one of: {cases}")
        if part.type is t.null and field.type is t.null:
            self.charge(depth + 1)
            return {field.key: None}
        try:
            return {field.key: self.value(part.type, field.type, depth + 1)}
        except _MisfitError as error:
            raise error.under(f"case {field.label}") from None

    def _variant_plan(self, wire: t.Variant, wanted: t.Variant) -> _VariantPlan:
        plans = self._plans
        plan: _VariantPlan | None = plans.get((id(wire), id(wanted)))
        if plan is None or plan.wanted is not wanted:
            if len(plans) >= _KEPT_PLANS:
                plans.clear()
            known = {f.id: f for f in wanted.fields}
            plan = plans[id(wire), id(wanted)] = _VariantPlan(wanted, tuple([known.get(f.id) for f in wire.fields]))
        return plan

    def func(self, wire: t.Type, wanted: t.Func, depth: int) -> Value:
        """A function reference; its declared type must be a subtype."""
        if type(wire) is not t.Func or not self.fits(wire, wanted):
            raise _MisfitError(self.position, wire, wanted)
        return self.func_ref()

    def service(self, wire: t.Type, wanted: t.Service, depth: int) -> Value:
        """A service reference; its declared type must be a subtype."""
        if type(wire) is not t.Service or not self.fits(wire, wanted):
            raise _MisfitError(self.position, wire, wanted)
        return self.principal()

    def future(self, wire: t.Type, wanted: t.Future, depth: int) -> Value:
        """A value of an unknown type, when the message is read at its own types."""
        self.skip(wire, depth)
        return None

    def fits(self, wire: t.Type, wanted: t.Type) -> bool:
        """Subtyping of reference types; one comparison learns from pair to pair, so its work is bounded per message."""
        if self._comparison is None:
            self._comparison = Comparison(f"byte {self.position}")
        return self._comparison.holds(wire, wanted)


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
