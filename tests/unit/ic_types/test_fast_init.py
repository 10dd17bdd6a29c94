"""Records with the cheap constructor behave as any frozen dataclass."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from ic_types.fast_init import fast_init


@fast_init
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Keywords only, with both kinds of default."""

    a: int
    b: str = "b"
    c: list[int] = dataclasses.field(default_factory=list)


@fast_init
@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    """Positional, one default."""

    a: int
    b: int = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """With a check of its own."""

    a: int

    def __post_init__(self) -> None:
        """Refuse zero."""
        if self.a == 0:
            raise ValueError("zero")


def test_fields_defaults_and_factories() -> None:
    """Arguments go to their fields; each object gets a list of its own."""
    one, other = Named(a=1), Named(a=1, b="x")
    assert (one.a, one.b, one.c, other.b) == (1, "b", [], "x")
    assert one.c is not other.c
    assert (Placed(1).b, Placed(1, 3).b, Placed(a=5).a) == (2, 3, 5)


def test_it_is_the_same_class_and_stays_frozen() -> None:
    """The twin is never seen."""
    made = Placed(1)
    assert type(made) is Placed
    assert isinstance(made, Placed)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.a = 2  # type: ignore[misc]
    assert repr(made) == "Placed(a=1, b=2)"


def test_equality_hash_copy_and_pickle() -> None:
    """What dataclasses do with their instances still works."""
    made = Placed(1, 7)
    assert made == Placed(1, 7) != Placed(1, 8)
    assert hash(made) == hash(Placed(1, 7))
    assert dataclasses.replace(made, b=9) == Placed(1, 9)
    assert copy.deepcopy(made) == made == pickle.loads(pickle.dumps(made))
    assert dataclasses.astuple(made) == (1, 7)


def test_wrong_arguments_are_refused() -> None:
    """Missing, unknown and misplaced arguments are TypeErrors, as with any constructor."""
    with pytest.raises(TypeError, match="missing"):
        Named()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected"):
        Named(a=1, d=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        Named(1)  # type: ignore[call-arg]


def test_other_classes_stay_as_they_are() -> None:
    """A class with a check of its own keeps its constructor, as one that isn't frozen does."""
    kept = Checked.__init__
    assert fast_init(Checked).__init__ is kept
    with pytest.raises(ValueError, match="zero"):
        Checked(0)

    @dataclasses.dataclass(slots=True)
    class Open:
        a: int

    before = Open.__init__
    assert fast_init(Open).__init__ is before
