"""Candid text to a tree of values whose types are still open.

Rule module. Spec: Candid specification, "Values": the syntax does not describe itself, types come from the context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from ic_types.candid import types as t
from ic_types.candid.lexer import MAX_TEXT_DEPTH, Cursor, Kind, Token
from ic_types.candid.type_text import TypeParser
from ic_types.errors import InvalidPrincipal
from ic_types.principal import Principal


@dataclass(frozen=True, slots=True)
class Literal:
    """null, a bool, a number, a text or a blob."""

    value: bool | int | float | str | bytes | None
    position: int


@dataclass(frozen=True, slots=True)
class Reference:
    """A principal, service or function."""

    kind: str
    canister: Principal
    method: str
    position: int


@dataclass(frozen=True, slots=True)
class OptNode:
    """`opt value`."""

    inner: Node
    position: int


@dataclass(frozen=True, slots=True)
class VecNode:
    """`vec { ... }`."""

    items: tuple[Node, ...]
    position: int


@dataclass(frozen=True, slots=True)
class RecordNode:
    """`record { ... }`; each item is the field (of type null) and its value."""

    items: tuple[tuple[t.Field, Node], ...]
    position: int


@dataclass(frozen=True, slots=True)
class VariantNode:
    """`variant { case = value }`."""

    case: t.Field
    inner: Node
    position: int


@dataclass(frozen=True, slots=True)
class Annotated:
    """`value : type`."""

    inner: Node
    type: t.Type
    position: int


Node: TypeAlias = "Literal | Reference | OptNode | VecNode | RecordNode | VariantNode | Annotated"


def parse_args(text: str, name: str) -> tuple[Cursor, list[Node]]:
    """The values of `( ... )` and the cursor, by which later errors find line and column.

    Raises: CandidError naming line and column.
    """
    cursor = Cursor(text, name)
    if not cursor.at("("):
        cursor.fail(f'arguments stand in parentheses, such as (5, "text"); found {cursor.shown()}')
    cursor.take()
    parser = _ValueParser(cursor)
    found: list[Node] = []
    while not cursor.at(")"):
        found.append(parser.value(0))
        if not cursor.accept(","):
            break
    cursor.expect(")")
    if cursor.token.kind is not Kind.END:
        cursor.fail(f"expected the end of the text after the arguments, found {cursor.shown()}")
    return cursor, found


class _ValueParser:
    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.types = TypeParser(cursor)

    def value(self, depth: int, *, annotated: bool = True) -> Node:
        """One value, with its annotation where the grammar allows one."""
        cursor = self.cursor
        if depth > MAX_TEXT_DEPTH:
            cursor.fail(f"values are nested deeper than {MAX_TEXT_DEPTH} levels")
        node = self._plain(cursor.take(), depth)
        if annotated and cursor.at(":"):
            position = cursor.take().position
            node = Annotated(node, self.types.type(), position)
        return node

    def _plain(self, token: Token, depth: int) -> Node:
        at = token.position
        match token.kind:
            case Kind.TEXT:
                return Literal(self.cursor.decoded(token), at)
            case Kind.INT:
                return Literal(self.cursor.integer(token), at)
            case Kind.FLOAT:
                return Literal(self.cursor.floating(token), at)
            case Kind.ID:
                return self._word(token, depth)
            case Kind.PUNCT if token.text in "+-":
                return self._signed(token)
            case Kind.PUNCT if token.text == "(":
                node = self.value(depth + 1)
                self.cursor.expect(")")
                return node
        self.cursor.fail(f"expected a value, found {token.text!r}" if token.text else "expected a value, found the end", at)

    def _signed(self, token: Token) -> Node:
        number = self.cursor.take()
        negative = token.text == "-"
        if number.kind is Kind.INT:
            return Literal(self.cursor.integer(number, negative), token.position)
        if number.kind is Kind.FLOAT:
            return Literal(self.cursor.floating(number, negative), token.position)
        if number.text == "inf":
            return Literal(-math.inf if negative else math.inf, token.position)
        self.cursor.fail(f"expected a number after {token.text!r}", number.position)

    def _word(self, token: Token, depth: int) -> Node:
        at = token.position
        match token.text:
            case "null":
                return Literal(None, at)
            case "true" | "false":
                return Literal(token.text == "true", at)
            case "opt":
                return OptNode(self.value(depth + 1, annotated=False), at)
            case "vec":
                return self._vec(at, depth)
            case "record":
                return self._record(at, depth)
            case "variant":
                return self._variant(at, depth)
            case "blob":
                return Literal(self._text("blob").data, at)
            case "principal" | "service" | "func":
                return self._reference(token)
            case "inf" | "NaN":  # not in the grammar, but what answers show must read back
                return Literal(float(token.text), at)
        self.cursor.fail(f"{token.text!r} is no value; texts stand in quotes", at)

    def _vec(self, at: int, depth: int) -> Node:
        cursor = self.cursor
        cursor.expect("{")
        items: list[Node] = []
        while not cursor.at("}"):
            items.append(self.value(depth + 1))
            if not cursor.accept(";"):
                break
        cursor.expect("}")
        return VecNode(tuple(items), at)

    def _record(self, at: int, depth: int) -> Node:
        cursor = self.cursor
        cursor.expect("{")
        items: dict[int, tuple[t.Field, Node]] = {}
        following = 0
        while not cursor.at("}"):
            position = cursor.token.position
            field = t.Field(following, None, t.null)
            if cursor.ahead("="):
                field = self.types.label()
                cursor.expect("=")
            if field.id in items:
                cursor.fail(f"field {field.label} stands twice in the record", position)
            if field.id > t.MAX_FIELD_ID:
                cursor.fail(f"field number {field.id} is outside 0..{t.MAX_FIELD_ID}", position)
            items[field.id] = (field, self.value(depth + 1))
            following = field.id + 1
            if not cursor.accept(";"):
                break
        cursor.expect("}")
        return RecordNode(tuple(items[number] for number in sorted(items)), at)

    def _variant(self, at: int, depth: int) -> Node:
        cursor = self.cursor
        cursor.expect("{")
        if cursor.at("}"):
            cursor.fail("a variant holds exactly one case, such as variant { ok = 1 }")
        case = self.types.label()
        inner: Node = Literal(None, cursor.token.position)
        if cursor.accept("="):
            inner = self.value(depth + 1)
        cursor.expect("}")
        return VariantNode(case, inner, at)

    def _reference(self, token: Token) -> Node:
        cursor = self.cursor
        text = self._text(token.text)
        method = ""
        if token.text == "func":
            cursor.expect(".")
            name = cursor.take()
            if name.kind not in (Kind.ID, Kind.TEXT):
                cursor.fail("expected the name of a method", name.position)
            method = cursor.decoded(name) if name.kind is Kind.TEXT else name.text
        try:
            return Reference(token.text, Principal.from_text(cursor.decoded(text)), method, token.position)
        except InvalidPrincipal as error:
            cursor.fail(str(error), text.position)

    def _text(self, what: str) -> Token:
        token = self.cursor.take()
        if token.kind is not Kind.TEXT:
            self.cursor.fail(f"expected a text in quotes after {what}", token.position)
        return token
