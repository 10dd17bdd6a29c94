"""Service files (`.did`): named types, imports, and the service with its methods and init arguments.

Rule module, but for `load_did`, which reads files. Spec: Candid specification, "Core Grammar", "Imports".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ic_types.candid import types as t
from ic_types.candid.layout import laid_out
from ic_types.candid.lexer import Cursor, Kind, Token
from ic_types.candid.type_text import TypeParser
from ic_types.errors import CandidError

Reader = Callable[[str], "ImportedFile"]
"""Finds a file by the name that an import gives it, relative to the importing file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedFile:
    """The text of a file that is imported."""

    key: str
    """The same for the same file, by whatever name it is imported."""
    text: str
    reader: Reader
    """For its own imports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DidFile:
    """What a service file declares."""

    types: dict[str, t.Type]
    service: t.Service | None
    init: tuple[t.Type, ...] = ()
    """The service constructor's parameters; empty for a plain service."""

    def __str__(self) -> str:
        """The service file; what it was read from may have looked otherwise, but says the same."""
        lines = [laid_out(f"type {name} = {t.definition(kind)}") + ";" for name, kind in self.types.items()]
        if self.service is not None:
            init = f"({', '.join(map(str, self.init))}) -> " if self.init else ""
            methods = str(self.service).removeprefix("service ")
            lines.append(laid_out(f"service : {init}{methods}"))
        return "\n".join(lines) + "\n"

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
    file = _file_reader(path.parent)(path.name)
    return _Program(file.reader, file.key).parse(file.text, str(path))


def parse_did(text: str, name: str = "service file", reader: Reader | None = None) -> DidFile:
    """Parse the text of a service file; `reader` serves its imports.

    Raises: CandidError naming file, line and column.
    """
    return _Program(reader).parse(text, name)


def with_init_args(did: DidFile, text: str, name: str = "init arguments") -> DidFile:
    """A service whose init arguments stand apart, as modules carry them; their types may be those of the service file.

    Raises: CandidError naming line and column.
    """
    init = _Program(None, known=did.types).parse(text, name).init
    return replace(did, init=init)


def _file_reader(folder: Path) -> Reader:
    def _read(name: str) -> ImportedFile:
        path = folder / name
        try:
            text = path.read_text(encoding="utf-8")
            return ImportedFile(key=str(path.resolve()), text=text, reader=_file_reader(path.parent))
        except (OSError, UnicodeDecodeError) as error:
            raise CandidError(f"{path} can't be read: {error}") from None

    return _read


class _Declared(NamedTuple):
    """What one file says beside its types."""

    init: tuple[t.Type, ...] | None
    """Parameters of the service constructor; None for a plain service."""
    service: t.Service | None


class _Program:
    """One service file with all that it imports."""

    def __init__(self, reader: Reader | None, key: str = "", known: dict[str, t.Type] | None = None) -> None:
        self.reader = reader
        self.known = known or {}
        self.types: dict[str, t.Rec] = {}
        self.used: list[tuple[t.Rec, Cursor, Token]] = []
        self.files: dict[str, _Declared | None] = {key: None}
        """What each imported file declares; None while it is being read."""

    def parse(self, text: str, name: str) -> DidFile:
        """The main file and all imports."""
        init, service = self._file(Cursor(text, name), self.reader)
        for rec, cursor, token in self.used:
            if rec.target is None:
                rec.target = self.known.get(rec.name)
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
        return DidFile(types=dict(self.types), service=service, init=init or ())

    def _file(self, cursor: Cursor, reader: Reader | None) -> _Declared:
        """One file's definitions; returns init parameters and service."""
        methods: dict[str, t.Type] = {}
        parser = TypeParser(cursor, lambda token: self._lookup(cursor, token))
        while cursor.at("type") or cursor.at("import"):
            if cursor.accept("type"):
                self._define(cursor, parser)
            else:
                cursor.take()
                _add_methods(cursor, methods, self._import(cursor, reader))
            if not cursor.accept(";"):
                break
        init: tuple[t.Type, ...] | None = None
        found = False
        if cursor.accept("service"):
            found = True
            init, own = self._service(cursor, parser)
            _add_methods(cursor, methods, own)
        elif cursor.at("("):  # init arguments alone, as modules embed them
            init = tuple(parser.args())
        if cursor.token.kind is not Kind.END:
            cursor.fail(f"expected a type, an import or the service, found {cursor.shown()}")
        return _Declared(init, t.service(methods) if found or methods else None)

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
            file = reader(name)
        except CandidError as error:
            cursor.fail(f"import {name!r}: {error}", token.position)
        if file.key not in self.files:
            self.files[file.key] = None
            self.files[file.key] = self._file(Cursor(file.text, name), file.reader)
        return self._imported_methods(cursor, token, name, self.files[file.key]) if with_service else {}

    def _imported_methods(self, cursor: Cursor, token: Token, name: str, found: _Declared | None) -> dict[str, t.Type]:
        problem = ""
        if found is None:
            problem = "the files import one another in a circle"
        elif found.service is None:
            problem = "the file declares no service"
        elif found.init is not None:
            problem = "its service takes init arguments; only a plain service can be imported"
        if problem or found is None or found.service is None:
            cursor.fail(f"import service {name!r}: {problem}", token.position)
        return dict(found.service.methods)

    def _service(self, cursor: Cursor, parser: TypeParser) -> tuple[tuple[t.Type, ...] | None, dict[str, t.Type]]:
        if cursor.token.kind is Kind.ID:
            cursor.take()
        cursor.expect(":")
        init: tuple[t.Type, ...] | None = None
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


def _add_methods(cursor: Cursor, methods: dict[str, t.Type], more: dict[str, t.Type]) -> None:
    """Add the methods of an imported service or of the file's own; one service may be imported by several ways."""
    for name, kind in more.items():
        if methods.setdefault(name, kind) is not kind:
            cursor.fail(f"method {name} stands twice, here and in an imported service")
