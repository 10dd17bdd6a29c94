"""`icsim advance`, `icsim logs` and `icsim down`.

Plumbing.
"""

from __future__ import annotations

import json
from pathlib import Path

import cbor2
import click

from ic_types.errors import BadInput
from subnet.cli.connection import connected
from subnet.cli.options import dir_option
from subnet.cli.progress import Watch
from subnet.cli.status import network_time
from subnet.control import running_networks
from subnet.lab.run_dir import home, release

MOST_ROUNDS = 10**9


@click.command()
@click.argument("rounds", type=int, required=False)
@click.option("--until-idle", is_flag=True, help="Until no work is left (at most ROUNDS, if given).")
@click.option("--seconds", type=float, metavar="S", help="Until S seconds of network time have passed.")
@dir_option
@click.option("--quiet", is_flag=True, help="No progress.")
def advance(rounds: int | None, until_idle: bool, seconds: float | None, which: str | None, quiet: bool) -> None:
    """Make ROUNDS rounds (default: one)."""
    if seconds is not None and (rounds is not None or until_idle):
        raise BadInput("--seconds excludes ROUNDS and --until-idle")
    for name, number in (("ROUNDS", rounds), ("--seconds", seconds)):
        if number is not None and not 0 < number <= MOST_ROUNDS:
            raise BadInput(f"{name} {number}: allowed is more than 0 and at most {MOST_ROUNDS:,}")
    with connected(which) as line:
        if seconds is not None:
            if line.client.describe().live:
                raise BadInput(
                    "--seconds: this network's time is that of the wall clock; start it with `icsim up --virtual-time`"
                )
            rounds = rounds_for(seconds, line.client.describe().block_interval_ns)
        if rounds is None and not until_idle:
            rounds = 1
        goals = {name: value for name, value in (("rounds", rounds), ("until_idle", until_idle)) if value}
        with Watch(line.client, quiet=quiet) as watch:
            found = watch.advance(**goals)
        idle = ", no work is left" if found.idle else ""
        click.echo(f"height {found.height:,}, network time {network_time(found.time_ns)}{idle}")


def rounds_for(seconds: float, block_interval_ns: int) -> int:
    """Rounds until at least so many seconds have passed."""
    return max(1, -(-round(seconds * 1e9) // block_interval_ns))


@click.command()
@click.argument("canister")
@dir_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def logs(canister: str, which: str | None, as_json: bool) -> None:
    """Show the log of a canister: what it printed, and its traps."""
    with connected(which) as line:
        caller = line.caller()
        canister_id = caller.canister_id(canister)
        rows = cbor2.loads(line.client.inspect(caller.subnet_of(canister_id).subnet_id, "logs", (canister_id,)))
    for index, time_ns, content in rows:
        text = content.decode("utf-8", "backslashreplace")
        if as_json:
            click.echo(json.dumps({"index": index, "time_ns": time_ns, "text": text}))
        else:
            click.echo(f"{index:>4}  {network_time(time_ns)}  {text}")


@click.command()
@dir_option
@click.option("--all", "everything", is_flag=True, help="Every running network.")
def down(which: str | None, everything: bool) -> None:
    """End a running network and all of its processes."""
    choices = [one.name for one in running_networks(home())] if everything else [which]
    for choice in choices:
        with connected(choice) as line:
            entry = line.entry
            line.client.stop("icsim down")
        (home() / "networks" / f"{entry.name}.json").unlink(missing_ok=True)
        if entry.out_dir is not None and Path(entry.out_dir).is_dir():
            release(Path(entry.out_dir))
        click.echo(f"network {entry.name} has ended")
