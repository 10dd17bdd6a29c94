"""Reading CBOR of strangers: only what the interface uses, nothing twice, nothing after the end.

Plumbing. Spec: interface spec, "CBOR encoding of requests and responses". Understood: integers (also as bignum), byte and text
strings, arrays, maps with text keys, true, false, null, and the tag 55799 around the whole; lengths may be in any form and
indefinite, since clients send them so. Everything else, floats too, and keys that come twice are errors.
"""

from __future__ import annotations

from typing import TypeAlias, Union

SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""Tag 55799, which stands before certificates and requests."""
MAX_DEPTH = 32
_SIMPLE = {20: False, 21: True, 22: None}
_INDEFINITE = 31

Plain: TypeAlias = Union[int, bytes, str, bool, "list[Plain]", "dict[str, Plain]", None]


class CborError(ValueError):
    """Not CBOR of the kind we take."""


def decode(raw: bytes) -> Plain:
    """The one value in these bytes.

    Raises: CborError when there is none, more than one, or something that the interface doesn't use.
    """
    value, end = decode_at(raw, 3 if raw.startswith(SELF_DESCRIBED) else 0)
    if end != len(raw):
        raise CborError(f"{len(raw) - end} bytes after the end of the CBOR value")
    return value


def decode_at(raw: bytes, at: int) -> tuple[Plain, int]:
    """The value that starts at an offset, and where it ends; otherwise as `decode`."""
    try:
        return _item(raw, at, 0)
    except IndexError:
        raise CborError("CBOR ends too early") from None
    except UnicodeDecodeError:
        raise CborError("CBOR text is not UTF-8") from None


def _item(raw: bytes, at: int, depth: int) -> tuple[Plain, int]:
    head = raw[at]
    major = head >> 5
    if major == 7:
        if head & 31 not in _SIMPLE:
            raise CborError(f"CBOR float or simple value 0x{head:02x} at byte {at}")
        return _SIMPLE[head & 31], at + 1
    if head & 31 == _INDEFINITE:
        return _indefinite(raw, major, at, depth)
    size, at = _argument(raw, at)
    if major == 2:
        end = _within(raw, at + size)
        return raw[at:end], end
    if major == 3:
        end = _within(raw, at + size)
        return raw[at:end].decode(), end
    if major == 0:
        return size, at
    if major == 1:
        return -1 - size, at
    if depth >= MAX_DEPTH:
        raise CborError(f"CBOR is nested deeper than {MAX_DEPTH}")
    if major == 5:
        fields: dict[str, Plain] = {}
        for _ in range(size):
            at = _field(raw, at, depth, fields)
        return fields, at
    if major == 4:
        items: list[Plain] = []
        for _ in range(size):
            item, at = _item(raw, at, depth + 1)
            items.append(item)
        return items, at
    if size != 2:
        raise CborError(f"CBOR tag {size} is not used here")
    digits, at = _item(raw, at, depth + 1)
    if type(digits) is not bytes:
        raise CborError("CBOR bignum without a byte string")
    return int.from_bytes(digits, "big"), at


def _argument(raw: bytes, at: int) -> tuple[int, int]:
    """Number in an item's head, and where the head ends."""
    low = raw[at] & 31
    if low < 24:
        return low, at + 1
    if low > 27:
        raise CborError(f"malformed CBOR head 0x{raw[at]:02x} at byte {at}")
    end = _within(raw, at + 1 + (1 << low - 24))
    return int.from_bytes(raw[at + 1 : end], "big"), end


def _within(raw: bytes, end: int) -> int:
    if end > len(raw):
        raise IndexError
    return end


def _field(raw: bytes, at: int, depth: int, fields: dict[str, Plain]) -> int:
    key, at = _item(raw, at, depth + 1)
    if type(key) is not str:
        raise CborError("CBOR map with a key that is no text")
    if key in fields:
        raise CborError(f"CBOR map has the key {key[:40]!r} twice")
    fields[key], at = _item(raw, at, depth + 1)
    return at


def _indefinite(raw: bytes, major: int, at: int, depth: int) -> tuple[Plain, int]:
    """A string in chunks, or an array or map that ends with a break."""
    if depth >= MAX_DEPTH:
        raise CborError(f"CBOR is nested deeper than {MAX_DEPTH}")
    at += 1
    if major == 5:
        fields: dict[str, Plain] = {}
        while raw[at] != 0xFF:
            at = _field(raw, at, depth, fields)
        return fields, at + 1
    items: list[Plain] = []
    if major in (2, 3):
        while raw[at] != 0xFF:
            if raw[at] >> 5 != major or raw[at] & 31 == _INDEFINITE:
                raise CborError(f"chunk of another kind in a CBOR string at byte {at}")
            item, at = _item(raw, at, depth + 1)
            items.append(item)
        joined: Plain = b"".join(items) if major == 2 else "".join(items)  # type: ignore[arg-type]
        return joined, at + 1
    if major != 4:
        raise CborError(f"malformed CBOR head at byte {at - 1}")
    while raw[at] != 0xFF:
        item, at = _item(raw, at, depth + 1)
        items.append(item)
    return items, at + 1
