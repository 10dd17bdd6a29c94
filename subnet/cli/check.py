"""`icsim check` and `icsim schema`: topology files without starting anything.

Plumbing.
"""

from __future__ import annotations

import json
from typing import Any

import click

from configs.estimate import MIB, available_bytes, check_fits
from configs.limits import SubnetLimits
from configs.loader import load_topology
from configs.topology import Topology
from ic_types.errors import ConfigError, InvalidWasm
from subnet.cli.options import counted, topology_options


@click.command()
@click.argument("topology")
@topology_options
def check(topology: str, **options: Any) -> None:
    """Validate a topology, its modules and arguments, and print the memory it will take."""
    found = load_topology(topology, options["overrides"], nodes=options["nodes"], seed=options["seed"])
    check_modules(found, topology)
    available = available_bytes()
    estimate = check_fits(found, available)

    from subnet.cli.tables import console, table

    rows = [
        (
            one.subnet,
            found.subnet(one.subnet).kind.value,
            f"{one.nodes}",
            f"{one.canisters:,}",
            size(one.per_node),
            size(one.total),
        )
        for one in estimate.subnets
    ]
    rows.append(("shared processes", "", "", "", "", size(estimate.shared)))
    rows.append(("total", "", "", "", "", size(estimate.total)))
    columns = ("subnet", "type", "nodes", "canisters", "memory per node", "memory")
    out = console()
    out.print(
        f"{topology} is valid: {counted(len(found.subnets), 'subnet')}, {counted(len(found.canisters), 'canister')}, "
        f"{counted(sum(phase.calls for phase in found.workload), 'call')}, profile {found.profile}, seed {found.seed}"
    )
    out.print(table("estimated memory", columns, rows, right=columns[2:]))
    out.print(f"available now: {size(available)}")


def check_modules(topology: Topology, name: str) -> None:
    """Decode, validate and instrument every module, as its subnet would.

    Raises: ConfigError naming canister, module and the rule that it breaks.
    """
    from sandbox.wasm.prepare import prepare

    seen: set[tuple[bytes, SubnetLimits]] = set()
    for canister in topology.canisters:
        limits = topology.subnet(canister.subnet).limits
        if (canister.info.sha256, limits) in seen:
            continue
        seen.add((canister.info.sha256, limits))
        try:
            prepare(canister.wasm.read_bytes(), limits)
        except InvalidWasm as error:
            raise ConfigError(f"{name}, canister {canister.name!r}: module {canister.wasm} would be refused: {error}") from None


@click.command()
def schema() -> None:
    """Print the JSON schema of topology files, for editors."""
    from configs.schema import topology_schema

    click.echo(json.dumps(topology_schema(), indent=1))


def size(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count // MIB} MiB"
