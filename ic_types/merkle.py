"""Merkle maps: ordered maps from labels to values whose root digest is that of a hash tree.

Rule module. Spec: interface spec, "Certificate" leaves the shape of forks free. Here it is a Patricia tree on the bits of the
labels (`label_bits`): it depends on the set of labels alone, never on history, and keeps their order, so that absence can be
proven by neighbours.

A change clears the digests from the changed entry upwards and stops where one is cleared already; `root` computes what is
missing. So many changes in a round share the work on common paths, and nothing is done for what didn't change. A map
that is the value of another passes its changes on to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from ic_types import hash_tree
from ic_types.fixed_map import FixedMap
from ic_types.hash_tree import EMPTY_DIGEST, FORK_DOMAIN, LABELED_DOMAIN, LEAF_DOMAIN, HashTree
from ic_types.label_bits import ANOTHER_BYTE, first_difference, is_set, position


class _Entry:
    """A label and its value."""

    __slots__ = ("digest", "label", "parent", "value")

    def __init__(self, label: bytes, value: Value) -> None:
        self.label = label
        self.value = value
        self.digest: bytes | None = None
        """Of `Labeled label value`; None when it has to be computed."""
        self.parent: _Fork | _Entry | None = None
        """Fork of the same map, or the entry that holds this map."""


class _Fork:
    """Labels below agree before a bit; those with the bit set are on the right."""

    __slots__ = ("byte", "digest", "left", "mask", "parent", "position", "right")

    def __init__(self, byte: int, mask: int, left: _Node, right: _Node) -> None:
        self.byte = byte
        self.mask = mask
        self.position = position(byte, mask)
        self.left = left
        self.right = right
        self.digest: bytes | None = None
        self.parent: _Fork | _Entry | None = None


_Node: TypeAlias = _Entry | _Fork


class MerkleMap:
    """An ordered map label -> leaf bytes, nested MerkleMap, FixedMap or `Pruned` (a subtree known by its digest)."""

    __slots__ = ("_entries", "_owner", "_top")

    def __init__(self, items: Iterable[tuple[bytes, Value]] = ()) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._top: _Node | None = None
        self._owner: _Entry | None = None
        for label, value in items:
            self.set(label, value)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, label: bytes) -> bool:
        return label in self._entries

    def get(self, label: bytes) -> Value | None:
        """The value under a label, None if there is none."""
        entry = self._entries.get(label)
        return None if entry is None else entry.value

    def child(self, label: bytes) -> MerkleMap:
        """The map nested under a label, made if there is none."""
        entry = self._entries.get(label)
        if entry is not None and isinstance(entry.value, MerkleMap):
            return entry.value
        made = MerkleMap()
        self.set(label, made)
        return made

    def items(self) -> Iterator[tuple[bytes, Value]]:
        """Labels and values in the order of labels; the map must not change meanwhile."""
        todo: list[_Node] = [] if self._top is None else [self._top]
        while todo:
            node = todo.pop()
            while type(node) is _Fork:
                todo.append(node.right)
                node = node.left
            assert type(node) is _Entry
            yield node.label, node.value

    def set(self, label: bytes, value: Value) -> None:
        """Put a value under a label, replacing the one there; a nested map has one place only."""
        entry = self._entries.get(label)
        if entry is None:
            entry = _Entry(label, value)
            self._insert(entry)
            self._entries[label] = entry
        else:
            old = entry.value
            if old is value or (type(old) is not MerkleMap and old == value):
                return
            if type(old) is MerkleMap:
                old._attach(None)
            entry.value = value
            _changed(entry)
        if type(value) is MerkleMap:
            assert value._owner is None, f"the map under {label.hex()} already has another place"
            value._attach(entry)

    def delete(self, label: bytes) -> bool:
        """Take away a label with its value; False if it wasn't there."""
        entry = self._entries.pop(label, None)
        if entry is None:
            return False
        if type(entry.value) is MerkleMap:
            entry.value._attach(None)
        fork = entry.parent
        if type(fork) is not _Fork:
            self._top = None
            if self._owner is not None:
                _changed(self._owner)
            return True
        self._replace(fork, fork.right if fork.left is entry else fork.left)
        entry.parent = None  # so that entry and fork go at once, without waiting for the cycle collector
        if fork.parent is not None:
            _changed(fork.parent)
        return True

    def root(self) -> bytes:
        """Root digest, 32 bytes, as of `hash_tree.reconstruct`."""
        top = self._top
        if top is None:
            return EMPTY_DIGEST
        digest = top.digest
        return digest if digest is not None else _compute(top)

    def tree(self) -> HashTree:
        """The whole map as a hash tree with nothing pruned."""
        return hash_tree.Empty() if self._top is None else _reveal_all(self._top)

    def witness(self, paths: Iterable[tuple[bytes, ...]]) -> HashTree:
        """The map pruned to these paths: each with all that is below it, or with the proof that it is absent."""
        wanted: dict[bytes, Any] = {}
        for path in paths:
            if not path:
                return self.tree()
            at: dict[bytes, Any] | None = wanted
            for label in path[:-1]:
                at = at.setdefault(label, {}) if at is not None else None
            if at is not None:
                at[path[-1]] = None
        return self.witness_of(wanted)

    def witness_of(self, wanted: Mapping[bytes, Wanted]) -> HashTree:
        """As `witness`, for paths given as nested mappings; None stands for everything below."""
        self.root()
        if self._top is None:
            return hash_tree.Empty()
        shown: dict[_Node, Wanted] = {}
        for label, below in wanted.items():
            entry = self._entries.get(label)
            if entry is not None:
                shown[entry] = below
            else:
                for neighbour in self._neighbours(label):
                    shown.setdefault(neighbour, {})
        opened: set[_Fork] = set()
        for node in shown:
            above = node.parent
            while type(above) is _Fork and above not in opened:
                opened.add(above)
                above = above.parent
        return _prune(self._top, shown, opened)

    def outline(self, kept: Iterable[bytes] = ()) -> MerkleMap:
        """A map of the same root that knows its values by their digests, but for those kept; costs its own labels only."""
        whole = dict.fromkeys(kept)
        return MerkleMap(
            (label, value if label in whole else hash_tree.Pruned(_value_digest(value))) for label, value in self.items()
        )

    def _attach(self, owner: _Entry | None) -> None:
        self._owner = owner
        if self._top is not None:
            self._top.parent = owner

    def _replace(self, old: _Fork | _Entry, new: _Node) -> None:
        """Let `new` stand where `old` stands."""
        above = old.parent
        new.parent = above
        if type(above) is not _Fork:
            self._top = new
        elif above.left is old:
            above.left = new
        else:
            above.right = new

    def _insert(self, entry: _Entry) -> None:
        node = self._top
        if node is None:
            self._top = entry
            entry.parent = self._owner
            if self._owner is not None:
                _changed(self._owner)
            return
        label = entry.label
        below, byte, mask = self._place(label)
        if is_set(label, byte, mask):
            fork = _Fork(byte, mask, below, entry)
        else:
            fork = _Fork(byte, mask, entry, below)
        self._replace(below, fork)
        below.parent = entry.parent = fork
        if fork.parent is not None:
            _changed(fork.parent)

    def _place(self, label: bytes) -> tuple[_Node, int, int]:
        """Where a label that isn't there would fork off: the subtree beside it, and byte and mask of the bit."""
        node = self._top
        assert node is not None
        size = len(label)
        while type(node) is _Fork:
            byte = node.byte
            node = node.right if byte < size and (label[byte] | ANOTHER_BYTE) & node.mask else node.left
        assert type(node) is _Entry
        byte, mask = first_difference(node.label, label)
        at = position(byte, mask)
        place: _Node = node
        above = node.parent
        while type(above) is _Fork and above.position > at:
            place = above
            above = above.parent
        return place, byte, mask

    def _neighbours(self, label: bytes) -> list[_Entry]:
        """The entries just before and just after a label that isn't there."""
        beside, byte, mask = self._place(label)
        is_greater = is_set(label, byte, mask)
        found = [_last(beside) if is_greater else _first(beside)]
        node: _Node = beside
        above = beside.parent
        while type(above) is _Fork and node is (above.right if is_greater else above.left):
            node, above = above, above.parent
        if type(above) is _Fork:
            found.append(_first(above.right) if is_greater else _last(above.left))
        return found


Value: TypeAlias = bytes | MerkleMap | FixedMap | hash_tree.Pruned
Wanted: TypeAlias = "Mapping[bytes, Wanted] | None"
"""What to reveal: labels with what to reveal below them; None for all of it, {} for nothing but the label."""


def _changed(node: _Node | None) -> None:
    """Clear the digests from here upwards; above a cleared one all are cleared already."""
    while node is not None and node.digest is not None:
        node.digest = None
        node = node.parent


def _first(node: _Node) -> _Entry:
    while type(node) is _Fork:
        node = node.left
    assert type(node) is _Entry
    return node


def _last(node: _Node) -> _Entry:
    while type(node) is _Fork:
        node = node.right
    assert type(node) is _Entry
    return node


def _compute(top: _Node) -> bytes:
    """Compute the missing digests under a node, its own last."""
    sha256 = hashlib.sha256
    dirty: list[_Node] = [top]
    for node in dirty:  # grows meanwhile: parents come before children
        if type(node) is _Fork:
            if node.left.digest is None:
                dirty.append(node.left)
            if node.right.digest is None:
                dirty.append(node.right)
        elif type(node.value) is MerkleMap:  # type: ignore[union-attr]
            below = node.value._top  # type: ignore[union-attr]
            if below is not None and below.digest is None:
                dirty.append(below)
    for node in reversed(dirty):
        if type(node) is _Fork:
            node.digest = sha256(FORK_DOMAIN + node.left.digest + node.right.digest).digest()  # type: ignore[operator]
            continue
        assert type(node) is _Entry
        value = node.value
        if type(value) is bytes:
            digest = sha256(LEAF_DOMAIN + value).digest()
        else:
            digest = _value_digest(value)
        node.digest = sha256(LABELED_DOMAIN + node.label + digest).digest()
    assert top.digest is not None
    return top.digest


def _digest_of(node: _Node) -> bytes:
    assert node.digest is not None
    return node.digest


def _value_digest(value: Value) -> bytes:
    if isinstance(value, MerkleMap | FixedMap):
        return value.root()
    return value.digest if isinstance(value, hash_tree.Pruned) else hash_tree.leaf_digest(value)


def _reveal_all(node: _Node) -> HashTree:
    if type(node) is _Fork:
        return hash_tree.Fork(_reveal_all(node.left), _reveal_all(node.right))
    assert type(node) is _Entry
    return hash_tree.Labeled(node.label, _whole(node.value))


def _whole(value: Value) -> HashTree:
    if isinstance(value, FixedMap):
        return MerkleMap(value.items).tree()
    if isinstance(value, MerkleMap):
        return value.tree()
    return value if isinstance(value, hash_tree.Pruned) else hash_tree.Leaf(value)


def _prune(node: _Node, shown: dict[_Node, Wanted], opened: set[_Fork]) -> HashTree:
    if type(node) is _Fork:
        if node not in opened:
            return hash_tree.Pruned(_digest_of(node))
        return hash_tree.Fork(_prune(node.left, shown, opened), _prune(node.right, shown, opened))
    assert type(node) is _Entry
    if node not in shown:
        return hash_tree.Pruned(_digest_of(node))
    value, below = node.value, shown[node]
    if below is None:
        return hash_tree.Labeled(node.label, _whole(value))
    if not below:
        return hash_tree.Labeled(node.label, hash_tree.Pruned(_value_digest(value)))
    if isinstance(value, FixedMap):
        value = MerkleMap(value.items)
    if isinstance(value, MerkleMap):
        return hash_tree.Labeled(node.label, value.witness_of(below))
    # A path that goes on below a leaf: the leaf itself proves that nothing is there.
    return hash_tree.Labeled(node.label, _whole(value))
