"""Values of Candid text brought to a type: the one that is asked for, or one inferred from the text.

Rule module. Spec: Candid specification, "Values" and "Coercion"; inference is as the candid tools do it: a number
without annotation is an int, or a float64 where it has a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from ic_types.candid import types as t
from ic_types.candid.encoder import check
from ic_types.candid.lexer import Cursor
from ic_types.candid.subtyping import is_subtype
from ic_types.candid.text_parser import Annotated, Literal, Node, OptNode, RecordNode, Reference, VariantNode, VecNode
from ic_types.candid.values import FuncRef, Some, Value
from ic_types.errors import CandidError

_REFERENCES: dict[str, t.Type] = {"principal": t.principal, "service": t.Service(()), "func": t.Func((), ())}
_NUMBERS = frozenset(t.PRIMITIVES.values()) - {t.null, t.bool_, t.text, t.reserved, t.empty, t.principal}


class TextTyping:
    """Types the values of one text; errors name line and column."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor

    # --- at a given type

    def value(self, node: Node, kind: t.Type) -> Value:
        """The node's value at a type."""
        wanted = t.resolve(kind)
        if isinstance(node, Annotated):
            return self._annotated(node, wanted)
        if wanted is t.reserved:
            return None
        match wanted:
            case t.Opt(inner):
                return self._opt(node, inner)
            case t.Vec(inner):
                return self._vec(node, wanted, inner)
            case t.Record():
                return self._record(node, wanted)
            case t.Variant():
                return self._variant(node, wanted)
            case t.Prim() if isinstance(node, Literal):
                return self._literal(node, wanted)
        if isinstance(node, Reference):
            return self._reference(node, wanted)
        self._mismatch(node, wanted)

    def _annotated(self, node: Annotated, wanted: t.Type) -> Value:
        found = self.value(node.inner, node.type)
        if wanted is t.reserved:
            return None
        if type(wanted) is t.Opt and type(t.resolve(node.type)) is not t.Opt and not t.nullable(node.type):
            return self._opt(node, wanted.inner)
        if not is_subtype(node.type, wanted):
            self.cursor.fail(f"the value is annotated as {node.type}, but {wanted} is expected", node.position)
        return found if node.type == wanted else self.value(node.inner, wanted)

    def _opt(self, node: Node, inner: t.Type) -> Value:
        if isinstance(node, Literal) and node.value is None:
            return None
        found = self.value(node.inner if isinstance(node, OptNode) else node, inner)
        return Some(found) if t.nullable(inner) else found

    def _vec(self, node: Node, wanted: t.Vec, inner: t.Type) -> Value:
        is_blob = t.resolve(inner) is t.nat8
        if isinstance(node, Literal) and isinstance(node.value, bytes):
            items: list[Value] = list(node.value)
            return (
                node.value
                if is_blob
                else [self.value(Annotated(Literal(i, node.position), t.nat8, node.position), inner) for i in items]
            )
        if not isinstance(node, VecNode):
            self._mismatch(node, wanted)
        found = [self.value(item, inner) for item in node.items]
        return bytes(found) if is_blob else found

    def _record(self, node: Node, wanted: t.Record) -> Value:
        if not isinstance(node, RecordNode):
            self._mismatch(node, wanted)
        items = {field.id: item for field, item in node.items}
        found: dict[str, Value] = {}
        for field in wanted.fields:
            if field.id in items:
                found[field.key] = self.value(items[field.id], field.type)
            elif t.nullable(field.type):
                found[field.key] = None
            else:
                self.cursor.fail(f"field {field.label} of type {field.type} is missing in the record", node.position)
        return found

    def _variant(self, node: Node, wanted: t.Variant) -> Value:
        if not isinstance(node, VariantNode):
            self._mismatch(node, wanted)
        for field in wanted.fields:
            if field.id == node.case.id:
                return {field.key: self.value(node.inner, field.type)}
        cases = ", ".join(f.label for f in wanted.fields) or "none"
        self.cursor.fail(f"case {node.case.label} is not one of: {cases}", node.position)

    def _literal(self, node: Literal, wanted: t.Prim) -> Value:
        value = node.value
        if wanted in (t.float32, t.float64) and isinstance(value, int) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError:
                self.cursor.fail(f"the number is too large for {wanted}", node.position)
        try:
            check(wanted, value)
        except CandidError as error:
            if wanted not in _NUMBERS or type(value) not in (int, float):
                self._mismatch(node, wanted)
            self.cursor.fail(str(error), node.position)
        if wanted is t.principal:
            self._mismatch(node, wanted)
        return value

    def _reference(self, node: Reference, wanted: t.Type) -> Value:
        if node.kind == "func" and isinstance(wanted, t.Func):
            return FuncRef(node.canister, node.method)
        if node.kind == "service" and (wanted is t.principal or isinstance(wanted, t.Service)):
            return node.canister
        if node.kind == "principal" and wanted is t.principal:
            return node.canister
        self._mismatch(node, wanted)

    def _mismatch(self, node: Node, wanted: t.Type) -> NoReturn:
        self.cursor.fail(f"expected {wanted}, found {_describe(node)}", node.position)

    # --- at an inferred type

    def infer(self, node: Node) -> t.Type:
        """The type that the text alone suggests."""
        match node:
            case Annotated():
                return node.type
            case Literal(value):
                return _literal_type(value)
            case Reference(kind):
                return _REFERENCES[kind]
            case OptNode(inner):
                return t.Opt(self.infer(inner))
            case VariantNode(case, inner):
                return t.Variant((t.Field(case.id, case.name, self.infer(inner)),))
            case RecordNode(items):
                return t.Record(tuple(t.Field(field.id, field.name, self.infer(item)) for field, item in items))
            case VecNode(items):
                joined: t.Type = t.empty
                for item in items:
                    joined = self._joined(joined, self.infer(item), item)
                return t.Vec(joined)

    def _joined(self, one: t.Type, other: t.Type, node: Node) -> t.Type:
        joined = join(one, other)
        if joined is None:
            self.cursor.fail(f"the elements of a vec have one type; found {other} after {one}", node.position)
        return joined


def join(one: t.Type, other: t.Type) -> t.Type | None:
    """A type that holds the values of both, None when there is none worth having."""
    if one == other or other is t.empty:
        return one
    if one is t.empty:
        return other
    match one, other:
        case t.Prim(), t.Prim() if {one, other} == {t.nat, t.int_}:
            return t.int_
        case t.Opt(left), t.Opt(right):
            inner = join(left, right)
            return None if inner is None else t.Opt(inner)
        case t.Vec(left), t.Vec(right):
            inner = join(left, right)
            return None if inner is None else t.Vec(inner)
        case t.Prim(), t.Opt() if one is t.null:
            return other
        case t.Opt(), t.Prim() if other is t.null:
            return one
        case t.Record(left), t.Record(right) if [f.id for f in left] == [f.id for f in right]:
            fields = _joined_fields(left, right)
            return None if fields is None else t.Record(fields)
        case t.Variant(left), t.Variant(right):
            fields = _joined_fields(left, right)
            return None if fields is None else t.Variant(fields)
    return None


def _joined_fields(left: Sequence[t.Field], right: Sequence[t.Field]) -> tuple[t.Field, ...] | None:
    found = {f.id: f for f in left}
    for field in right:
        inner = join(found[field.id].type, field.type) if field.id in found else field.type
        if inner is None:
            return None
        found[field.id] = t.Field(field.id, field.name, inner)
    return tuple(found[number] for number in sorted(found))


def _literal_type(value: Value) -> t.Type:
    match value:
        case None:
            return t.null
        case bool():
            return t.bool_
        case int():
            return t.int_
        case float():
            return t.float64
        case str():
            return t.text
    return t.blob


def _describe(node: Node) -> str:
    match node:
        case Literal(None):
            return "null"
        case Literal(value):
            shown = repr(value) if not isinstance(value, int) or value.bit_length() < 1000 else "a huge number"
            return f"{_literal_type(value)} {shown if len(shown) < 60 else shown[:57] + '...'}"
        case Reference(kind):
            return f"a {kind}"
        case OptNode():
            return "an opt"
        case VecNode():
            return "a vec"
        case RecordNode():
            return "a record"
        case VariantNode():
            return "a variant"
    return "an annotated value"
