"""LEB128 numbers of any size, in time linear in their length.

Rule module. Spec: Candid specification, "Notation"; WebAssembly uses the same encoding.
"""

from __future__ import annotations

import re

from ic_types.errors import CandidError

_SHORT = 10
"""Up to this many bytes a plain loop is the fastest."""
_LAST_BYTE = re.compile(rb"[\x00-\x7f]")


def encode_unsigned(number: int) -> bytes:
    """The shortest unsigned LEB128 of a number >= 0."""
    if 0 <= number < 128:
        return bytes((number,))
    if number < 0:
        raise CandidError(f"{number} is negative; an unsigned number was expected")
    if number >> 64:
        return _pack(number, -(-number.bit_length() // 7))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_signed(number: int) -> bytes:
    """The shortest signed LEB128 of any number."""
    if -64 <= number < 64:
        return bytes((number & 127,))
    bits = (number if number >= 0 else ~number).bit_length() + 1
    length = -(-bits // 7)
    return _pack(number & ((1 << 7 * length) - 1), length)


def decode_unsigned(raw: bytes, position: int) -> tuple[int, int]:
    """Number and position after it; overlong forms are fine, as the format allows them.

    Raises: CandidError when the bytes end inside the number.
    """
    if position < len(raw) and (byte := raw[position]) < 128:
        return byte, position + 1
    end = end_of_number(raw, position)
    return _unpack(raw, position, end), end


def decode_signed(raw: bytes, position: int) -> tuple[int, int]:
    """Number and position after it.

    Raises: CandidError when the bytes end inside the number.
    """
    end = end_of_number(raw, position)
    number = _unpack(raw, position, end)
    if raw[end - 1] & 64:
        number -= 1 << 7 * (end - position)
    return number, end


def end_of_number(raw: bytes, position: int) -> int:
    """The position after the number that starts here.

    Raises: CandidError when the bytes end inside the number.
    """
    last = _LAST_BYTE.search(raw, position)
    if last is None:
        raise CandidError(f"byte {position}: a number is cut off by the end of the data")
    return last.end()


def _unpack(raw: bytes, start: int, end: int) -> int:
    if end - start <= _SHORT:
        number = 0
        for index in range(end - 1, start - 1, -1):
            number = number << 7 | raw[index] & 127
        return number
    # Eight septets make seven whole bytes: shifting one long number 7 bits at a time would take quadratic time.
    groups = [_unpack(raw, at, min(at + 8, end)).to_bytes(7, "little") for at in range(start, end, 8)]
    return int.from_bytes(b"".join(groups), "little")


def _pack(number: int, length: int) -> bytes:
    """`length` septets of a number >= 0, low first."""
    data = number.to_bytes(-(-7 * length // 8) + 7, "little")
    out = bytearray()
    for at in range(0, len(data), 7):
        group = int.from_bytes(data[at : at + 7], "little")
        out += bytes([group >> shift & 127 | 128 for shift in range(0, 56, 7)])
    del out[length:]
    out[-1] &= 127
    return bytes(out)
