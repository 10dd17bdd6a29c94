"""The coverage page is up to date, and the markers, headings and tables behind it are right."""

from __future__ import annotations

import tomllib

import pytest

from sandbox.system_api.availability import ANY, CONTEXT_LETTERS, SYSTEM_CALLS
from sandbox.wasm.imports import SIGNATURES
from tools import spec_coverage

NOT_IN_THE_SPEC = {"mint_cycles128", "cost_http_request_v2"}
STABLE = {f"stable{width}_{what}" for width in ("", "64") for what in ("size", "grow", "read", "write")}


def test_page_is_up_to_date() -> None:
    """Committed page and markers agree; `python tools/spec_coverage.py` writes it anew."""
    assert spec_coverage.PAGE.read_text() == spec_coverage.page(), "run: python tools/spec_coverage.py"


def test_every_marker_names_a_known_rule() -> None:
    """A rule is a heading's id, `ic-<method>` or `ic0.<function>`."""
    known = spec_coverage.known_rules()
    assert [marked for marked in spec_coverage.marked_tests() if marked.rule not in known] == []


def test_headings_are_distinct() -> None:
    """One id and one title each."""
    headings = spec_coverage.headings()
    assert len({heading.rule for heading in headings}) == len(headings)
    assert len({heading.title for heading in headings}) == len(headings)


def test_later_rules_are_on_the_roadmap() -> None:
    """What a heading is waiting for is a row of the roadmap."""
    roadmap = (spec_coverage.ROOT / "docs" / "roadmap.md").read_text()
    rooms = {line.split("|")[1].strip() for line in roadmap.splitlines() if line.startswith("|")}
    rules = (*spec_coverage.headings(), *spec_coverage.management_methods())
    assert {rule.later for rule in rules if rule.later} <= rooms


@pytest.mark.parametrize("name", sorted(spec_coverage.system_api()))
def test_contexts_are_those_of_the_specification(name: str) -> None:
    """The table that the sandbox enforces says what "Overview of imports" says; stable memory is there everywhere."""
    letters = set(spec_coverage.system_api()[name].split()) - {"TQ"}
    listed = 0
    for letter in letters:
        listed |= ANY if letter == "*" else CONTEXT_LETTERS[letter]
    if name in STABLE:
        assert letters == {"*", "s"}
        assert name not in SYSTEM_CALLS
    else:
        assert SYSTEM_CALLS[name].contexts == listed


def test_functions_are_those_of_the_specification() -> None:
    """No function is missing, and none is offered to 64-bit memories that the specification reserves for 32-bit ones."""
    names = set(spec_coverage.system_api())
    assert set(SIGNATURES[False]) == names | NOT_IN_THE_SPEC
    table = tomllib.loads((spec_coverage.ROOT / "tests/spec/system_api.toml").read_text())
    assert set(SIGNATURES[True]) == names - set(table["only_with_32_bit_memory"]["names"]) | NOT_IN_THE_SPEC
