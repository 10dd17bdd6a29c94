"""`icsim replay`: a recorded run executed again, every hash compared.

Plumbing.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from ic_types.errors import BadInput
from subnet.cli.options import counted, execution_options, run_options
from subnet.cli.progress import Watch
from subnet.coordinator.journal import Journal
from subnet.lab import run_dir
from subnet.lab.start import replayed_config, running


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where the replay's own files go.")
@execution_options
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def replay(directory: Path, **options: Any) -> int:
    """Execute the run in DIRECTORY again from its journal and compare the state hash of every subnet at every height.

    Exit code 0 when all are equal, 3 at the first difference.
    """
    folder = run_dir.recorded_directory(directory)
    heights = recorded_heights(folder)
    out = None if options["out"] is None else run_dir.new_directory(options["out"])
    config = replayed_config(folder, run_options(options), out)
    started = time.monotonic()
    quiet = options["quiet"] or options["as_json"]
    with running(config) as network:
        with Watch(network.client, total=heights, quiet=quiet) as watch:
            done = watch.advance(until_idle=True)
        subnets = network.client.status().subnets
    nodes = sum(len(subnet.nodes) for subnet in subnets)
    seconds = time.monotonic() - started
    if options["as_json"]:
        hashes = {subnet.name: subnet.state_hash.hex() for subnet in subnets}
        click.echo(json.dumps({"outcome": "ok", "heights": done.height, "nodes": nodes, "state_hashes": hashes}, indent=1))
    else:
        subject = f"{counted(done.height, 'height')} of {counted(len(subnets), 'subnet')} on {counted(nodes, 'node')}"
        click.echo(f"replay agrees: {subject}, in {seconds:.1f} s")
        for subnet in subnets:
            click.echo(f"  {subnet.name}: {subnet.state_hash.hex()} at height {subnet.height:,}")
    return 0


def recorded_heights(folder: Path) -> int:
    """How far the run in a directory came.

    Raises: BadInput when it has no round, or can't be read.
    """
    journal = Journal.open(folder, read_only=True)
    try:
        found = journal.recorded_height
    finally:
        journal.close()
    if not found:
        raise BadInput(f"the run in {folder} ended before its first round; there is nothing to replay")
    return found
