"""Whether values of one Candid type may stand where another is expected.

Rule module. Spec: Candid specification, "Upgrading and Subtyping", "Rules".
"""

from __future__ import annotations

from typing import NamedTuple

from ic_types.candid import types as t
from ic_types.errors import CandidError

MAX_WORK = 1_000_000
"""Pairs of types and fields that one comparison may look at."""


class _Premise(NamedTuple):
    """A pair that must hold, and what it is called inside the pair that asks for it."""

    low: t.Type
    up: t.Type
    name: str


class _Refusal(NamedTuple):
    """Why a pair can't hold."""

    why: str


class _Step(NamedTuple):
    """A pair under way, and the steps that led to it."""

    low: t.Type
    up: t.Type
    name: str
    outer: _Step | None


def is_subtype(lower: t.Type, upper: t.Type) -> bool:
    """`lower <: upper`, read coinductively as recursive types need it.

    Raises: CandidError when the types are too large to compare.
    """
    return Comparison("comparing types").holds(lower, upper)


def incompatibility(lower: t.Type, upper: t.Type, *, strict: bool = False) -> str | None:
    """None when `lower <: upper`, otherwise where and why it isn't: "method get, result 0, field a: text is not nat".

    With `strict`, an `opt` has to hold what is expected inside: values that would read as null although there is something
    are allowed by the rules, but wanted by nobody. Spec: "Options", the note on upgrade checking.

    Raises: CandidError when the types are too large to compare.
    """
    return Comparison("comparing types", strict=strict).refusal(lower, upper)


class Comparison:
    """Decides pairs of types, remembering those that hold; what it looks at in total is bounded."""

    def __init__(self, where: str, *, strict: bool = False) -> None:
        self._where = where
        self._strict = strict
        self._proven: set[tuple[int, int]] = set()
        self._decided: dict[tuple[int, int], bool] = {}
        self._work = MAX_WORK
        self._kept: list[tuple[t.Type, t.Type]] = []  # ids are those of living objects

    def holds(self, lower: t.Type, upper: t.Type) -> bool:
        """Whether `lower <: upper`."""
        key = (id(lower), id(upper))
        if key not in self._decided:
            self._kept.append((lower, upper))
            self._decided[key] = self.refusal(lower, upper) is None
        return self._decided[key]

    def refusal(self, lower: t.Type, upper: t.Type) -> str | None:
        """Why it doesn't hold.

        Every rule asks for all of its premises and any type is a subtype of any `opt`, so one list of open pairs is enough: the
        first pair that fails decides.
        """
        seen: set[tuple[int, int]] = set()
        todo = [_Step(lower, upper, "", None)]
        while todo:
            step = todo.pop()
            low, up = t.resolve(step.low), t.resolve(step.up)
            key = (id(low), id(up))
            if key in seen or key in self._proven:
                continue
            seen.add(key)
            found = _strict_option(low, up) if self._strict and type(up) is t.Opt else _premises(low, up)
            if isinstance(found, _Refusal):
                return _path(step) + found.why
            self._work -= 1 + len(found)
            if self._work < 0:
                raise CandidError(f"{self._where}: comparing the types takes more than {MAX_WORK} steps")
            todo += [_Step(premise.low, premise.up, premise.name, step) for premise in reversed(found)]
        self._proven |= seen
        return None


def _path(step: _Step) -> str:
    names: list[str] = []
    at: _Step | None = step
    while at is not None:
        if at.name:
            names.append(at.name)
        at = at.outer
    return ", ".join(reversed(names)) + ": " if names else ""


def _premises(low: t.Type, up: t.Type) -> list[_Premise] | _Refusal:
    """The pairs that must hold for `low <: up`, or why it can't hold."""
    if low is up or up is t.reserved or low is t.empty or type(up) is t.Opt:
        return []
    match low, up:
        case t.Prim(), t.Prim() if low is t.nat and up is t.int_:
            return []
        case t.Service(), t.Prim() if up is t.principal:
            return []
        case t.Vec(one), t.Vec(other):
            return [_Premise(one, other, "element")]
        case t.Record(fields), t.Record(wanted):
            return _record_premises(fields, wanted)
        case t.Variant(fields), t.Variant(wanted):
            return _variant_premises(fields, wanted)
        case t.Func(), t.Func():
            return _func_premises(low, up)
        case t.Service(methods), t.Service(wanted_methods):
            offered = dict(methods)
            missing = next((name for name, _ in wanted_methods if name not in offered), None)
            if missing is not None:
                return _Refusal(f"method {t.quote_name(missing)} is missing")
            return [_Premise(offered[name], kind, f"method {t.quote_name(name)}") for name, kind in wanted_methods]
    return _Refusal(f"{t.brief(low)} is not {t.brief(up)}")


def _strict_option(low: t.Type, up: t.Opt) -> list[_Premise]:
    """What an optional value is read from, if it isn't to become null."""
    if low is up or low is t.null or low is t.reserved:
        return []
    return [_Premise(low.inner if type(low) is t.Opt else low, up.inner, "")]


def _record_premises(fields: tuple[t.Field, ...], wanted: tuple[t.Field, ...]) -> list[_Premise] | _Refusal:
    offered = {f.id: f.type for f in fields}
    pairs = []
    for field in wanted:
        if field.id in offered:
            pairs.append(_Premise(offered[field.id], field.type, f"field {field.label}"))
        elif not t.nullable(field.type):
            return _Refusal(f"field {field.label} of type {t.brief(field.type)} is missing")
    return pairs


def _variant_premises(fields: tuple[t.Field, ...], wanted: tuple[t.Field, ...]) -> list[_Premise] | _Refusal:
    known = {f.id: f.type for f in wanted}
    pairs = []
    for field in fields:
        if field.id not in known:
            return _Refusal(f"case {field.label} is unknown")
        pairs.append(_Premise(field.type, known[field.id], f"case {field.label}"))
    return pairs


def _func_premises(low: t.Func, up: t.Func) -> list[_Premise] | _Refusal:
    if low.annotations != up.annotations:
        one, other = (" ".join(kind.annotations) or "an update" for kind in (low, up))
        return _Refusal(f"it is {one}, not {other}")
    args = _sequence_premises(up.args, low.args, "argument")
    if isinstance(args, _Refusal):
        return args
    results = _sequence_premises(low.results, up.results, "result")
    return results if isinstance(results, _Refusal) else args + results


def _sequence_premises(low: tuple[t.Type, ...], up: tuple[t.Type, ...], what: str) -> list[_Premise] | _Refusal:
    """Arguments and results follow the rules of tuples."""
    for number, kind in enumerate(up[len(low) :], len(low)):
        if not t.nullable(kind):
            return _Refusal(f"{what} {number} of type {t.brief(kind)} is missing")
    return [_Premise(one, other, f"{what} {number}") for number, (one, other) in enumerate(zip(low, up, strict=False))]
