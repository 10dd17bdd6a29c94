"""Placeholders in arguments."""

from __future__ import annotations

import pytest

from configs.argument import Argument, CallPlace, Names, numbered
from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.errors import ConfigError
from ic_types.principal import Principal

LEDGER, ALICE = Principal.canister(1), Principal(b"alice")


def _canister(name: str) -> Principal:
    return {"ledger": LEDGER, "c-2": Principal.canister(2)}[name]


def _identity(name: str) -> Principal:
    return {"alice": ALICE, "u-0": Principal(b"0"), "u-1": Principal(b"1"), "u-2": Principal(b"2")}[name]


NAMES = Names(_canister, _identity)
PLACE = CallPlace(phase="p", seed=1, number=5, round=2, caller="alice", target="ledger")


def expand(text: str, place: CallPlace = PLACE) -> str:
    """The text with placeholders filled in."""
    return Argument(text=text).expand(NAMES, place)


def test_placeholders_are_filled_in() -> None:
    """Numbers as they are, principals as Candid values, and as bare text inside quotes."""
    assert expand("({i}, {round})") == "(5, 2)"
    assert expand("({canister:ledger}, {identity:alice})") == f'(principal "{LEDGER}", principal "{ALICE}")'
    assert expand("({caller}, {target})") == f'(principal "{ALICE}", principal "{LEDGER}")'
    assert expand('(service "{canister:ledger}", "call {i} of \\"{caller}\\"")') == (
        f'(service "{LEDGER}", "call 5 of \\"{ALICE}\\"")'
    )


def test_other_braces_are_left_alone() -> None:
    """Candid has braces of its own."""
    for text in ("(record { i = 1 })", "(variant { i })", "(vec {})", "(variant {caller_id})", '("{}")'):
        assert expand(text) == text


def test_groups_take_turns() -> None:
    """A group's name means its member number `i` modulo size, or some further on."""
    sizes = {"identity:u": 3}
    text = numbered("({identity:u}, {identity:u+1}, {identity:alice})", sizes)
    assert text == "({identity:u*3+0}, {identity:u*3+1}, {identity:alice})"
    assert expand(text) == f'(principal "{Principal(b"2")}", principal "{Principal(b"0")}", principal "{ALICE}")'


def test_random_numbers_are_decided_by_seed_phase_call_and_place() -> None:
    """The same call draws the same numbers; anything else draws others."""
    text = "({rand:1_000_000}, {rand:1_000_000})"
    first = expand(text)
    assert first == expand(text)
    assert first.split(",")[0] != "(" + first.split(", ")[1].rstrip(")")
    others = [
        CallPlace(phase="q", seed=1, number=5),
        CallPlace(phase="p", seed=2, number=5),
        CallPlace(phase="p", seed=1, number=6),
    ]
    assert len({first, *(expand(text, place) for place in others)}) == 4
    draws = [int(expand("{rand:7}", CallPlace(phase="p", number=n))) for n in range(500)]
    assert sorted(set(draws)) == list(range(7))


WRONG = [
    ("{rand:0}", "{rand:0}: expected a number above 0"),
    ("{rand:x}", "{rand:x}: expected a number above 0"),
    ("{rand:}", "{rand:}: expected a number above 0"),
    ("{canister:}", "{canister:} has no meaning here"),
    ("{canister:nobody}", "{canister:nobody}: nobody"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_placeholders_are_named(text: str, message: str) -> None:
    """What stands in the braces is shown."""
    with pytest.raises(ConfigError) as caught:
        expand(text)
    assert message in str(caught.value)


def test_a_caller_is_only_there_in_calls() -> None:
    """Installs have none."""
    with pytest.raises(ConfigError, match="caller} has no meaning here"):
        expand("({caller})", CallPlace())


def test_arguments_are_encoded_at_their_types() -> None:
    """Text at the method's types or inferred ones, bytes as they are."""
    assert decode(Argument(text="({i})", types=(t.nat8,)).encode(NAMES, PLACE), [t.nat8]) == [5]
    assert decode(Argument(text="({i} : nat)").encode(NAMES, PLACE)) == [5]
    assert Argument(raw=b"\1\2").encode(NAMES, PLACE) == b"\1\2"


def test_arguments_that_never_change_are_known() -> None:
    """So that callers encode them once."""
    assert not Argument(text="({canister:ledger})").varies
    assert not Argument(raw=b"{i}").varies
    assert all(Argument(text=f"({{{p}}})").varies for p in ("i", "round", "caller", "rand:5", "identity:u*3+0"))
