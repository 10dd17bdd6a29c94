"""ARCHITECTURE.md says where a message goes; every file and function it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.support.twelve_steps import STEPS

ROOT = Path(__file__).resolve().parents[2]


def test_there_are_twelve_steps() -> None:
    """The page keeps its promise."""
    assert len(STEPS) == 12


def test_every_step_names_a_function_that_exists() -> None:
    """File and function of each step are there."""
    for path, function in STEPS:
        tree = ast.parse((ROOT / path).read_text())
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert function in names, f"{path} has no function {function}"


def test_every_linked_file_exists() -> None:
    """No link of the page is dead."""
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "ARCHITECTURE.md").read_text())
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing, missing
