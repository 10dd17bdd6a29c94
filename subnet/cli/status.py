"""`icsim status`: where a running network stands.

Plumbing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from subnet.cli.connection import connected
from subnet.cli.options import dir_option
from subnet.control import ControlClient
from subnet.control_protocol import NetworkStatus


@click.command()
@dir_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(which: str | None, as_json: bool) -> None:
    """Show height, time, subnets, nodes and canisters of a running network."""
    with connected(which) as line:
        if as_json:
            click.echo(json.dumps(status_json(line.client, line.entry.name), indent=1))
            return
        print_status(line.client, line.entry.name)
        click.echo(f"run directory: {line.entry.out_dir}")


def print_status(client: ControlClient, name: str) -> None:
    """Tables of subnets and canisters."""
    from subnet.cli.tables import console, table

    found, described = client.status(), client.describe()
    out = console()
    time = network_time(found.time_ns)
    out.print(f"{name}: {found.phase} at height {found.height:,}, network time {time}")
    if described.url:
        out.print(f"HTTP: {described.url}")
    if found.problem:
        out.print(f"no more rounds are made: {found.problem}")
    rows = [
        (
            one.name,
            one.subnet_type,
            one.subnet_id.to_text(),
            f"{sum(node.phase == 'live' for node in one.nodes)} of {len(one.nodes)} live",
            one.state_hash.hex()[:16],
            f"{one.totals.get('messages', 0):,}",
        )
        for one in found.subnets
    ]
    out.print(table("subnets", ("subnet", "type", "id", "nodes", "state hash", "messages"), rows, right=("messages",)))
    names = {record.subnet_id: record.name for record in described.registry.subnets}
    if described.canisters:
        listed = [(one.name, one.canister_id.to_text(), names[one.subnet]) for one in described.canisters]
        out.print(table("canisters", ("canister", "id", "subnet"), listed))
    out.print("\ncalls: " + ", ".join(f"{number:,} {name}" for name, number in _calls(found).items()))


def status_json(client: ControlClient, name: str) -> dict[str, Any]:
    """The same for programs."""
    found, described = client.status(), client.describe()
    return {
        "name": name,
        "phase": found.phase,
        "url": described.url,
        "height": found.height,
        "time_ns": found.time_ns,
        "problem": found.problem,
        "calls": _calls(found),
        "subnets": [
            {
                "name": one.name,
                "id": one.subnet_id.to_text(),
                "type": one.subnet_type,
                "height": one.height,
                "state_hash": one.state_hash.hex(),
                "nodes": [{"index": n.index, "pid": n.pid, "phase": n.phase, "restarts": n.restarts} for n in one.nodes],
            }
            for one in found.subnets
        ],
        "canisters": {one.name: one.canister_id.to_text() for one in described.canisters},
        "identities": list(described.identities),
    }


def _calls(found: NetworkStatus) -> dict[str, int]:
    return {name: getattr(found, name) for name in ("submitted", "replied", "rejected", "pending")}


def network_time(time_ns: int) -> str:
    """A time of the network as people write it."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S") + " UTC"
