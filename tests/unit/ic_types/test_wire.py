"""The codec between processes: what is sent arrives, and nothing else is taken for a message."""

from __future__ import annotations

import dataclasses
import enum
import typing
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sandbox.module_info
import sandbox.protocol
from ic_types import wire
from ic_types.errors import WireError
from ic_types.principal import Principal
from ic_types.units import Cycles

CLASSES = [
    value
    for module in (sandbox.protocol, sandbox.module_info)
    for value in vars(module).values()
    if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.__name__
]


class Colour(enum.Enum):
    """An Enum whose values are numbers."""

    RED = 1
    BLUE = 2


@wire.message
@dataclass(frozen=True, slots=True)
class Leaf:
    """One field."""

    cycles: Cycles


@wire.message
@dataclass(frozen=True, slots=True)
class Tree:
    """A field of every form, itself included."""

    number: int
    text: str
    flag: bool
    ratio: float
    colour: Colour
    owner: Principal
    pair: tuple[int, bytes]
    names: tuple[str, ...]
    sizes: dict[str, int]
    either: Leaf | Colour2
    maybe: Leaf | None
    branches: tuple[Tree, ...] = ()


@wire.message
@dataclass(frozen=True, slots=True)
class Colour2:
    """The other class of a union."""

    colours: tuple[Colour, ...]


@wire.message
@dataclass(frozen=True)
class Checked:
    """A class that does more than keeping its fields."""

    even: int

    def __post_init__(self) -> None:
        """Refuse odd numbers."""
        if self.even % 2:
            raise ValueError("odd")


def values_of(kind: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    while hasattr(kind, "__supertype__"):
        kind = kind.__supertype__
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is int:
        return st.integers(-(1 << 70), 1 << 130)
    if kind is Principal:
        return st.binary(max_size=29).map(Principal)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = {f.name: values_of(hints[f.name], depth + 1) for f in dataclasses.fields(kind)}
        return st.builds(kind, **fields)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values_of(args[0], depth), max_size=3).map(tuple) if depth < 4 else st.just(())
    if origin is tuple:
        return st.tuples(*(values_of(one, depth) for one in args))
    if origin is dict:
        return st.dictionaries(values_of(args[0], depth), values_of(args[1], depth), max_size=3)
    if args:
        return st.one_of(*(values_of(one, depth) for one in args))
    return st.from_type(kind)


def test_all_forms_arrive() -> None:
    """Numbers of any size, nested and recursive messages and empty containers come back equal, and frozen."""
    leaf = Leaf(Cycles(1 << 127))
    tree = Tree(-5, "é", True, 0.5, Colour.BLUE, Principal(b"ab"), (1 << 64, b"x"), (), {"a": 1}, leaf, None)
    outer = dataclasses.replace(tree, branches=(tree, tree), either=Colour2((Colour.RED,)), maybe=leaf, names=("a", "b"))
    found = wire.decode(wire.encode(outer), Tree)
    assert found == outer
    assert hash(found.maybe) == hash(leaf)
    assert type(found.owner) is Principal
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.number = 3


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_messages_arrive(cls: type) -> None:
    """Every message of the sandbox protocol comes back equal and of the same types."""

    @given(values_of(cls))
    @settings(deadline=None, max_examples=15)
    def check(value: Any) -> None:
        raw = wire.encode(value)
        found = wire.decode(raw, cls)
        assert found == value
        assert repr(found) == repr(value)
        assert wire.encode(found) == raw

    check()


PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.binary(max_size=20), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@given(data=st.data(), cls=st.sampled_from([*CLASSES, Tree]))
@settings(deadline=None, max_examples=400)
def test_damaged_messages_are_refused_or_good(data: st.DataObject, cls: type) -> None:
    """A message with any part replaced is a WireError, or a message that says so again."""
    version, name, body = msgpack.unpackb(wire.encode(data.draw(values_of(cls))), strict_map_key=False)
    spot = body
    while isinstance(spot, list) and spot:
        k = data.draw(st.integers(0, len(spot) - 1))
        if not isinstance(spot[k], list) or data.draw(st.booleans()):
            spot[k] = data.draw(PLAIN)
            break
        spot = spot[k]
    raw = msgpack.packb([version, name, body])
    try:
        found = wire.decode(raw, cls)
    except WireError:
        return
    again = wire.decode(wire.encode(found), cls)
    assert repr(again) == repr(found)  # two NaN are equal here


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        msgpack.packb([1, "Leaf"]),
        msgpack.packb([2, "Leaf", [1]]),
        msgpack.packb([1, "Nothing", [1]]),
        msgpack.packb([1, "Checked", [2]]),
        msgpack.packb([1, ["Leaf"], [1]]),
        msgpack.packb([1, "Leaf", []]),
        msgpack.packb([1, "Leaf", [1, 2]]),
        msgpack.packb([1, "Leaf", {"cycles": 1}]),
        msgpack.packb([1, "Leaf", [True]]),
        msgpack.packb([1, "Leaf", [bytes(16)]]),
    ],
)
def test_other_bytes_are_refused(raw: bytes) -> None:
    """Wrong versions, unknown or unexpected classes, too few or too many fields, wrong types."""
    with pytest.raises(WireError):
        wire.decode(raw, Leaf)


def test_classes_that_check_themselves_are_called() -> None:
    """What a class refuses is refused when it is decoded."""
    assert wire.decode(wire.encode(Checked(2))) == Checked(2)
    with pytest.raises(WireError, match="odd"):
        wire.decode(msgpack.packb([1, "Checked", [3]]))


def test_large_messages_leave_no_buffer() -> None:
    """After a large message the codec works on with a new buffer."""
    assert len(wire.encode(Colour2((Colour.RED,) * (2 << 20)))) > 2 << 20
    assert wire.decode(wire.encode(Leaf(Cycles(1)))) == Leaf(Cycles(1))


def test_all_code_can_be_generated_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `prepare` no message waits for its code."""
    wire.prepare()
    monkeypatch.setattr(wire, "_compile_encoder", None)
    monkeypatch.setattr(wire, "_compile_decoder", None)
    leaf = Leaf(Cycles(3))
    assert wire.decode(wire.encode(leaf), Leaf) == leaf
