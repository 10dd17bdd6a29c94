"""`icsim call` and `icsim query`: Candid text in, Candid text out.

Plumbing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ic_types.errors import BadInput, NetworkError
from subnet.cli.connection import connected
from subnet.cli.options import dir_option
from subnet.lab.calls import DEFAULT_ROUNDS, Caller, Target, reply_of


def _call_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.argument("canister"),
        click.argument("method"),
        click.argument("arg", default="()"),
        click.option("--as", "identity", metavar="IDENTITY", help="Who calls (default: the topology's first identity)."),
        click.option("--hex", "as_hex", is_flag=True, help="ARG and the answer are hexadecimal bytes."),
        dir_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@_call_options
@click.option("--rounds", type=int, metavar="N", help=f"Wait at most N rounds ({DEFAULT_ROUNDS}); then it is left pending.")
def call(canister: str, method: str, arg: str, **options: Any) -> int:
    """Call METHOD of CANISTER (a name, an id, or `management`) with ARG as Candid text, and wait for the answer.

    Principals can be written {identity:NAME} and {canister:NAME}. Exit code 1 when the call is rejected.
    """
    rounds = options["rounds"]
    if rounds is not None and rounds < 1:
        raise BadInput(f"--rounds {rounds}: allowed is 1 and more")
    with connected(options["which"]) as line:
        caller = line.caller()
        identity, target, raw = _prepared(caller, canister, method, arg, options)
        message_id = caller.submit(identity, target.canister_id, method, raw)
        status = caller.wait([message_id], rounds or DEFAULT_ROUNDS)[0]
        if rounds is not None and status.status in ("received", "processing"):
            click.echo(f"pending after {rounds} rounds ({status.status}): message id {message_id.hex()}", err=True)
            return 0
        _print_answer(target, method, reply_of(status, method, rounds or DEFAULT_ROUNDS), options["as_hex"])
    return 0


@click.command()
@_call_options
@click.option("--node", type=int, default=0, metavar="K", help="Ask node K of the subnet (default: any).")
def query(canister: str, method: str, arg: str, **options: Any) -> int:
    """Call METHOD of CANISTER as a query on the last certified state; makes no round."""
    with connected(options["which"]) as line:
        caller = line.caller()
        if not caller.description.canisters and line.client.status().height == 0:
            raise NetworkError("the network has made no round yet; `icsim advance` makes one")
        identity, target, raw = _prepared(caller, canister, method, arg, options)
        answer = caller.query(identity, target.canister_id, method, raw, options["node"])
        _print_answer(target, method, answer, options["as_hex"])
    return 0


def _prepared(caller: Caller, canister: str, method: str, arg: str, options: dict[str, Any]) -> tuple[Any, Target, bytes]:
    who = options["identity"]
    identity, target = caller.identity(who), caller.target(canister)
    if not options["as_hex"]:
        return identity, target, caller.encode_text(target, method, arg, who or "")
    try:
        return identity, target, b"" if arg == "()" else bytes.fromhex(arg.removeprefix("0x"))
    except ValueError:
        raise BadInput(f"argument {arg!r} is not hexadecimal; leave --hex out to give Candid text") from None


def _print_answer(target: Target, method: str, raw: bytes, as_hex: bool) -> None:
    click.echo(raw.hex() if as_hex else target.interface.answer_text(method, raw))
