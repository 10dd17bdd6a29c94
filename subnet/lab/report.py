"""The end of a run: figures, invariants, outcome, and the file that keeps them.

Plumbing: writes summary.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ic_types.errors import DivergenceError, IcsimError
from subnet.control import ControlClient
from subnet.lab.invariants import Invariant, all_hold, check_all
from subnet.lab.run_dir import SUMMARY_FILE, RecordedInvariant


@dataclass(frozen=True, slots=True)
class Report:
    """What came out of a run."""

    summary: dict[str, Any]
    """As summary.json."""
    invariants: tuple[Invariant, ...]
    exit_code: int
    problem: str = ""
    """Why the run stopped before its end."""


def make_report(
    client: ControlClient,
    recorded: Iterable[RecordedInvariant],
    *,
    may_be_open: bool,
    failure: IcsimError | None = None,
    interrupted: bool = False,
) -> Report:
    """Ask the network for everything that a run's end shows; it must stand still, unless it was interrupted."""
    summary = client.summary()
    if failure is not None or interrupted:
        code = 130 if failure is None else failure.exit_code
        summary["outcome"] = "interrupted" if failure is None else _outcome(failure)
        found = tuple(Invariant(one["name"], one["holds"]) for one in summary["invariants"] if failure is not None)
        return Report(_completed(summary, found), found, code, str(failure or ""))
    found = tuple(check_all(client, client.describe(), summary, recorded, may_be_open=may_be_open))
    summary["outcome"] = "ok" if all_hold(found) else "failed"
    return Report(_completed(summary, found), found, 0 if all_hold(found) else 1)


def _outcome(failure: IcsimError) -> str:
    return "divergence" if isinstance(failure, DivergenceError) else {2: "bad_input"}.get(failure.exit_code, "failed")


def _completed(summary: dict[str, Any], invariants: tuple[Invariant, ...]) -> dict[str, Any]:
    return summary | {"invariants": [one.to_json() for one in invariants]}


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write summary.json."""
    draft = folder / f".{SUMMARY_FILE}"
    draft.write_text(json.dumps(summary, indent=1) + "\n")
    draft.replace(folder / SUMMARY_FILE)
