"""The bytes of a Candid message, read one piece after another; errors name the byte at fault.

Rule module. Spec: Candid specification, "Binary Format", function M for numbers, texts and references.
"""

from __future__ import annotations

from ic_types.candid.leb128 import decode_signed, decode_unsigned, end_of_number
from ic_types.candid.values import FuncRef
from ic_types.errors import CandidError
from ic_types.principal import MAX_BYTES, Principal


class ByteReader:
    """A message and the position up to which it has been read."""

    __slots__ = ("position", "raw")

    def __init__(self, raw: bytes, position: int) -> None:
        self.raw = raw
        self.position = position

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

    def signed(self) -> int:
        """The next signed number."""
        number, self.position = decode_signed(self.raw, self.position)
        return number

    def pass_number(self) -> int:
        """Read past a number of either kind without making one; returns its bytes."""
        start = self.position
        self.position = end_of_number(self.raw, start)
        return self.position - start

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
