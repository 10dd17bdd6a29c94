"""House rules that no public linter knows: layers, sizes, banned names, docstrings."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ic_types", "configs", "sandbox", "xnet", "message_routing", "scheduler", "subnet")
RULE_ROOMS = ("xnet", "message_routing", "scheduler", "subnet/state", "subnet/certification", "subnet/management")

BELOW: dict[str, tuple[str, ...]] = {
    "ic_types": (),
    "configs": ("ic_types",),
    "sandbox": ("configs", "ic_types"),
    "xnet": ("configs", "ic_types"),
    "message_routing": ("xnet", "configs", "ic_types"),
    "scheduler": ("message_routing", "sandbox", "configs", "ic_types"),
}
RULES = ("scheduler", "message_routing", "xnet", "sandbox", "configs", "ic_types")
BELOW["subnet.account"] = ("ic_types",)
BELOW["subnet.protocol"] = ("configs", "ic_types", "subnet.account")
BELOW["subnet.certification"] = (*RULES, "subnet.account", "subnet.protocol")
BELOW["subnet.management"] = RULES
BELOW["subnet.authentication"] = (*RULES, "subnet.certification", "subnet.protocol")
BELOW["subnet.state"] = (*RULES, "subnet.certification", "subnet.management", "subnet.account", "subnet.protocol")
SHARED = (
    "subnet.account",
    "subnet.protocol",
    "subnet.control",
    "subnet.control_protocol",
    "subnet.identities",
    "subnet.network_config",
    "subnet.outcall_protocol",
    "subnet.process_tools",
    "subnet.random_tape",
    "subnet.zygote_protocol",
)
PROCESS = (*RULES, "subnet.authentication", "subnet.state", "subnet.certification", "subnet.management", *SHARED)
BELOW["subnet.node"] = PROCESS
BELOW["subnet.coordinator"] = PROCESS
BELOW["subnet.gateway"] = PROCESS

BANNED: dict[str, str] = {
    "time": "take batch time as an argument",
    "datetime": "take batch time as an argument",
    "random": "take the round's random tape as an argument",
    "uuid": "take the round's random tape as an argument",
    "secrets": "take the round's random tape as an argument",
    "os": "rule modules do no I/O",
    "socket": "rule modules do no I/O",
    "threading": "rule modules do no I/O",
}


def modules() -> list[Path]:
    """Every module of ours outside the tests, relative to the root."""
    return [p.relative_to(ROOT) for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]


def room(path: Path) -> str:
    """`scheduler` for scheduler/x.py, `subnet.node` for subnet/node/x.py, `subnet.x` for subnet/x.py."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] == "subnet" else parts[0]


def imports(tree: ast.Module) -> list[str]:
    """Dotted names that a module imports."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "subnet":
            names += [f"subnet.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def parse(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse((ROOT / path).read_text())


def test_packages_import_only_from_below() -> None:
    """A room imports only rooms below it, as ARCHITECTURE.md's layer table says."""
    wrong = []
    for path in modules():
        here = room(path)
        allowed = BELOW.get(here)
        if allowed is None:  # zygote, lab, cli: the top of the house
            continue
        for name in imports(parse(path)):
            parts = name.split(".")
            if parts[0] not in PACKAGES:
                continue
            there = ".".join(parts[:2]) if parts[0] == "subnet" else parts[0]
            if there not in (here, *allowed):
                wrong.append(f"{path} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_tests() -> None:
    """Tests are a leaf."""
    assert not [p for p in modules() if any(n.split(".")[0] == "tests" for n in imports(parse(p)))]


def documented_names() -> set[str]:
    """Names of functions that have a docstring anywhere: an override needn't repeat it."""
    trees = [parse(path) for path in modules()]
    functions = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {node.name for node in functions if ast.get_docstring(node)}


def undocumented(node: ast.AST, known: set[str], inherits: bool = False) -> list[ast.FunctionDef | ast.ClassDef]:
    """Public classes, functions and methods without a docstring; local functions, setters and overrides may lack one."""
    bare: list[ast.FunctionDef | ast.ClassDef] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            setter = any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in child.decorator_list)
            excused = setter or (inherits and child.name in known)
            if ast.get_docstring(child) is None and not excused:
                bare.append(child)
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            bare += undocumented(child, known, inherits=bool(child.bases))
    return bare


def test_every_module_and_public_function_has_a_docstring() -> None:
    """Someone who opens a module learns what it is for."""
    known = documented_names()
    bare = []
    for path in modules():
        tree = parse(path)
        if ast.get_docstring(tree) is None:
            bare.append(str(path))
        bare += [f"{path}:{node.lineno} {node.name}" for node in undocumented(tree, known)]
    assert not bare, "\n".join(bare)


def test_modules_stay_small() -> None:
    """A module fits the head: 400 lines at most (300 is the aim)."""
    long = [(p, n) for p in modules() if (n := len((ROOT / p).read_text().splitlines())) > 400]
    assert not long, "\n".join(f"{p}: {n} lines" for p, n in long)


def test_package_inits_hold_only_their_docstring() -> None:
    """`__init__` says the package's room and nothing else."""
    inits = [p for p in modules() if p.name == "__init__.py"]
    assert inits
    for path in inits:
        body = parse(path).body
        assert len(body) == 1, f"{path} holds more than its docstring"


@pytest.mark.parametrize("folder", RULE_ROOMS)
def test_rule_rooms_take_no_clock_randomness_or_io(folder: str) -> None:
    """Inside a node everything comes from the batch."""
    wrong = []
    for path in modules():
        if not str(path).startswith(folder + "/"):
            continue
        found = (name for name in imports(parse(path)) if name in BANNED)
        wrong += [f"{path} imports {name}: {BANNED[name]}" for name in found]
    assert not wrong, "\n".join(wrong)


def test_names_of_test_files_are_unique() -> None:
    """Test folders are no packages, so two files of one name can't be collected together."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in sorted(names.items()) if count > 1] == []
