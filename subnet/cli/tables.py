"""What a run prints at its end: the summary as tables for people.

Plumbing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from subnet.lab.invariants import Invariant

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MAX_CANISTERS = 30
"""More aren't printed; summary.json has them all."""
_WORK = ("messages", "xnet in", "xnet out", "instructions", "cycles burned")
_PLAIN_WIDTH = 200
"""Columns when standard output is no terminal; nothing is cut off there."""


def console() -> Console:
    """Standard output."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False, soft_wrap=not sys.stdout.isatty())


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A table with its numbers to the right."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, padding=(0, 3, 0, 0))
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold", header_style="dim")
    for row in rows:
        made.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    return made


def _style(cell: str) -> str:
    return {"holds": "green", "BROKEN": "bold red", "DIVERGED": "bold red"}.get(cell, "")


def print_summary(summary: dict[str, Any], invariants: Sequence[Invariant]) -> None:
    """The tables of `icsim run`."""
    out = console()
    out.print(headline(summary))
    out.print(subnets(summary))
    if summary["canisters"]:
        out.print(canisters(summary))
    out.print(calls(summary))
    if invariants:
        rows = [("holds" if one.holds else "BROKEN", one.name, one.detail) for one in invariants]
        out.print(table("invariants", ("", "invariant", "figures"), rows))


def headline(summary: dict[str, Any]) -> str:
    """The run in one line."""
    rounds, wall = summary["rounds"], summary["wall_seconds"]
    seconds = summary["virtual_time_ns"] / 1e9
    rate = f"{rounds / wall:,.1f} rounds/s, {summary['messages_per_second']:,.0f} messages/s" if wall else ""
    run = f"{summary['topology']} (profile {summary['profile']}, seed {summary['seed']})"
    return f"{run}: {rounds:,} rounds, {seconds:,.0f} s of network time in {wall:,.1f} s ({rate})"


def subnets(summary: dict[str, Any]) -> Table:
    """Per subnet: height, state hash, agreement, work done."""
    rows = [
        (
            one["name"],
            one["type"],
            f"{one['height']:,}",
            one["state_hash"][:16],
            f"{one['nodes']} of {one['nodes']} nodes" if one["agreed"] else "DIVERGED",
            f"{one.get('messages', 0):,}",
            f"{one.get('xnet_in_requests', 0) + one.get('xnet_in_responses', 0):,}",
            f"{one.get('xnet_out_requests', 0) + one.get('xnet_out_responses', 0):,}",
            f"{one.get('instructions', 0):,}",
            f"{one.get('total_cycles_burned', 0):,}",
        )
        for one in summary["subnets"]
    ]
    columns = ("subnet", "type", "height", "state hash", "agreement", *_WORK)
    return table("subnets", columns, rows, right=("height", *_WORK))


def canisters(summary: dict[str, Any]) -> Table:
    """Per canister: process, messages, instructions, balance; the busiest when there are many."""
    found = summary["canisters"]
    shown = found
    title = "canisters"
    if len(found) > MAX_CANISTERS:
        shown = sorted(found, key=lambda one: -one["instructions"])[:MAX_CANISTERS]
        title = f"canisters (the {MAX_CANISTERS} busiest of {len(found):,}; summary.json has all)"
    rows = [
        (
            one["name"] or "-",
            one["id"],
            one["subnet"],
            str(one["pid"] or "-"),
            f"{one['messages']:,}",
            f"{one['instructions']:,}",
            f"{one['cycles']:,}",
        )
        for one in shown
    ]
    columns = ("canister", "id", "subnet", "process", "messages", "instructions", "balance in cycles")
    return table(title, columns, rows, right=columns[3:])


def calls(summary: dict[str, Any]) -> Table:
    """Ingress, XNet and latency."""
    ingress, xnet, latency = summary["ingress"], summary["xnet"], summary["latency_rounds"]
    rows = [
        (
            *(f"{ingress[key]:,}" for key in ("submitted", "replied", "rejected", "pending")),
            f"{xnet['requests']:,}",
            f"{xnet['responses']:,}",
            f"{latency['p50']} / {latency['p95']} / {latency['max']}",
        )
    ]
    columns = (
        "submitted", "replied", "rejected", "pending", "xnet requests", "xnet responses", "latency in rounds: p50 / p95 / max"
    )  # fmt: skip
    return table("calls", columns, rows, right=columns)
