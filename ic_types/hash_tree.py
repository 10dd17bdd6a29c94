"""Hash trees: what a certificate reveals of a state tree.

Rule module. Spec: interface spec, "Certificate", "Lookup" and "Encoding of certificates". `decode` reads bytes of strangers:
it is strict (shortest lengths, nothing after the end), bounded in depth and size, and checks that the tree is well-formed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ic_types.errors import CertificationError

MAX_DEPTH = 400
"""Nesting of forks and labels that we read; a path of 4 levels has at most about 60 forks each."""
MAX_BYTES = 64 << 20

EMPTY_DIGEST = hashlib.sha256(b"\x11ic-hashtree-empty").digest()
FORK_DOMAIN = b"\x10ic-hashtree-fork"
LABELED_DOMAIN = b"\x13ic-hashtree-labeled"
LEAF_DOMAIN = b"\x10ic-hashtree-leaf"


# Not frozen although never changed: a slice makes thousands of these, and frozen ones take three times as long to make.
@dataclass(slots=True)
class Empty:
    """A tree without anything."""


@dataclass(slots=True)
class Fork:
    """Two trees side by side; labels on the left are smaller."""

    left: HashTree
    right: HashTree


@dataclass(slots=True)
class Labeled:
    """A tree under a label."""

    label: bytes
    subtree: HashTree


@dataclass(slots=True)
class Leaf:
    """A value."""

    value: bytes


@dataclass(slots=True)
class Pruned:
    """A tree of which only the digest (32 bytes) is given."""

    digest: bytes


HashTree: TypeAlias = Empty | Fork | Labeled | Leaf | Pruned


@dataclass(frozen=True, slots=True)
class Found:
    """The path has this value."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Absent:
    """The path is provably not in the tree."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The path may have been pruned."""


@dataclass(frozen=True, slots=True)
class NoValue:
    """The path is in the tree but holds a subtree, no value (`Error` in the spec)."""


LookupResult: TypeAlias = Found | Absent | Unknown | NoValue


def leaf_digest(value: bytes) -> bytes:
    """Digest of `Leaf value`."""
    return hashlib.sha256(LEAF_DOMAIN + value).digest()


def labeled_digest(label: bytes, digest: bytes) -> bytes:
    """Digest of `Labeled label t`, where `digest` is that of t."""
    return hashlib.sha256(LABELED_DOMAIN + label + digest).digest()


def reconstruct(tree: HashTree) -> bytes:
    """Root digest of a tree.

    Spec: certification, "Certificate", `reconstruct`.
    """
    match tree:
        case Labeled():
            return hashlib.sha256(LABELED_DOMAIN + tree.label + reconstruct(tree.subtree)).digest()
        case Fork():
            return hashlib.sha256(FORK_DOMAIN + reconstruct(tree.left) + reconstruct(tree.right)).digest()
        case Leaf():
            return hashlib.sha256(LEAF_DOMAIN + tree.value).digest()
        case Pruned():
            return tree.digest
        case Empty():
            return EMPTY_DIGEST


def flatten_forks(tree: HashTree) -> list[Labeled | Leaf | Pruned]:
    """The labelled, leaf and pruned trees under a tree's forks, left to right.

    Spec: certification, "Lookup", `flatten_forks`.
    """
    row: list[Labeled | Leaf | Pruned] = []
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, Fork):
            todo.append(node.right)
            todo.append(node.left)
        elif not isinstance(node, Empty):
            row.append(node)
    return row


def find_label(label: bytes, tree: HashTree) -> HashTree | Absent | Unknown:
    """The subtree under a label, or whether it is provably absent.

    Spec: certification, "Lookup", `find_label`.
    """
    row = flatten_forks(tree)
    if not row or (len(row) == 1 and isinstance(row[0], Leaf)):
        return Absent()
    before_is_smaller = True
    for node in row:
        if not isinstance(node, Labeled):
            before_is_smaller = False
        elif node.label == label:
            return node.subtree
        elif node.label > label:
            return Absent() if before_is_smaller else Unknown()
        else:
            before_is_smaller = True
    return Absent() if before_is_smaller else Unknown()


def lookup_path(path: Sequence[bytes], tree: HashTree) -> LookupResult:
    """What the tree says about the value at a path.

    Spec: certification, "Lookup", `lookup_path`.
    """
    for label in path:
        found = find_label(label, tree)
        if isinstance(found, Absent | Unknown):
            return found
        tree = found
    match tree:
        case Leaf():
            return Found(tree.value)
        case Empty():
            return Absent()
        case Pruned():
            return Unknown()
        case Labeled() | Fork():
            return NoValue()


def subtree(path: Sequence[bytes], tree: HashTree) -> HashTree | Absent | Unknown:
    """The tree at a path, or whether it is provably absent."""
    for label in path:
        found = find_label(label, tree)
        if isinstance(found, Absent | Unknown):
            return found
        tree = found
    return tree


def leaves(tree: HashTree, prefix: tuple[bytes, ...] = ()) -> Iterator[tuple[tuple[bytes, ...], bytes]]:
    """Every revealed value with its path, in label order.

    Spec: certification, "Lookup", `lookup*`.
    """
    for node in flatten_forks(tree):
        if isinstance(node, Leaf):
            yield prefix, node.value
        elif isinstance(node, Labeled):
            yield from leaves(node.subtree, (*prefix, node.label))


def encode(tree: HashTree) -> bytes:
    """CBOR of a tree, without a tag.

    Spec: certification, "Encoding of certificates".
    """
    parts: list[bytes] = []
    todo = [tree]
    while todo:
        match node := todo.pop():
            case Fork():
                parts.append(b"\x83\x01")
                todo.append(node.right)
                todo.append(node.left)
            case Labeled():
                parts.append(b"\x83\x02" + _head(len(node.label)) + node.label)
                todo.append(node.subtree)
            case Leaf():
                parts.append(b"\x82\x03" + _head(len(node.value)) + node.value)
            case Pruned():
                parts.append(b"\x82\x04\x58\x20" + node.digest)
            case Empty():
                parts.append(b"\x81\x00")
    return b"".join(parts)


def decode(raw: bytes) -> HashTree:
    """The tree in these bytes, which come from somebody we don't trust.

    Raises: CertificationError when they are anything but the canonical CBOR of a well-formed tree of bearable size.
    """
    tree, end = decode_at(raw, 0)
    if end != len(raw):
        raise CertificationError(f"{len(raw) - end} bytes after the end of a hash tree")
    return tree


def decode_at(raw: bytes, at: int) -> tuple[HashTree, int]:
    """The tree that starts at an offset, and where it ends; otherwise as `decode`."""
    if len(raw) > MAX_BYTES:
        raise CertificationError(f"hash tree of {len(raw)} bytes; at most {MAX_BYTES} are read")
    try:
        tree, end, _, _ = _Reader(raw).tree(at, 0, None)
    except IndexError:
        raise CertificationError("hash tree ends too early") from None
    return tree, end


def _head(size: int) -> bytes:
    if size < 24:
        return bytes((0x40 | size,))
    if size < 1 << 8:
        return bytes((0x58, size))
    if size < 1 << 16:
        return b"\x59" + size.to_bytes(2, "big")
    return b"\x5a" + size.to_bytes(4, "big")


class _Reader:
    """Recursive descent over the bytes; checks the order of labels on the way."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def tree(self, at: int, depth: int, floor: bytes | None) -> tuple[HashTree, int, bytes | None, bool]:
        """Tree at an offset; labels must exceed `floor`. Gives also the end, the last label and whether it is a leaf."""
        if depth > MAX_DEPTH:
            raise CertificationError(f"hash tree is nested deeper than {MAX_DEPTH}")
        raw = self.raw
        kind = raw[at : at + 2]
        if kind == b"\x83\x01":
            left, at, floor, leaf = self.tree(at + 2, depth + 1, floor)
            right, at, floor, other = self.tree(at, depth + 1, floor)
            if leaf or other:
                raise CertificationError("hash tree has a leaf beside other trees")
            return Fork(left, right), at, floor, False
        if kind == b"\x83\x02":
            label, at = self.blob(at + 2)
            if floor is not None and label <= floor:
                raise CertificationError("labels of a hash tree are not in ascending order")
            below, at, _, _ = self.tree(at, depth + 1, None)
            return Labeled(label, below), at, label, False
        if kind == b"\x82\x03":
            value, at = self.blob(at + 2)
            return Leaf(value), at, floor, True
        if kind == b"\x82\x04":
            digest, at = self.blob(at + 2)
            if len(digest) != 32:
                raise CertificationError(f"pruned hash tree with a digest of {len(digest)} bytes, not 32")
            return Pruned(digest), at, floor, False
        if kind == b"\x81\x00":
            return Empty(), at + 2, floor, False
        raise CertificationError(f"no hash tree node at byte {at}")

    def blob(self, at: int) -> tuple[bytes, int]:
        """Byte string at an offset, its length in the shortest form."""
        raw = self.raw
        head = raw[at]
        if 0x40 <= head < 0x58:
            size, at = head - 0x40, at + 1
        elif 0x58 <= head <= 0x5A:
            width = 1 << (head - 0x58)
            size = int.from_bytes(raw[at + 1 : at + 1 + width], "big")
            at += 1 + width
            if size < (24, 1 << 8, 1 << 16)[head - 0x58]:
                raise CertificationError("hash tree has a length that is not in its shortest form")
        else:
            raise CertificationError(f"no byte string at byte {at} of a hash tree")
        end = at + size
        if end > len(raw):
            raise IndexError
        return raw[at:end], end
