"""How canisters are spoken to: service files as text, values and Candid text at their types, inferred types, run.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.argument import CallPlace, Names
from configs.loader import load_topology
from ic_types.candid import types as t
from ic_types.candid.did import load_did, parse_did
from ic_types.candid.encoder import encode
from ic_types.errors import BadInput, CandidError
from ic_types.principal import Principal
from subnet.lab import run_dir
from subnet.lab.interface import Interface, infer
from subnet.lab.modules import load_module

ROOT = Path(__file__).resolve().parents[3]
NAMES = Names(canister=lambda name: Principal.canister(len(name)), identity=lambda name: Principal(name.encode()))
SERVICE = """
type List = opt record { head : nat; tail : List };
type Outcome = variant { ok : List; "not found"; err : record { code : nat16; text } };
service : {
  get : (principal, opt bool) -> (Outcome) query;
  put : (List) -> ();
  both : () -> (nat, text) composite_query;
}
"""


@pytest.mark.parametrize("text", [SERVICE, (ROOT / "examples/canisters/ledger/ledger.did").read_text()])
def test_service_files_survive_as_text(text: str) -> None:
    """What run.json keeps of a service file reads back as the same methods."""
    first = parse_did(text)
    again = parse_did(run_dir.service_text(first))
    assert Interface(again, "x").methods() == Interface(first, "x").methods()
    assert [str(kind) for kind in again.types] == [str(kind) for kind in first.types]


def test_values_and_text_give_the_same_bytes() -> None:
    """Both ways of giving an argument; trailing optional arguments may be left out; parentheses may be too."""
    spoken = Interface(parse_did(SERVICE), "box")
    who = Principal.canister(3)
    raw = spoken.encode_values("get", [who])
    assert raw == spoken.encode_text("get", "({canister:abc}, null)", NAMES, CallPlace())
    assert raw == spoken.encode_text("get", "{canister:abc}", NAMES, CallPlace())
    assert spoken.encode_values("put", [None]) == spoken.encode_text("put", "", NAMES, CallPlace())


def test_answers_read_at_the_types_of_the_service() -> None:
    """As values and as text; several results are a tuple, none is None, no Candid shows as bytes."""
    spoken = Interface(parse_did(SERVICE), "box")
    function = spoken.function("get")
    assert function is not None
    raw = encode(function.results, [{"not found": None}])
    assert spoken.answer_value("get", raw) == {"not found": None}
    assert spoken.answer_text("get", raw) == '(variant { "not found" })'
    assert spoken.answer_value("both", encode([t.nat, t.text], [1, "a"])) == (1, "a")
    assert spoken.answer_value("put", encode([], [])) is None
    assert spoken.answer_text("put", b"\x01\x02") == "0x0102"
    unknown = Interface(None, "box")
    assert unknown.answer_value("x", b"\x01") == b"\x01"
    assert unknown.answer_text("x", encode([t.nat], [7])) == "(7 : nat)"
    assert spoken.answer_text("get", encode([t.text], ["surprise"])) == '("surprise")'


def test_what_does_not_fit_is_named() -> None:
    """Unknown methods list the known ones; wrong numbers and types of arguments name the method."""
    spoken = Interface(parse_did(SERVICE), "box")
    with pytest.raises(BadInput, match="its methods are: both, get, put"):
        spoken.encode_values("pull", [])
    with pytest.raises(CandidError, match=r"box\.get takes \(principal, opt bool\): 2 values, not 3"):
        spoken.encode_values("get", [1, 2, 3])
    with pytest.raises(CandidError, match=r"box\.get: argument 0: expected principal"):
        spoken.encode_values("get", [5])
    assert Interface.parse("service : { broken", "box").is_known is False


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"), (True, "bool"), (3, "nat"), (-3, "int"), (1.5, "float64"), ("a", "text"), (b"a", "blob"),
        (Principal(b""), "principal"), ([1, 2], "vec nat"), ([], "vec empty"), ({"a": 1}, "record { a : nat }"),
        ((1, "x"), "record { nat; text }"),
    ],
)  # fmt: skip
def test_types_are_inferred_where_none_are_known(value: object, kind: str) -> None:
    """A Python value without a service file has one obvious type."""
    assert str(infer(value)) == kind


def test_values_without_one_type_are_refused() -> None:
    """A list of different things, and things that Candid doesn't have."""
    for value in ([1, "a"], object()):
        with pytest.raises(CandidError):
            infer(value)


def test_modules_are_found_by_path_name_and_bytes(tmp_path: Path) -> None:
    """With the service file beside them; unknown ones list the examples."""
    found = load_module("ledger")
    assert found.did is not None
    assert load_module(found.wasm).wasm == found.wasm
    copy = tmp_path / "mine.wasm"
    copy.write_bytes(found.wasm)
    (tmp_path / "mine.did").write_text("service : { hello : () -> () }")
    assert Interface(load_module(copy).did, "mine").methods() == {"hello": "() -> ()"}
    with pytest.raises(BadInput, match=r"examples: .*ledger"):
        load_module("lodger")
    with pytest.raises(BadInput, match="is not a Wasm module"):
        load_module(b"nonsense")


def test_run_files_survive(tmp_path: Path) -> None:
    """Invariants and services of a topology come back as they were written; canisters of one module share one text."""
    found = run_dir.run_file(load_topology(ROOT / "configs" / "quickstart.toml"), "quickstart.toml")
    run_dir.write_run_file(tmp_path, found)
    again = run_dir.read_run_file(tmp_path)
    assert again == found
    assert len(again.services) == 2
    assert Interface(again.service("exchange-1"), "e").is_known
    assert again.service("nobody") is None
    assert run_dir.read_run_file(None) == run_dir.RunFile()
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(BadInput, match="another version"):
        run_dir.read_run_file(tmp_path)


def test_ledger_did_has_methods() -> None:
    """The example's service file is what the documentation says."""
    assert Interface(load_did(ROOT / "examples/canisters/ledger/ledger.did"), "l").methods()["symbol"] == "() -> (text) query"
