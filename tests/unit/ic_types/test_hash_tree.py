"""Hash trees: the spec's example, lookup, and a strict reading of bytes from strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types import hash_tree
from ic_types.errors import CertificationError
from ic_types.hash_tree import Absent, Empty, Fork, Found, Labeled, Leaf, NoValue, Pruned, Unknown

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "hash_tree.json").read_text())
ANSWERS = {"Unknown": Unknown(), "Absent": Absent()}


@pytest.mark.parametrize("name", ["tree", "pruned_tree"])
def test_example_of_the_spec_has_its_root(name: str) -> None:
    """The spec's sample tree and its pruned form decode, encode back and hash to the published root."""
    raw = bytes.fromhex(VECTORS[name])
    tree = hash_tree.decode(raw)
    assert hash_tree.encode(tree) == raw
    assert hash_tree.reconstruct(tree).hex() == VECTORS["root"]


@pytest.mark.parametrize(("path", "answer"), VECTORS["lookups"])
def test_lookups_of_the_spec(path: list[str], answer: str) -> None:
    """Each lookup that the spec lists for the pruned tree."""
    tree = hash_tree.decode(bytes.fromhex(VECTORS["pruned_tree"]))
    expected = ANSWERS.get(answer) or Found(answer.encode())
    assert hash_tree.lookup_path([label.encode() for label in path], tree) == expected


def test_lookup_of_inner_nodes() -> None:
    """Paths that end inside the tree, at nothing or below a leaf."""
    tree = Fork(Labeled(b"a", Fork(Labeled(b"x", Leaf(b"1")), Labeled(b"y", Empty()))), Labeled(b"b", Leaf(b"2")))
    assert hash_tree.lookup_path([b"a"], tree) == NoValue()
    assert hash_tree.lookup_path([], tree) == NoValue()
    assert hash_tree.lookup_path([b"a", b"y"], tree) == Absent()
    assert hash_tree.lookup_path([b"a", b"y", b"z"], tree) == Absent()
    assert hash_tree.lookup_path([b"b", b"z"], tree) == Absent()
    assert list(hash_tree.leaves(tree)) == [((b"a", b"x"), b"1"), ((b"b",), b"2")]


@pytest.mark.parametrize(
    ("tree", "label", "expected"),
    [
        (Fork(Pruned(bytes(32)), Labeled(b"m", Leaf(b""))), b"a", Unknown()),
        (Fork(Pruned(bytes(32)), Labeled(b"m", Leaf(b""))), b"z", Absent()),
        (Fork(Labeled(b"m", Leaf(b"")), Pruned(bytes(32))), b"a", Absent()),
        (Fork(Labeled(b"m", Leaf(b"")), Pruned(bytes(32))), b"z", Unknown()),
        (Pruned(bytes(32)), b"a", Unknown()),
        (Empty(), b"a", Absent()),
    ],
)
def test_pruned_neighbours_hide_labels(tree: hash_tree.HashTree, label: bytes, expected: object) -> None:
    """Absence holds only where nothing is pruned between the label and its neighbours."""
    assert hash_tree.lookup_path([label], tree) == expected


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "no hash tree node"),
        ("8100ff", "1 bytes after the end"),
        ("8301", "no hash tree node"),
        ("83024161", "no hash tree node"),
        ("8302420061", "no hash tree node"),
        ("820344", "too early"),
        ("82035801aa", "shortest form"),
        ("8203590010" + "00" * 16, "shortest form"),
        ("82035a00000010" + "00" * 16, "shortest form"),
        ("82035f4100ff", "no byte string"),
        ("820361" + "61", "no byte string"),
        ("820441aa", "digest of 1 bytes"),
        ("9f00ff", "no hash tree node"),
        ("83018302416281008302416181" + "00", "ascending"),
        ("8301830241618100830241618100", "ascending"),
        ("8301820341618100", "leaf beside"),
        ("8301820341618302416281" + "00", "leaf beside"),
        ("d9d9f78100", "no hash tree node"),
        ("8105", "no hash tree node"),
    ],
)
def test_malformed_bytes_are_refused(raw: str, reason: str) -> None:
    """Anything but the canonical bytes of a well-formed tree is an error that says why."""
    with pytest.raises(CertificationError, match=reason):
        hash_tree.decode(bytes.fromhex(raw))


def test_deep_nesting_is_refused() -> None:
    """A bomb of forks ends as an error, not as an exhausted stack."""
    with pytest.raises(CertificationError, match="deeper than"):
        hash_tree.decode(b"\x83\x01" * 100_000)


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=40)
    | st.lists(st.sampled_from([b"\x83\x01", b"\x83\x02\x41a", b"\x82\x03\x40", b"\x81\x00"])).map(b"".join)
)
def test_decoder_refuses_or_round_trips(raw: bytes) -> None:
    """No input makes the decoder fail otherwise, and what it accepts is canonical."""
    try:
        tree = hash_tree.decode(raw)
    except CertificationError:
        return
    assert hash_tree.encode(tree) == raw
