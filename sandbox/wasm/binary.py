"""The Wasm binary format: LEB128 integers, names, vectors and the walk over sections.

Rule module. Format: WebAssembly core specification, chapter "Binary Format".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sandbox.wasm.rules import undecodable

MAGIC = b"\0asm"
HEADER = MAGIC + b"\1\0\0\0"

CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA, DATA_COUNT = range(13)

I32, I64, F32, F64, V128, FUNCREF, EXTERNREF = 0x7F, 0x7E, 0x7D, 0x7C, 0x7B, 0x70, 0x6F
TYPE_NAMES = {I32: "i32", I64: "i64", F32: "f32", F64: "f64", V128: "v128", FUNCREF: "funcref", EXTERNREF: "externref"}


def unsigned(value: int) -> bytes:
    """LEB128 form of a non-negative integer."""
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    """Signed LEB128 form of an integer."""
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value & 127)
    return bytes(out)


def vector(items: Iterable[bytes]) -> bytes:
    """Count and items."""
    parts = list(items)
    return unsigned(len(parts)) + b"".join(parts)


def name(text: str) -> bytes:
    """Length and UTF-8 bytes."""
    raw = text.encode()
    return unsigned(len(raw)) + raw


def section(kind: int, payload: bytes) -> bytes:
    """A section with its id and size."""
    return bytes((kind,)) + unsigned(len(payload)) + payload


class Reader:
    """A position in bytes, and the steps that read them; running off the end is InvalidWasm."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: int = 0, end: int | None = None) -> None:
        self.data, self.pos = data, pos
        self.end = len(data) if end is None else end

    def byte(self) -> int:
        """The next byte."""
        if self.pos >= self.end:
            raise undecodable("unexpected end", offset=self.pos)
        self.pos += 1
        return self.data[self.pos - 1]

    def unsigned(self) -> int:
        """The next unsigned LEB128 integer, of at most 64 bits."""
        result = shift = 0
        while (byte := self.byte()) > 127:
            result |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise undecodable("integer representation too long", offset=self.pos)
        return result | byte << shift

    def signed(self) -> int:
        """The next signed LEB128 integer, of at most 64 bits."""
        result = shift = 0
        while True:
            byte = self.byte()
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return result - (1 << shift) if byte & 64 else result
            if shift > 63:
                raise undecodable("integer representation too long", offset=self.pos)

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self.end - self.pos:
            raise undecodable("unexpected end", offset=self.pos)
        self.pos += count
        return self.data[self.pos - count : self.pos]

    def name(self) -> str:
        """The next name."""
        try:
            return self.take(self.unsigned()).decode()
        except UnicodeDecodeError as error:
            raise undecodable("malformed UTF-8 encoding", offset=self.pos) from error

    @property
    def more(self) -> bool:
        """Something is left to read."""
        return self.pos < self.end


@dataclass(frozen=True, slots=True)
class Section:
    """Where a section's payload lies in the module."""

    kind: int
    start: int
    end: int


def sections(data: bytes) -> list[Section]:
    """All sections in file order.

    Raises: InvalidWasm when the bytes are not a sequence of sections.
    """
    reader, found = Reader(data, len(HEADER)), []
    while reader.more:
        kind, size = reader.byte(), reader.unsigned()
        if size > reader.end - reader.pos:
            raise undecodable("section reaches beyond the end of the module", offset=reader.pos)
        found.append(Section(kind, reader.pos, reader.pos + size))
        reader.pos += size
    return found
