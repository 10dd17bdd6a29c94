"""`icsim deploy`: brings the canisters of a project file onto a network.

Plumbing.
"""

from __future__ import annotations

import json
from typing import Any

import click

from ic_types.errors import BadInput
from subnet.cli.connection import project_path, session, session_options
from subnet.cli.output import output_option
from subnet.lab.deployment import Deployed, DeployOptions
from subnet.lab.deployment import deploy as deploy_all
from subnet.lab.project import FILE, load_project


@click.command()
@click.argument("names", nargs=-1)
@click.option("--reinstall", is_flag=True, help="Replace code and memory of canisters that have code.")
@click.option("--upgrade-unchanged", is_flag=True, help="Upgrade canisters too that have this code already.")
@click.option("--allow-incompatible", is_flag=True, help="Even if callers of present services would break.")
@session_options
@output_option
def deploy(names: tuple[str, ...], **options: Any) -> None:
    """Make the canisters of the project file (NAMES and what they depend on; default: all) what it says.

    Those that don't exist are created, those with other code are upgraded, settings are changed where they differ; doing it
    again changes nothing. Exit code 1 when the network refuses a step; what was done before stays done.
    """
    path = project_path(options)
    if path is None:
        raise BadInput(f"there is no {FILE} here or above; --project names one (docs/cli.md shows its form)")
    how = DeployOptions(
        reinstall=options["reinstall"],
        upgrade_unchanged=options["upgrade_unchanged"],
        allow_incompatible=options["allow_incompatible"],
    )
    project = load_project(path)
    with session(options) as one:
        found = deploy_all(one, project.chosen(names), how, lambda text: click.echo(text, err=True))
        rows = [_row(deployed, one.link.subnet_of(deployed.canister_id)) for deployed in found]
    if options["output"] == "json":
        click.echo(json.dumps({"canisters": rows}, indent=1))
        return
    from subnet.cli.tables import console, table

    columns = ("canister", "id", "subnet", "module", "done")
    cells = [tuple(str(row[name])[:16] if name == "module" else str(row[name]) for name in columns) for row in rows]
    console().print(table("canisters", columns, cells))


def _row(one: Deployed, subnet: str) -> dict[str, str]:
    return {
        "canister": one.canister.name,
        "id": one.canister_id.to_text(),
        "subnet": subnet,
        "module": "" if one.module_hash is None else one.module_hash.hex(),
        "done": one.summary,
    }
