"""The one encoding for hashing: equal values give equal bytes, different values never do.

Rule module. Not in the spec: the replica hashes its own files; here the state hash of a node is taken over these bytes, so
they must not depend on insertion order, hash seed, Python version or process. Understood: None, bool, int of any size, bytes
(and subclasses such as Principal), str, tuple and list and deque (all "a sequence"), dict (by sorted key bytes), Enum members
and dataclasses (class name and fields in their order). Floats, sets and everything else are refused.

A dataclass field with `metadata=LOCAL` is not state and is left out. A class with a cheaper or smaller form of its own
registers an encoder. Encoders are compiled once per class as straight-line Python, since every round pays for them.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import struct
from collections import deque
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any, Final

LOCAL: Final = MappingProxyType({"canonical": "local"})
"""Field metadata: this field is a cache or a handle, not state."""

_DOMAIN = b"\x0ficsim-canonical"
_PACK_INT = struct.Struct(">cq").pack
_SMALL_INTS = tuple(_PACK_INT(b"i", value) for value in range(1024))
_INT64_MIN, _INT64_END = -(1 << 63), 1 << 63

Encoder = Callable[[Any], bytes]


class _Encoders(dict[type, Encoder]):
    """Encoder by exact class; a class seen for the first time gets one compiled."""

    def __missing__(self, cls: type) -> Encoder:
        encoder = _compile(cls)
        self[cls] = encoder
        return encoder


class Encoded(bytes):
    """Canonical bytes that were made before: they stand for their value, so what is hashed stays the same."""

    __slots__ = ()


def encode(value: object) -> bytes:
    """The canonical bytes of a value.

    Raises: TypeError when something in it has no canonical form (floats, sets, objects of other kinds).
    """
    return _encoders[type(value)](value)


def digest(*parts: object) -> bytes:
    """SHA-256 (32 bytes) over the canonical bytes of these parts, as one sequence."""
    return hashlib.sha256(_DOMAIN + _encode_sequence(parts)).digest()


def register(cls: type, encoder: Callable[[Any], object]) -> None:
    """Encode instances of `cls` (exactly) as class name plus the value that `encoder` makes of them."""
    prefix = _name_prefix(b"D", cls)
    _encoders[cls] = lambda value: prefix + encode(encoder(value))


def _encode_int(value: int) -> bytes:
    if 0 <= value < 1024:
        return _SMALL_INTS[value]
    if _INT64_MIN <= value < _INT64_END:
        return _PACK_INT(b"i", value)
    size = (value.bit_length() + 8) >> 3
    return b"I" + size.to_bytes(4, "big") + value.to_bytes(size, "big", signed=True)


def _encode_bytes(value: bytes) -> bytes:
    return b"b" + len(value).to_bytes(4, "big") + value


def _encode_str(value: str) -> bytes:
    raw = value.encode()
    return b"s" + len(raw).to_bytes(4, "big") + raw


def _encode_bool(value: bool) -> bytes:
    return b"t" if value else b"f"


def _encode_none(_: None) -> bytes:
    return b"n"


def _encode_sequence(value: Iterable[object]) -> bytes:
    table = _encoders
    parts = [table[type(item)](item) for item in value]
    return b"(" + len(parts).to_bytes(4, "big") + b"".join(parts)


def _encode_dict(value: dict[Any, Any]) -> bytes:
    table = _encoders
    # Key encodings are prefix-free, so sorting whole pairs sorts by key.
    pairs = sorted([table[type(key)](key) + table[type(item)](item) for key, item in value.items()])
    return b"{" + len(pairs).to_bytes(4, "big") + b"".join(pairs)


_encoders = _Encoders(
    {
        int: _encode_int,
        bytes: _encode_bytes,
        str: _encode_str,
        bool: _encode_bool,
        type(None): _encode_none,
        tuple: _encode_sequence,
        list: _encode_sequence,
        deque: _encode_sequence,
        dict: _encode_dict,
        Encoded: lambda value: value,
    }
)


_modules: dict[str, str] = {}
"""Where a class name comes from: it stands for its class in the bytes, so it must be the only one."""


def _name_prefix(tag: bytes, cls: type) -> bytes:
    module = _modules.setdefault(cls.__qualname__, cls.__module__)
    assert module == cls.__module__, f"{cls.__qualname__} of {module} and of {cls.__module__} would be hashed alike"
    name = cls.__qualname__.encode()
    return tag + len(name).to_bytes(2, "big") + name


def _compile(cls: type) -> Encoder:
    if issubclass(cls, enum.Enum):
        prefix = _name_prefix(b"e", cls)
        return {member: prefix + _encode_str(member.name) for member in cls.__members__.values()}.__getitem__
    if dataclasses.is_dataclass(cls):
        return _compile_dataclass(cls)
    if issubclass(cls, bytes):
        return _encode_bytes
    raise TypeError(
        f"{cls.__module__}.{cls.__qualname__} has no canonical form; make it a dataclass of ints, bytes and the like"
    )


def _compile_dataclass(cls: type) -> Encoder:
    names = [f.name for f in dataclasses.fields(cls) if f.metadata.get("canonical") != "local"]
    prefix = _name_prefix(b"d", cls) + len(names).to_bytes(2, "big")
    if not names:
        return lambda _: prefix
    fetch = "; ".join(f"v{k} = o.{name}" for k, name in enumerate(names))
    parts = ", ".join(f"t[type(v{k})](v{k})" for k in range(len(names)))
    scope: dict[str, Any] = {"t": _encoders, "p": prefix, "j": b"".join}
    exec(f"def encoder(o):\n    {fetch}\n    return j((p, {parts}))", scope)
    encoder: Encoder = scope["encoder"]
    return encoder
