"""Candid types and the helpers that declare them in Python.

Rule module. Spec: Candid specification, "Type Structure" and "Upgrading and Subtyping".

    settings = record({"controllers": opt(vec(principal)), "freezing_threshold": opt(nat)})
    result = variant({"ok": nat, "err": text})

A field is named by text, by its number (`{0: nat, 1: text}`) or by `_123_`, which is number 123. Recursive types
go through `Rec`: `node = Rec("list"); node.target = opt(record({"head": int_, "tail": node}))`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from ic_types.errors import CandidError

MAX_FIELD_ID = (1 << 32) - 1
ANNOTATIONS = ("query", "oneway", "composite_query")
"""In the order of their codes in the binary format, from 1."""
_NUMBERED = re.compile(r"_(0|[1-9][0-9]*)_\Z")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True, eq=False)
class Prim:
    """A primitive type; there is one object of each, compare with `is`."""

    name: str
    opcode: int
    size: int = 0
    """Bytes of a value when they are fixed, otherwise 0."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Opt:
    """`opt T`."""

    inner: Type

    def __str__(self) -> str:
        return f"opt {self.inner}"


@dataclass(frozen=True, slots=True)
class Vec:
    """`vec T`."""

    inner: Type

    def __str__(self) -> str:
        return "blob" if self.inner is nat8 else f"vec {self.inner}"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record or a case of a variant."""

    id: int
    name: str | None
    """None when only the number is known."""
    type: Type

    @property
    def key(self) -> str:
        """What the field is called in decoded values."""
        return self.name if self.name is not None else f"_{self.id}_"

    @property
    def label(self) -> str:
        """What the field is called in Candid text."""
        return str(self.id) if self.name is None else quote_name(self.name)


@dataclass(frozen=True, slots=True)
class Record:
    """`record { ... }`, fields in order of id."""

    fields: tuple[Field, ...]

    @property
    def is_tuple(self) -> bool:
        """Whether the fields are the unnamed 0, 1, 2, ... of a tuple."""
        return bool(self.fields) and all(f.name is None and f.id == n for n, f in enumerate(self.fields))

    def __str__(self) -> str:
        if self.is_tuple:
            return _braced("record", [str(f.type) for f in self.fields])
        return _braced("record", [f"{f.label} : {f.type}" for f in self.fields])


@dataclass(frozen=True, slots=True)
class Variant:
    """`variant { ... }`, cases in order of id."""

    fields: tuple[Field, ...]

    def __str__(self) -> str:
        return _braced("variant", [f.label if f.type is null else f"{f.label} : {f.type}" for f in self.fields])


@dataclass(frozen=True, slots=True)
class Func:
    """`func (args) -> (results) annotations`."""

    args: tuple[Type, ...]
    results: tuple[Type, ...]
    annotations: tuple[str, ...] = ()

    def signature(self) -> str:
        """The type without the word func, as it stands in a service."""
        args, results = ", ".join(map(str, self.args)), ", ".join(map(str, self.results))
        return " ".join([f"({args}) -> ({results})", *self.annotations])

    def __str__(self) -> str:
        return f"func {self.signature()}"


@dataclass(frozen=True, slots=True)
class Service:
    """`service { ... }`, methods in order of their names' bytes."""

    methods: tuple[tuple[str, Type], ...]

    def __str__(self) -> str:
        parts = []
        for name, kind in self.methods:
            target = resolve(kind)
            shown = target.signature() if isinstance(target, Func) and not isinstance(kind, Rec) else str(kind)
            parts.append(f"{quote_name(name)} : {shown}")
        return _braced("service", parts)


@dataclass(frozen=True, slots=True, eq=False)
class Future:
    """A type of a later version of the format; its values can only be skipped."""

    opcode: int

    def __str__(self) -> str:
        return f"future type {self.opcode}"


class Rec:
    """A named reference to a type that is filled in later; equal only to itself."""

    __slots__ = ("name", "target")

    def __init__(self, name: str, target: Type | None = None) -> None:
        self.name = name
        self.target = target

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


Type: TypeAlias = "Prim | Opt | Vec | Record | Variant | Func | Service | Future | Rec"
Label: TypeAlias = "str | int"

null = Prim("null", -1)
bool_ = Prim("bool", -2, 1)
nat = Prim("nat", -3)
int_ = Prim("int", -4)
nat8 = Prim("nat8", -5, 1)
nat16 = Prim("nat16", -6, 2)
nat32 = Prim("nat32", -7, 4)
nat64 = Prim("nat64", -8, 8)
int8 = Prim("int8", -9, 1)
int16 = Prim("int16", -10, 2)
int32 = Prim("int32", -11, 4)
int64 = Prim("int64", -12, 8)
float32 = Prim("float32", -13, 4)
float64 = Prim("float64", -14, 8)
text = Prim("text", -15)
reserved = Prim("reserved", -16)
empty = Prim("empty", -17)
principal = Prim("principal", -24)
blob = Vec(nat8)

PRIMITIVES: dict[str, Prim] = {
    prim.name: prim
    for group in (
        (null, bool_, nat, int_, nat8, nat16, nat32, nat64, int8, int16, int32, int64),
        (float32, float64, text, reserved, empty, principal),
    )
    for prim in group
}
BY_OPCODE: dict[int, Prim] = {p.opcode: p for p in PRIMITIVES.values()}
RESERVED_WORDS = frozenset(
    {*ANNOTATIONS, "blob", "func", "import", "null", "opt", "principal", "record", "service", "type", "variant", "vec"}
    | {"true", "false"}
)
"""Words that can't stand as a name in Candid text without quotes."""
KEYWORDS = RESERVED_WORDS | PRIMITIVES.keys()
"""Words that are printed with quotes when they are names."""


def resolve(kind: Type) -> Type:
    """The type behind named references.

    Raises: CandidError when a reference leads nowhere or only to itself.
    """
    seen = 0
    while type(kind) is Rec:
        name, following = kind.name, kind.target
        seen += 1
        if following is None:
            raise CandidError(f"type {name} is used but not defined")
        if seen > 1000:
            raise CandidError(f"type {name} is defined only by itself")
        kind = following
    return kind


def definition(kind: Type) -> str:
    """What a name stands for, as text; for a type without a name the type itself."""
    return str(kind.target) if isinstance(kind, Rec) else str(kind)


def brief(kind: Type, longest: int = 60) -> str:
    """A type as text, cut where it is long."""
    shown = str(kind)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def nullable(kind: Type) -> bool:
    """Whether null is a value of the type, so that a missing field or argument reads as null."""
    target = resolve(kind)
    return target is null or target is reserved or type(target) is Opt


def field_id(name: str) -> int:
    """The number of a field name. Spec: "Shorthand: Symbolic Field Ids"."""
    number = 0
    for byte in name.encode():
        number = (number * 223 + byte) & MAX_FIELD_ID
    return number


def quote_name(name: str) -> str:
    """A field or method name as Candid text, in quotes where it isn't a plain identifier."""
    if _IDENTIFIER.match(name) and name not in KEYWORDS:
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f'"{escaped}"'


def _braced(word: str, parts: Sequence[str]) -> str:
    return f"{word} {{ {'; '.join(parts)} }}" if parts else f"{word} {{}}"


def make_field(label: Label, kind: Type) -> Field:
    """A field from its name or number.

    Raises: CandidError when the number is out of range.
    """
    if isinstance(label, str) and (numbered := _NUMBERED.match(label)):
        label = int(numbered[1])
    if isinstance(label, str):
        return Field(field_id(label), label, kind)
    if not 0 <= label <= MAX_FIELD_ID:
        raise CandidError(f"field number {label} is outside 0..{MAX_FIELD_ID}")
    return Field(label, None, kind)


def sorted_fields(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Fields in order of id.

    Raises: CandidError when two have the same id.
    """
    ordered = tuple(sorted(fields, key=lambda f: f.id))
    for before, after in pairwise(ordered):
        if before.id == after.id:
            raise CandidError(f"fields {before.label} and {after.label} have the same id {before.id}")
    return ordered


def opt(inner: Type) -> Opt:
    """`opt inner`."""
    return Opt(inner)


def vec(inner: Type) -> Vec:
    """`vec inner`."""
    return Vec(inner)


def record(fields: Mapping[str, Type] | Mapping[int, Type]) -> Record:
    """A record from names (or numbers) to types."""
    return Record(sorted_fields(make_field(label, kind) for label, kind in fields.items()))


def tuple_(*kinds: Type) -> Record:
    """`record { T0; T1; ... }`."""
    return Record(tuple(Field(n, None, kind) for n, kind in enumerate(kinds)))


def variant(fields: Mapping[str, Type] | Mapping[int, Type]) -> Variant:
    """A variant from names (or numbers) of its cases to types."""
    return Variant(sorted_fields(make_field(label, kind) for label, kind in fields.items()))


def func(args: Sequence[Type] = (), results: Sequence[Type] = (), *annotations: str) -> Func:
    """A function type; annotations are `query`, `oneway`, `composite_query`."""
    for name in annotations:
        if name not in ANNOTATIONS:
            raise CandidError(f"annotation {name!r} is unknown; allowed are {', '.join(ANNOTATIONS)}")
    if "oneway" in annotations and results:
        raise CandidError("a oneway function has no results")
    return Func(tuple(args), tuple(results), tuple(a for a in ANNOTATIONS if a in annotations))


def service(methods: Mapping[str, Type]) -> Service:
    """A service type from method names to function types."""
    return Service(tuple(sorted(methods.items(), key=lambda item: item[0].encode())))
