"""`icsim candid`: service files checked and compared, values encoded and decoded; needs no network.

Plumbing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ic_types.candid import types as t
from ic_types.candid.did import DidFile, load_did
from ic_types.candid.layout import laid_out
from ic_types.candid.subtyping import incompatibility
from ic_types.candid.text import encode_text, to_text
from ic_types.errors import BadInput
from ic_types.principal import MANAGEMENT_CANISTER
from subnet.cli.output import answer_json, output_option, show
from subnet.lab.calls import Target
from subnet.lab.interface import Interface


@click.group()
def candid() -> None:
    """Check and compare service files; encode and decode values."""


@candid.command()
@click.argument("did_file", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), metavar="OLD", help="The service that callers know.")
@output_option
def check(did_file: Path, against: Path | None, output: str) -> int:
    """Read a service file, with --against also whether an upgrade to it keeps callers working (exit code 1 if not)."""
    new = load_did(did_file)
    found: dict[str, Any] = {"types": len(new.types), "methods": len(new.service.methods) if new.service else 0}
    if against is None:
        show(found, output, f"{did_file}: {found['types']} types, {found['methods']} methods")
        return 0
    services = [one.service for one in (new, load_did(against))]
    if services[0] is None or services[1] is None:
        raise BadInput(f"{did_file if services[0] is None else against} declares no service")
    breaks = incompatibility(services[0], services[1])
    loses = None if breaks is not None else incompatibility(services[0], services[1], strict=True)
    found |= {"compatible": breaks is None, "breaks": breaks, "loses": loses}
    text = f"{did_file} can take the place of {against}"
    if breaks is not None:
        text = f"{did_file} can't take the place of {against}: {breaks}"
    elif loses is not None:
        text += f", but callers will read null where they read values before: {loses}"
    show(found, output, text)
    return 0 if breaks is None else 1


@candid.command("format")
@click.argument("did_file", type=click.Path(path_type=Path))
def format_(did_file: Path) -> None:
    """Print a service file with its imports in one piece, one way; comments are lost."""
    click.echo(str(load_did(did_file)), nl=False)


def _typed(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--did", type=click.Path(path_type=Path), metavar="FILE", help="Service file that has the types."),
        click.option("--method", metavar="NAME", help="Arguments of this method (default: init arguments)."),
        click.option("--results", is_flag=True, help="Results of the method instead."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _types(did: Path | None, method: str | None, results: bool) -> tuple[t.Type, ...] | None:
    if did is None:
        if method is not None or results:
            raise BadInput("--method and --results need --did FILE")
        return None
    found: DidFile = load_did(did)
    if method is None:
        if results:
            raise BadInput("--results needs --method NAME")
        return found.init
    function = found.method(method)
    return function.results if results else function.args


@candid.command()
@click.argument("text")
@_typed
def encode(text: str, did: Path | None, method: str | None, results: bool) -> None:
    """Print the bytes of Candid TEXT, such as '(5, "a")', in hexadecimal."""
    click.echo(encode_text(text, _types(did, method, results)).hex())


@candid.command()
@click.argument("hexadecimal", required=False)
@_typed
@output_option
def decode(hexadecimal: str | None, did: Path | None, method: str | None, results: bool, output: str) -> None:
    """Print bytes in HEXADECIMAL (or on standard input) as Candid text; without --did fields show as numbers."""
    given = sys.stdin.read() if hexadecimal is None else hexadecimal
    try:
        raw = bytes.fromhex(given.strip().removeprefix("0x"))
    except ValueError:
        raise BadInput(f"{given.strip()[:40]!r} is not hexadecimal") from None
    types = _types(did, method, results)
    text = to_text(raw, types)
    show(answer_json(_as_target(types), _ANSWER, raw), output, laid_out(text))


_ANSWER = "answer"


def _as_target(types: Sequence[t.Type] | None) -> Target:
    service = None if types is None else t.service({_ANSWER: t.func((), types)})
    return Target("bytes", MANAGEMENT_CANISTER, Interface(DidFile(types={}, service=service), "bytes"))
