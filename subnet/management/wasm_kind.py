"""Whether submitted bytes are a module with a 64-bit heap, whose instructions have a price of their own.

Rule module. Not in the spec: an install is prepaid before the module is compiled. Bytes that are no module count as 32-bit; the
compiler will say what is wrong with them.
"""

from __future__ import annotations

import zlib

_MAGIC, _GZIP = b"\0asm\x01\0\0\0", b"\x1f\x8b\x08"
_MEMORY_SECTION, _IMPORTS_TO_TABLES = 5, (1, 2, 3, 4)
_MEMORY64 = 4
_STEP = 1 << 16
_MOST = 100 << 20


def is_wasm64(wasm: bytes) -> bool:
    """Whether the first memory that the module defines has 64-bit addresses; unpacks no more of it than that takes."""
    reader = _Reader(wasm)
    if reader.take(len(_MAGIC)) != _MAGIC:
        return False
    while True:
        head = reader.take(1)
        size = reader.number()
        if not head or size is None or size > _MOST:
            return False
        if head[0] == _MEMORY_SECTION:
            count = reader.number()
            flags = reader.take(1)
            return bool(count and flags and flags[0] & _MEMORY64)
        if head[0] not in (0, *_IMPORTS_TO_TABLES):
            return False
        if len(reader.take(size)) < size:
            return False


class _Reader:
    """Bytes of a module from its beginning, unpacked as they are asked for."""

    def __init__(self, wasm: bytes) -> None:
        self._packed = wasm.startswith(_GZIP)
        self._unpacker = zlib.decompressobj(wbits=31)
        self._rest, self._plain, self._at = (wasm, b"", 0) if self._packed else (b"", wasm, 0)

    def take(self, count: int) -> bytes:
        """The next bytes, fewer at the end or where the packing is broken."""
        while len(self._plain) - self._at < count and self._rest:
            try:
                more = self._unpacker.decompress(self._rest, max(count, _STEP))
            except zlib.error:
                more = b""
            self._rest = self._unpacker.unconsumed_tail if more else b""
            self._plain, self._at = self._plain[self._at :] + more, 0
        taken = self._plain[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def number(self) -> int | None:
        """An unsigned LEB128 number of at most 32 bits; None if there is none."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)
            if not byte:
                return None
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
        return None
