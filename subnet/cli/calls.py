"""`icsim call` and `icsim query`, which are `icsim canister call` and `query` too: Candid text in, Candid text out.

Plumbing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ic_types.candid.did import DidFile, load_did
from ic_types.errors import BadInput, NetworkError
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.cli.connection import session, session_options
from subnet.cli.output import output_option, show, show_answer
from subnet.lab.calls import DEFAULT_ROUNDS, Target, named_canister, reply_of
from subnet.lab.link import ControlLink
from subnet.lab.session import Session


def _call_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.argument("canister"),
        click.argument("method"),
        click.argument("arg", default="()"),
        click.option("--arg-file", type=click.Path(path_type=Path), metavar="PATH", help="Read ARG from a file."),
        click.option("--hex", "as_hex", is_flag=True, help="ARG and the answer are hexadecimal bytes."),
        click.option(
            "--candid", type=click.Path(path_type=Path), metavar="FILE", help="Service file, in place of the canister's own."
        ),
        session_options,
        output_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(short_help="Call METHOD of CANISTER with ARG as Candid text, and wait for the answer.")
@_call_options
@click.option("--rounds", type=int, metavar="N", help=f"Wait at most N rounds ({DEFAULT_ROUNDS}); then it is left pending.")
def call(canister: str, method: str, arg: str, **options: Any) -> int:
    """Call METHOD of CANISTER (a name, an id, or `management`) with ARG as Candid text, and wait for the answer.

    Principals can be written {identity:NAME} and {canister:NAME}. Exit code 1 when the call is rejected.
    """
    rounds = options["rounds"]
    if rounds is not None and rounds < 1:
        raise BadInput(f"--rounds {rounds}: allowed is 1 and more")
    with session(options) as one:
        target, raw, about = _prepared(one, canister, method, arg, options)
        if rounds is None:
            answer = one.link.call(one.identity, target.canister_id, method, raw, about)
            show_answer(target, method, answer, options["output"], as_hex=options["as_hex"])
            return 0
        if not isinstance(one.link, ControlLink):
            raise BadInput("--rounds is for networks on this machine; those behind a URL make rounds by themselves")
        caller = one.link.caller
        message_id = caller.submit(one.identity, target.canister_id, method, raw, about)
        status = caller.wait([message_id], rounds)[0]
        if status.status in ("received", "processing"):
            found = {"pending": status.status, "message_id": message_id.hex()}
            text = f"pending after {rounds} rounds ({status.status}): message id {message_id.hex()}"
            show(found, options["output"])
            click.echo(text, err=True)
            return 0
        show_answer(target, method, reply_of(status, method, rounds), options["output"], as_hex=options["as_hex"])
    return 0


@click.command(short_help="Call METHOD of CANISTER as a query on the last certified state.")
@_call_options
@click.option("--node", type=int, default=0, metavar="K", help="Ask node K of the subnet (default: any).")
def query(canister: str, method: str, arg: str, **options: Any) -> int:
    """Call METHOD of CANISTER as a query on the last certified state; makes no round."""
    with session(options) as one:
        if isinstance(one.link, ControlLink) and not one.link.canisters and one.link.caller.client.status().height == 0:
            raise NetworkError("the network has made no round yet; `icsim advance` makes one")
        target, raw, about = _prepared(one, canister, method, arg, options)
        if not options["node"]:
            answer = one.link.query(one.identity, target.canister_id, method, raw, about)
        elif isinstance(one.link, ControlLink):
            answer = one.link.caller.query(one.identity, target.canister_id, method, raw, options["node"])
        else:
            raise BadInput("--node is for networks on this machine; those behind a URL choose the node")
        show_answer(target, method, answer, options["output"], as_hex=options["as_hex"])
    return 0


def _prepared(one: Session, canister: str, method: str, arg: str, options: dict[str, Any]) -> tuple[Target, bytes, CanisterId]:
    """The canister, the argument's bytes, and the canister that the call is about."""
    target = one.target(canister, service_file(options["candid"]))
    raw = _argument(one, target, method, _given(arg, options["arg_file"]), as_hex=options["as_hex"])
    about = target.canister_id
    if about == MANAGEMENT_CANISTER:
        named = named_canister(raw)
        about = one.link.place(None) if named is None else named
    return target, raw, about


def service_file(path: Path | None) -> DidFile | None:
    """The service file that --candid names.

    Raises: CandidError naming line and column.
    """
    return None if path is None else load_did(path)


def _given(arg: str, path: Path | None) -> str:
    if path is None:
        return arg
    if arg != "()":
        raise BadInput("--arg-file excludes ARG")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--arg-file {path} can't be read: {error}") from None


def _argument(one: Session, target: Target, method: str, arg: str, *, as_hex: bool) -> bytes:
    if not as_hex:
        return target.interface.encode_text(method, arg, one.names, one.place_of(target.canister_id))
    try:
        return b"" if arg == "()" else bytes.fromhex(arg.strip().removeprefix("0x"))
    except ValueError:
        raise BadInput(f"argument {arg!r} is not hexadecimal; leave --hex out to give Candid text") from None
