"""The journal: every batch is on disk before any node sees it, so that a run can be replayed and continued.

Plumbing. SQLite in WAL mode; a round with input is one transaction and one fsync for all subnets. A run of rounds without
input is one row, written along with the next commit: losing it loses nothing, since making empty rounds again gives the same.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ic_types import trace
from ic_types.errors import BadInput, NetworkError

FILE_NAME = "journal.sqlite"
SCHEMA_VERSION = 2
_COMMIT_SECONDS = 1.0
_SCHEMA = """
CREATE TABLE genesis (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (subnet INTEGER, height INTEGER, batch BLOB NOT NULL, PRIMARY KEY (subnet, height)) WITHOUT ROWID;
CREATE TABLE empty_runs (subnet INTEGER, first INTEGER, last INTEGER NOT NULL, PRIMARY KEY (subnet, first)) WITHOUT ROWID;
CREATE TABLE ingress (subnet INTEGER, height INTEGER, place INTEGER, arrival INTEGER, envelope BLOB NOT NULL,
  PRIMARY KEY (subnet, height, place)) WITHOUT ROWID;
CREATE TABLE times (height INTEGER PRIMARY KEY, time INTEGER NOT NULL);
CREATE TABLE heights (subnet INTEGER, height INTEGER, state_hash BLOB NOT NULL, root_hash BLOB NOT NULL,
  signature BLOB NOT NULL, randomness BLOB NOT NULL, PRIMARY KEY (subnet, height)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """What one subnet gets in one round; `raw` is None when there is no input."""

    raw: bytes | None
    envelopes: Sequence[tuple[int, bytes]] = ()
    """Arrival height and signed bytes of each ingress message."""


@dataclass(frozen=True, slots=True)
class RecordedHeight:
    """What a subnet agreed on at a height."""

    state_hash: bytes
    root_hash: bytes
    signature: bytes
    """Threshold signature over the root hash."""
    randomness: bytes
    """For the next height."""


def replay_difference(subnet: str, height: int, recorded: RecordedHeight, now: RecordedHeight) -> str:
    """What differs when a height is executed again, in words."""
    what = "state hash" if recorded.state_hash != now.state_hash else "certification or random tape"
    was = f"{what} was {recorded.state_hash.hex()}, now {now.state_hash.hex()}"
    return f"replay differs on subnet {subnet} at height {height}: {was}"


class Journal:
    """One run's journal; subnets are numbered in topology order."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self.path = path
        self._runs: dict[int, list[int]] = {}
        self._last_commit = time.monotonic()
        self.commit_ns = 0
        """Time spent on commits, for benchmarks."""
        row = self._db.execute(
            "SELECT MAX(top) FROM (SELECT MAX(height) AS top FROM batches UNION ALL SELECT MAX(last) FROM empty_runs)"
        ).fetchone()
        self.recorded_height: int = row[0] or 0
        """Last height whose batches were on disk when the journal was opened."""

    @classmethod
    def create(cls, folder: Path, genesis: bytes) -> Journal:
        """Start a journal in this folder.

        Raises: BadInput when there is one already, or the folder can't be written.
        """
        path = folder / FILE_NAME
        if path.exists():
            raise BadInput(f"{folder} holds a run already; choose another --out, or continue it with --resume {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            db = _connect(path)
            db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise BadInput(f"no journal can be written in {folder}: {error}; choose another --out") from error
        with db:
            db.execute("BEGIN")
            db.execute("INSERT INTO genesis VALUES ('schema', ?)", (SCHEMA_VERSION,))
            db.execute("INSERT INTO genesis VALUES ('genesis', ?)", (genesis,))
        return cls(db, path)

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False) -> Journal:
        """Open the journal of an earlier run.

        Raises: BadInput when there is none, or of another version.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise BadInput(f"{folder} holds no journal ({FILE_NAME}); name the directory given to --out of an earlier run")
        try:
            db = _connect(path, read_only=read_only)
            row = db.execute("SELECT value FROM genesis WHERE key = 'schema'").fetchone()
        except sqlite3.Error as error:
            raise BadInput(f"{path} is not a journal: {error}") from error
        if row is None or row[0] != SCHEMA_VERSION:
            raise BadInput(f"{path} has schema version {row and row[0]}, this program writes {SCHEMA_VERSION}")
        return cls(db, path)

    def genesis(self) -> bytes:
        """The genesis record."""
        found: bytes = self._db.execute("SELECT value FROM genesis WHERE key = 'genesis'").fetchone()[0]
        return found

    def record_round(self, height: int, batches: Sequence[RecordedBatch], time_ns: int | None = None) -> None:
        """Record the batches of all subnets for this height; they are on disk afterwards unless all are empty.

        `time_ns` is their time, if it doesn't follow from the height.

        Raises: NetworkError when they can't be written, e.g. since the disk is full.
        """
        trace.emit("subnet.coordinator.journal.record_round", b"", str(height))
        with self._writing():
            self._begin()
            if time_ns is not None:
                self._db.execute("INSERT INTO times VALUES (?, ?)", (height, time_ns))
            for subnet, batch in enumerate(batches):
                if batch.raw is None:
                    self._extend_run(subnet, height)
                else:
                    self._insert(subnet, height, batch)
        if any(batch.raw is not None for batch in batches):
            self.commit()
        else:
            self.commit_if_due()

    def _insert(self, subnet: int, height: int, batch: RecordedBatch) -> None:
        self._end_run(subnet)
        self._db.execute("INSERT INTO batches VALUES (?, ?, ?)", (subnet, height, batch.raw))
        if batch.envelopes:
            rows = [(subnet, height, place, at, raw) for place, (at, raw) in enumerate(batch.envelopes)]
            self._db.executemany("INSERT INTO ingress VALUES (?, ?, ?, ?, ?)", rows)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = "make room on the disk and continue with --resume"
            raise NetworkError(f"the journal {self.path} can't be written: {error}; {remedy}") from error

    def _extend_run(self, subnet: int, height: int) -> None:
        self._runs.setdefault(subnet, [height, height])[1] = height

    def _end_run(self, subnet: int) -> None:
        if subnet in self._runs:
            self._db.execute("INSERT OR REPLACE INTO empty_runs VALUES (?, ?, ?)", (subnet, *self._runs.pop(subnet)))

    def record_height(self, subnet: int, height: int, agreed: RecordedHeight) -> None:
        """Record what a subnet agreed on; written with the next commit."""
        row = (subnet, height, agreed.state_hash, agreed.root_hash, agreed.signature, agreed.randomness)
        with self._writing():
            self._begin()
            self._db.execute("INSERT OR REPLACE INTO heights VALUES (?, ?, ?, ?, ?, ?)", row)

    def batch(self, subnet: int, height: int) -> bytes | None:
        """The encoded batch; None for a round without input."""
        row = self._db.execute("SELECT batch FROM batches WHERE subnet = ? AND height = ?", (subnet, height)).fetchone()
        return row[0] if row else None

    def time(self, height: int) -> int | None:
        """Batch time of this height, if it doesn't follow from the height."""
        row = self._db.execute("SELECT time FROM times WHERE height = ?", (height,)).fetchone()
        return row[0] if row else None

    def agreed(self, subnet: int, height: int) -> RecordedHeight | None:
        """What the subnet agreed on at this height, if it is known."""
        row = self._db.execute(
            "SELECT state_hash, root_hash, signature, randomness FROM heights WHERE subnet = ? AND height = ?", (subnet, height)
        ).fetchone()
        return RecordedHeight(*row) if row else None

    def envelopes(self, subnet: int, height: int) -> list[tuple[int, bytes]]:
        """Arrival heights and signed bytes of a batch's ingress messages."""
        return self._db.execute(
            "SELECT arrival, envelope FROM ingress WHERE subnet = ? AND height = ? ORDER BY place", (subnet, height)
        ).fetchall()

    def empty_runs(self, subnet: int) -> list[tuple[int, int]]:
        """First and last height of each run of rounds without input."""
        self._write_runs()
        return self._db.execute("SELECT first, last FROM empty_runs WHERE subnet = ? ORDER BY first", (subnet,)).fetchall()

    def commit(self) -> None:
        """Put everything recorded so far on disk.

        Raises: NetworkError when it can't be written.
        """
        started = time.perf_counter_ns()
        with self._writing():
            self._write_runs()
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        self._last_commit = time.monotonic()
        self.commit_ns += time.perf_counter_ns() - started

    def commit_if_due(self) -> None:
        """Commit when the last one is a while ago, so that an idle network loses little."""
        if time.monotonic() - self._last_commit > _COMMIT_SECONDS:
            self.commit()

    def close(self) -> None:
        """Commit, if that is possible, and close."""
        with contextlib.suppress(NetworkError):
            self.commit()
        self._db.close()

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN")

    def _write_runs(self) -> None:
        if self._runs:
            self._begin()
            rows = [(subnet, first, last) for subnet, (first, last) in self._runs.items()]
            self._db.executemany("INSERT OR REPLACE INTO empty_runs VALUES (?, ?, ?)", rows)


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{path}?mode={'ro' if read_only else 'rwc'}", uri=True, isolation_level=None)
    if not read_only:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA wal_autocheckpoint = 4000")
    return db
