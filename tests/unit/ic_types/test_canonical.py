"""The canonical encoding: injective, independent of insertion order, strict about what it takes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, IntEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types import canonical
from ic_types.principal import Principal

leaves = st.none() | st.booleans() | st.integers() | st.binary(max_size=8) | st.text(max_size=4)
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=4).map(tuple) | st.dictionaries(st.binary(max_size=3), v, max_size=4), max_leaves=12
)


class Colour(Enum):
    """A plain enum."""

    RED = 1
    GREEN = 2


class Level(IntEnum):
    """An enum whose members equal ints."""

    LOW = 1


@dataclass(slots=True)
class Point:
    """State with a cache in it."""

    x: int
    y: object = None
    cache: int = field(default=0, metadata=canonical.LOCAL)


@dataclass(frozen=True)
class Pair:
    """Same fields as Point, other name."""

    x: int
    y: object = None


def typed(value: object) -> object:
    """The value with its types, so that True and 1 differ."""
    if isinstance(value, tuple):
        return ("tuple", tuple(typed(item) for item in value))
    if isinstance(value, dict):
        return ("dict", tuple(sorted((key, repr(typed(item))) for key, item in value.items())))
    return (type(value).__name__, value)


@settings(deadline=None, max_examples=300)
@given(values, values)
def test_different_values_have_different_bytes(a: object, b: object) -> None:
    """Bytes are equal exactly when the values are."""
    assert (canonical.encode(a) == canonical.encode(b)) == (typed(a) == typed(b))


@settings(deadline=None, max_examples=300)
@given(values, values)
def test_no_encoding_is_a_prefix_of_another(a: object, b: object) -> None:
    """Bytes are prefix-free, so that concatenations stay injective."""
    first, second = canonical.encode(a), canonical.encode(b)
    assert first == second or not second.startswith(first)


@pytest.mark.parametrize("value", [0, 1023, 1024, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**128 - 1, 2**2000])
def test_integers_of_any_size(value: int) -> None:
    """Neighbours around each change of form differ."""
    assert len({canonical.encode(value + k) for k in (-1, 0, 1)}) == 3


def test_dictionaries_ignore_insertion_order() -> None:
    """Order of insertion is no state."""
    assert canonical.encode({b"a": 1, b"b": 2}) == canonical.encode({b"b": 2, b"a": 1})


def test_sequences_are_alike_whatever_holds_them() -> None:
    """Lists, tuples and deques are one kind."""
    assert canonical.encode([1, b"x"]) == canonical.encode((1, b"x")) == canonical.encode(deque([1, b"x"]))


def test_subclasses_of_bytes_are_bytes() -> None:
    """A principal is its bytes."""
    assert canonical.encode(Principal(b"\x04")) == canonical.encode(b"\x04")


def test_enums_and_classes_carry_their_names() -> None:
    """Members and dataclasses differ from what they look like."""
    encodings = {canonical.encode(v) for v in (Colour.RED, Colour.GREEN, Level.LOW, 1, "RED", Point(1), Pair(1), (1, None))}
    assert len(encodings) == 8


def test_local_fields_are_left_out() -> None:
    """A cache doesn't change the bytes, state does."""
    assert canonical.encode(Point(1, cache=5)) == canonical.encode(Point(1, cache=6))
    assert canonical.encode(Point(1)) != canonical.encode(Point(2))


@pytest.mark.parametrize("value", [1.0, {1, 2}, frozenset(), object(), bytearray(b"x"), memoryview(b"x"), Point(1, y=0.5)])
def test_other_things_are_refused(value: object) -> None:
    """Floats, sets and mutable buffers have no canonical form."""
    with pytest.raises(TypeError, match="no canonical form"):
        canonical.encode(value)


def test_registered_classes_use_their_own_form() -> None:
    """A class may choose what stands for it."""

    class Counter:
        def __init__(self, n: int) -> None:
            self.n = n

    canonical.register(Counter, lambda c: c.n)
    assert canonical.encode(Counter(1)) != canonical.encode(Counter(2))
    assert canonical.encode(Counter(1)) != canonical.encode(1)


def test_digest_is_fixed() -> None:
    """The bytes are the same in every process and version; a change of the encoding shows here."""
    value = (1, -(2**70), b"x", "é", True, None, {b"k": Colour.RED}, Pair(3))
    assert canonical.digest(value).hex() == "107021959b2241f8c952ed39d57ac7f0566d56fe4e69ffb7c91b03bf20e882a3"
    assert canonical.digest(1, 2) == canonical.digest(1, 2) != canonical.digest((1, 2))
