"""The journal: what it keeps, when it is on disk, and what it refuses."""

from __future__ import annotations

import sqlite3
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types.errors import BadInput, NetworkError
from subnet.coordinator.journal import FILE_NAME, Journal, RecordedBatch, RecordedHeight

EMPTY = RecordedBatch(None)


def agreed(height: int) -> RecordedHeight:
    """Something that a subnet could agree on."""
    return RecordedHeight(b"s%d" % height, b"r%d" % height, b"c%d" % height, b"t%d" % height)


def test_a_round_with_input_is_on_disk_before_record_round_returns(tmp_path: Path) -> None:
    """Another connection sees it, together with all that came before."""
    journal = Journal.create(tmp_path, b"genesis")
    journal.record_round(1, [EMPTY])
    journal.record_height(0, 1, agreed(1))
    journal.record_round(2, [RecordedBatch(b"batch", [(1, b"envelope")])])
    other = Journal.open(tmp_path, read_only=True)
    assert other.recorded_height == 2
    assert other.batch(0, 2) == b"batch"
    assert other.batch(0, 1) is None
    assert other.agreed(0, 1) == agreed(1)
    assert other.envelopes(0, 2) == [(1, b"envelope")]
    assert other.empty_runs(0) == [(1, 1)]
    assert other.genesis() == b"genesis"


def test_an_empty_round_needs_no_commit_of_its_own(tmp_path: Path) -> None:
    """It is written along with a later one; a reader doesn't see it before."""
    journal = Journal.create(tmp_path, b"")
    journal.record_round(1, [EMPTY])
    assert Journal.open(tmp_path, read_only=True).recorded_height == 0
    journal.commit()
    assert Journal.open(tmp_path, read_only=True).recorded_height == 1


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_every_round_is_either_a_batch_or_in_one_run(rounds: list[tuple[bool, bool]]) -> None:
    """Runs are maximal, and together with the batches cover every height once, per subnet."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.create(Path(folder), b"")
        for height, full in enumerate(rounds, 1):
            journal.record_round(height, [RecordedBatch(b"%d" % height) if one else EMPTY for one in full])
        journal.close()
        read = Journal.open(Path(folder), read_only=True)
        assert read.recorded_height == len(rounds)
        for subnet in range(2):
            runs = read.empty_runs(subnet)
            empty = [height for first, last in runs for height in range(first, last + 1)]
            assert empty == [height for height, full in enumerate(rounds, 1) if not full[subnet]]
            assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(runs))
            for height, full in enumerate(rounds, 1):
                assert read.batch(subnet, height) == (b"%d" % height if full[subnet] else None)


def test_a_folder_with_a_journal_is_refused_for_a_new_run(tmp_path: Path) -> None:
    """The message says what to do instead."""
    Journal.create(tmp_path, b"").close()
    with pytest.raises(BadInput, match=r"holds a run already; choose another --out, or continue it with --resume"):
        Journal.create(tmp_path, b"")


def test_a_folder_without_a_journal_is_refused_for_a_replay(tmp_path: Path) -> None:
    """The message names the file that is missing."""
    with pytest.raises(BadInput, match=r"holds no journal \(journal.sqlite\)"):
        Journal.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be one" * 100])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    """No traceback of the database's."""
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(BadInput, match="is not a journal"):
        Journal.open(tmp_path, read_only=True)


def test_another_version_is_refused(tmp_path: Path) -> None:
    """Both versions are named."""
    journal = Journal.create(tmp_path, b"")
    journal.close()
    db = sqlite3.connect(tmp_path / FILE_NAME)
    with db:
        db.execute("UPDATE genesis SET value = 99 WHERE key = 'schema'")
    db.close()
    with pytest.raises(BadInput, match="has schema version 99, this program writes 2"):
        Journal.open(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="no journal can be written in"):
        Journal.create(tmp_path / "file" / "run", b"")


def test_a_full_disk_is_an_error_that_names_the_journal(tmp_path: Path) -> None:
    """The remedy is named too; what was committed before stays."""
    journal = Journal.create(tmp_path, b"")
    journal.record_round(1, [RecordedBatch(b"first")])
    journal._db.execute("PRAGMA max_page_count = 9")
    with pytest.raises(
        NetworkError, match=r"journal\.sqlite can't be written: database or disk is full; make room on the disk"
    ):
        journal.record_round(2, [RecordedBatch(bytes(1 << 20))])
    journal.close()
    again = Journal.open(tmp_path)
    assert (again.recorded_height, again.batch(0, 1)) == (1, b"first")
