"""Candid text: what users may write, what they read, and what errors tell them."""

from __future__ import annotations

import math

import pytest

from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.candid.did import parse_did
from ic_types.candid.encoder import encode
from ic_types.candid.layout import laid_out
from ic_types.candid.text import encode_text, parse_text, to_text
from ic_types.candid.values import FuncRef, Some
from ic_types.errors import CandidError
from ic_types.principal import Principal

LEDGER = parse_did("""
type Account = record { owner : principal; subaccount : opt blob };
service : (record { symbol : text }) -> {
  transfer : (record { to : Account; amount : nat; memo : opt nat64 }) -> (variant { ok : nat; err : text });
  symbol : () -> (text) query;
}
""")
TRANSFER = LEDGER.method("transfer").args

INFERRED = [
    ("()", []),
    ("(5)", [5]),
    ("(5 : nat)", [5]),
    ("(1_000, -5, +7, 0x1f, -0x10)", [1000, -5, 7, 31, -16]),
    ("(1.5, -1., 1e3, 2.5E-1, 0x1.8p1)", [1.5, -1.0, 1000.0, 0.25, 3.0]),
    ("(5 : float32)", [5.0]),
    ("(true, false, null)", [True, False, None]),
    ('("a\\n\\t\\"\\\\\\u{2603}\\e2\\98\\83")', ['a\n\t"\\☃☃']),
    ('(blob "\\00\\ffa")', [b"\x00\xffa"]),
    ("(vec {})", [[]]),
    ("(vec { 1; 2; })", [[1, 2]]),
    ("(vec { 1 : nat8; 2 : nat8 })", [b"\1\2"]),
    ("(vec { 1 : nat; -1 })", [[1, -1]]),
    ("(vec { null; opt 5 })", [[None, 5]]),
    ("(vec { variant { a }; variant { b = 5 } })", [[{"_97_": None}, {"_98_": 5}]]),
    ("(vec { record { a = 1 }; record { a = 2 : nat } })", [[{"_97_": 1}, {"_97_": 2}]]),
    ("(vec { vec {}; vec { opt 1 }; vec { null } })", [[[], [1], [None]]]),
    ("(opt 5, opt opt 5, opt null)", [5, Some(5), Some(None)]),
    ("(opt (5 : nat))", [5]),
    ("((5 : nat8) : int)", None),
    ("(record {})", [{}]),
    ("(record { 1; \"x\" })", [(1, "x")]),
    ("(record { 4 = 1; 2 })", [{"_4_": 1, "_5_": 2}]),
    ('(record { a = 1; "b c" = 2 })', [{"_97_": 1, "_4880677_": 2}]),
    ('(principal "aaaaa-aa", service "w7x7r-cok77-xa")', [Principal(b""), Principal(b"\xca\xff\xee")]),
    ('(func "aaaaa-aa".raw_rand, func "aaaaa-aa"."a b")',
     [FuncRef(Principal(b""), "raw_rand"), FuncRef(Principal(b""), "a b")]),
    ("(/* one /* two */ */ 5, // the rest\n 6)", [5, 6]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "values"), INFERRED, ids=[case[0] for case in INFERRED])
def test_text_is_read_without_types(text: str, values: list[object] | None) -> None:
    """Numbers are ints unless annotated, decimals are float64, a vec has the type that fits all its elements."""
    if values is None:
        with pytest.raises(CandidError, match="the value is annotated as nat8, but int is expected"):
            encode_text(text)
    else:
        assert decode(encode_text(text)) == values


WRONG = [
    ("", "line 1, column 1: arguments stand in parentheses, such as (5, \"text\"); found the end of the text"),
    ("5", "line 1, column 1: arguments stand in parentheses"),
    ("(5", "line 1, column 3: expected ')', found the end of the text"),
    ("(5) 6", "line 1, column 5: expected the end of the text after the arguments, found '6'"),
    ("(5,,6)", "line 1, column 4: expected a value, found ','"),
    ("(\n  hello)", "line 2, column 3: 'hello' is no value; texts stand in quotes"),
    ("(@)", "line 1, column 2: '@' has no meaning here"),
    ('("abc)', "line 1, column 2: the text is not closed"),
    ("(/* x)", "line 1, column 2: the comment is not closed"),
    ('("\\q")', "line 1, column 3: unknown escape '\\\\q'"),
    ('("\\u{d800}")', "\\u{d800} is no Unicode character"),
    ('("\\ff")', 'the text is not valid UTF-8; bytes are written blob "..."'),
    ("(- x)", "expected a number after '-'"),
    ("(-1 : nat)", "line 1, column 2: -1 is negative; a nat was expected"),
    ("(256 : nat8)", "line 1, column 2: 256 is outside nat8 (0 to 255)"),
    ("(1.5 : int)", "line 1, column 2: expected int, found 1.5 (float)"),
    ("(1e999)", "1e999 is too large for a decimal number"),
    ("(5 : natt)", "line 1, column 6: type 'natt' is unknown here"),
    ("(5 : text)", "line 1, column 2: expected text, found int 5"),
    ("(vec { 1; \"a\" })", "line 1, column 11: the elements of a vec have one type; found text after int"),
    ("(record { a = 1; a = 2 })", "line 1, column 18: field a stands twice in the record"),
    ("(record { 97 = 1; a = 2 })", "field a stands twice"),
    ("(record { a = })", "line 1, column 15: expected a value, found '}'"),
    ("(record { opt = 1 })", 'opt is a word of the language; write "opt" to use it as a name'),
    ("(record { 4294967296 = 1 })", "field number 4294967296 is outside"),
    ("(record { 4294967295 = 1; 2 })", "field number 4294967296 is outside"),
    ("(variant {})", "a variant holds exactly one case"),
    ("(variant { a = 1; b = 2 })", "expected '}', found ';'"),
    ("(principal \"abc\")", "line 1, column 12: 'abc' is not base32"),
    ("(principal abc)", "expected a text in quotes after principal"),
    ("(func \"aaaaa-aa\")", "expected '.', found ')'"),
    ("(" + "opt " * 200 + "1)", "values are nested deeper than 128 levels"),
    ("(null : " + "opt " * 200 + "nat)", "types are nested deeper than 128 levels"),
    ("(" + "1" * 5000 + ")", "a decimal number of 5000 digits is too long; write it as 0x..."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[case[0][:30] or "nothing" for case in WRONG])
def test_wrong_text_is_refused(text: str, message: str) -> None:
    """The error names line and column and what would be right."""
    with pytest.raises(CandidError) as caught:
        encode_text(text)
    assert message in str(caught.value)


WRONG_FOR_TRANSFER = [
    ("()", "argument 0 of type record { to : Account; memo : opt nat64; amount : nat } is missing"),
    ("(1, 2)", "2 arguments are given; expected are (record {"),
    ("(1)", "line 1, column 2: expected record { to : Account; memo : opt nat64; amount : nat }, found int 1"),
    ("(record { amount = 1 })", "line 1, column 2: field to of type Account is missing in the record"),
    ('(record { to = record { owner = "me" }; amount = 1 })', "line 1, column 33: expected principal, found text 'me'"),
    ('(record { to = record { owner = principal "aaaaa-aa" }; amount = -1 })', "line 1, column 66: -1 is negative"),
    ('(record { to = record { owner = principal "aaaaa-aa" }; amount = 1; memo = "x" })', "expected nat64, found text 'x'"),
    ('(record { to = record { owner = principal "aaaaa-aa" }; amount = (1 : int) })', "annotated as int, but nat is expected"),
    ('(record { to = record { owner = service "aaaaa-aa"; subaccount = opt "x" }; amount = 1 })',
     "expected blob, found text 'x'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG_FOR_TRANSFER)
def test_text_that_misfits_a_method_is_refused(text: str, message: str) -> None:
    """With a service file the error names the expected type where the misfit stands."""
    with pytest.raises(CandidError) as caught:
        encode_text(text, TRANSFER)
    assert message in str(caught.value)


def test_text_takes_the_types_of_a_method() -> None:
    """Numbers become what the method wants, absent opts become null, field names come back in the answer."""
    raw = encode_text('(record { to = record { owner = principal "aaaaa-aa" }; amount = 10_000; memo = opt 7 })', TRANSFER)
    account = {"owner": Principal(b""), "subaccount": None}
    assert decode(raw, TRANSFER) == [{"to": account, "amount": 10_000, "memo": 7}]
    shown = '(record { to = record { owner = principal "aaaaa-aa"; subaccount = null }; memo = opt (7 : nat64); '
    assert to_text(raw, TRANSFER) == shown + "amount = 10_000 : nat })"
    assert to_text(encode_text('("LDG")', LEDGER.method("symbol").results)) == '("LDG")'
    assert parse_text("()", [t.opt(t.nat)])[1] == [None]
    assert parse_text("(5, opt 5)", [t.opt(t.nat), t.opt(t.nat)])[1] == [5, 5]


def test_values_are_printed_with_their_types() -> None:
    """Numbers carry annotations, bytes and texts escapes, names quotes where they need them."""
    kinds: list[t.Type] = [
        t.nat64, t.int_, t.float64, t.text, t.blob, t.opt(t.nat8), t.vec(t.bool_), t.vec(t.nat),
        t.record({"a": t.null, "type": t.reserved, "b c": t.text}), t.variant({"ok": t.null, "no": t.text}), t.tuple_(t.int_),
        t.record({}), t.service({}), t.func(), t.opt(t.opt(t.nat)),
    ]  # fmt: skip
    values = [
        12_345, -5, 1.5, 'a"\\\n\x00☃', b'\x00a"', 5, [True], [],
        {"a": None, "type": None, "b c": "x"}, {"ok": None}, (1,), {}, Principal(b""),
        FuncRef(Principal(b""), "f g"), Some(None),
    ]  # fmt: skip
    assert to_text(encode(kinds, values), kinds) == (
        '(12_345 : nat64, -5 : int, 1.5 : float64, "a\\"\\\\\\n\\u{0}☃", blob "\\00a\\22", opt (5 : nat8), vec { true }, '
        'vec {}, record { a = null; "b c" = "x"; "type" = null : reserved }, variant { ok }, record { 1 : int }, record {}, '
        'service "aaaaa-aa", func "aaaaa-aa"."f g", opt null)'
    )


def test_odd_floats_are_printed() -> None:
    """Infinities and NaN have no Candid text of their own; what is shown reads back all the same."""
    raw = encode([t.float64] * 3, [math.inf, -math.inf, math.nan])
    assert to_text(raw) == "(inf : float64, -inf : float64, NaN : float64)"
    assert encode_text(to_text(raw)) == encode_text("(inf, -inf, NaN)") == raw


def test_a_number_of_thousands_of_digits_is_printed() -> None:
    """In hexadecimal, and reads back."""
    raw = encode([t.nat], [1 << 40_000])
    assert to_text(raw).startswith("(0x1000")
    assert encode_text(to_text(raw)) == raw


def test_long_text_has_a_line_per_item() -> None:
    """Only lists that don't fit are broken, from the outside in; signs inside texts break nothing."""
    text = '(record { name = "a; (b, {c"; items = vec { opt (1 : nat); opt (22 : nat) }; none = record {} }, 5 : nat, "end")'
    assert laid_out(text, 200) == text
    assert laid_out(text, 60).splitlines() == [
        "(",
        "  record {",
        '    name = "a; (b, {c";',
        "    items = vec { opt (1 : nat); opt (22 : nat) };",
        "    none = record {};",
        "  },",
        "  5 : nat,",
        '  "end",',
        ")",
    ]
    assert laid_out(text, 40).count("\n") == laid_out(text, 60).count("\n") + 3
    with pytest.raises(CandidError, match="the bracket is not closed"):
        laid_out("(record { a = 1", 5)
    with pytest.raises(CandidError, match="'}' closes nothing"):
        laid_out("(a}", 2)
