"""Merkle maps: history independence, agreement with hash trees, witnesses and proofs of absence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types import hash_tree
from ic_types.fixed_map import FixedMap
from ic_types.hash_tree import Absent, Found, Pruned, Unknown
from ic_types.merkle import MerkleMap

labels = st.binary(max_size=3) | st.sampled_from([b"a" * k for k in range(12)]) | st.binary(min_size=8, max_size=8)
contents = st.dictionaries(labels, st.binary(max_size=4), max_size=24)
changes = st.lists(st.tuples(labels, st.none() | st.binary(max_size=4)), max_size=40)


def tree_by_definition(items: list[tuple[bytes, bytes]], bit: int = 0) -> hash_tree.HashTree:
    """The Patricia tree of sorted items, straight from its definition."""
    if not items:
        return hash_tree.Empty()
    if len(items) == 1:
        return hash_tree.Labeled(items[0][0], hash_tree.Leaf(items[0][1]))
    while True:
        left = [item for item in items if not bit_of(item[0], bit)]
        right = [item for item in items if bit_of(item[0], bit)]
        bit += 1
        if left and right:
            return hash_tree.Fork(tree_by_definition(left, bit), tree_by_definition(right, bit))


def bit_of(label: bytes, bit: int) -> int:
    """Bit of the label's code: before each byte stands a 1, after the last a 0."""
    code = "".join(f"1{byte:08b}" for byte in label) + "0"
    return int(code[bit]) if bit < len(code) else 0


@settings(deadline=None, max_examples=200)
@given(contents)
def test_root_is_that_of_the_tree_by_definition(items: dict[bytes, bytes]) -> None:
    """The incremental map and the definition give one tree."""
    expected = tree_by_definition(sorted(items.items()))
    built = MerkleMap(items.items())
    assert built.tree() == expected
    assert built.root() == hash_tree.reconstruct(expected)
    assert list(built.items()) == sorted(items.items())


@settings(deadline=None, max_examples=200)
@given(changes, st.randoms(use_true_random=False))
def test_root_depends_on_contents_not_on_history(steps: list[tuple[bytes, bytes | None]], random: object) -> None:
    """Any order of sets, deletes and root requests ends at the root of a map built afresh."""
    live, plain = MerkleMap(), dict[bytes, bytes]()
    for count, (label, value) in enumerate(steps):
        if value is None:
            assert live.delete(label) == (plain.pop(label, None) is not None)
        else:
            live.set(label, value)
            plain[label] = value
        if count % 3 == 0:
            live.root()
    shuffled = list(plain.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert live.root() == MerkleMap(shuffled).root()
    assert len(live) == len(plain)
    assert list(live.items()) == sorted(plain.items())


@settings(deadline=None, max_examples=200)
@given(contents, st.lists(labels, max_size=6))
def test_witness_has_the_root_and_answers_its_paths(items: dict[bytes, bytes], asked: list[bytes]) -> None:
    """A witness reconstructs to the root, reveals each asked value and proves each asked absence."""
    built = MerkleMap(items.items())
    witness = hash_tree.decode(hash_tree.encode(built.witness([(label,) for label in asked])))
    assert hash_tree.reconstruct(witness) == built.root()
    for label in asked:
        expected = Found(items[label]) if label in items else Absent()
        assert hash_tree.lookup_path([label], witness) == expected


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(labels, contents, max_size=6), st.lists(st.tuples(labels, labels), max_size=6))
def test_witness_of_nested_maps(items: dict[bytes, dict[bytes, bytes]], asked: list[tuple[bytes, bytes]]) -> None:
    """Witnesses reach through nested maps, also where either level lacks the label."""
    built = MerkleMap((label, MerkleMap(below.items())) for label, below in items.items())
    witness = hash_tree.decode(hash_tree.encode(built.witness(asked)))
    assert hash_tree.reconstruct(witness) == built.root()
    for outer, inner in asked:
        known = items.get(outer, {})
        assert hash_tree.lookup_path([outer, inner], witness) == (Found(known[inner]) if inner in known else Absent())


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(labels, labels, st.none() | st.binary(max_size=3)), max_size=40))
def test_changes_of_nested_maps_reach_the_root(steps: list[tuple[bytes, bytes, bytes | None]]) -> None:
    """Changing a nested map changes the outer root, whether or not roots were asked for between."""
    live, plain = MerkleMap(), dict[bytes, dict[bytes, bytes]]()
    for outer, inner, value in steps:
        below, known = live.child(outer), plain.setdefault(outer, {})
        if value is None:
            below.delete(inner)
            known.pop(inner, None)
        else:
            below.set(inner, value)
            known[inner] = value
        fresh = MerkleMap((label, MerkleMap(items.items())) for label, items in plain.items())
        assert live.root() == fresh.root()


@settings(deadline=None, max_examples=200)
@given(contents, labels)
def test_fixed_maps_are_maps(items: dict[bytes, bytes], asked: bytes) -> None:
    """A FixedMap has root, tree and witnesses of the MerkleMap with its items."""
    fixed = FixedMap(tuple(sorted(items.items())))
    assert fixed.root() == MerkleMap(items.items()).root()
    outer = MerkleMap([(b"x", fixed), (b"y", b"")])
    assert outer.root() == MerkleMap([(b"x", MerkleMap(items.items())), (b"y", b"")]).root()
    assert hash_tree.reconstruct(outer.tree()) == outer.root()
    witness = outer.witness([(b"x", asked)])
    assert hash_tree.reconstruct(witness) == outer.root()
    assert hash_tree.lookup_path([b"x", asked], witness) == (Found(items[asked]) if asked in items else Absent())


def test_replaced_and_deleted_maps_no_longer_report_to_their_old_place() -> None:
    """A map taken out can be changed and put elsewhere."""
    outer = MerkleMap()
    inner = outer.child(b"x")
    inner.set(b"k", b"v")
    outer.root()
    outer.set(b"x", b"leaf")
    before = outer.root()
    inner.set(b"k", b"w")
    assert outer.root() == before
    outer.set(b"y", inner)
    outer.root()
    assert outer.delete(b"y")
    assert outer.root() == MerkleMap([(b"x", b"leaf")]).root()


def test_one_map_in_two_places_is_a_bug() -> None:
    """A nested map has one owner, so that its changes have one way up."""
    outer = MerkleMap()
    inner = outer.child(b"x")
    with pytest.raises(AssertionError, match="already has another place"):
        outer.set(b"y", inner)


def test_known_digests_stand_for_subtrees() -> None:
    """A Pruned value counts as the subtree it is the digest of."""
    inner = MerkleMap([(b"k", b"v")])
    assert MerkleMap([(b"x", Pruned(inner.root()))]).root() == MerkleMap([(b"x", MerkleMap([(b"k", b"v")]))]).root()


def test_unasked_parts_stay_unknown() -> None:
    """What a witness doesn't cover is pruned."""
    built = MerkleMap((bytes([k]), b"v") for k in range(16))
    witness = built.witness([(b"\x03",)])
    assert hash_tree.lookup_path([b"\x03"], witness) == Found(b"v")
    assert hash_tree.lookup_path([b"\x09"], witness) == Unknown()


def test_growing_by_ten_ids_rehashes_few_forks() -> None:
    """Ten ids joining ten thousand touch only their own paths."""
    built = MerkleMap((k.to_bytes(8, "big"), b"v") for k in range(10_000))
    built.root()
    for k in range(10_000, 10_010):
        built.set(k.to_bytes(8, "big"), b"v")
    todo, dirty = [built._top], 0
    while todo:
        node = todo.pop()
        if node is not None and node.digest is None:
            dirty += 1
            todo += [getattr(node, "left", None), getattr(node, "right", None)]
    assert dirty < 60
