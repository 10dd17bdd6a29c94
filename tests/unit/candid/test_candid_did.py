"""Service files: types, imports, service constructors, and what is wrong with broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.candid.did import load_did, parse_did, with_init_args
from ic_types.candid.encoder import encode
from ic_types.candid.subtyping import incompatibility, is_subtype
from ic_types.errors import CandidError

FULL = """
// A file with most of the grammar.
type List = opt record { head : int; tail : List };   /* recursive /* and nested */ */
type Tree = variant { leaf : nat; node : vec Tree; empty };
type Callback = func (text, n : nat64) -> () oneway;
type Pair = record { nat; text; 7 : bool; blob };
type Shop = service { buy : (Pair) -> (Tree) ; "sell it" : Callback };
service shop : (owner : principal, opt List) -> {
  buy : (Pair, List,) -> (Tree);
  peek : () -> (Shop, reserved, empty) query;
  all : (record { text : text; nat : nat }) -> (func () -> () query) composite_query;
  notify : Callback;
};
"""


def test_a_file_is_read() -> None:
    """Types, the constructor's parameters and the methods."""
    did = parse_did(FULL)
    assert list(did.types) == ["List", "Tree", "Callback", "Pair", "Shop"]
    assert [str(kind) for kind in did.init] == ["principal", "opt List"]
    assert did.method("notify") == t.func([t.text, t.nat64], [], "oneway")
    assert did.method("all").annotations == ("composite_query",)
    pair = t.resolve(did.types["Pair"])
    assert isinstance(pair, t.Record)
    assert [f.id for f in pair.fields] == [0, 1, 7, 8]
    kinds = did.method("buy").args
    given = [{"_0_": 1, "_1_": "a", "_7_": True, "_8_": b"x"}, {"head": 1, "tail": None}]
    assert decode(encode(kinds, given), kinds) == given
    assert str(did.method("peek")) == "func () -> (Shop, reserved, empty) query"
    assert str(t.resolve(did.types["Shop"])) == 'service { buy : (Pair) -> (Tree); "sell it" : Callback }'


def test_a_service_may_be_named() -> None:
    """`service : Name` takes the methods of a named service type."""
    did = parse_did("type S = service { f : () -> (nat) query }; service : (text) -> S")
    assert did.init == (t.text,)
    assert did.method("f").results == (t.nat,)
    assert parse_did("type T = nat").service is None


WRONG = [
    ("type A = nat; type A = int", "line 1, column 20: type A is defined twice"),
    ("type A = B", "line 1, column 10: type 'B' is not defined; defined are: A"),
    ("type A = B; type B = A", "is defined only by itself"),
    ("type nat = int", "expected a name for the type, found 'nat'"),
    ("type A = record { a : nat; a : int }", "fields a and a have the same id 97"),
    ("type A = variant { a; 97 }", "have the same id 97"),
    ("type A = record { 4294967295 : nat; text }", "field number 4294967296 is outside"),
    ("type A = 5", "line 1, column 10: expected a type, found '5'"),
    ("type A = func (nat) -> (nat) oneway", "a oneway function has no results"),
    ("type A = func (a : nat, a : nat) -> ()", "the name a stands twice"),
    ("service : { f : () -> (); f : () -> () }", "line 1, column 27: method f stands twice"),
    ("service : { f : nat }", "expected a type, found 'nat'"),
    ("type A = nat; service : { f : A }", "method f has type A, which is not a function"),
    ("type A = nat; service : A", "A is not a service type"),
    ("service : { f : () -> () ", "expected '}', found the end of the text"),
    ("service : { query : () -> () }", 'query is a word of the language; write "query" to use it as a name'),
    ("import \"x.did\"; service : {}", "this text was given without a folder to import from"),
    ("import x", "expected the name of the imported file in quotes"),
    ("hello", "expected a type, an import or the service, found 'hello'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_refused(text: str, message: str) -> None:
    """The error names line and column."""
    with pytest.raises(CandidError) as caught:
        parse_did(text)
    assert message in str(caught.value)


def test_an_unknown_method_is_named(tmp_path: Path) -> None:
    """The error lists what there is."""
    with pytest.raises(CandidError, match="no method 'sell'; its methods are: all, buy, notify, peek"):
        parse_did(FULL).method("sell")


def test_imports_are_read(tmp_path: Path) -> None:
    """Types alone, services with methods, each file once, relative to the importing file."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.did").write_text(
        'import "sub/types.did"; import service "sub/base.did"; import "sub/types.did"; service : { own : (T) -> () }'
    )
    (tmp_path / "sub" / "types.did").write_text("type T = record { u : U }; type U = nat; service : { hidden : () -> () }")
    (tmp_path / "sub" / "base.did").write_text('import "types.did"; service : { base : (U) -> () }')
    did = load_did(tmp_path / "main.did")
    assert did.service is not None
    assert [name for name, _ in did.service.methods] == ["base", "own"]
    assert decode(encode(did.method("own").args, [{"u": 5}]), did.method("own").args) == [{"u": 5}]


def test_wrong_imports_are_refused(tmp_path: Path) -> None:
    """A missing file, a file without a service, a method that exists already."""
    (tmp_path / "none.did").write_text("type N = nat")
    (tmp_path / "one.did").write_text("service : { f : () -> () }")
    cases = {
        'import "gone.did"': "can't be read",
        'import service "none.did"': "the file declares no service",
        'import service "one.did"; service : { f : () -> () }': "method f stands twice, here and in an imported service",
    }
    for text, message in cases.items():
        (tmp_path / "main.did").write_text(text)
        with pytest.raises(CandidError, match=message):
            load_did(tmp_path / "main.did")
    with pytest.raises(CandidError, match=r"absent\.did can't be read"):
        load_did(tmp_path / "absent.did")


def test_a_file_imported_twice_counts_once(tmp_path: Path) -> None:
    """Whether for its types or its service, under one name or two; files that import one another bring their types."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.did").write_text('import "sub/more.did"; type B = record { m : M }; service : { get : () -> (B) query }')
    (tmp_path / "sub" / "more.did").write_text('import "../base.did"; type M = opt B; service : { more : () -> (M) }')
    (tmp_path / "main.did").write_text(
        'import "base.did"; import service "sub/../base.did"; import service "base.did"; service : { set : (B, M) -> () }'
    )
    did = load_did(tmp_path / "main.did")
    assert did.service is not None
    assert [name for name, _ in did.service.methods] == ["get", "set"]
    assert str(did.method("set")) == "func (B, M) -> ()"


def test_wrong_services_are_not_imported(tmp_path: Path) -> None:
    """Constructors, circles, and two services with a method of one name."""
    (tmp_path / "built.did").write_text("service : () -> { f : () -> () }")
    (tmp_path / "one.did").write_text("service : { f : () -> () }")
    (tmp_path / "other.did").write_text("service : { f : () -> () }")
    cases = {
        'import service "built.did"': "its service takes init arguments; only a plain service can be imported",
        'import service "main.did"': "the files import one another in a circle",
        'import service "one.did"; import service "other.did"': "method f stands twice",
    }
    for text, message in cases.items():
        (tmp_path / "main.did").write_text(text)
        with pytest.raises(CandidError, match=message):
            load_did(tmp_path / "main.did")


def test_init_arguments_may_stand_apart() -> None:
    """They use the service file's types and types of their own; an unknown one is named."""
    did = parse_did("type A = record { a : nat }; service : { f : (A) -> () }")
    whole = with_init_args(did, "type B = opt A; (A, B)")
    assert whole.service is did.service
    assert decode(encode(whole.init, [{"a": 1}, {"a": 2}]), whole.init) == [{"a": 1}, {"a": 2}]
    with pytest.raises(CandidError, match="line 1, column 2: type 'C' is not defined"):
        with_init_args(did, "(C)")


def test_a_file_prints_as_it_reads() -> None:
    """Printing gives a file of the same types, service and init arguments."""
    did = parse_did(FULL)
    printed = str(did)
    assert "service : (principal, opt List) -> {\n  all : (record" in printed
    again = parse_did(printed)
    assert str(again) == printed
    assert did.service is not None
    assert again.service is not None
    for low, up in ((did, again), (again, did)):
        assert low.service is not None
        assert up.service is not None
        assert is_subtype(low.service, up.service)
        assert all(is_subtype(low.types[name], up.types[name]) for name in did.types)
    assert str(parse_did("type A = B; type B = opt A")) == "type A = B;\ntype B = opt A;\n"


DIFFERENCES = [
    ("nat", "text", "nat is not text"),
    ("record { a : record { b : nat } }", "record { a : record { b : text } }", "field a, field b: nat is not text"),
    ("record {}", "record { a : nat }", "field a of type nat is missing"),
    ("variant { a; b }", "variant { a }", "case b is unknown"),
    ("vec variant { a : nat }", "vec variant { a : text }", "element, case a: nat is not text"),
    ("func (nat) -> ()", "func (int, text) -> ()", "argument 0: int is not nat"),
    ("func (nat, nat) -> ()", "func (nat) -> ()", "argument 1 of type nat is missing"),
    ("func () -> () query", "func () -> ()", "it is query, not an update"),
    ("service { f : () -> () }", "service { f : () -> (nat) }", "method f: result 0 of type nat is missing"),
    ("service {}", 'service { "a b" : () -> (nat) }', 'method "a b" is missing'),
    ("service { f : () -> (nat) }", "service { f : () -> (nat, opt text) }", None),
]


@pytest.mark.parametrize(("low", "up", "why"), DIFFERENCES)
def test_an_incompatible_change_is_explained(low: str, up: str, why: str | None) -> None:
    """Where the types part, and how."""
    did = parse_did(f"type A = {low}; type B = {up}")
    assert incompatibility(did.types["A"], did.types["B"]) == why


@pytest.mark.parametrize(
    ("low", "up", "why"),
    [
        ("opt nat", "opt text", "nat is not text"),
        ("record { a : text }", "record { a : opt nat }", "field a: text is not nat"),
        ("nat", "opt int", None),
        ("null", "opt text", None),
        ("reserved", "opt text", None),
        ("opt nat", "opt opt nat", None),
        ("opt variant { a; b }", "opt variant { a }", "case b is unknown"),
        ("record {}", "record { a : opt nat }", None),
        ("func (opt nat) -> ()", "func (opt text) -> ()", "argument 0: text is not nat"),
    ],
)
def test_options_that_would_read_as_null_are_named(low: str, up: str, why: str | None) -> None:
    """The rules allow them, a strict comparison doesn't."""
    did = parse_did(f"type A = {low}; type B = {up}")
    assert incompatibility(did.types["A"], did.types["B"]) is None
    assert incompatibility(did.types["A"], did.types["B"], strict=True) == why


SUBTYPES = [
    ("nat", "int", True), ("int", "nat", False), ("nat8", "nat", False), ("empty", "nat", True), ("nat", "reserved", True),
    ("service { f : () -> () }", "principal", True), ("principal", "service {}", False), ("nat", "opt text", True),
    ("vec nat", "vec int", True), ("record { a : nat; b : text }", "record { a : int }", True),
    ("record {}", "record { a : opt nat; b : null; c : reserved }", True), ("record {}", "record { a : nat }", False),
    ("variant { a }", "variant { a; b }", True), ("variant { a; b }", "variant { a }", False),
    ("func (int) -> (nat)", "func (nat) -> (int)", True), ("func (nat) -> ()", "func (int) -> ()", False),
    ("func () -> (nat, text)", "func () -> (nat)", True), ("func () -> ()", "func () -> (opt nat)", True),
    ("func (opt nat) -> ()", "func () -> ()", True), ("func (nat) -> ()", "func () -> ()", False),
    ("func () -> () query", "func () -> ()", False), ("service { f : () -> () }", "service {}", True),
    ("service {}", "service { f : () -> () }", False), ("text", "blob", False), ("vec nat8", "blob", True),
]  # fmt: skip


@pytest.mark.parametrize(("low", "up", "holds"), SUBTYPES)
def test_subtyping_follows_the_rules(low: str, up: str, holds: bool) -> None:
    """One case per rule of the specification."""
    did = parse_did(f"type A = {low}; type B = {up}")
    assert is_subtype(did.types["A"], did.types["B"]) is holds


def test_subtyping_of_recursive_types_ends() -> None:
    """Equal unfoldings are subtypes of each other, whatever their shape."""
    did = parse_did("type A = vec A; type B = vec vec B; type C = record { C }; type D = record { opt D }; type E = vec C")
    kinds = did.types
    assert is_subtype(kinds["A"], kinds["B"])
    assert is_subtype(kinds["B"], kinds["A"])
    assert is_subtype(kinds["C"], kinds["D"])
    assert not is_subtype(kinds["A"], kinds["E"])
