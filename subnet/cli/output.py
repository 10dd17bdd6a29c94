"""How commands on canisters answer: for people or, with `--output json`, for programs.

Plumbing.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.candid.layout import laid_out
from ic_types.candid.text import to_text
from ic_types.candid.values import FuncRef, Some, Value
from ic_types.errors import CandidError, IcsimError
from ic_types.principal import Principal
from subnet.lab.calls import CallRejected, Target

F = TypeVar("F", bound=Callable[..., Any])
_DEEPEST = 10_000
"""Nesting of answers that are printed."""
_FRAMES_PER_LEVEL = 4
_EXACT = (1 << 53) - 1
"""Larger numbers are texts in JSON, since many readers keep no more digits."""


def output_option(function: F) -> F:
    """--output; with json errors go to standard output as an object, too."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except IcsimError as error:
            if options["output"] != "json":
                raise
            click.echo(json.dumps({"error": error_json(error)}, indent=1))
            return error.exit_code

    choice = click.Choice(("text", "json"))
    return click.option("--output", type=choice, default="text", help="For people (text) or programs (json).")(wrapped)  # type: ignore[return-value]


def error_json(error: IcsimError) -> dict[str, Any]:
    """An error for programs."""
    if isinstance(error, CallRejected):
        found = {"reject_code": error.code, "error_code": error.error_code, "reject_message": error.message}
        return {"kind": "rejected", "message": str(error), **found}
    return {"kind": type(error).__name__, "message": str(error)}


def show(value: dict[str, Any], output: str, text: str | None = None) -> None:
    """A result: its text for people, its object for programs."""
    if output == "json":
        click.echo(json.dumps(value, indent=1))
    elif text:
        click.echo(text)


def listing(values: dict[str, Any]) -> str:
    """Names and values below one another; a list of several has a line for each."""
    width = max(map(len, values), default=0)
    lines = []
    for name, value in values.items():
        items = value if isinstance(value, list) and value else [value]
        lines += [f"{name.replace('_', ' ') if not at else '':<{width}}  {_cell(item)}" for at, item in enumerate(items)]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    match value:
        case None:
            return "none"
        case list() | dict() if not value:
            return "none"
        case dict():
            return ", ".join(f"{name}={item}" for name, item in value.items())
        case int() if not isinstance(value, bool):
            return f"{value:,}"
    return str(value)


def show_answer(target: Target, method: str, raw: bytes, output: str, *, as_hex: bool) -> None:
    """The answer of a call: Candid text, its bytes, or values for programs."""
    if output == "json":
        click.echo(json.dumps(answer_json(target, method, raw), indent=1))
    else:
        click.echo(raw.hex() if as_hex else _answer_text(target, method, raw))


def _answer_text(target: Target, method: str, raw: bytes) -> str:
    """In lines; bytes that are no Candid in hexadecimal. Linked lists of thousands of nodes are nested that deep."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _FRAMES_PER_LEVEL * _DEEPEST))
    try:
        text = target.interface.answer_text(method, raw, max_depth=_DEEPEST)
        return text if text.startswith("0x") else laid_out(text)
    finally:
        sys.setrecursionlimit(before)


def answer_json(target: Target, method: str, raw: bytes) -> dict[str, Any]:
    """Values where the answer is Candid, and its bytes."""
    function = target.interface.function(method) if method in target.interface.methods() else None
    for types in (None if function is None else function.results, _own_types(raw)):
        if types is None:
            continue
        try:
            values = decode(raw, types)
        except CandidError:
            continue
        shown = [value_json(kind, value) for kind, value in zip(types, values, strict=True)]
        return {"values": shown, "candid": to_text(raw, types), "hex": raw.hex()}
    return {"hex": raw.hex()}


def _own_types(raw: bytes) -> Sequence[t.Type] | None:
    from ic_types.candid.wire_types import read_head

    try:
        return read_head(raw).types
    except CandidError:
        return None


def value_json(kind: t.Type, value: Value) -> Any:
    """A Candid value for programs: principals as text, blobs as hexadecimal, absent options as null."""
    match t.resolve(kind):
        case t.Opt(inner):
            content = value.value if isinstance(value, Some) else value
            return None if value is None else value_json(inner, content)
        case t.Vec(inner) if t.resolve(inner) is not t.nat8:
            return [value_json(inner, item) for item in value]
        case t.Record(fields) as record:
            if record.is_tuple:
                return [value_json(field.type, item) for field, item in zip(fields, value, strict=True)]
            return {field.key: value_json(field.type, value[field.key]) for field in fields}
        case t.Variant(fields):
            ((key, content),) = value.items()
            return {key: value_json(next(f.type for f in fields if f.key == key), content)}
    return _plain_json(value)


def _plain_json(value: Value) -> Any:
    match value:
        case Principal():
            return value.to_text()
        case FuncRef():
            return {"canister": value.canister.to_text(), "method": value.method}
        case bytes():
            return value.hex()
        case int() if not isinstance(value, bool) and abs(value) > _EXACT:
            return str(value) if value.bit_length() < 10_000 else hex(value)
        case float() if value != value or value in (float("inf"), float("-inf")):
            return str(value)
    return value
