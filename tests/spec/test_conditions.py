"""The index of conditions is right: rules, numbers, places and snippets exist, and every condition has a test."""

from __future__ import annotations

import ast

import pytest

from tools import conditions, mutants, spec_coverage
from tools.conditions import Condition, Mutant

INDEX = conditions.conditions()
LETTERS = [condition.name for condition in INDEX]


def test_conditions_are_numbered() -> None:
    """Every rule is known, and its conditions are numbered from 1 without gaps, in one place."""
    numbers: dict[str, list[int]] = {}
    for condition in INDEX:
        numbers.setdefault(condition.rule, []).append(condition.n)
    assert set(numbers) <= spec_coverage.known_rules()
    assert {rule: found for rule, found in numbers.items() if found != list(range(1, len(found) + 1))} == {}


def test_markers_name_known_conditions() -> None:
    """No test claims a condition that the index doesn't have."""
    known = {(condition.rule, condition.n) for condition in INDEX}
    claimed = {(marked.rule, n): marked.node_id for marked in spec_coverage.marked_tests() for n in marked.conditions}
    assert {claim: test for claim, test in claimed.items() if claim not in known} == {}


@pytest.mark.parametrize("condition", INDEX, ids=LETTERS)
def test_condition_is_implemented(condition: Condition) -> None:
    """The code exists; either it can be broken, or the index says why not."""
    for place in condition.code:
        path, _, function = place.partition(":")
        assert function in conditions.functions(path), place
    assert bool(condition.mutants) != bool(condition.why_no_mutant)


@pytest.mark.parametrize("condition", INDEX, ids=LETTERS)
def test_mutants_apply(condition: Condition) -> None:
    """Every snippet is found exactly once, and the module without it is still a module."""
    for mutant in condition.mutants:
        ast.parse(mutant.apply((conditions.ROOT / mutant.path).read_text()))


def test_every_condition_has_a_test() -> None:
    """`make mutants` has something to run for each of them."""
    assert len(mutants.plan()) == sum(len(condition.mutants) for condition in INDEX)


def test_stale_snippets_are_refused() -> None:
    """A snippet that is gone, or there twice, or changes nothing is an error that names the module."""
    mutant = Mutant("a.py", "x = 1\n", "x = 2\n")
    assert mutant.apply("x = 1\ny = 1\n") == "x = 2\ny = 1\n"
    with pytest.raises(ValueError, match=r"a\.py: this snippet is found 0 times"):
        mutant.apply("y = 1\n")
    with pytest.raises(ValueError, match="found 2 times"):
        mutant.apply("x = 1\nx = 1\n")
    with pytest.raises(ValueError, match="replaced by itself"):
        Mutant("a.py", "x", "x").apply("x")


def test_rules_without_tests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition that no test names isn't silently left out."""
    monkeypatch.setattr(mutants, "marked_tests", list)
    with pytest.raises(ValueError, match="no test is marked"):
        mutants.plan()


def test_markers_are_read() -> None:
    """Conditions come from the function, its class and the module; one number or several."""
    source = """
pytestmark = pytest.mark.spec("a", condition=1)
both = pytest.mark.spec("b", condition=(2, 3))

@both
class TestIt:
    @pytest.mark.spec("a", condition=4)
    def test_one(self): ...

def test_two(): ...
"""
    found = [(m.node_id, m.rule, m.conditions) for m in spec_coverage._of_module("t.py", ast.parse(source))]
    assert found == [
        ("t.py::TestIt::test_one", "a", (1, 4)),
        ("t.py::TestIt::test_one", "b", (2, 3)),
        ("t.py::test_two", "a", (1,)),
    ]
