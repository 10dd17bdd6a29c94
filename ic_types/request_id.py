"""Representation-independent hashes of maps, and request ids.

Rule module. Spec: interface spec, "Representation-independent hashing of structured data" and "Request ids".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias, Union

from ic_types.leb128 import encode_int, encode_nat

Hashable: TypeAlias = Union[bytes, str, int, "Sequence[Hashable]", "Mapping[str, Hashable]"]


def hash_of_map(fields: Mapping[str, Hashable]) -> bytes:
    """Representation-independent hash (32 bytes) of a map; absent optional fields are simply not in it.

    Raises: TypeError for a value that has no hash (a float, a bool, None).
    """
    parts = [_key_hash(key) + hash_of_value(value) for key, value in fields.items()]
    parts.sort()
    return hashlib.sha256(b"".join(parts)).digest()


def hash_of_value(value: Hashable) -> bytes:
    """Hash of a field's value: blobs as they are, text as UTF-8, numbers as LEB128, arrays and maps by their parts."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).digest()
    if type(value) is str:
        return hashlib.sha256(value.encode()).digest()
    if type(value) is int:
        return hashlib.sha256(encode_nat(value) if value >= 0 else encode_int(value)).digest()
    if isinstance(value, Mapping):
        return hash_of_map(value)
    if isinstance(value, list | tuple):
        return hashlib.sha256(b"".join([hash_of_value(item) for item in value])).digest()
    raise TypeError(f"{type(value).__name__} has no representation-independent hash")


@lru_cache(256)
def _key_hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
