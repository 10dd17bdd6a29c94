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
_WIDE = 132
"""Columns that the tables need with all digits."""
_PLAIN_WIDTH = 200
"""Columns when standard output is no terminal; nothing is cut off there."""


def console() -> Console:
    """Standard output."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False, soft_wrap=not sys.stdout.isatty())


class Style:
    """How much room there is: on a narrow terminal numbers are rounded (summary.json has them exactly)."""

    def __init__(self, width: int) -> None:
        self.narrow = width < _WIDE
        self.gap = 1 if self.narrow else 3
        self.hash_digits = 8 if self.narrow else 16

    def number(self, value: int) -> str:
        """All digits, or about four of them with a unit."""
        if not self.narrow or value < 100_000:
            return f"{value:,}"
        for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
            if value >= size:
                return f"{value / size:,.2f} {unit}"
        return f"{value / 1000:,.1f} k"


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), gap: int = 3
) -> Table:
    """A table with its numbers to the right."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, padding=(0, gap, 0, 0))
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
    style = Style(out.width)
    out.print(headline(summary))
    out.print(subnets(summary, style))
    if summary["canisters"]:
        out.print(canisters(summary, style))
    out.print(calls(summary, style))
    if invariants:
        rows = [("holds" if one.holds else "BROKEN", one.name, one.detail) for one in invariants]
        out.print(table("invariants", ("", "invariant", "figures"), rows, gap=style.gap))
    out.print()


def headline(summary: dict[str, Any]) -> str:
    """The run in one line."""
    rounds, wall = summary["rounds"], summary["wall_seconds"]
    seconds = summary["virtual_time_ns"] / 1e9
    rate = f"{rounds / wall:,.1f} rounds/s, {summary['messages_per_second']:,.0f} messages/s" if wall else ""
    run = f"{summary['topology']} (profile {summary['profile']}, seed {summary['seed']})"
    return f"{run}: {rounds:,} rounds, {seconds:,.0f} s of network time in {wall:,.1f} s ({rate})"


def subnets(summary: dict[str, Any], style: Style) -> Table:
    """Per subnet: height, state hash, agreement, work done."""
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = [
        (
            one["name"],
            one["type"],
            f"{one['height']:,}",
            one["state_hash"][: style.hash_digits],
            _agreement(one, style),
            style.number(one.get("messages", 0)),
            f"{one.get('xnet_in_requests', 0) + one.get('xnet_in_responses', 0):,}",
            f"{one.get('xnet_out_requests', 0) + one.get('xnet_out_responses', 0):,}",
            style.number(one.get("instructions", 0)),
            style.number(one.get("total_cycles_burned", 0)),
        )
        for one in summary["subnets"]
    ]
    if style.narrow:
        columns = ("subnet", "height", "hash", "agreed", "messages", "xnet in", "xnet out", "instr.", "burned")
        rows = [(row[0], *row[2:]) for row in rows]
    else:
        columns = ("subnet", "type", "height", "state hash", "agreement", *_WORK)
    left = ("subnet", "type", "hash", "state hash", "agreed", "agreement")
    return table("subnets", columns, rows, right=[name for name in columns if name not in left], gap=style.gap)


def _agreement(subnet: dict[str, Any], style: Style) -> str:
    nodes = subnet["nodes"]
    if not subnet["agreed"]:
        return "DIVERGED"
    return f"{nodes}/{nodes}" if style.narrow else f"{nodes} of {nodes} nodes"


def canisters(summary: dict[str, Any], style: Style) -> Table:
    """Per canister: process, messages, instructions, balance; the busiest when there are many."""
    found = summary["canisters"]
    shown = found
    title = "canisters"
    if len(found) > MAX_CANISTERS:
        shown = sorted(found, key=lambda one: -one["instructions"])[:MAX_CANISTERS]
        title = f"canisters (the {MAX_CANISTERS} busiest of {len(found):,}; summary.json has all)"
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = [
        (
            one["name"] or "-",
            one["id"],
            one["subnet"],
            str(one["pid"] or "-"),
            style.number(one["messages"]),
            style.number(one["instructions"]),
            style.number(one["cycles"]),
        )
        for one in shown
    ]
    if style.narrow:
        columns = ("canister", "id", "process", "messages", "instr.", "balance")
        rows = [(*row[:2], *row[3:]) for row in rows]
    else:
        columns = ("canister", "id", "subnet", "process", "messages", "instructions", "balance in cycles")
    left = ("canister", "id", "subnet")
    return table(title, columns, rows, right=[name for name in columns if name not in left], gap=style.gap)


def calls(summary: dict[str, Any], style: Style) -> Table:
    """Ingress, XNet and latency."""
    ingress, xnet, latency = summary["ingress"], summary["xnet"], summary["latency_rounds"]
    fields = [(key, f"{ingress[key]:,}") for key in ("submitted", "replied", "rejected", "pending")]
    fields += [(f"xnet {key}", f"{xnet[key]:,}") for key in ("requests", "responses")]
    name = "rounds p50/p95/max" if style.narrow else "latency in rounds: p50 / p95 / max"
    fields.append((name, f"{latency['p50']} / {latency['p95']} / {latency['max']}"))
    columns = tuple(column for column, _ in fields)
    return table("calls", columns, [tuple(value for _, value in fields)], right=columns, gap=style.gap)
