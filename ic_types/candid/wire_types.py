"""The head of a DIDL message: its type table and argument types.

Rule module. Spec: Candid specification, "Types" and "Deserialisation of future types".
"""

from __future__ import annotations

from ic_types.candid import types as t
from ic_types.candid.encoder import MAGIC
from ic_types.candid.leb128 import decode_signed, decode_unsigned
from ic_types.errors import CandidError

MAX_TYPES = 10_000
"""Entries of a type table, as in the canisters' own decoder."""


def read_head(raw: bytes) -> tuple[list[t.Type], int]:
    """The argument types and the position of the first value.

    Raises: CandidError naming the byte.
    """
    if raw[:4] != MAGIC:
        raise CandidError(f"not a Candid message: it starts with {raw[:4]!r} instead of {MAGIC!r}")
    return _HeadReader(raw).read()


class _HeadReader:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.position = 4
        self.table: list[t.Rec] = []
        self.methods: list[t.Rec] = []

    def read(self) -> tuple[list[t.Type], int]:
        """Argument types and the position of the values."""
        count = self.unsigned()
        if count > MAX_TYPES:
            raise CandidError(f"the type table has {count} entries; at most {MAX_TYPES} are allowed")
        self.table = [t.Rec(f"table{n}") for n in range(count)]
        for entry in self.table:
            entry.target = self.entry()
        for method in self.methods:
            if type(method.target) is not t.Func:
                raise CandidError("a method of a service in the type table is not a function")
        args = [self.index() for _ in range(self.count())]
        return args, self.position

    def unsigned(self) -> int:
        """The next unsigned number."""
        number, self.position = decode_unsigned(self.raw, self.position)
        return number

    def count(self) -> int:
        """A number of things that take at least one byte each."""
        start = self.position
        number = self.unsigned()
        if number > len(self.raw) - self.position:
            raise CandidError(f"byte {start}: {number} items are announced, more than there are bytes left")
        return number

    def take(self, size: int) -> bytes:
        """The next bytes."""
        end = self.position + size
        if end > len(self.raw):
            raise CandidError(f"byte {self.position}: {size} bytes are announced, {len(self.raw) - self.position} are left")
        data = self.raw[self.position : end]
        self.position = end
        return data

    def index(self) -> t.Type:
        """A reference: a primitive type or an entry of the table."""
        start = self.position
        number, self.position = decode_signed(self.raw, start)
        if 0 <= number < len(self.table):
            return self.table[number]
        if (prim := t.BY_OPCODE.get(number)) is not None:
            return prim
        raise CandidError(f"byte {start}: {number} is neither a primitive type nor one of {len(self.table)} table entries")

    def entry(self) -> t.Type:
        """A type definition."""
        start = self.position
        opcode, self.position = decode_signed(self.raw, start)
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
        if any(not 1 <= code <= len(t.ANNOTATIONS) for code in codes):
            raise CandidError(f"byte {start}: unknown function annotation among {list(codes)}")
        return t.Func(args, results, tuple(name for n, name in enumerate(t.ANNOTATIONS, 1) if n in codes))

    def service(self) -> t.Service:
        """A service type; its methods are checked when the table is complete."""
        found: list[tuple[str, t.Type]] = []
        before = b""
        for number in range(self.count()):
            start = self.position
            name = self.take(self.unsigned())
            if number and name <= before:
                raise CandidError(f"byte {start}: method {name!r} after {before!r}; names ascend")
            before = name
            method = self.index()
            if not isinstance(method, t.Rec):
                raise CandidError(f"byte {start}: method {name!r} has type {method}, which is not a function")
            self.methods.append(method)
            try:
                found.append((name.decode(), method))
            except UnicodeDecodeError:
                raise CandidError(f"byte {start}: method name {name!r} is not UTF-8") from None
        return t.Service(tuple(found))
