"""Random programs, counted by the module itself and by a slow interpreter that was written from the rules alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.wasm.instrumentation import COUNTER
from tests.support.metered import Metered

COSTS = {
    "i32.const": 1,
    "local.get": 1,
    "local.set": 1,
    "local.tee": 1,
    "i32.add": 1,
    "i32.sub": 1,
    "i32.div_u": 10,
    "drop": 1,
    "nop": 1,
    "return": 1,
    "if": 2,
    "br": 2,
    "br_if": 2,
    "br_table": 2,
    "call": 5,
    "global.get": 2,
    "global.set": 2,
    "memory.size": 20,
    "memory.fill": 100,
    "memory.copy": 100,
    "memory.grow": 300,
    "block": 0,
    "loop": 0,
    "else": 0,
    "end": 0,
}
SLICE = 400
Op = tuple[Any, ...]
LOCALS = 3
"""Locals 0 and 1 hold values, those from 2 on count the turns of loops by their depth."""


@dataclass
class Oracle:
    """Interprets functions (lists of operators) and charges at injection points."""

    functions: list[list[Op]]
    counter: int = SLICE
    negative: list[int] = field(default_factory=list)
    """The counter each time it was found exhausted."""
    memory_pages: int = 1
    value: int = 0
    """The global."""

    def check(self) -> None:
        """Ask for a further slice when exhausted."""
        if self.counter < 0:
            self.negative.append(self.counter)
            self.counter = SLICE

    def points(self, body: list[Op]) -> dict[int, list[tuple[str, int]]]:
        """Injection points by position; equal positions in the order in which blocks were closed."""
        found: list[tuple[int, str, int]] = []
        position, kind, cost = 0, "entry", 1
        for k, (name, *_) in enumerate(body):
            cost += COSTS[name]
            if name in ("memory.fill", "memory.copy"):
                found.append((k, "size", 0))
            elif name in ("loop", "if", "else", "end", "br", "br_if", "br_table", "return"):
                found.append((position, kind, cost))
                position, kind, cost = k + 1, "entry" if name == "loop" else "plain", 0
        found.sort(key=lambda one: one[0])
        by_position: dict[int, list[tuple[str, int]]] = {}
        for at, what, amount in found:
            if what != "plain" or amount:
                by_position.setdefault(at, []).append((what, amount))
        return by_position

    def run(self, index: int) -> None:
        """Execute a function without parameters and results."""
        body = self.functions[index]
        points, ends, elses = self.points(body), *_matches(body)
        locals_ = [0] * 10
        stack: list[int] = []
        labels: list[int] = []  # where a branch to the label goes on
        pc = 0
        while pc < len(body):
            for what, amount in points.get(pc, ()):
                self.counter -= stack[-1] if what == "size" else amount
                if what != "plain":
                    self.check()
            name, *arguments = body[pc]
            pc += 1
            match name:
                case "i32.const":
                    stack.append(arguments[0])
                case "local.get":
                    stack.append(locals_[arguments[0]])
                case "local.set":
                    locals_[arguments[0]] = stack.pop()
                case "local.tee":
                    locals_[arguments[0]] = stack[-1]
                case "global.get":
                    stack.append(self.value)
                case "global.set":
                    self.value = stack.pop()
                case "i32.add" | "i32.sub" | "i32.div_u":
                    right, left = stack.pop(), stack.pop()
                    result = left + right if name == "i32.add" else left - right if name == "i32.sub" else left // right
                    stack.append(result & 0xFFFFFFFF)
                case "drop":
                    stack.pop()
                case "memory.size":
                    stack.append(self.memory_pages)
                case "memory.grow":
                    stack.append(self.memory_pages)
                    self.memory_pages += stack.pop(-2)
                case "memory.fill" | "memory.copy":
                    del stack[-3:]
                case "call":
                    self.run(arguments[0])
                case "block":
                    labels.append(ends[pc - 1] + 1)
                case "loop":
                    labels.append(-pc)
                case "if":
                    labels.append(ends[pc - 1] + 1)
                    if not stack.pop():
                        # Past the `else`, or to the `end`.
                        pc = elses[pc - 1] + 1 if pc - 1 in elses else ends[pc - 1]
                case "else":
                    pc = ends[pc - 1]
                case "end":
                    if labels:
                        labels.pop()
                case "return":
                    return
                case "br" | "br_if" | "br_table":
                    depth = arguments[0]
                    if name == "br_table":
                        depth = arguments[min(stack.pop(), len(arguments) - 1)]
                    if name == "br_if" and not stack.pop():
                        continue
                    if depth == len(labels):
                        return
                    target = labels[-1 - depth]
                    del labels[len(labels) - depth :]
                    if target > 0:
                        labels.pop()
                    pc = abs(target)


def _matches(body: list[Op]) -> tuple[dict[int, int], dict[int, int]]:
    """Position of the `end`, and of the `else`, of the structure that opens (or continues) at a position."""
    ends: dict[int, int] = {}
    elses: dict[int, int] = {}
    opened: list[list[int]] = []
    for k, (name, *_) in enumerate(body):
        if name in ("block", "loop", "if"):
            opened.append([k])
        elif name == "else":
            elses[opened[-1][0]] = k
            opened[-1].append(k)
        elif name == "end" and opened:
            for start in opened.pop():
                ends[start] = k
    return ends, elses


@st.composite
def _statements(draw: st.DrawFn, depth: int, labels: tuple[str, ...], functions: int) -> list[Op]:
    """A sequence of statements; branches go forward only, so that everything ends."""
    ops: list[Op] = []
    forward = [k for k, label in enumerate(reversed(labels)) if label != "loop"] + [len(labels)]
    for _ in range(draw(st.integers(0, 4))):
        kinds = ["nop", "value", "global", "fill", "grow", "size", "branch", "return"]
        kinds += ["call"] * (functions > 0) + ["block", "if", "loop"] * (depth < 3)
        kind = draw(st.sampled_from(kinds))
        small = draw(st.integers(0, 3))
        nested = st.deferred(lambda d=depth, k=kind: _statements(d + 1, (*labels, k), functions))  # type: ignore[misc]
        match kind:
            case "nop":
                ops.append(("nop",))
            case "value":
                ops += [("local.get", 0), ("i32.const", small + 1), ("i32.div_u",), ("local.set", draw(st.integers(0, 1)))]
            case "global":
                ops += [("global.get", 0), ("i32.const", small), ("i32.add",), ("local.tee", 0), ("global.set", 0)]
            case "fill":
                name = draw(st.sampled_from(["memory.fill", "memory.copy"]))
                ops += [("i32.const", 0), ("i32.const", 7), ("i32.const", draw(st.integers(0, 900))), (name,)]
            case "grow":
                ops += [("i32.const", small), ("memory.grow",), ("drop",)]
            case "size":
                ops += [("memory.size",), ("local.set", 1)]
            case "call":
                ops.append(("call", draw(st.integers(0, functions - 1))))
            case "branch":
                targets = [draw(st.sampled_from(forward)) for _ in range(small + 1)]
                name = draw(st.sampled_from(["br_if", "br_table", "br"]))
                ops += [("local.get", 1)] if name != "br" else []
                ops.append((name, *(targets if name == "br_table" else targets[:1])))
            case "return":
                ops += [("local.get", 0), ("if",), ("return",), ("end",)]
            case "block":
                ops += [("block",), *draw(nested), ("end",)]
            case "if":
                ops += [("local.get", 0), ("if",), *draw(nested), ("else",), *draw(nested), ("end",)]
            case "loop":
                turns = 2 + depth
                ops += [("i32.const", small + 1), ("local.set", turns), ("loop",), *draw(nested)]
                ops += [("local.get", turns), ("i32.const", 1), ("i32.sub",), ("local.tee", turns), ("br_if", 0), ("end",)]
    return ops


@st.composite
def _programs(draw: st.DrawFn) -> list[list[Op]]:
    """Up to three functions, each calling only earlier ones."""
    return [[*draw(_statements(0, (), k)), ("end",)] for k in range(draw(st.integers(1, 3)))]


def _text(functions: list[list[Op]]) -> str:
    """The program as a text module whose last function is `f`."""
    parts = []
    for k, body in enumerate(functions):
        export = '(export "f")' if k == len(functions) - 1 else ""
        source = " ".join(" ".join(map(str, op)) for op in body[:-1])
        parts.append(f"(func {export} (local i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) {source})")
    return f"(module (memory 1) (global (mut i32) (i32.const 0)) {' '.join(parts)})"


@given(_programs())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_counts_equal_an_independent_interpreter(functions: list[list[Op]]) -> None:
    """The counter's every exhausted value and its final one agree."""
    oracle = Oracle(functions)
    oracle.run(len(functions) - 1)
    module = Metered(_text(functions))
    negative: list[int] = []

    def out_of_instructions() -> None:
        negative.append(module.get(COUNTER))
        module.set(COUNTER, SLICE)

    module.out_of_instructions = out_of_instructions
    module.set(COUNTER, SLICE)
    module.run("f")
    assert (negative, module.get(COUNTER)) == (oracle.negative, oracle.counter)
