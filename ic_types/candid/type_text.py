"""Candid types as text: in annotations of values and in service files.

Rule module. Spec: Candid specification, "Core Grammar" and "Syntactic Shorthands".
"""

from __future__ import annotations

from collections.abc import Callable

from ic_types.candid import types as t
from ic_types.candid.lexer import MAX_TEXT_DEPTH, Cursor, Kind, Token
from ic_types.errors import CandidError

Lookup = Callable[[Token], t.Type]
"""Turns a name that is no primitive type into a type, or fails."""


class TypeParser:
    """Reads types from a cursor."""

    def __init__(self, cursor: Cursor, lookup: Lookup | None = None) -> None:
        self.cursor = cursor
        self.lookup = lookup or self._unknown

    def type(self, depth: int = 0) -> t.Type:
        """One type."""
        cursor = self.cursor
        if depth > MAX_TEXT_DEPTH:
            cursor.fail(f"types are nested deeper than {MAX_TEXT_DEPTH} levels")
        if cursor.token.kind is not Kind.ID:
            cursor.fail(f"expected a type, found {cursor.shown()}")
        token = cursor.take()
        match token.text:
            case "opt":
                return t.Opt(self.type(depth + 1))
            case "vec":
                return t.Vec(self.type(depth + 1))
            case "blob":
                return t.blob
            case "record":
                return t.Record(self._fields(depth, is_record=True))
            case "variant":
                return t.Variant(self._fields(depth, is_record=False))
            case "func":
                return self.func(depth)
            case "service":
                return self.service(depth)
        return t.PRIMITIVES.get(token.text) or self.lookup(token)

    def func(self, depth: int = 0) -> t.Func:
        """A function type after the word func: `(A, B) -> (C) query`."""
        args = self.args(depth)
        self.cursor.expect("->")
        start = self.cursor.token.position
        results = self.args(depth)
        found = []
        while self.cursor.token.kind is Kind.ID and self.cursor.token.text in t.ANNOTATIONS:
            found.append(self.cursor.take().text)
        try:
            return t.func(args, results, *found)
        except CandidError as error:
            self.cursor.fail(str(error), start)

    def args(self, depth: int = 0) -> list[t.Type]:
        """`(A, name : B)`; names only document."""
        cursor = self.cursor
        cursor.expect("(")
        found: list[t.Type] = []
        names: list[str] = []
        while not cursor.at(")"):
            if cursor.token.kind in (Kind.ID, Kind.TEXT) and cursor.ahead(":"):
                token = cursor.take()
                name = self._name(token)
                if name in names:
                    cursor.fail(f"the name {name} stands twice", token.position)
                names.append(name)
                cursor.expect(":")
            found.append(self.type(depth + 1))
            if not cursor.accept(","):
                break
        cursor.expect(")")
        return found

    def service(self, depth: int = 0) -> t.Service:
        """The methods of a service: `{ name : (A) -> (B) query; ... }`."""
        cursor = self.cursor
        cursor.expect("{")
        methods: dict[str, t.Type] = {}
        while not cursor.at("}"):
            token = cursor.take()
            name = self._name(token)
            if name in methods:
                cursor.fail(f"method {name} stands twice", token.position)
            cursor.expect(":")
            methods[name] = self.func(depth + 1) if cursor.at("(") else self._named_func()
            if not cursor.accept(";"):
                break
        cursor.expect("}")
        return t.service(methods)

    def _named_func(self) -> t.Type:
        token = self.cursor.take()
        if token.kind is not Kind.ID or token.text in t.RESERVED_WORDS:
            self.cursor.fail("expected a function type or the name of one", token.position)
        return self.lookup(token)

    def _fields(self, depth: int, *, is_record: bool) -> tuple[t.Field, ...]:
        cursor = self.cursor
        start = cursor.token.position
        cursor.expect("{")
        found: list[t.Field] = []
        following = 0
        while not cursor.at("}"):
            field = self._field(depth, following, is_record)
            following = field.id + 1
            found.append(field)
            if not cursor.accept(";"):
                break
        cursor.expect("}")
        try:
            return t.sorted_fields(found)
        except CandidError as error:
            cursor.fail(str(error), start)

    def _field(self, depth: int, following: int, is_record: bool) -> t.Field:
        cursor = self.cursor
        if is_record and not cursor.ahead(":"):
            position = cursor.token.position
            kind = self.type(depth + 1)
            if following > t.MAX_FIELD_ID:
                cursor.fail(f"field number {following} is outside 0..{t.MAX_FIELD_ID}", position)
            return t.Field(following, None, kind)
        label = self.label()
        kind = self.type(depth + 1) if cursor.accept(":") else t.null
        return t.Field(label.id, label.name, kind)

    def label(self) -> t.Field:
        """A field's name or number, as a field of type null."""
        cursor = self.cursor
        token = cursor.take()
        if token.kind is Kind.INT:
            number = cursor.integer(token)
            if number > t.MAX_FIELD_ID:
                cursor.fail(f"field number {token.text} is outside 0..{t.MAX_FIELD_ID}", token.position)
            return t.Field(number, None, t.null)
        name = self._name(token)
        return t.Field(t.field_id(name), name, t.null)

    def _name(self, token: Token) -> str:
        if token.kind is Kind.TEXT:
            return self.cursor.decoded(token)
        if token.kind is not Kind.ID:
            self.cursor.fail(f"expected a name, found {token.text!r}" if token.text else "expected a name", token.position)
        if token.text in t.RESERVED_WORDS:
            self.cursor.fail(
                f'{token.text} is a word of the language; write "{token.text}" to use it as a name', token.position
            )
        return token.text

    def _unknown(self, token: Token) -> t.Type:
        self.cursor.fail(f"type {token.text!r} is unknown here", token.position)
