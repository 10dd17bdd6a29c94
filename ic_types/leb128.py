"""LEB128: natural numbers and integers as bytes of seven bits, low bits first.

Rule module. Spec: interface spec, "Representation-independent hashing of structured data" and "Encoding of certificates".
"""

from __future__ import annotations

_SMALL = tuple(bytes((value,)) for value in range(128))


def encode_nat(value: int) -> bytes:
    """Shortest unsigned form of a natural number."""
    if 0 <= value < 128:
        return _SMALL[value]
    assert value >= 0, f"{value} is not a natural number"
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_int(value: int) -> bytes:
    """Shortest signed form of an integer."""
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value & 127)
    return bytes(out)


def decode_nat(raw: bytes) -> int:
    """The natural number that these bytes are the shortest form of. Raises: ValueError for any other bytes."""
    value = 0
    for position, byte in enumerate(raw):
        value |= (byte & 127) << 7 * position
    if not raw or encode_nat(value) != raw:
        raise ValueError(f"{raw.hex() or 'nothing'} is not a natural number in LEB128")
    return value
