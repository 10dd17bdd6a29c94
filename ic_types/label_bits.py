"""Labels as bits: where two labels differ first, which decides the shape of Patricia trees.

Rule module. Before each byte of a label stands a bit "another byte follows", which puts a label before those it is a prefix of.
A bit is given as byte and mask, where mask 256 is the bit before the byte.
"""

from __future__ import annotations

ANOTHER_BYTE = 256


def position(byte: int, mask: int) -> int:
    """Orders bits as they stand in a label."""
    return (byte << 9) - mask


def is_set(label: bytes, byte: int, mask: int) -> bool:
    """Whether the label has this bit."""
    return byte < len(label) and (label[byte] | ANOTHER_BYTE) & mask != 0


def first_difference(a: bytes, b: bytes) -> tuple[int, int]:
    """Byte and mask of the first bit in which two different labels differ."""
    size = len(a)
    if size != len(b):
        size = min(size, len(b))
        a, b = a[:size], b[:size]
        if a == b:
            return size, ANOTHER_BYTE
    last = (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_length() - 1
    return size - 1 - (last >> 3), 1 << (last & 7)
