"""Whether values of one Candid type may stand where another is expected.

Rule module. Spec: Candid specification, "Upgrading and Subtyping", "Rules".
"""

from __future__ import annotations

from ic_types.candid import types as t


def is_subtype(lower: t.Type, upper: t.Type) -> bool:
    """`lower <: upper`, read coinductively as recursive types need it.

    Every rule asks for all of its premises and any type is a subtype of any `opt`, so one list of open pairs is
    enough: the first pair that fails decides.
    """
    seen: set[tuple[int, int]] = set()
    todo = [(lower, upper)]
    while todo:
        low, up = map(t.resolve, todo.pop())
        if (id(low), id(up)) in seen:
            continue
        seen.add((id(low), id(up)))
        more = _premises(low, up)
        if more is None:
            return False
        todo += more
    return True


def _premises(low: t.Type, up: t.Type) -> list[tuple[t.Type, t.Type]] | None:
    """The pairs that must hold for `low <: up`; None when it can't hold."""
    if low is up or up is t.reserved or low is t.empty or type(up) is t.Opt:
        return []
    match low, up:
        case t.Prim(), t.Prim():
            return [] if low is t.nat and up is t.int_ else None
        case t.Service(), t.Prim():
            return [] if up is t.principal else None
        case t.Vec(one), t.Vec(other):
            return [(one, other)]
        case t.Record(fields), t.Record(wanted):
            return _record_premises({f.id: f.type for f in fields}, {f.id: f.type for f in wanted})
        case t.Variant(fields), t.Variant(wanted):
            known = {f.id: f.type for f in wanted}
            return [(f.type, known[f.id]) for f in fields] if all(f.id in known for f in fields) else None
        case t.Func(), t.Func():
            if low.annotations != up.annotations:
                return None
            args = _record_premises(dict(enumerate(up.args)), dict(enumerate(low.args)))
            results = _record_premises(dict(enumerate(low.results)), dict(enumerate(up.results)))
            return None if args is None or results is None else args + results
        case t.Service(methods), t.Service(wanted):
            offered = dict(methods)
            return [(offered[name], kind) for name, kind in wanted] if all(n in offered for n, _ in wanted) else None
    return None


def _record_premises(low: dict[int, t.Type], up: dict[int, t.Type]) -> list[tuple[t.Type, t.Type]] | None:
    pairs = []
    for number, kind in up.items():
        if number in low:
            pairs.append((low[number], kind))
        elif not t.nullable(kind):
            return None
    return pairs
