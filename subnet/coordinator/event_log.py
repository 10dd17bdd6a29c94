"""What happened, for people and tests: events in SQLite, state hashes of all nodes in heights.jsonl.

Plumbing. Neither is ever read to decide anything; the journal alone is. So nothing here waits for the disk.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import structlog

from ic_types.trace import TraceEvent
from subnet.coordinator.network_state import Subnet
from subnet.protocol import RoundResult

EVENTS_FILE = "events.sqlite"
HEIGHTS_FILE = "heights.jsonl"
_COMMIT_SECONDS = 1.0
log = structlog.get_logger()


class EventLog:
    """Events of one run; without a folder nothing is kept but the log."""

    def __init__(self, folder: Path | None) -> None:
        self._db: sqlite3.Connection | None = None
        self._heights: IO[str] | None = None
        self._committed = time.monotonic()
        if folder is None:
            return
        self._db = sqlite3.connect(folder / EVENTS_FILE, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, at_ns INTEGER, height INTEGER, kind TEXT, fields TEXT)"
        )
        self._heights = (folder / HEIGHTS_FILE).open("w")

    def record(self, height: int, kind: str, **fields: Any) -> None:
        """Something happened at this height."""
        log.info(f"coordinator.{kind}", height=height, **fields)
        if self._db is None:
            return
        if not self._db.in_transaction:
            self._db.execute("BEGIN")
        row = (time.time_ns(), height, kind, json.dumps(fields, default=str))
        self._db.execute("INSERT INTO events (at_ns, height, kind, fields) VALUES (?, ?, ?, ?)", row)

    def trace(self, height: int, event: TraceEvent) -> None:
        """A step of a message on the coordinator's side; the nodes' steps come with their results."""
        self.record(height, "trace", step=event.step, subject=event.subject.hex(), detail=event.detail)

    def heights(self, subnet: Subnet, height: int, hashes: Mapping[int, bytes]) -> None:
        """The state hashes of a subnet's nodes."""
        if self._heights is None:
            return
        name = subnet.plan.name
        self._heights.write(
            "".join(
                f'{{"subnet": "{name}", "node": {node}, "height": {height}, "state_hash": "{found.hex()}"}}\n'
                for node, found in hashes.items()
            )
        )

    def round(self, subnet: Subnet, result: RoundResult) -> None:
        """One line per round that did something."""
        if result.stats.get("messages") or result.outcomes or result.stats.get("refused_slices"):
            self.record(result.height, "round_finished", subnet=subnet.plan.name, outcomes=len(result.outcomes), **result.stats)

    def node_trace(self, subnet: Subnet, result: RoundResult) -> None:
        """The steps of messages on one node, when its answer comes."""
        for step, subject, detail in result.trace:
            self.record(result.height, "trace", subnet=subnet.plan.name, step=step, subject=subject.hex(), detail=detail)

    def commit(self, *, now: bool = False) -> None:
        """Write out, if it is due."""
        if not now and time.monotonic() - self._committed < _COMMIT_SECONDS:
            return
        self._committed = time.monotonic()
        if self._db is not None and self._db.in_transaction:
            self._db.execute("COMMIT")
        if self._heights is not None:
            self._heights.flush()

    def close(self) -> None:
        """Write out and close."""
        self.commit(now=True)
        if self._db is not None:
            self._db.close()
        if self._heights is not None:
            self._heights.close()
