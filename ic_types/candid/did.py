"""Service files (`.did`): named types, imports, and the service with its methods and init arguments.

Rule module, but for `load_did`, which reads files. Spec: Candid specification, "Core Grammar", "Imports".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ic_types.candid import types as t
from ic_types.candid.lexer import Cursor, Kind, Token
from ic_types.candid.type_text import TypeParser
from ic_types.errors import CandidError

Reader = Callable[[str], "tuple[str, Reader]"]
"""Gives the text of an imported file and the reader for that file's own imports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DidFile:
    """What a service file declares."""

    types: dict[str, t.Type]
    service: t.Service | None
    init: tuple[t.Type, ...] = ()
    """The service constructor's parameters; empty for a plain service."""

    def method(self, name: str) -> t.Func:
        """The type of a method.

        Raises: CandidError naming the methods there are.
        """
        methods = dict(self.service.methods) if self.service else {}
        kind = t.resolve(methods[name]) if name in methods else None
        if isinstance(kind, t.Func):
            return kind
        raise CandidError(f"the service has no method {name!r}; its methods are: {', '.join(methods) or 'none'}")


def load_did(path: Path) -> DidFile:
    """Parse a service file and what it imports.

    Raises: CandidError naming file, line and column.
    """
    text, reader = _file_reader(path.parent)(path.name)
    return parse_did(text, str(path), reader)


def parse_did(text: str, name: str = "service file", reader: Reader | None = None) -> DidFile:
    """Parse the text of a service file; `reader` serves its imports.

    Raises: CandidError naming file, line and column.
    """
    return _Program(reader).parse(text, name)


def _file_reader(folder: Path) -> Reader:
    def _read(name: str) -> tuple[str, Reader]:
        path = folder / name
        try:
            return path.read_text(encoding="utf-8"), _file_reader(path.parent)
        except (OSError, UnicodeDecodeError) as error:
            raise CandidError(f"{path} can't be read: {error}") from None

    return _read


class _Program:
    """One service file with all that it imports."""

    def __init__(self, reader: Reader | None) -> None:
        self.reader = reader
        self.types: dict[str, t.Rec] = {}
        self.used: list[tuple[t.Rec, Cursor, Token]] = []
        self.imported: set[str] = set()

    def parse(self, text: str, name: str) -> DidFile:
        """The main file and all imports."""
        init, service = self._file(Cursor(text, name), self.reader)
        for rec, cursor, token in self.used:
            if rec.target is None:
                known = ", ".join(n for n, r in self.types.items() if r.target is not None) or "none"
                cursor.fail(f"type {rec.name!r} is not defined; defined are: {known}", token.position)
        for rec, cursor, token in self.used:
            try:
                t.resolve(rec)
            except CandidError as error:
                cursor.fail(str(error), token.position)
        if service is not None:
            self._check_methods(service, name)
        return DidFile(types=dict(self.types), service=service, init=init)

    def _file(self, cursor: Cursor, reader: Reader | None) -> tuple[tuple[t.Type, ...], t.Service | None]:
        """One file's definitions; returns init parameters and service."""
        methods: dict[str, t.Type] = {}
        parser = TypeParser(cursor, lambda token: self._lookup(cursor, token))
        while cursor.at("type") or cursor.at("import"):
            if cursor.accept("type"):
                self._define(cursor, parser)
            else:
                cursor.take()
                methods |= self._import(cursor, reader)
            if not cursor.accept(";"):
                break
        init: tuple[t.Type, ...] = ()
        found = False
        if cursor.accept("service"):
            found = True
            init, own = self._service(cursor, parser)
            if both := sorted(set(own) & set(methods)):
                cursor.fail(f"method {both[0]} stands twice, here and in an imported service")
            methods |= own
        elif cursor.at("("):  # init arguments alone, as modules embed them
            init = tuple(parser.args())
        if cursor.token.kind is not Kind.END:
            cursor.fail(f"expected a type, an import or the service, found {cursor.shown()}")
        return init, t.service(methods) if found or methods else None

    def _define(self, cursor: Cursor, parser: TypeParser) -> None:
        token = cursor.take()
        if token.kind is not Kind.ID or token.text in t.KEYWORDS:
            cursor.fail(f"expected a name for the type, found {token.text!r}", token.position)
        rec = self.types.setdefault(token.text, t.Rec(token.text))
        if rec.target is not None:
            cursor.fail(f"type {token.text} is defined twice", token.position)
        cursor.expect("=")
        rec.target = parser.type()
        self.used.append((rec, cursor, token))

    def _import(self, cursor: Cursor, reader: Reader | None) -> dict[str, t.Type]:
        with_service = cursor.accept("service")
        token = cursor.take()
        if token.kind is not Kind.TEXT:
            cursor.fail("expected the name of the imported file in quotes", token.position)
        name = cursor.decoded(token)
        if reader is None:
            cursor.fail(f"import {name!r}: this text was given without a folder to import from", token.position)
        try:
            text, inner = reader(name)
        except CandidError as error:
            cursor.fail(f"import {name!r}: {error}", token.position)
        key = f"{with_service} {text}"
        if key in self.imported:
            return {}
        self.imported.add(key)
        _, service = self._file(Cursor(text, name), inner)
        if with_service and service is None:
            cursor.fail(f"import service {name!r}: the file declares no service", token.position)
        return dict(service.methods) if with_service and service else {}

    def _service(self, cursor: Cursor, parser: TypeParser) -> tuple[tuple[t.Type, ...], dict[str, t.Type]]:
        if cursor.token.kind is Kind.ID:
            cursor.take()
        cursor.expect(":")
        init: tuple[t.Type, ...] = ()
        if cursor.at("("):
            init = tuple(parser.args())
            cursor.expect("->")
        token = cursor.token
        kind = parser.service() if cursor.at("{") else parser.type()
        cursor.accept(";")
        try:
            target = t.resolve(kind)
        except CandidError as error:
            cursor.fail(str(error), token.position)
        if not isinstance(target, t.Service):
            cursor.fail(f"{kind} is not a service type", token.position)
        return init, dict(target.methods)

    def _lookup(self, cursor: Cursor, token: Token) -> t.Type:
        if token.text in t.KEYWORDS:
            cursor.fail(f"expected a type, found {token.text!r}", token.position)
        rec = self.types.setdefault(token.text, t.Rec(token.text))
        self.used.append((rec, cursor, token))
        return rec

    def _check_methods(self, service: t.Service, name: str) -> None:
        for method, kind in service.methods:
            if not isinstance(t.resolve(kind), t.Func):
                raise CandidError(f"{name}: method {method} has type {kind}, which is not a function")
