"""The index of the specification's conditions: what each rule demands, which code does it, how to break that code.

Plumbing. The index is tests/spec/conditions/*.toml: every condition has the `rule` it belongs to, its number `n` in that
rule, a short text of our own (`says`) and the `code` that implements it (`path:function`). Each of its `mutant`s replaces a
snippet of that code that occurs exactly once (`find`) by one without the condition (`put`); a condition that no code of ours
could break says `why_no_mutant`. `tools.mutants` applies them one by one.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / "tests" / "spec" / "conditions"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to break a condition."""

    path: str
    """Of the module, relative to the project."""
    find: str
    put: str

    def apply(self, source: str) -> str:
        """The module's text without the condition.

        Raises: ValueError when the snippet isn't found exactly once, or changes nothing.
        """
        count = source.count(self.find)
        if count != 1:
            raise ValueError(f"{self.path}: this snippet is found {count} times instead of once:\n{self.find}")
        if self.find == self.put:
            raise ValueError(f"{self.path}: this snippet is replaced by itself:\n{self.find}")
        return source.replace(self.find, self.put)


@dataclass(frozen=True, slots=True)
class Condition:
    """One demand of a rule."""

    rule: str
    n: int
    says: str
    code: tuple[str, ...]
    """`path:function` each."""
    mutants: tuple[Mutant, ...]
    why_no_mutant: str = ""

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.rule} {self.n}"


def conditions() -> list[Condition]:
    """The whole index: files by name, conditions in their order.

    Raises: ValueError naming file and condition where a key is missing or unknown.
    """
    found: list[Condition] = []
    for path in sorted(INDEX.glob("*.toml")):
        for row in tomllib.loads(path.read_text()).get("condition", []):
            try:
                found.append(_condition(row))
            except (KeyError, TypeError) as error:
                raise ValueError(f"{path.name}: condition {row.get('rule')} {row.get('n')}: {error}") from None
    return found


def _condition(row: dict[str, object]) -> Condition:
    row = dict(row)
    code = row.pop("code")
    places = (code,) if isinstance(code, str) else tuple(code)  # type: ignore[arg-type]
    mutants = tuple(_mutant(one, places[0]) for one in row.pop("mutant", []))  # type: ignore[attr-defined]
    return Condition(code=places, mutants=mutants, **row)  # type: ignore[arg-type]


def _mutant(row: dict[str, str], place: str) -> Mutant:
    return Mutant(row.get("path", place.partition(":")[0]), row["find"], row["put"])


def functions(path: str) -> set[str]:
    """Names that `code` may give in this module: functions, `Class.method`, and names assigned at the top."""
    return set(_names(ast.parse((ROOT / path).read_text()), ""))


def _names(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _names(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign):
            yield from (prefix + target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id
