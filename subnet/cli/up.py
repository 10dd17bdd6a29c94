"""`icsim up`: a network that keeps running, for agents over HTTP and for the commands that act on it.

Plumbing. Its time is that of the wall clock, or with --virtual-time passes only as rounds are asked for.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from configs.estimate import available_bytes, check_fits
from configs.loader import LOCAL, load_topology
from ic_types import bls
from ic_types.errors import BadInput, DivergenceError, IcsimError, NetworkError
from subnet.cli.options import execution_options, fault_options, run_options, topology_options
from subnet.cli.progress import Watch
from subnet.cli.resuming import resumed
from subnet.cli.run import shown_path
from subnet.control import advertise, running_networks
from subnet.control_protocol import Description
from subnet.lab import run_dir
from subnet.lab.start import launch, new_config
from subnet.launch import USUAL_PORT, Listening, RunningNetwork
from subnet.network_config import CoordinatorConfig

_GATEWAY_SECONDS = 30.0

_WATCH_S = 1.0
"""How often a network in the foreground is asked whether it still makes rounds."""


@click.command()
@click.argument("topology", required=False)
@topology_options
@click.option("--background", is_flag=True, help="Return when the network is ready; `icsim down` ends it.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Run directory (default: a new one).")
@click.option("--name", metavar="NAME", help="What other commands call it (default: the topology's name).")
@click.option(
    "--port", type=int, metavar="P", help=f"Port for HTTP; 0: any that is free (default: {USUAL_PORT} if it is free)."
)
@click.option("--bind", default="127.0.0.1", metavar="ADDRESS", help="Address for HTTP (127.0.0.1).")
@click.option(
    "--virtual-time", is_flag=True, help="Time stands still between commands: each call makes the rounds that it needs."
)
@click.option(
    "--accept-any-expiry", is_flag=True, help="Requests never expire, for agents that talk to a network in virtual time."
)
@click.option("--ready-file", type=click.Path(path_type=Path), metavar="PATH", help="Written when the network is ready.")
@click.option(
    "--resume", type=click.Path(path_type=Path), metavar="DIR", help="Go on with the network in DIR; TOPOLOGY may be left out."
)
@click.option("--workload", is_flag=True, help="Drive the topology's workload too, as rounds are made.")
@click.option("--quiet", is_flag=True, help="No progress and no table.")
@execution_options
@fault_options
def up(**options: Any) -> int:
    """Start a network, install its canisters, and keep it, for agents (over HTTP) and for `icsim call`, `query`, `status`, ...

    Without TOPOLOGY: a system and an application subnet of one node each, with mainnet's limits, for `icsim deploy`.
    Rounds follow the wall clock: one at once when something arrives, otherwise one per second.
    """
    live = not options["virtual_time"]
    port = options["port"]
    if port is not None and not 0 <= port < 1 << 16:
        raise BadInput(f"--port {port}: allowed is 0 to 65535")
    _refuse_taken(options["name"])
    config, folder = _new(options) if options["resume"] is None else resumed(options)[:2]
    topology, name = options["topology"] or str(options["resume"]), options["name"] or config.name
    config = replace(config, live=live, accept_any_expiry=options["accept_any_expiry"])
    network = launch(config, background=options["background"], http=Listening(options["bind"], port))
    entry: Path | None = None
    try:
        try:
            with Watch(network.client, quiet=options["quiet"]) as watch:
                watch.advance(until_installed=True)
        except BadInput as error:
            raise BadInput(f"{topology}: {error}") from None
        entry = advertise(run_dir.home(), name, network.folder, topology, str(folder))
        _await_gateway(network)
        _announce(network, entry, folder, options)
        if options["background"]:
            return 0
        _wait(network)
    except BaseException:
        _end(network, entry, folder)
        raise
    _end(network, entry, folder)
    click.echo("the network was ended by `icsim down`", err=True)
    return 0


def _new(options: dict[str, Any]) -> tuple[CoordinatorConfig, Path]:
    topology = options["topology"] or str(LOCAL)
    found = load_topology(topology, options["overrides"], nodes=options["nodes"], seed=options["seed"])
    check_fits(found, available_bytes())
    config = new_config(found, run_options(options), None, with_workload=options["workload"])
    out = options["out"]
    folder = run_dir.default_directory(found.name, found.seed) if out is None else run_dir.new_directory(out)
    run_dir.write_run_file(folder, run_dir.run_file(found, topology))
    return replace(config, out_dir=str(folder)), folder


def _refuse_taken(name: str | None) -> None:
    if name is not None and any(one.name == name for one in running_networks(run_dir.home())):
        raise BadInput(f"a network called {name!r} runs already; choose another --name, or end it: icsim down --dir {name}")


def _announce(network: RunningNetwork, entry: Path, folder: Path, options: dict[str, Any]) -> None:
    facts = json.loads(entry.read_text())
    description = network.client.describe()
    if not options["quiet"]:
        from subnet.cli.status import print_status

        print_status(network.client, facts["name"])
        click.echo(f"root key: {bls.to_der(description.registry.subnets[0].public_key).hex()}")
        click.echo(f"run directory: {shown_path(folder)}")
        end = f"end it with: icsim down --dir {facts['name']}" if options["background"] else "Ctrl-C ends it"
        click.echo(f"network {facts['name']} is ready; {end}")
    if options["ready_file"] is not None:
        path: Path = options["ready_file"]
        draft = path.with_name(f".{path.name}.draft")
        try:
            draft.write_text(json.dumps({**facts, **_addresses(description)}, indent=1) + "\n")
            draft.replace(path)
        except OSError as error:
            raise BadInput(f"--ready-file {path} can't be written: {error.strerror}") from error


def _addresses(description: Description) -> dict[str, Any]:
    """What programs need to talk to the network."""
    registry = description.registry
    return {
        "url": description.url,
        "root_key": bls.to_der(registry.subnets[0].public_key).hex(),
        "subnets": [
            {
                "name": one.name,
                "id": str(one.subnet_id),
                "type": one.subnet_type,
                "nodes": [str(node) for node in one.nodes],
                "canister_ranges": [[str(one.range_start), str(one.range_end)]],
            }
            for one in registry.subnets
        ],
        "canisters": {one.name: str(one.canister_id) for one in description.canisters},
    }


def _await_gateway(network: RunningNetwork) -> None:
    """Until requests are served.

    Raises: NetworkError when it takes too long.
    """
    url = network.client.describe().url
    deadline = time.monotonic() + _GATEWAY_SECONDS
    while True:
        network.check()
        try:
            with urllib.request.urlopen(f"{url}/api/v2/status", timeout=_GATEWAY_SECONDS):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise NetworkError(
                    f"HTTP isn't served at {url}: {error}; see logs/gateway.jsonl of the run directory"
                ) from error
            time.sleep(0.05)


def _wait(network: RunningNetwork) -> None:
    """Until the network ends; Ctrl-C comes as KeyboardInterrupt.

    Raises: NetworkError when it ended for another reason than `icsim down`, or an invariant is broken; DivergenceError when
    nodes differ.
    """
    while True:
        try:
            code = network.process.wait(timeout=_WATCH_S)
        except subprocess.TimeoutExpired:
            _raise_problem(network)
            continue
        if code:
            raise network.call_failed(NetworkError(f"the network ended with exit code {code}"))
        return


def _raise_problem(network: RunningNetwork) -> None:
    """A network that has stopped making rounds is of no more use to anybody here; its run directory tells the rest."""
    try:
        found = network.client.status()
    except NetworkError:
        return  # it is ending, which the next wait tells
    if found.problem:
        raise {DivergenceError.exit_code: DivergenceError}.get(found.exit_code, NetworkError)(found.problem)


def _end(network: RunningNetwork, entry: Path | None, folder: Path) -> None:
    try:
        network.stop("icsim up ended")
    except IcsimError as error:
        click.echo(f"icsim: {error}", err=True)
    if entry is not None:
        entry.unlink(missing_ok=True)
    run_dir.release(folder)
