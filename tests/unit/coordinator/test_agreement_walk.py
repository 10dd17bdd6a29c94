"""Comparing nodes, and walking down to where they differ."""

from __future__ import annotations

from dataclasses import replace

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from ic_types.principal import Principal
from subnet.coordinator.agreement import Divergence, Finding, Walk, path_text, sides
from subnet.protocol import IngressOutcome, RoundResult

RESULT = RoundResult(
    height=1, state_hash=b"s", root_hash=b"r", certification_share=b"", tape_share=b"", heads=(), outcomes=(),
    has_work=False, next_due_ns=0, stats={}, stage_ns={},
)  # fmt: skip
CANISTER = bytes(Principal.canister(3))


def walk(states: dict[int, object]) -> list[Finding]:
    """Walk over nested states, whose digests are their representations."""
    found = Walk(tuple(states))
    while (path := found.question()) is not None:
        bodies = {}
        for node, state in states.items():
            here = state
            for label in path:
                here = here[label]  # type: ignore[index]
            if isinstance(here, dict):
                here = {label: repr(value).encode() for label, value in here.items()}
            bodies[node] = cbor2.dumps(here)
        found.answer(bodies)
    return found.findings


def state(page: bytes = b"same", balance: int = 5, **more: bytes) -> dict[bytes, object]:
    """A small state."""
    canister: dict[bytes, object] = {b"heap": {b"page 2": page, b"page 3": b""}, b"balance": balance}
    canister |= {name.encode(): value for name, value in more.items()}
    return {b"canisters": {CANISTER: canister, bytes(Principal.canister(4)): {}}, b"subnet": {b"time": b"t"}}


def test_nodes_that_say_the_same_are_one_side() -> None:
    """Shares and times are a node's own."""
    assert sides({2: RESULT, 1: replace(RESULT, tape_share=b"x", stage_ns={"a": 1})}) == ((1, 2),)


def test_any_difference_in_what_is_agreed_on_makes_sides() -> None:
    """The larger comes first."""
    outcome = IngressOutcome(message_id=b"m", status="replied")
    for other in (
        replace(RESULT, state_hash=b"x"),
        replace(RESULT, root_hash=b"x"),
        replace(RESULT, outcomes=(outcome,)),
        replace(RESULT, has_work=True),
        replace(RESULT, next_due_ns=1),
    ):
        assert sides({1: other, 2: RESULT, 3: RESULT}) == ((2, 3), (1,))


def test_a_differing_page_is_found() -> None:
    """The finding names canister and page and who holds what."""
    (finding,) = walk({1: state(), 2: state(page=b"bad!"), 3: state()})
    assert finding.path == (b"canisters", CANISTER, b"heap", b"page 2")
    assert [nodes for _, nodes in finding.values] == [(1, 3), (2,)]
    assert finding.text().startswith(f"canisters/canister {Principal(CANISTER)}/heap/page 2: nodes 1, 3 has ")


def test_several_differences_are_all_found() -> None:
    """A page and a field."""
    findings = walk({1: state(), 2: state(page=b"bad!", balance=6)})
    assert [finding.path[2:] for finding in findings] == [(b"balance",), (b"heap", b"page 2")]


def test_a_part_that_only_some_have_is_found() -> None:
    """A canister's field that one node lacks."""
    (finding,) = walk({1: state(extra=b"e"), 2: state(extra=b"e"), 3: state()})
    assert finding.path[-1] == b"extra"
    assert finding.values[1] == ("has none", (3,))


def test_nodes_that_answer_nonsense_end_the_walk() -> None:
    """A node that is gone or lies gives no endless walk."""
    found = Walk((1, 2))
    assert found.question() == ()
    found.answer({1: cbor2.dumps({b"a": b"x"}), 2: b"\xff"})
    assert found.question() is None


@given(st.dictionaries(st.integers(1, 7), st.sampled_from([b"a", b"b", b"c"]), min_size=2))
def test_a_tie_is_a_tie_of_the_largest_sides(states: dict[int, bytes]) -> None:
    """Everyone not on the largest side is named, unless there are two largest."""
    groups = sides({node: replace(RESULT, state_hash=value) for node, value in states.items()})
    assert sorted(node for group in groups for node in group) == sorted(states)
    if len(groups) < 2:
        return
    report = Divergence("app", 3, groups)
    assert report.is_tie == (len(groups[0]) == len(groups[1]))
    assert ("a tie: " in report.text()) == report.is_tie


def test_paths_are_shown_as_people_write_them() -> None:
    """Numbers, text, canister ids and other bytes."""
    assert path_text(()) == "state"
    shown = path_text((b"canisters", CANISTER, b"\x00\x07", bytes(range(20))))
    assert shown == f"canisters/canister {Principal(CANISTER)}/7/{bytes(range(20)).hex()}"
