"""The binary format: values read at expected types, and what a decoder must refuse."""

from __future__ import annotations

import pytest

from ic_types.candid import subtyping
from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.candid.encoder import encode
from ic_types.candid.text import encode_text
from ic_types.candid.values import FuncRef, Some
from ic_types.errors import CandidError
from ic_types.principal import Principal

ME = Principal(b"\xca\xff\xee")
ENDLESS = t.Rec("endless")
ENDLESS.target = t.Record((t.Field(0, None, ENDLESS),))
LIST = t.Rec("list")
LIST.target = t.opt(t.record({"head": t.int_, "tail": LIST}))
FIX_OPT = t.Rec("fix")
FIX_OPT.target = t.opt(FIX_OPT)
NOTHING = t.func()
FOO = t.func([t.text], [t.nat])


def didl(body: str) -> bytes:
    """A message from the hexadecimal that follows the magic."""
    return b"DIDL" + bytes.fromhex(body)


ACCEPTED = [
    ("no arguments", "00 00", [], []),
    ("overlong counts", "80 00 80 00", [], []),
    ("surplus arguments are ignored", "00 01 7f", [], []),
    ("a missing opt is null", "00 00", [t.opt(t.nat)], [None]),
    ("a missing reserved is null", "00 00", [t.reserved], [None]),
    ("an unused type", "01 6e 6f 00", [], []),
    ("nat is read as int", "00 01 7d ff 7f", [t.int_], [16383]),
    ("a signed number of two bytes", "00 01 7c 80 7f", [t.int_], [-128]),
    ("an overlong number", "00 01 7d ff 00", [t.nat], [127]),
    ("a reserved reads anything", "00 01 71 02 68 69", [t.reserved], [None]),
    ("int8 below zero", "00 01 77 ff", [t.int8], [-1]),
    ("float32", "00 01 73 00 00 00 bf", [t.float32], [-0.5]),
    ("an opt", "01 6e 7c 01 00 01 2a", [t.opt(t.int_)], [42]),
    ("an opt of an opt", "02 6e 01 6e 7c 01 00 01 01 2a", [t.opt(t.opt(t.int_))], [Some(42)]),
    ("an opt of null", "02 6e 01 6e 7c 01 00 01 00", [t.opt(t.opt(t.int_))], [Some(None)]),
    ("a plain value at opt", "00 01 7e 01", [t.opt(t.bool_)], [True]),
    ("a plain value at opt opt", "00 01 7e 01", [t.opt(t.opt(t.bool_))], [Some(True)]),
    ("a misfit at opt is null", "01 6e 7e 01 00 01 01", [t.opt(t.nat)], [None]),
    ("a misfit inside opt opt", "02 6e 01 6e 7e 01 00 01 01 01", [t.opt(t.opt(t.nat))], [Some(None)]),
    ("reserved at opt is null", "00 01 70", [t.opt(t.nat)], [None]),
    ("a recursive opt", "01 6e 00 01 00 01 01 00", [FIX_OPT], [Some(Some(None))]),
    ("an empty vec of another type", "01 6d 7c 01 00 00", [t.vec(t.int8)], [[]]),
    ("a blob", "01 6d 7b 01 00 02 01 02", [t.blob], [b"\1\2"]),
    ("a thousand nulls", "01 6d 7f 01 00 e8 07", [t.vec(t.null)], [[None] * 1000]),
    ("a record's surplus field", "01 6c 01 01 7c 01 00 2a", [t.record({})], [{}]),
    ("a record's missing opt", "01 6c 01 01 7c 01 00 2a", [t.record({2: t.opt(t.int_)})], [{"_2_": None}]),
    ("a tuple", "01 6c 02 00 7c 01 7e 01 00 2a 01", [t.tuple_(t.int_, t.bool_)], [(42, True)]),
    ("field names hash", "01 6c 02 d3 e3 aa 02 7e 86 8e b7 02 7c 01 00 01 2a", [t.record({"foo": t.int_, "bar": t.bool_})],
     [{"bar": True, "foo": 42}]),
    ("a variant's other index", "01 6b 02 00 7f 01 7f 01 00 01", [t.variant({0: t.null, 1: t.null, 2: t.null})],
     [{"_1_": None}]),
    ("a misfit in another case", "01 6b 02 00 7f 01 7c 01 00 01 2a", [t.variant({0: t.int_, 1: t.int_})], [{"_1_": 42}]),
    ("an unknown case at opt", "02 6e 01 6b 02 00 7f 01 7f 01 00 01 01", [t.opt(t.variant({0: t.null}))], [None]),
    ("a principal", "00 01 68 01 03 ca ff ee", [t.principal], [ME]),
    ("a service at principal", "01 69 00 01 00 01 03 ca ff ee", [t.principal], [ME]),
    ("a service with surplus methods", "02 6a 01 71 01 7d 00 69 01 03 66 6f 6f 00 01 01 01 03 ca ff ee", [t.service({})], [ME]),
    ("a function", "01 6a 00 00 00 01 00 01 01 03 ca ff ee 01 61", [NOTHING], [FuncRef(ME, "a")]),
    ("a function with a misfit at opt", "01 6a 00 01 7f 00 01 00 01 01 00 01 6d", [t.opt(t.func([], [t.nat]))], [None]),
    ("a future value is skipped", "01 67 01 ff 01 00 02 00 aa bb", [t.reserved], [None]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "types", "values"), [case[1:] for case in ACCEPTED], ids=[case[0] for case in ACCEPTED])
def test_a_message_reads_at_the_expected_types(body: str, types: list[t.Type], values: list[object]) -> None:
    """Values come out as the coercion rules say."""
    assert decode(didl(body), types) == values


REFUSED = [
    ("an empty message", b"", [], "not a Candid message: it starts with b''"),
    ("other magic", b"DADL\0\0", [], "starts with b'DADL'"),
    ("no argument list", b"DIDL\0", [], "byte 5: a number is cut off"),
    ("bytes after the end", "00 00 00", [], "byte 6: 1 bytes follow the last argument"),
    ("a huge type table", "ff ff ff 7f 00", [], "at most 10000 are allowed"),
    ("more arguments than bytes", "00 ff ff 7f 7f", [], "more than there are bytes left"),
    ("a composite opcode as argument", "00 01 6e", [], "byte 6: -18 is neither a primitive type nor one of 0 table entries"),
    ("a primitive in the table", "01 7f 00", [], "byte 5: -1 is not a composite type"),
    ("a reference in the table", "01 00 00", [], "0 is not a composite type"),
    ("an entry out of range", "01 6e 01 00", [], "1 is neither a primitive type nor one of 1 table entries"),
    ("fields out of order", "01 6c 02 01 7c 00 7e 01 00 2a 01", [], "field id 0 after 1; ids ascend"),
    ("a field twice", "01 6c 02 00 7c 00 7e 01 00 2a 01", [], "field id 0 after 0"),
    ("a field id of 33 bits", "01 6c 01 80 80 80 80 10 7c 01 00 2a", [], "field id 4294967296 after -1"),
    ("methods out of order", "02 6a 00 00 00 69 02 01 62 00 01 61 00 00", [], "method b'a' after b'b'"),
    ("a method that is no function", "02 6e 7e 69 01 01 61 00 00", [], "is not a function"),
    ("a method of primitive type", "01 69 01 01 61 68 00", [], "has type principal, which is not a function"),
    ("a method name that is not UTF-8", "02 6a 00 00 00 69 01 01 ff 00 00", [], "method name b'\\xff' is not UTF-8"),
    ("an unknown annotation", "01 6a 00 00 01 04 00", [], "byte 8: 4 is no function annotation; allowed are 1 to 3"),
    ("a missing argument", "00 00", [t.nat], "argument 0 is missing; its type is nat"),
    ("the wrong type", "00 01 7e 01", [t.nat], "argument 0: expected nat, found bool"),
    ("a nat8 at nat", "00 01 7b 01", [t.nat], "argument 0: expected nat, found nat8"),
    ("an int at nat", "00 01 7c 01", [t.nat], "argument 0: expected nat, found int"),
    ("a bool of 2", "00 01 7e 02", [t.bool_], "byte 7: 2 is no tag of a bool; allowed are 0 and 1"),
    ("a bool of 2 at opt", "00 01 7e 02", [t.opt(t.bool_)], "2 is no tag of a bool"),
    ("a bool of 2 that is skipped", "00 01 7e 02", [], "2 is no tag of a bool"),
    ("an opt of 2", "01 6e 7c 01 00 02 2a", [t.opt(t.int_)], "2 is no tag of an opt"),
    ("a text that is cut off", "00 01 71 05 68 69", [t.text], "byte 8: 5 bytes are announced, 2 are left"),
    ("a text that is not UTF-8", "00 01 71 02 c3 28", [t.reserved], "byte 7: the text is not UTF-8"),
    ("a number that is cut off", "00 01 7d 80", [t.nat], "byte 7: a number is cut off"),
    ("a value of type empty", "00 01 6f", [t.reserved, t.empty], "a value of type empty"),
    ("a value of type empty at opt", "00 01 6f", [t.opt(t.nat)], "a value of type empty can't exist"),
    ("a missing field", "01 6c 00 01 00", [t.record({"a": t.nat})], "argument 0: field a of type nat is missing"),
    ("a misfit in a field", "01 6c 01 61 7e 01 00 01", [t.record({"a": t.nat})], "argument 0, field a: expected nat"),
    ("a misfit in a vec", "01 6d 7c 01 00 02 01 02", [t.vec(t.nat)], "argument 0, element 0: expected nat, found int"),
    ("an unknown case", "01 6b 01 00 7f 01 00 00", [t.variant({"a": t.null})], "argument 0: case 0 is not one of: a"),
    ("a case out of range", "01 6b 01 00 7f 01 00 01", [t.reserved], "byte 11: case 1 of a variant with 1 cases"),
    ("a principal of 30 bytes", "00 01 68 01 1e" + " 00" * 30, [t.principal], "a principal of 30 bytes; at most 29"),
    ("an opaque principal", "00 01 68 00", [t.principal], "byte 7: an opaque reference"),
    ("a principal at service", "00 01 68 01 00", [t.service({})], "argument 0: expected service {}, found principal"),
    ("a service without the method", "01 69 00 01 00 01 00", [t.service({"foo": FOO})], "found service"),
    ("a function of another kind", "01 6a 01 71 01 7d 01 01 01 00 01 01 00 01 61", [FOO], "found func"),
    ("a future value with references", "01 67 00 01 00 00 01", [t.reserved], "a future value with references"),
    ("an endless record", "01 6c 01 00 00 01 00", [ENDLESS], "nested deeper than 256 levels"),
    ("an endless record that is skipped", "01 6c 01 00 00 01 00", [], "nested deeper than 256 levels"),
    ("an endless expectation", "00 01 7e 01", [FIX_OPT], "nested deeper than 256 levels"),
    ("a billion nulls", "01 6d 7f 01 00 80 94 eb dc 03", [t.vec(t.null)], "far more values than are allowed"),
    ("a billion empty records", "02 6d 01 6c 00 01 00 80 94 eb dc 03", [], "far more values than are allowed"),
    ("a type table shorter than announced", "02 6e 7e", [], "byte 7: a number is cut off"),
    ("a field's type is missing", "01 6c 01 01", [], "byte 8: a number is cut off"),
    ("more fields than bytes", "01 6c ff ff 03 00 7f 00", [], "byte 6: 65535 items are announced"),
    ("a func with too few results", "01 6a 00 02 7f", [], "byte 7: 2 items are announced, more than there are bytes left"),
    ("a service with a method announced too long", "02 6a 00 00 00 69 01 7f 61 00 00", [], "127 bytes are announced"),
    ("a method of an unknown entry", "01 69 01 01 61 05 00", [], "5 is neither a primitive type nor one of 1 table entries"),
    ("an argument of an unknown entry", "00 01 00", [], "byte 6: 0 is neither a primitive type nor one of 0 table entries"),
    ("an argument of an unknown primitive", "00 01 67", [], "byte 6: -25 is neither a primitive type"),
    ("a table entry of a later primitive", "01 66 05 00", [], "byte 6: 5 items are announced"),
    ("an opt without content", "01 6e 7c 01 00 01", [t.opt(t.int_)], "byte 10: a number is cut off"),
    ("a vec that is cut off", "01 6d 7e 01 00 03 00 01", [t.vec(t.bool_)], "byte 12: 1 bytes are announced, 0 are left"),
    ("a record that is cut off", "01 6c 02 00 7e 01 7e 01 00 00", [t.tuple_(t.bool_, t.bool_)], "byte 14"),
    ("a variant of no cases", "01 6b 00 01 00 00", [t.variant({})], "byte 9: case 0 of a variant with 0 cases"),
    ("a variant's case of type empty", "01 6b 01 00 6f 01 00 00", [t.opt(t.nat)], "a value of type empty can't exist"),
    ("a float that is cut off", "00 01 72 00 00 00 00", [t.float64], "byte 7: 8 bytes are announced, 4 are left"),
    ("a principal without bytes", "00 01 68 01 03 ca ff", [t.principal], "byte 9: 3 bytes are announced, 2 are left"),
    ("a func whose principal is opaque", "01 6a 00 00 00 01 00 01 00", [NOTHING], "an opaque reference"),
    ("a func that is opaque", "01 6a 00 00 00 01 00 00", [NOTHING], "byte 11: an opaque function reference"),
    ("a func whose name isn't UTF-8", "01 6a 00 00 00 01 00 01 01 00 01 ff", [NOTHING], "byte 14: the text is not UTF-8"),
    ("a service at another service", "02 6a 00 00 01 01 69 01 01 61 00 01 01 01 00",
     [t.service({"a": NOTHING})], "byte 17: argument 0: expected service { a : () -> () }, found service"),
    ("text at principal", "00 01 71 00", [t.principal], "byte 7: argument 0: expected principal, found text"),
    ("null at a tuple", "00 01 7f", [t.tuple_(t.nat)], "byte 7: argument 0: expected record { nat }, found null"),
    ("a blob at text", "01 6d 7b 01 00 00", [t.text], "argument 0: expected text, found vec"),
    ("nat at vec", "00 01 7d 00", [t.vec(t.nat)], "argument 0: expected vec nat, found nat"),
    ("an opt at its content", "01 6e 7d 01 00 01 05", [t.nat], "argument 0: expected nat, found opt"),
    ("reserved at null", "00 01 70", [t.null], "argument 0: expected null, found reserved"),
    ("a variant at a record", "01 6b 01 00 7f 01 00 00", [t.record({})], "argument 0: expected record {}, found variant"),
    ("a misfit deep inside", "03 6d 01 6c 01 00 02 6b 01 00 7e 01 00 01 00 00", [t.vec(t.record({0: t.variant({0: t.nat})}))],
     "byte 19: argument 0, element 0, field 0, case 0: expected nat, found bool"),
    ("two million empty records", "02 6d 01 6c 00 01 00 80 89 7a", [t.vec(t.record({}))], "far more values"),
    ("a billion reserved", "01 6d 70 01 00 80 94 eb dc 03", [t.vec(t.reserved)], "far more values"),
    ("a billion nulls at opt", "01 6d 7f 01 00 80 94 eb dc 03", [t.opt(t.vec(t.nat))], "far more values"),
    ("a billion nulls in a surplus argument", "01 6d 7f 02 7f 00 80 94 eb dc 03", [t.null], "far more values"),
    ("a billion nulls in a surplus field", "02 6c 01 01 01 6d 7f 01 00 80 94 eb dc 03", [t.record({})], "far more values"),
    ("a billion records of nothing", "02 6d 01 6c 02 00 7f 01 70 01 00 80 94 eb dc 03", [], "far more values"),
    ("a chain of opts", "01 6e 00 01 00" + " 01" * 300 + " 00", [t.reserved], "nested deeper than 256 levels"),
    ("2^40 null numbers", "01 6d 78 01 00 80 80 80 80 80 20", [t.vec(t.nat64)], "bytes are announced, 0 are left"),
    ("vecs of vecs of nulls", "02 6d 01 6d 7f 01 00 05" + " ff ff 3f" * 5, [t.vec(t.vec(t.null))], "far more values"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "types", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_malformed_message_is_refused(raw: bytes | str, types: list[t.Type], message: str) -> None:
    """The error names the byte or the argument, and what was found."""
    with pytest.raises(CandidError) as caught:
        decode(raw if isinstance(raw, bytes) else didl(raw), types)
    assert message in str(caught.value)


FIXED = {
    t.nat8: (0, (1 << 8) - 1), t.nat16: (0, (1 << 16) - 1), t.nat32: (0, (1 << 32) - 1), t.nat64: (0, (1 << 64) - 1),
    t.int8: (-(1 << 7), (1 << 7) - 1), t.int16: (-(1 << 15), (1 << 15) - 1), t.int32: (-(1 << 31), (1 << 31) - 1),
    t.int64: (-(1 << 63), (1 << 63) - 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", FIXED, ids=str)
def test_numbers_of_fixed_size_have_their_range(kind: t.Prim) -> None:
    """Both ends read and write, in text too, one beyond doesn't; other types don't read at it, but as null at its opt."""
    for number in FIXED[kind]:
        raw = encode([kind], [number])
        assert raw == b"DIDL\0\1" + bytes([kind.opcode & 0x7F]) + number.to_bytes(kind.size, "little", signed=number < 0)
        assert decode(raw, [kind]) == [number]
        assert encode_text(f"({number} : {kind})") == encode_text(f"({number})", [kind]) == raw
        beyond = number + (1 if number > 0 else -1)
        with pytest.raises(CandidError, match="is outside"):
            encode_text(f"({beyond})", [kind])
    for other in (*FIXED, t.nat, t.int_, t.float64, t.text, t.null):
        raw = encode([other], ["" if other is t.text else None if other is t.null else 1])
        assert decode(raw, [t.opt(kind)]) == [1 if other is kind else None]
        if other is not kind:
            with pytest.raises(CandidError, match=f"argument 0: expected {kind}, found {other}"):
                decode(raw, [kind])


LONG_NAME = b"\x6a\0\0\0\x69\x02\xc0\x84\x3d" + b"b" * 1_000_000 + b"\0\x01a\0\0"


def test_errors_stay_short() -> None:
    """Names of a megabyte and lists of a thousand annotations are shown by their beginnings."""
    for table in (b"\x02" + LONG_NAME, b"\x01\x6a\0\0\xe8\x07" + b"\x09" * 1000 + b"\0"):
        with pytest.raises(CandidError) as caught:
            decode(b"DIDL" + table)
        assert len(str(caught.value)) < 150


QUOTA = [
    ("null", t.null, None, 1),
    ("bool", t.bool_, True, 1),
    ("nat", t.nat, 300, 2),
    ("int64", t.int64, -1, 8),
    ("text", t.text, "abc", 4),
    ("principal", t.principal, ME, 30),
    ("blob", t.blob, b"abc", 2 + 1 + 3),
    ("no opt", t.opt(t.nat), None, 2 + 1),
    ("opt", t.opt(t.nat), 5, 2 + 1 + 1),
    ("vec nat16", t.vec(t.nat16), [1, 2], 2 + 1 + 2 * (3 + 2)),
    ("vec nat", t.vec(t.nat), [1, 200], 2 + 1 + 2 * 3 + 1 + 2),
    ("vec opt", t.vec(t.opt(t.nat)), [1, None], 2 + 1 + 2 * 3 + 1 + 1 + 1),
    ("record", t.record({"a": t.nat, "b": t.opt(t.nat)}), {"a": 1, "b": None}, 2 + 5 + 2 * 9 + 1 + 2 + 1),
    ("variant", t.variant({"a": t.nat}), {"a": 1}, 2 + 6 + len("97,id,newtype") + 1),
    ("variant without content", t.variant({"a": t.null}), {"a": None}, 2 + 6 + len("97,id,unit") + 1),
    ("func", NOTHING, FuncRef(ME, "go"), 2 + 1 + 30 + 2 + 2),
    ("service", t.service({}), ME, 2 + 1 + 30),
]


@pytest.mark.parametrize(("kind", "value", "cost"), [case[1:] for case in QUOTA], ids=[case[0] for case in QUOTA])
def test_skipped_values_have_their_price(kind: t.Type, value: object, cost: int) -> None:
    """A surplus argument, a surplus field and a misfit at opt pass with a quota of just their cost, not with less."""
    inside = t.record({"x": kind, "y": t.nat})
    cases = [
        (encode([kind], [value]), [], []),
        (encode([inside], [{"x": value, "y": 7}]), [t.record({"y": t.nat})], [{"y": 7}]),
    ]
    if not t.nullable(kind) and kind is not t.bool_:
        cases.append((encode([t.opt(kind)], [value]), [t.opt(t.bool_)], [None]))
    for raw, expected, values in cases:
        assert decode(raw, expected) == values
        # the type table of the wrapping types is one or two entries longer
        more = raw[4] - encode([kind], [value])[4] if isinstance(kind, t.Func | t.Service) else 0
        assert decode(raw, expected, skipping_quota=cost + more) == values
        with pytest.raises(CandidError, match="Skipping cost exceeds the limit"):
            decode(raw, expected, skipping_quota=cost + more - 1)
    assert decode(encode([kind], [value]), [kind], skipping_quota=0) is not None


def test_a_head_seen_before_reads_the_same() -> None:
    """A message that only starts like one read before has a head of its own."""
    kind = t.record({"a": t.nat})
    raw = encode([kind], [{"a": 5}])
    assert decode(raw, [kind]) == decode(raw, [kind]) == [{"a": 5}]
    assert decode(raw, [t.record({"a": t.opt(t.nat), "b": t.opt(t.nat)})]) == [{"a": 5, "b": None}]
    assert decode(raw, [t.record({})]) == [{}]
    with pytest.raises(CandidError, match="cut off"):
        decode(raw[:-1], [kind])
    with pytest.raises(CandidError, match="byte 12: 1 bytes follow the last argument"):
        decode(raw + b"\0", [kind])
    for number in range(40):
        field = {number: t.nat8}
        assert decode(encode([t.record(field)], [{f"_{number}_": 1}]), [t.record(field)]) is not None
    assert decode(raw, [kind]) == [{"a": 5}]


def test_comparing_reference_types_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table whose services refer to one another in all ways makes the comparison give up, not run for hours."""
    monkeypatch.setattr(subtyping, "MAX_WORK", 1000)
    count = 60
    names = [b"%04d" % number for number in range(count)]
    entries = [b"\x6a\x01" + leb(n) + b"\0\0" for n in range(count, 2 * count)]
    methods = b"".join(b"\x04" + name + leb(number) for number, name in enumerate(names))
    entries += [b"\x69" + leb(count) + methods] * count
    raw = b"DIDL" + leb(2 * count) + b"".join(entries) + b"\x01" + leb(count) + b"\x01\0"
    loop = t.Rec("loop")
    loop.target = t.service({name.decode(): t.func([loop]) for name in names})
    with pytest.raises(CandidError, match="comparing the types takes more than"):
        decode(raw, [loop])


def leb(number: int) -> bytes:
    """A number of two bytes."""
    return bytes([number & 127 | 128, number >> 7])


def test_doubling_records_are_refused() -> None:
    """A record that holds the one before twice describes 2^24 values in a hundred bytes."""
    entries = [b"\x6c\x02\x01\x7f\x02\x7f"] + [bytes([0x6C, 2, 1, n, 2, n]) for n in range(23)]
    raw = b"DIDL" + bytes([len(entries)]) + b"".join(entries) + bytes([1, 23])
    for expected in ([], [t.opt(t.nat)], None):
        with pytest.raises(CandidError, match="far more values"):
            decode(raw, expected)


def test_a_huge_number_reads_in_linear_time() -> None:
    """A number of a megabyte reads and writes back; shifting it bit by bit would take minutes."""
    raw = b"DIDL\x00\x01\x7d" + b"\xff" * 1_000_000 + b"\x01"
    (number,) = decode(raw, [t.nat])
    assert number.bit_length() == 7_000_001
    assert encode([t.nat], [number]) == raw


def test_wide_bodies_of_one_type_share_its_entry() -> None:
    """Equal types take one place in the type table, recursive ones too."""
    raw = encode([LIST, LIST, t.opt(t.nat), t.opt(t.nat)], [None, {"head": 1, "tail": None}, 1, None])
    assert raw[4] == 3
    assert decode(raw, [LIST, LIST]) == [None, {"head": 1, "tail": None}]


WRONG_VALUES = [
    (t.nat, -1, "argument 0: -1 is negative; a nat was expected"),
    (t.nat, True, "argument 0: expected nat, found True (bool)"),
    (t.nat8, 256, "argument 0: 256 is outside nat8 (0 to 255)"),
    (t.int8, -129, "argument 0: -129 is outside int8 (-128 to 127)"),
    (t.text, b"x", "argument 0: expected text, found b'x' (bytes)"),
    (t.text, "\ud800", "argument 0: the text holds half a surrogate pair"),
    (t.bool_, 1, "argument 0: expected bool, found 1 (int)"),
    (t.null, 0, "argument 0: expected null, found 0 (int)"),
    (t.empty, None, "argument 0: expected empty, found None (NoneType)"),
    (t.float32, 1e40, "argument 0: 1e+40 is too large for float32"),
    (t.float64, "1", "argument 0: expected float64, found '1' (str)"),
    (t.principal, "abc", "argument 0: 'abc' is not base32"),
    (t.principal, b"x" * 30, "argument 0: principal of 30 bytes; at most 29 are allowed"),
    (t.principal, 5, "argument 0: expected principal, found 5 (int)"),
    (t.opt(t.opt(t.nat)), 5, "argument 0: a present value of opt opt nat must be given as Some(...), found 5"),
    (t.vec(t.nat), [1, -1], "argument 0: element 1: -1 is negative"),
    (t.vec(t.nat), "ab", "argument 0: expected vec nat, found 'ab' (str)"),
    (t.record({"a": t.nat}), {}, "argument 0: field a is missing; its type is nat"),
    (t.record({"a": t.nat}), {"a": 1, "b": 2}, "argument 0: the record has no field 'b'; its fields are: a"),
    (t.record({"a": t.nat}), {"a": ""}, "argument 0: field a: expected nat, found '' (str)"),
    (t.tuple_(t.nat), (1, 2), "argument 0: 2 items for record { nat }"),
    (t.variant({"a": t.nat, "b": t.null}), {"c": 1}, "argument 0: the variant has no case 'c'; its cases are: a, b"),
    (t.variant({"a": t.nat}), {"a": 1, "b": 2}, "argument 0: expected variant { a : nat }, found {'a': 1, 'b': 2} (dict)"),
    (t.variant({"a": t.nat}), "a", "argument 0: case a: expected nat, found None (NoneType)"),
    (NOTHING, ME, "argument 0: expected func () -> (), found"),
    (t.Future(-30), None, "argument 0: values of future type -30 can't be encoded"),
]


@pytest.mark.parametrize(("kind", "value", "message"), WRONG_VALUES, ids=[case[2] for case in WRONG_VALUES])
def test_a_value_of_another_type_is_not_encoded(kind: t.Type, value: object, message: str) -> None:
    """The error names the path, what was found and what is expected."""
    with pytest.raises(CandidError) as caught:
        encode([kind], [value])
    assert message.removeprefix("argument 0: ") in str(caught.value)


def test_convenient_forms_are_encoded() -> None:
    """Principals as text, cases by name alone, absent nullable fields, numbered names."""
    assert encode([t.principal], ["aaaaa-aa"]) == encode([t.principal], [Principal(b"")])
    kind = t.variant({"on": t.null, "off": t.null})
    assert decode(encode([kind], ["on"]), [kind]) == [{"on": None}]
    kind = t.record({"a": t.opt(t.nat), "_7_": t.nat})
    assert decode(encode([kind], [{"_7_": 5}]), [kind]) == [{"_7_": 5, "a": None}]
    assert decode(encode([kind], [{"_7_": 5}])) == [{"_7_": 5, "_97_": None}]


def test_too_deep_a_value_is_not_encoded() -> None:
    """A list of a thousand nodes is refused with a message, not with a stack overflow."""
    value = None
    for number in range(1000):
        value = {"head": number, "tail": value}
    with pytest.raises(CandidError, match="nested deeper than 256 levels"):
        encode([LIST], [value])


def test_counts_of_types_and_values_differ() -> None:
    """A value too many is a mistake of the caller."""
    with pytest.raises(CandidError, match="2 values for 1 argument types"):
        encode([t.nat], [1, 2])


def test_fields_with_one_id_are_refused() -> None:
    """Two names may hash to one id, or a number may be given twice."""
    with pytest.raises(CandidError, match="have the same id 97"):
        t.record({"a": t.nat, "_97_": t.nat})
    with pytest.raises(CandidError, match="field number -1 is outside"):
        t.record({-1: t.nat})
    with pytest.raises(CandidError, match="a oneway function has no results"):
        t.func([], [t.nat], "oneway")
