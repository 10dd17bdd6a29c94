"""Options and words that several commands share.

Plumbing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from subnet.lab.start import RunOptions

F = TypeVar("F", bound=Callable[..., Any])

_TOPOLOGY = (
    click.option("--seed", type=int, metavar="S", help="Enters the genesis randomness and {rand:N}."),
    click.option("--nodes", type=int, metavar="N", help="Nodes of every subnet."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key, such as subnet.app-1.nodes=7."),
)
_EXECUTION = (
    click.option("--jobs", type=int, metavar="N", help="At most N sandboxes compute at once; changes no hash."),
    click.option("--fresh-interpreters", is_flag=True, help="Every node in an interpreter of its own, with its own hash seed."),
    click.option("--batch-size", type=int, default=100, metavar="N", help="Messages sent to a sandbox at once (100)."),
    click.option("--no-reuse", is_flag=True, help="A fresh Wasm instance for every message."),
    click.option(
        "--check-invariants", is_flag=True, help="Check every invariant after every round; a breach ends the run (exit code 1)."
    ),
    click.option("--max-sandboxes", type=int, default=500, metavar="N", help="Sandbox processes of one node (500)."),
)
_FAULTS = (
    click.option(
        "--fault",
        "faults",
        multiple=True,
        metavar="SPEC",
        help="flip:NODE,CANISTER,PAGE,BYTE@HEIGHT damages a byte; forge:SUBNET,CANISTER,CYCLES@HEIGHT makes cycles of nothing; "
        "crash:NODE,STEP@HEIGHT ends a node at a step of an install.",
    ),
    click.option("--trace", is_flag=True, help="Record the way of every message in events.sqlite."),
)


def _all(options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def topology_options(function: F) -> F:
    """--seed, --nodes, --set."""
    return _all(_TOPOLOGY)(function)


def execution_options(function: F) -> F:
    """Options that change how a network is run, but no hash."""
    return _all(_EXECUTION)(function)


def fault_options(function: F) -> F:
    """--fault and --trace."""
    return _all(_FAULTS)(function)


def dir_option(function: F) -> F:
    """--dir."""
    text = "Which network: its name, run directory or socket folder (default: the only one running)."
    return click.option("--dir", "which", metavar="DIR", help=text)(function)


def run_options(options: dict[str, Any]) -> RunOptions:
    """What the execution and fault options say."""
    return RunOptions(
        jobs=options["jobs"],
        fresh_interpreters=options["fresh_interpreters"],
        faults=tuple(options.get("faults", ())),
        trace=options.get("trace", False),
        check_invariants=options["check_invariants"],
        batch_size=options["batch_size"],
        reuse_instances=not options["no_reuse"],
        max_sandboxes=options["max_sandboxes"],
    )


def counted(number: int, noun: str) -> str:
    """`1 subnet`, `3 subnets`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
