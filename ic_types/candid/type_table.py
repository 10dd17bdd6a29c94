"""The head of a message to be sent: the table of its types and the types of its arguments.

Rule module. Spec: Candid specification, "Binary Format", functions T and I.
"""

from __future__ import annotations

from functools import lru_cache

from ic_types.candid import types as t
from ic_types.candid.leb128 import encode_signed, encode_unsigned
from ic_types.candid.wire_types import MAGIC
from ic_types.errors import CandidError


@lru_cache(maxsize=256)
def header(types: tuple[t.Type, ...]) -> bytes:
    """Magic, type table and argument types."""
    table = _Table()
    args = b"".join([table.index(kind) for kind in types])
    return b"".join([MAGIC, encode_unsigned(len(table.entries)), *table.entries, encode_unsigned(len(types)), args])


class _Table:
    """The type table under construction; equal types share an entry."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self._known: dict[t.Type, bytes] = {}

    def index(self, kind: t.Type) -> bytes:
        """The reference to a type: its opcode or its number in the table."""
        kind = t.resolve(kind)
        if type(kind) is t.Prim:
            return encode_signed(kind.opcode)
        known = self._known.get(kind)
        if known is None:
            number = len(self.entries)
            known = self._known[kind] = encode_signed(number)
            self.entries.append(b"")
            self.entries[number] = self._entry(kind)
        return known

    def _entry(self, kind: t.Type) -> bytes:
        match kind:
            case t.Opt(inner):
                return b"\x6e" + self.index(inner)
            case t.Vec(inner):
                return b"\x6d" + self.index(inner)
            case t.Record(fields):
                return b"\x6c" + self._fields(fields)
            case t.Variant(fields):
                return b"\x6b" + self._fields(fields)
            case t.Func(args, results, annotations):
                codes = bytes([t.ANNOTATIONS.index(a) + 1 for a in annotations])
                return b"\x6a" + self._list(args) + self._list(results) + encode_unsigned(len(codes)) + codes
            case t.Service(methods):
                parts = [text_bytes(name) + self.index(method) for name, method in methods]
                return b"\x69" + encode_unsigned(len(parts)) + b"".join(parts)
        raise CandidError(f"values of {kind} can't be encoded")

    def _fields(self, fields: tuple[t.Field, ...]) -> bytes:
        parts = [encode_unsigned(f.id) + self.index(f.type) for f in fields]
        return encode_unsigned(len(parts)) + b"".join(parts)

    def _list(self, kinds: tuple[t.Type, ...]) -> bytes:
        return encode_unsigned(len(kinds)) + b"".join([self.index(kind) for kind in kinds])


def text_bytes(value: str) -> bytes:
    """A text: its length and its UTF-8.

    Raises: CandidError when it has none.
    """
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise CandidError("the text holds half a surrogate pair, which has no UTF-8 form") from None
    return encode_unsigned(len(raw)) + raw
