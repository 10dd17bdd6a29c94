"""`icsim outcalls`: HTTPS outcalls of a running network, and their answers.

Plumbing.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from ic_types.consensus_calls import OutcallRequest
from ic_types.errors import BadInput
from ic_types.outcall_rule import METHODS, OutcallRule
from ic_types.principal import SubnetId
from ic_types.reject import RejectCode
from subnet.cli.connection import connected
from subnet.cli.options import dir_option
from subnet.cli.tables import console, table
from subnet.lab.outcalls import aimed


@click.group()
def outcalls() -> None:
    """HTTPS outcalls: which wait, and who answers them."""


@outcalls.command("list")
@dir_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_outcalls(which: str | None, as_json: bool) -> None:
    """Show outcalls that nobody has answered."""
    with connected(which) as line:
        names: dict[SubnetId, str] = {one.subnet_id: one.name for one in line.client.describe().registry.subnets}
        rows = [(names[one.subnet], one.request) for one in line.client.outcalls()]
    if as_json:
        for name, request in rows:
            click.echo(json.dumps(_row(name, request)))
        return
    if not rows:
        click.echo("no outcall waits for an answer")
        return
    shown = [
        (name, str(one.call_id), str(one.caller), one.method, one.url, str(one.node_index or "all"), f"{len(one.body):,}")
        for name, one in rows
    ]
    columns = ("subnet", "id", "caller", "method", "URL", "node", "body bytes")
    console().print(table("Outcalls without an answer", columns, shown, right=("id", "body bytes")))


def _row(subnet: str, request: OutcallRequest) -> dict[str, object]:
    return {
        "subnet": subnet,
        "id": request.call_id,
        "caller": str(request.caller),
        "method": request.method,
        "url": request.url,
        "headers": [list(one) for one in request.headers],
        "body_hex": request.body.hex(),
        "node": request.node_index or None,
        "timeout_ns": request.timeout_ns,
    }


def _answer_options(function: click.decorators.FC) -> click.decorators.FC:
    options = (
        click.option("--body", "bodies", multiple=True, help="Body; repeated: of node 1, 2, ..., the last for all further."),
        click.option("--body-file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="File with the body."),
        click.option("--status", type=click.IntRange(100, 999), default=200, show_default=True, help="HTTP status."),
        click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Header of the response."),
        click.option("--reject", metavar="TEXT", help="Fail with this text instead, as if no web server answered."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _answer(
    bodies: tuple[str, ...], body_file: Path | None, status: int, headers: tuple[str, ...], reject: str | None
) -> OutcallRule:
    if reject is not None:
        return OutcallRule(reject_code=int(RejectCode.SYS_TRANSIENT), reject_message=reject)
    if bodies and body_file is not None:
        raise BadInput("--body excludes --body-file")
    pairs = []
    for line in headers:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadInput(f"--header {line!r}: headers are written as NAME:VALUE")
        pairs.append((name.strip(), value.strip()))
    content = (body_file.read_bytes(),) if body_file is not None else tuple(body.encode() for body in bodies) or (b"",)
    return OutcallRule(status=status, headers=tuple(pairs), bodies=content)


@outcalls.command()
@click.argument("url")
@_answer_options
@click.option("--forward", metavar="ADDRESS", help="Ask this address instead, such as http://127.0.0.1:8000.")
@click.option("--method", type=click.Choice(METHODS, case_sensitive=False), help="This method alone.")
@click.option("--node", type=int, help="This node alone.")
@click.option("--times", type=int, help="Answer so many outcalls.")
@dir_option
def mock(
    url: str,
    bodies: tuple[str, ...],
    body_file: Path | None,
    status: int,
    headers: tuple[str, ...],
    reject: str | None,
    forward: str | None,
    method: str | None,
    node: int | None,
    times: int | None,
    which: str | None,
) -> None:
    """Answer outcalls to URL from now on; * in it stands for any letters."""
    answer = _answer(bodies, body_file, status, headers, reject)
    if forward is not None:
        if not forward.startswith(("http://", "https://")):
            raise BadInput(f"--forward {forward!r}: addresses begin with http:// or https://")
        answer = OutcallRule(forward=forward)
    with connected(which) as line:
        line.client.set_outcall_rules(aimed(answer, url, method, node, times))


@outcalls.command()
@click.argument("subnet")
@click.argument("call_id", metavar="ID", type=int)
@_answer_options
@dir_option
def answer(
    subnet: str,
    call_id: int,
    bodies: tuple[str, ...],
    body_file: Path | None,
    status: int,
    headers: tuple[str, ...],
    reject: str | None,
    which: str | None,
) -> None:
    """Answer the outcall with this ID of SUBNET."""
    rule = _answer(bodies, body_file, status, headers, reject)
    with connected(which) as line:
        known = {one.name: one.subnet_id for one in line.client.describe().registry.subnets}
        if subnet not in known:
            raise BadInput(f"there is no subnet {subnet!r}; subnets: {', '.join(known)}")
        line.client.answer_outcall(known[subnet], call_id, rule)


@outcalls.command()
@dir_option
def clear(which: str | None) -> None:
    """Forget all mocks; the topology's rules stay."""
    with connected(which) as line:
        line.client.set_outcall_rules(clear=True)
