"""`icsim canister settings`: shows a canister's settings, or changes those that are named.

Plumbing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from ic_types.errors import BadInput
from ic_types.principal import Principal
from subnet.cli.connection import session, session_options
from subnet.cli.output import listing, output_option, show
from subnet.lab import canister_admin
from subnet.lab.deployment import principal_named
from subnet.lab.session import Session

_SIZE = re.compile(r"([0-9][0-9_]*)\s*(KiB|MiB|GiB|TiB|K|M|B|T|s|m|h|d)?\Z")
_UNITS: dict[str | None, int] = {
    **{None: 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12},
    **{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40},
    **{"s": 1, "m": 60, "h": 3600, "d": 86_400},
}
_ALLOWED = {
    "bytes": (None, "KiB", "MiB", "GiB", "TiB"),
    "cycles": (None, "K", "M", "B", "T"),
    "seconds": (None, "s", "m", "h", "d"),
    "percent": (None,),
}
_NUMBERS = {
    "compute_allocation": "percent",
    "memory_allocation": "bytes",
    "freezing_threshold": "seconds",
    "reserved_cycles_limit": "cycles",
    "wasm_memory_limit": "bytes",
    "wasm_memory_threshold": "bytes",
}
_VISIBILITIES = ("log_visibility", "snapshot_visibility", "status_visibility")


def _number_options(function: Any) -> Any:
    for name, unit in _NUMBERS.items():
        units = ", ".join(one for one in _ALLOWED[unit] if one)
        text = f"In {unit}" + (f"; or with one of {units}." if units else ".")
        function = click.option(f"--{name.replace('_', '-')}", name, metavar="N", help=text)(function)
    for name in _VISIBILITIES:
        text = "controllers, public, or principals with commas between."
        function = click.option(f"--{name.replace('_', '-')}", name, metavar="WHO", help=text)(function)
    return function


@click.command()
@click.argument("canister")
@click.option(
    "--set-controller", "controllers", multiple=True, metavar="WHO", help="These and no others: identity, canister or id."
)
@click.option("--add-controller", "added", multiple=True, metavar="WHO", help="One more.")
@click.option("--remove-controller", "removed", multiple=True, metavar="WHO", help="One less.")
@click.option("--environment-variable", "variables", multiple=True, metavar="NAME=VALUE", help="These and no others.")
@_number_options
@session_options
@output_option
def settings(canister: str, **options: Any) -> None:
    """Show the settings of CANISTER, or change those that are given."""
    with session(options) as one:
        canister_id, facts = one.existing(canister)
        changes = _changes(one, options, facts.controllers)
        if changes:
            canister_admin.update_settings(one, canister_id, changes)
        found = settings_json(canister_admin.about(one, "canister_status", canister_id)["settings"])
        show(found, options["output"], listing(found))


def _changes(one: Session, options: dict[str, Any], present: Sequence[Principal]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options["controllers"] or options["added"] or options["removed"]:
        found["controllers"] = _controllers(one, options, present)
    for name, unit in _NUMBERS.items():
        if options[name] is not None:
            found[name] = amount(options[name], unit, f"--{name.replace('_', '-')}")
    for name in _VISIBILITIES:
        if options[name] is not None:
            found[name] = _visibility(one, options[name])
    if options["variables"]:
        found["environment_variables"] = [_variable(text) for text in options["variables"]]
    return found


def _controllers(one: Session, options: dict[str, Any], present: Sequence[Principal]) -> list[Principal]:
    chosen = options["controllers"]
    found = [principal_named(one, who) for who in chosen] if chosen else list(present)
    found += [principal_named(one, who) for who in options["added"]]
    removed = {principal_named(one, who) for who in options["removed"]}
    if missing := sorted(who for who in removed if who not in found):
        raise BadInput(f"--remove-controller: {missing[0]} is no controller; controllers: {', '.join(map(str, found))}")
    return [who for who in dict.fromkeys(found) if who not in removed]


def amount(text: str, unit: str, option: str) -> int:
    """A number with a unit behind it.

    Raises: BadInput naming the option and the units there are.
    """
    match = _SIZE.match(text.strip())
    if match is None or match[2] not in _ALLOWED[unit]:
        units = ", ".join(one for one in _ALLOWED[unit] if one)
        raise BadInput(f"{option} {text}: expected {unit}" + (f", a number or one with {units} behind" if units else ""))
    return int(match[1].replace("_", "")) * _UNITS[match[2]]


def _visibility(one: Session, text: str) -> dict[str, Any]:
    if text in ("controllers", "public"):
        return {text: None}
    return {"allowed_viewers": [principal_named(one, who.strip()) for who in text.split(",")]}


def _variable(text: str) -> dict[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise BadInput(f"--environment-variable {text}: expected NAME=VALUE")
    return {"name": name, "value": value}


def settings_json(value: dict[str, Any]) -> dict[str, Any]:
    """Settings of the management canister for people and programs."""
    found: dict[str, Any] = {"controllers": [who.to_text() for who in value["controllers"]]}
    found |= {name: value[name] for name in sorted(value) if name != "controllers" and value[name] is not None}
    for name in _VISIBILITIES:
        if name in found:
            ((case, viewers),) = value[name].items()
            found[name] = case if viewers is None else [who.to_text() for who in viewers]
    if "environment_variables" in found:
        found["environment_variables"] = {one["name"]: one["value"] for one in value["environment_variables"]}
    return found
