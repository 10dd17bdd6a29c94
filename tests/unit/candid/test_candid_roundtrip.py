"""Values of random types survive both codecs, and hostile bytes never do more than raise CandidError."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.candid.did import DidFile, parse_did
from ic_types.candid.encoder import encode
from ic_types.candid.layout import laid_out
from ic_types.candid.leb128 import decode_signed, decode_unsigned, encode_signed, encode_unsigned
from ic_types.candid.subtyping import is_subtype
from ic_types.candid.text import encode_text, to_text
from ic_types.candid.text_parser import parse_args
from ic_types.candid.values import FuncRef, Some
from ic_types.errors import CandidError
from ic_types.principal import Principal

LABELS = st.one_of(
    st.sampled_from(["a", "b", "ok", "err", "owner", "record", "with space", 'quote"d', "☃", "new\nline"]),
    st.integers(0, 5),
)
PRIMS = st.sampled_from([p for p in t.PRIMITIVES.values() if p is not t.empty])
PRINCIPALS = st.binary(max_size=29).map(Principal)
LIST = t.Rec("list")
LIST.target = t.opt(t.record({"head": t.int_, "tail": LIST}))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def distinct(labels: list[str | int]) -> bool:
    """Whether no two labels have the same id."""
    return len({t.make_field(label, t.null).id for label in labels}) == len(labels)


def fields(inner: st.SearchStrategy[t.Type], smallest: int) -> st.SearchStrategy[dict[str | int, t.Type]]:
    """Fields of a record or variant."""
    return st.dictionaries(LABELS, inner, min_size=smallest, max_size=4).filter(lambda d: distinct(list(d)))


def composite(inner: st.SearchStrategy[t.Type]) -> st.SearchStrategy[t.Type]:
    """One more level of a type."""
    functions = st.builds(
        lambda args, results, query: t.func(args, results, *(["query"] if query else [])),
        st.lists(inner, max_size=2),
        st.lists(inner, max_size=2),
        st.booleans(),
    )
    return st.one_of(
        inner.map(t.opt),
        inner.map(t.vec),
        fields(inner, 0).map(t.record),
        st.lists(inner, min_size=1, max_size=3).map(lambda kinds: t.tuple_(*kinds)),
        fields(inner, 1).map(t.variant),
        functions,
        st.dictionaries(st.sampled_from(["get", "set", "a b"]), functions, max_size=2).map(t.service),
    )


TYPES = st.recursive(PRIMS | st.just(t.blob) | st.just(LIST), composite, max_leaves=8)
BITS = {t.nat8: 8, t.nat16: 16, t.nat32: 32, t.nat64: 64, t.int8: 8, t.int16: 16, t.int32: 32, t.int64: 64}


def prim_values(kind: t.Prim) -> st.SearchStrategy[object]:
    """Values of a primitive type."""
    if kind in BITS:
        low, size = (-(1 << BITS[kind] - 1), 1 << BITS[kind]) if kind.name.startswith("int") else (0, 1 << BITS[kind])
        return st.integers(low, low + size - 1)
    huge = st.integers(-(2**5000), 2**5000)
    return {
        t.null: st.none(),
        t.reserved: st.none(),
        t.bool_: st.booleans(),
        t.nat: st.integers(0, 2**70) | huge.map(abs),
        t.int_: st.integers(-(2**70), 2**70) | huge,
        t.float32: st.floats(width=32, allow_nan=False),
        t.float64: st.floats(allow_nan=False),
        t.text: TEXTS,
        t.principal: PRINCIPALS,
    }[kind]


def values(kind: t.Type) -> st.SearchStrategy[object]:
    """Values of a type, in the form in which the decoder gives them."""
    if kind is LIST:
        return st.lists(st.integers(), max_size=5).map(as_list)
    match kind:
        case t.Prim():
            return prim_values(kind)
        case t.Opt(inner):
            return st.none() | (values(inner).map(Some) if t.nullable(inner) else values(inner))
        case t.Vec(inner):
            return st.binary(max_size=9) if inner is t.nat8 else st.lists(values(inner), max_size=4)
        case t.Record(parts) if kind.is_tuple:
            return st.tuples(*[values(f.type) for f in parts])
        case t.Record(parts):
            return st.fixed_dictionaries({f.key: values(f.type) for f in parts})
        case t.Variant(parts):
            return st.one_of([values(f.type).map(lambda v, key=f.key: {key: v}) for f in parts])
        case t.Func():
            return st.builds(FuncRef, PRINCIPALS, TEXTS)
    return PRINCIPALS


def as_list(numbers: list[int]) -> object:
    """A linked list."""
    node = None
    for number in numbers:
        node = {"head": number, "tail": node}
    return node


ARGUMENTS = st.lists(TYPES, max_size=3).flatmap(lambda kinds: st.tuples(st.just(kinds), st.tuples(*map(values, kinds))))


@given(ARGUMENTS)
@settings(deadline=None, max_examples=300)
def test_values_survive_the_binary_format(case: tuple[list[t.Type], tuple[object, ...]]) -> None:
    """Decoding at the type of encoding gives the values back; without types the message still reads."""
    kinds, given_values = case
    raw = encode(kinds, given_values)
    assert decode(raw, kinds) == list(given_values)
    assert len(decode(raw)) == len(kinds)
    assert decode(raw, []) == []
    assert decode(raw, [t.reserved for _ in kinds]) == [None] * len(kinds)


@given(ARGUMENTS)
@settings(deadline=None, max_examples=300)
def test_values_survive_the_text_format(case: tuple[list[t.Type], tuple[object, ...]]) -> None:
    """Printed text reads back as the same values at the same types."""
    kinds, given_values = case
    raw = encode(kinds, given_values)
    text = to_text(raw, kinds)
    assert encode_text(text, kinds) == raw


@given(ARGUMENTS)
@settings(deadline=None, max_examples=200)
def test_a_message_prints_without_its_types(case: tuple[list[t.Type], tuple[object, ...]]) -> None:
    """What is printed without names is Candid text again, of the same number of arguments."""
    kinds, given_values = case
    _, nodes = parse_args(to_text(encode(kinds, given_values)), "printed")
    assert len(nodes) == len(kinds)


@given(ARGUMENTS, st.integers(0, 255))
@settings(deadline=None, max_examples=100)
def test_a_message_has_one_end(case: tuple[list[t.Type], tuple[object, ...]], byte: int) -> None:
    """Cut off anywhere or with a byte too many it is refused: read at its types, at its own, and skipped."""
    kinds, given_values = case
    raw = encode(kinds, given_values)
    for expected in (kinds, None, []):
        for wrong in (*(raw[:size] for size in range(len(raw))), raw + bytes([byte])):
            with pytest.raises(CandidError):
                decode(wrong, expected)


@given(st.binary(max_size=80), st.lists(TYPES, max_size=2))
@settings(deadline=None, max_examples=300)
def test_random_bytes_only_raise_candid_errors(tail: bytes, kinds: list[t.Type]) -> None:
    """Whatever follows the magic, the decoder answers or refuses."""
    for expected in (kinds, None):
        try:
            decode(b"DIDL" + tail, expected)
        except CandidError:
            continue


@given(ARGUMENTS, st.data())
@settings(deadline=None, max_examples=300)
def test_a_flipped_byte_only_raises_candid_errors(case: tuple[list[t.Type], tuple[object, ...]], data: st.DataObject) -> None:
    """A damaged message is read or refused, at the right types, at its own and as text."""
    kinds, given_values = case
    raw = bytearray(encode(kinds, given_values))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for expected in (kinds, None):
        try:
            decode(bytes(raw), expected)
            to_text(bytes(raw), expected)
        except CandidError:
            continue


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "(",
                ")",
                "{",
                "}",
                ";",
                ",",
                "=",
                ":",
                "opt",
                "vec",
                "record",
                "variant",
                "nat",
                "1",
                "-",
                "0x1f",
                "1.5e3",
                '"x"',
                "null",
                "principal",
                "blob",
                "func",
                ".",
                "a",
                "service",
                "/*",
                "*/",
                "//",
                "\n",
                '"',
                "\\",
            ]
        ),
        max_size=20,
    ).map(" ".join)
)
@settings(deadline=None, max_examples=400)
def test_random_text_only_raises_candid_errors(text: str) -> None:
    """The text reader answers or refuses, naming line and column."""
    problem = ""
    try:
        encode_text(text)
    except CandidError as error:
        problem = str(error)
    assert not problem or "line " in problem


@given(TYPES, TYPES, st.data())
@settings(deadline=None, max_examples=300)
def test_a_value_of_a_subtype_reads_at_the_supertype(low: t.Type, up: t.Type, data: st.DataObject) -> None:
    """Soundness: where `low <: up`, every value of `low` decodes at `up`."""
    assert is_subtype(low, low)
    assert is_subtype(low, t.opt(up))
    if is_subtype(low, up):
        decode(encode([low], [data.draw(values(low))]), [up])


def wider(kind: t.Type) -> st.SearchStrategy[t.Type]:
    """Types of which a type is a subtype, made by one of the rules or by several."""
    ways: list[st.SearchStrategy[t.Type]] = [st.just(kind), st.just(t.reserved), st.just(t.opt(kind)), TYPES.map(t.opt)]
    match kind:
        case t.Prim() if kind is t.nat:
            ways.append(st.just(t.int_))
        case t.Opt(inner) | t.Vec(inner):
            ways.append(wider(inner).map(type(kind)))
        case t.Record(parts):
            ways.append(wider_fields(parts, drop=True).map(t.Record))
            ways.append(wider_fields(parts, more=TYPES.map(t.opt)).map(t.Record))
        case t.Variant(parts):
            ways.append(wider_fields(parts, more=TYPES).map(t.Variant))
        case t.Service():
            ways += [st.just(t.principal), st.just(t.service({}))]
    return st.one_of(ways)


@st.composite
def wider_fields(
    draw: st.DrawFn, parts: tuple[t.Field, ...], *, drop: bool = False, more: st.SearchStrategy[t.Type] | None = None
) -> tuple[t.Field, ...]:
    """Each field wider; some left out, or one more."""
    found = [t.Field(f.id, f.name, draw(wider(f.type))) for f in parts if not (drop and draw(st.booleans()))]
    label = draw(st.sampled_from(["added", "zz"]))
    if more is not None and t.field_id(label) not in {f.id for f in parts}:
        found.append(t.make_field(label, draw(more)))
    return t.sorted_fields(found)


@given(TYPES, st.data())
@settings(deadline=None, max_examples=150)
def test_subtyping_is_coherent(kind: t.Type, data: st.DataObject) -> None:
    """What the rules make wider is a supertype, in one step and in two, and its values read there, step by step too."""
    middle = data.draw(wider(kind))
    top = data.draw(wider(middle))
    assert is_subtype(kind, middle)
    assert is_subtype(middle, top)
    assert is_subtype(kind, top)
    assert is_subtype(t.func([top], [kind]), t.func([kind], [top]))
    raw = encode([kind], [data.draw(values(kind))])
    decode(raw, [top])
    (at_middle,) = decode(raw, [middle])
    decode(encode([middle], [at_middle]), [top])


@given(TYPES, TYPES, st.data())
@settings(deadline=None, max_examples=150)
def test_a_misfit_reads_as_null_or_is_refused(low: t.Type, up: t.Type, data: st.DataObject) -> None:
    """At an opt any value reads; what reads at the plain type reads as the same value at its opt."""
    raw = encode([low], [data.draw(values(low))])
    (at_opt,) = decode(raw, [t.opt(up)])
    try:
        (plain,) = decode(raw, [up])
    except CandidError:
        assert at_opt is None or isinstance(t.resolve(low), t.Opt)
    else:
        if not t.nullable(low):
            assert at_opt == (Some(plain) if t.nullable(up) else plain)


@given(st.dictionaries(st.sampled_from(["A", "B", "C_1"]), TYPES, min_size=1))
@settings(deadline=None, max_examples=100)
def test_types_survive_the_text_format(kinds: dict[str, t.Type]) -> None:
    """A printed service file reads back as the same types, and prints the same again."""
    named = {"list": LIST} | {name: t.Rec(name, kind) for name, kind in kinds.items()}
    did = DidFile(types=named, service=t.service({"get": t.func(list(kinds.values()))}), init=tuple(kinds.values()))
    again = parse_did(str(did))
    assert str(again) == str(did)
    assert all(is_subtype(again.types[name], kind) and is_subtype(kind, again.types[name]) for name, kind in named.items())


@given(ARGUMENTS, st.integers(10, 60))
@settings(deadline=None, max_examples=100)
def test_layout_only_adds_blanks(case: tuple[list[t.Type], tuple[object, ...]], width: int) -> None:
    """Laid out text reads back as the same message, and long lines are those that can't be broken."""
    kinds, given_values = case
    raw = encode(kinds, given_values)
    assert encode_text(laid_out(to_text(raw, kinds), width), kinds) == raw


@given(st.integers(-(2**600), 2**600))
@settings(deadline=None)
def test_numbers_survive_leb128(number: int) -> None:
    """Signed and unsigned, short and long."""
    raw = encode_signed(number)
    assert decode_signed(raw + b"x", 0) == (number, len(raw))
    raw = encode_unsigned(abs(number))
    assert decode_unsigned(raw + b"x", 0) == (abs(number), len(raw))
