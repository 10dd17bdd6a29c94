"""Small maps of leaves that never change: a record in a Merkle map at the price of a tuple.

Rule module. Its root is that of the MerkleMap with the same items. Records that come by the thousand and are replaced as a
whole, such as the status of a request, are kept so.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from ic_types.hash_tree import EMPTY_DIGEST, FORK_DOMAIN, LABELED_DOMAIN, LEAF_DOMAIN
from ic_types.label_bits import first_difference, is_set


class FixedMap:
    """An immutable map label -> leaf bytes; the items are in the order of their labels."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[tuple[bytes, bytes], ...]) -> None:
        self.items = items

    def __eq__(self, other: object) -> bool:
        return type(other) is FixedMap and self.items == other.items

    def __hash__(self) -> int:
        return hash(self.items)

    def root(self) -> bytes:
        """Root digest, 32 bytes."""
        items = self.items
        return _root(items, 0, len(items)) if items else EMPTY_DIGEST


def _root(items: tuple[tuple[bytes, bytes], ...], start: int, end: int) -> bytes:
    if end - start == 1:
        label, value = items[start]
        return _short(label, value) if len(value) < 16 else _entry(label, value)
    byte, mask = first_difference(items[start][0], items[end - 1][0])
    split = start + 1
    while not is_set(items[split][0], byte, mask):
        split += 1
    return hashlib.sha256(FORK_DOMAIN + _root(items, start, split) + _root(items, split, end)).digest()


def _entry(label: bytes, value: bytes) -> bytes:
    return hashlib.sha256(LABELED_DOMAIN + label + hashlib.sha256(LEAF_DOMAIN + value).digest()).digest()


_short = lru_cache(1024)(_entry)
"""Short values are mostly the same few words and numbers."""
