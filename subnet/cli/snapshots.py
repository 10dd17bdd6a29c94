"""`icsim canister snapshot`: a canister as it was, kept by the network.

Plumbing.
"""

from __future__ import annotations

from typing import Any

import click

from ic_types.errors import BadInput
from subnet.cli.connection import session, session_options
from subnet.cli.output import output_option, show
from subnet.cli.status import network_time
from subnet.lab import canister_admin
from subnet.lab.canister_admin import Snapshot


@click.group()
def snapshot() -> None:
    """Take, list, load and delete snapshots of a canister."""


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise BadInput(f"{text!r} is no snapshot id; `icsim canister snapshot list CANISTER` shows them") from None


def _json(one: Snapshot) -> dict[str, Any]:
    return {"id": one.id.hex(), "taken_at_ns": one.taken_at_ns, "bytes": one.size}


@snapshot.command()
@click.argument("canister")
@click.option("--replace", metavar="ID", help="Delete this snapshot in the same step.")
@session_options
@output_option
def take(canister: str, replace: str | None, **options: Any) -> None:
    """Take a snapshot of CANISTER, which should be stopped, and print its id."""
    with session(options) as one:
        canister_id, _ = one.existing(canister)
        made = canister_admin.take_snapshot(one, canister_id, None if replace is None else _id(replace))
        show(_json(made), options["output"], made.id.hex())


@snapshot.command("list")
@click.argument("canister")
@session_options
@output_option
def list_(canister: str, **options: Any) -> None:
    """Show the snapshots of CANISTER."""
    with session(options) as one:
        canister_id, _ = one.existing(canister)
        found = canister_admin.snapshots(one, canister_id)
        lines = [f"{one.id.hex()}  {network_time(one.taken_at_ns)}  {one.size:,} bytes" for one in found]
        show({"snapshots": [_json(one) for one in found]}, options["output"], "\n".join(lines) or "no snapshots")


def _on_snapshot(name: str, method: str, done: str, text: str) -> None:
    @snapshot.command(name)
    @click.argument("canister")
    @click.argument("snapshot_id", metavar="ID")
    @session_options
    @output_option
    def command(canister: str, snapshot_id: str, **options: Any) -> None:
        with session(options) as one:
            canister_id, _ = one.existing(canister)
            canister_admin.on_snapshot(one, method, canister_id, _id(snapshot_id))
            found = {"name": one.name_of(canister_id), "id": canister_id.to_text(), "snapshot": snapshot_id, "done": done}
            show(found, options["output"], f"{found['name']}: snapshot {snapshot_id} {done}")

    command.help = command.short_help = text


_on_snapshot("load", "load_canister_snapshot", "loaded", "Make CANISTER, which should be stopped, what it was in snapshot ID.")
_on_snapshot("delete", "delete_canister_snapshot", "deleted", "Delete snapshot ID of CANISTER.")
