"""Writes docs/spec_coverage.md: which tests check which rule of the interface specification.

Plumbing. The rules are listed in the TOML files of tests/spec (headings of two kinds, methods, functions); tests name theirs
by the marker `@pytest.mark.spec("<rule>", condition=n)`, on a function, a class or, as `pytestmark`, on a whole module;
`condition` is one number or a tuple of the index in tests/spec/conditions, and may be left out. Read without running anything.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(ROOT))  # for `python tools/spec_coverage.py`
from tools.conditions import Condition, conditions  # noqa: E402

PAGE = ROOT / "docs" / "spec_coverage.md"
FUNCTION_PREFIX = "ic0."
METHOD_PREFIX = "ic-"
INTRODUCTION = """# Coverage of the specification

Which tests check which rule: one row per heading of the interface specification's chapter "Abstract behavior", one per method
of the management canister, and one per function of the System API. Written by `python tools/spec_coverage.py` from the `spec`
markers of the tests; don't edit it.
*To come* names the row of the [roadmap](roadmap.md) that completes a rule; a rule without tests that nothing completes stands
out as **none**. Contexts are the letters of the chapter "Canister interface", "Overview of imports". Below, the conditions of
each rule, where they are implemented, and the tests that fail without them: `make mutants` takes each of them out in turn.
"""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the chapter."""

    rule: str
    title: str
    later: str = ""
    """Row of the roadmap that completes the rule."""
    group: bool = False
    """It holds other headings and no rule of its own."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A test that names a rule."""

    rule: str
    path: str
    test: str
    conditions: tuple[int, ...] = ()
    """Of the rule, that the test holds."""
    owner: str = ""
    """Its class, if it has one."""

    @property
    def node_id(self) -> str:
        """What pytest calls the test."""
        return "::".join(part for part in (self.path, self.owner, self.test) if part)


Marks = dict[str, tuple[int, ...]]
"""Rules of some markers, each with its conditions."""


def headings() -> list[Heading]:
    """The headings, in the order of the chapter."""
    table = tomllib.loads((ROOT / "tests/spec/headings.toml").read_text())
    return [Heading(row["id"], row["title"], row.get("later", ""), row.get("group", False)) for row in table["heading"]]


def interface_headings() -> list[Heading]:
    """The headings on the HTTPS interface and certification, in the order of their chapters."""
    table: dict[str, str] = tomllib.loads((ROOT / "tests/spec/interface_headings.toml").read_text())["headings"]
    return [Heading(rule, title) for rule, title in table.items()]


def management_methods() -> list[Heading]:
    """The methods of the management canister, in the order of its service description."""
    table: dict[str, str] = tomllib.loads((ROOT / "tests/spec/management_methods.toml").read_text())["methods"]
    return [Heading(METHOD_PREFIX + name, name, later) for name, later in table.items()]


def system_api() -> dict[str, str]:
    """Contexts of every function of the System API, by name."""
    contexts: dict[str, str] = tomllib.loads((ROOT / "tests/spec/system_api.toml").read_text())["contexts"]
    return contexts


def known_rules() -> set[str]:
    """What a marker may name."""
    return {heading.rule for heading in (*headings(), *interface_headings(), *management_methods())} | {
        FUNCTION_PREFIX + name for name in system_api()
    }


def marked_tests() -> list[Marked]:
    """All marked tests of the project, by path and position."""
    found: list[Marked] = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        found += _of_module(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text()))
    return found


def _of_module(path: str, tree: ast.Module) -> Iterator[Marked]:
    shared: Marks = {}
    named: dict[str, Marks] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            marks = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
            rules = _rules(marks, named)
            named[node.targets[0].id] = rules
            if node.targets[0].id == "pytestmark":
                shared = rules
    for node in tree.body:
        owner = node.name if isinstance(node, ast.ClassDef) else ""
        outer = _joined(shared, _rules(node.decorator_list, named)) if isinstance(node, ast.ClassDef) else shared
        for test in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                for rule, numbers in _joined(outer, _rules(test.decorator_list, named)).items():
                    yield Marked(rule, path, test.name, numbers, owner)


def _joined(first: Marks, second: Marks) -> Marks:
    """Rules of both, with the conditions of both."""
    joined = dict(first)
    for rule, numbers in second.items():
        joined[rule] = tuple(dict.fromkeys((*joined.get(rule, ()), *numbers)))
    return joined


def _rules(marks: list[ast.expr], named: dict[str, Marks]) -> Marks:
    """What `pytest.mark.spec(rule, condition=...)` among these names; `named`: marks that the module has given names."""
    rules: Marks = {}
    for mark in marks:
        if isinstance(mark, ast.Name):
            rules = _joined(rules, named.get(mark.id, {}))
        elif isinstance(mark, ast.Call) and isinstance(mark.func, ast.Attribute) and mark.func.attr == "spec" and mark.args:
            rule = mark.args[0]
            assert isinstance(rule, ast.Constant), f"line {mark.lineno}: the rule of a spec marker is written out"
            value = next((ast.literal_eval(one.value) for one in mark.keywords if one.arg == "condition"), ())
            rules = _joined(rules, {str(rule.value): value if isinstance(value, tuple) else (value,)})
    return rules


def page() -> str:
    """The whole page."""
    tests: dict[str, list[Marked]] = {}
    for marked in marked_tests():
        tests.setdefault(marked.rule, []).append(marked)
    lines = [INTRODUCTION, "## Abstract behavior", "", "| rule | heading | tests | to come |", "| --- | --- | --- | --- |"]
    for heading in headings():
        covered = "" if heading.group else _tests(tests.get(heading.rule, []), heading.later)
        lines.append(f"| `{heading.rule}` | {heading.title} | {covered} | {heading.later} |")
    lines += ["", "## HTTPS interface and certification", "", "| rule | heading | tests |", "| --- | --- | --- |"]
    lines += [f"| `{one.rule}` | {one.title} | {_tests(tests.get(one.rule, []), '')} |" for one in interface_headings()]
    lines += ["", "## Management canister", "", "| method | tests | to come |", "| --- | --- | --- |"]
    lines += [f"| `{one.title}` | {_tests(tests.get(one.rule, []), one.later)} | {one.later} |" for one in management_methods()]
    lines += ["", "## System API", "", "| function | contexts | tests |", "| --- | --- | --- |"]
    for name, contexts in system_api().items():
        letters = contexts.replace("*", "\\*")
        lines.append(f"| `{name}` | {letters} | {_tests(tests.get(FUNCTION_PREFIX + name, []), '')} |")
    lines += ["", "## Conditions", ""]
    index: dict[str, list[Condition]] = {}
    for condition in conditions():
        index.setdefault(condition.rule, []).append(condition)
    for rule in [*(heading.rule for heading in headings()), *(FUNCTION_PREFIX + name for name in system_api())]:
        if rule in index:
            lines += _conditions_table(rule, index[rule], tests.get(rule, []))
    return "\n".join(lines).rstrip() + "\n"


def _conditions_table(rule: str, rows: list[Condition], marked: list[Marked]) -> list[str]:
    """One rule's conditions."""
    lines = [f"### `{rule}`", "", "| n | condition | code | tests |", "| --- | --- | --- | --- |"]
    for row in rows:
        code = ", ".join(f"`{place}`" for place in row.code)
        found = _tests([one for one in marked if row.n in one.conditions], row.why_no_mutant)
        lines.append(f"| {row.n} | {row.says} | {code} | {found or row.why_no_mutant} |")
    return [*lines, ""]


def _tests(marked: list[Marked], later: str) -> str:
    """Tests by file, each file once."""
    files: dict[str, list[str]] = {}
    for test in marked:
        files.setdefault(test.path, []).append(test.test.removeprefix("test_"))
    if not files:
        return "" if later else "**none**"
    return "; ".join(f"[{Path(path).stem}](../{path}): {', '.join(names)}" for path, names in files.items())


def main() -> int:
    """Write the page; 1 if a test names a rule that doesn't exist."""
    known = known_rules()
    strangers = [marked for marked in marked_tests() if marked.rule not in known]
    for marked in strangers:
        print(f"{marked.path}, {marked.test}: unknown rule {marked.rule!r}; see tests/spec/headings.toml", file=sys.stderr)
    PAGE.write_text(page())
    return 1 if strangers else 0


if __name__ == "__main__":
    sys.exit(main())
