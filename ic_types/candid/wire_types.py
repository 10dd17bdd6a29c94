"""The head of a DIDL message: its type table and argument types.

Rule module. Spec: Candid specification, "Types" and "Deserialisation of future types".
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ic_types.candid import types as t
from ic_types.candid.byte_reader import ByteReader
from ic_types.errors import CandidError

MAGIC = b"DIDL"
MAX_TYPES = 10_000
"""Entries of a type table, as in the canisters' own decoder."""
_KEPT_HEADS = 16
_KEPT_BYTES = 1024


class Head(NamedTuple):
    """What stands before the values."""

    types: tuple[t.Type, ...]
    """Types of the arguments, as the message declares them."""
    position: int
    """Where the values start."""
    table_size: int
    plans: dict[tuple[int, int], Any]
    """How its records and variants are read at expected types; the decoder's own."""


_heads: dict[bytes, Head] = {}
"""Heads read lately. A head says itself where it ends, so a message that starts with one of them has that one."""


def read_head(raw: bytes, max_items: int | None = None) -> Head:
    """The argument types and the position of the first value.

    `max_items` bounds fields, methods and arguments of all types together.

    Raises: CandidError naming the byte.
    """
    for known, head in tuple(_heads.items()):
        if raw.startswith(known):
            return head
    if raw[:4] != MAGIC:
        raise CandidError(f"not a Candid message: it starts with {raw[:4]!r} instead of {MAGIC!r}")
    head = _HeadReader(raw, len(raw) if max_items is None else max_items).read()
    if head.position <= _KEPT_BYTES:
        while len(_heads) >= _KEPT_HEADS:
            _heads.pop(next(iter(_heads)), None)
        _heads[raw[: head.position]] = head
    return head


class _HeadReader(ByteReader):
    def __init__(self, raw: bytes, max_items: int) -> None:
        super().__init__(raw, len(MAGIC))
        self.items_left = max_items
        self.table: list[t.Rec] = []
        self.methods: list[tuple[int, bytes, t.Rec]] = []

    def read(self) -> Head:
        """Type table and argument types."""
        count = self.unsigned()
        if count > MAX_TYPES:
            raise CandidError(f"byte {len(MAGIC)}: the type table has {count} entries; at most {MAX_TYPES} are allowed")
        self.table = [t.Rec(f"table{n}") for n in range(count)]
        for entry in self.table:
            entry.target = self.entry()
        for start, name, method in self.methods:
            if type(method.target) is not t.Func:
                raise CandidError(f"byte {start}: method {shown(name)} of a service is not a function")
        args = tuple([self.index() for _ in range(self.count())])
        return Head(args, self.position, count, {})

    def count(self) -> int:
        """A number of things that take at least one byte each."""
        start = self.position
        number = self.unsigned()
        if number > len(self.raw) - self.position:
            raise CandidError(f"byte {start}: {number} items are announced, more than there are bytes left")
        self.items_left -= number
        if self.items_left < 0:
            raise CandidError(f"byte {start}: the type table has more items than are allowed")
        return number

    def index(self) -> t.Type:
        """A reference: a primitive type or an entry of the table."""
        start = self.position
        byte = self.raw[start] if start < len(self.raw) else 128
        if byte < 128:  # the common case: the number has one byte
            number = byte - 128 if byte & 64 else byte
            self.position = start + 1
        else:
            number = self.signed()
        if 0 <= number < len(self.table):
            return self.table[number]
        if (prim := t.BY_OPCODE.get(number)) is not None:
            return prim
        raise CandidError(f"byte {start}: {number} is neither a primitive type nor one of {len(self.table)} table entries")

    def entry(self) -> t.Type:
        """A type definition."""
        start = self.position
        opcode = self.signed()
        match opcode:
            case -18:
                return t.Opt(self.index())
            case -19:
                return t.Vec(self.index())
            case -20:
                return t.Record(self.fields())
            case -21:
                return t.Variant(self.fields())
            case -22:
                return self.func()
            case -23:
                return self.service()
        if opcode < -24:
            self.take(self.count())
            return t.Future(opcode)
        raise CandidError(f"byte {start}: {opcode} is not a composite type; the type table may hold nothing else")

    def fields(self) -> tuple[t.Field, ...]:
        """The fields of a record or variant."""
        found = []
        before = -1
        for _ in range(self.count()):
            start = self.position
            number = self.unsigned()
            if not before < number <= t.MAX_FIELD_ID:
                raise CandidError(f"byte {start}: field id {number} after {before}; ids ascend, up to {t.MAX_FIELD_ID}")
            before = number
            found.append(t.Field(number, None, self.index()))
        return tuple(found)

    def func(self) -> t.Func:
        """A function type."""
        args = tuple([self.index() for _ in range(self.count())])
        results = tuple([self.index() for _ in range(self.count())])
        start = self.position
        codes = self.take(self.count())
        wrong = next((code for code in codes if not 1 <= code <= len(t.ANNOTATIONS)), None)
        if wrong is not None:
            raise CandidError(f"byte {start}: {wrong} is no function annotation; allowed are 1 to {len(t.ANNOTATIONS)}")
        return t.Func(args, results, tuple(name for n, name in enumerate(t.ANNOTATIONS, 1) if n in codes))

    def service(self) -> t.Service:
        """A service type; its methods are checked when the table is complete."""
        found: list[tuple[str, t.Type]] = []
        before = b""
        for number in range(self.count()):
            start = self.position
            name = self.take(self.unsigned())
            if number and name <= before:
                raise CandidError(f"byte {start}: method {shown(name)} after {shown(before)}; names ascend")
            before = name
            method = self.index()
            if not isinstance(method, t.Rec):
                raise CandidError(f"byte {start}: method {shown(name)} has type {method}, which is not a function")
            self.methods.append((start, name, method))
            try:
                found.append((name.decode(), method))
            except UnicodeDecodeError:
                raise CandidError(f"byte {start}: method name {shown(name)} is not UTF-8") from None
        return t.Service(tuple(found))


def shown(name: bytes) -> str:
    """A name of any length as errors show it."""
    return repr(name) if len(name) <= 40 else f"{name[:40]!r}..."
