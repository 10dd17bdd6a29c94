"""Committed memory against a plain model: commits, copies, snapshots, audits, and what a sandbox would map."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from sandbox.page_store import PageFile
from sandbox.paged_memory import PagedMemory, PageTable, Snapshot

PAGE = 4096
WASM_PAGES = 64
PAGES = st.one_of(st.integers(0, 6), st.integers(250, 260), st.integers(0, WASM_PAGES * 16 - 1))
FILLS = st.integers(0, 3)


def page_of(fill: int) -> bytes:
    """A page that differs only in its last byte, so that a comparison has to look at all of it."""
    return bytes(PAGE - 1) + bytes([fill])


def content_by_runs(table: PageTable) -> dict[int, bytes]:
    """What a sandbox would see: pages read through the read-only descriptor where the runs say."""
    seen = {}
    for run in table.runs():
        assert run.offset is not None
        for k in range(run.count):
            seen[run.page + k] = os.pread(table.fd, PAGE, run.offset + k * PAGE)
    return seen


def fresh_root(model: dict[int, int], wasm_pages: int) -> bytes:
    """The root hash of a memory that got its content in one commit."""
    memory = PagedMemory.new(wasm_pages)
    pages = sorted(model)
    memory.commit(pages, b"".join(page_of(model[p]) for p in pages))
    return memory.root_hash()


class Machine(RuleBasedStateMachine):
    """Memories and snapshots of one family, each beside a dict of its non-zero pages."""

    memories = Bundle("memories")
    snapshots = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[PageTable, dict[int, int]]] = []

    @initialize(target=memories)
    def first(self) -> tuple[PagedMemory, dict[int, int]]:
        """An empty memory to begin with."""
        self.all.append((PagedMemory.new(WASM_PAGES), {}))
        return self.all[-1]  # type: ignore[return-value]

    @rule(memory=memories, pages=st.dictionaries(PAGES, FILLS, max_size=8), start=PAGES, count=st.integers(0, 12), fill=FILLS)
    def commit(
        self, memory: tuple[PagedMemory, dict[int, int]], pages: dict[int, int], start: int, count: int, fill: int
    ) -> None:
        """Only pages whose content changes are counted."""
        real, model = memory
        pages = {**dict.fromkeys(range(start, min(start + count, WASM_PAGES * 16)), fill), **pages}
        indices = sorted(pages)
        content = b"".join(page_of(pages[p]) for p in indices)
        changed = sum(model.get(p, 0) != pages[p] for p in indices)
        assert real.count_changed(indices, content) == changed
        assert real.commit(indices, content) == changed
        model.update(pages)
        for p in indices:
            if not model[p]:
                del model[p]

    @rule(target=memories, memory=memories)
    def fork(self, memory: tuple[PagedMemory, dict[int, int]]) -> tuple[PagedMemory, dict[int, int]]:
        """A fork goes its own way."""
        self.all.append((memory[0].fork(), dict(memory[1])))
        return self.all[-1]  # type: ignore[return-value]

    @rule(target=snapshots, memory=memories)
    def freeze(self, memory: tuple[PagedMemory, dict[int, int]]) -> tuple[Snapshot, dict[int, int]]:
        """A snapshot stays as it is."""
        self.all.append((memory[0].freeze(), dict(memory[1])))
        return self.all[-1]  # type: ignore[return-value]

    @rule(snapshot=consumes(snapshots))
    def release(self, snapshot: tuple[Snapshot, dict[int, int]]) -> None:
        """A released snapshot lets go of its pages."""
        snapshot[0].release()
        self.all = [entry for entry in self.all if entry[0] is not snapshot[0]]

    @rule(memory=memories)
    def compact(self, memory: tuple[PagedMemory, dict[int, int]]) -> None:
        """After compaction a memory has as few runs as it can have."""
        memory[0].compact()
        gaps = sum(p - 1 not in memory[1] for p in memory[1])
        assert len(memory[0].runs()) == gaps

    @rule(memory=memories)
    def root_hash(self, memory: tuple[PagedMemory, dict[int, int]]) -> None:
        """The root depends on content alone."""
        assert memory[0].root_hash() == fresh_root(memory[1], WASM_PAGES)

    @rule(memory=memories)
    def audit_finds_nothing(self, memory: tuple[PagedMemory, dict[int, int]]) -> None:
        """Undamaged memory passes an audit."""
        assert memory[0].audit_all() == []

    @rule(memory=memories, page=PAGES, byte=st.integers(0, PAGE - 1))
    def damage(self, memory: tuple[PagedMemory, dict[int, int]], page: int, byte: int) -> None:
        """A flipped byte is found by an audit and shows in the root; flipped back and audited, all is as before."""
        twin = memory[0].fork()
        twin.compact()
        before = twin.root_hash()
        twin.flip(page, byte)
        assert twin.root_hash() == before
        assert twin.audit(0, page) == []
        assert twin.audit(page, 1) == [page]
        assert twin.audit_all() == []
        assert twin.root_hash() != before
        twin.flip(page, byte)
        assert twin.audit_all() == [page]
        assert twin.root_hash() == before

    @rule(memory=memories, pages=st.sets(PAGES, max_size=5))
    def runs_of_pages(self, memory: tuple[PagedMemory, dict[int, int]], pages: set[int]) -> None:
        """Runs of given pages cover exactly them, in order."""
        covered = []
        for run in memory[0].runs(sorted(pages)):
            for k in range(run.count):
                page = run.page + k
                covered.append(page)
                content = bytes(PAGE) if run.offset is None else os.pread(memory[0].fd, PAGE, run.offset + k * PAGE)
                assert content == page_of(memory[1].get(page, 0))
        assert covered == sorted(pages)

    @rule(a=memories, b=snapshots)
    def difference(self, a: tuple[PagedMemory, dict[int, int]], b: tuple[Snapshot, dict[int, int]]) -> None:
        """No page that differs is missing from the difference."""
        if b[0] not in [table for table, _ in self.all]:
            return
        pages = a[0].changed_since(b[0])
        if pages is not None:
            assert {p for p in {**a[1], **b[1]} if a[1].get(p, 0) != b[1].get(p, 0)} <= set(pages)

    @invariant()
    def content_is_the_models(self) -> None:
        """Every memory and snapshot shows its own content through its descriptor."""
        for table, model in self.all:
            assert content_by_runs(table) == {p: page_of(fill) for p, fill in model.items()}


TestMachine = Machine.TestCase
TestMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)


def file_of(memory: PagedMemory) -> PageFile:
    """The file behind a memory."""
    return memory._file


def test_counter_that_commits_one_page_per_message_does_not_grow() -> None:
    """Many commits of one page, frozen now and then with the last two snapshots kept, take a handful of slots."""
    memory, kept = PagedMemory.new(16), []
    for k in range(20_000):
        memory.commit((2,), (k + 1).to_bytes(PAGE, "little"))
        if k % 10 == 0:
            kept.append(memory.freeze())
            if len(kept) > 2:
                kept.pop(0).release()
    assert file_of(memory).held_bytes <= 8 * PAGE
    assert len(file_of(memory)._free) < 8


def test_dropped_forks_give_their_memory_back() -> None:
    """A fork that wrote a lot and is dropped (a failed install) leaves the file about as large as before."""
    memory = PagedMemory.new(256)
    memory.commit(range(64), b"\1" * (64 * PAGE))
    for k in range(4):
        fork = memory.fork()
        fork.commit(range(4096), bytes([k + 2]) * (4096 * PAGE))
    del fork
    memory.commit((0,), b"\7" * PAGE)
    assert file_of(memory).used_bytes == 64 * PAGE
    assert file_of(memory).held_bytes <= 2 * 4096 * PAGE


def test_pages_never_written_cost_nothing() -> None:
    """500 GiB of stable memory with three written pages is three runs and three slots."""
    memory = PagedMemory.new(500 << 14)
    memory.commit((5, 6, 130_000_000), b"\1" * (3 * PAGE))
    assert [(run.page, run.count) for run in memory.runs()] == [(5, 2), (130_000_000, 1)]
    assert file_of(memory).held_bytes == 3 * PAGE
    memory.root_hash()
    assert memory.audit_share(0, 100) == []


def test_untouched_memory_needs_no_descriptor() -> None:
    """Without a written page there is no file until a sandbox asks for one."""
    memory = PagedMemory.new(1)
    memory.root_hash()
    memory.fork().freeze()
    assert file_of(memory)._fd == -1
    os.close(memory.open_reader())


def test_descriptor_for_sandboxes_refuses_writing() -> None:
    """The descriptor that a sandbox gets can't change committed memory."""
    memory = PagedMemory.new(1)
    memory.commit((0,), b"\1" * PAGE)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(memory.fd, b"x", 0)
    assert memory.read_page(0) == b"\1" * PAGE


def test_pages_written_since_the_last_freeze_are_overwritten_in_place() -> None:
    """Runs stay the same while nobody else holds the page, and move once somebody does."""
    memory = PagedMemory.new(1)
    memory.commit((3,), b"\1" * PAGE)
    runs = memory.runs()
    memory.commit((3,), b"\2" * PAGE)
    assert memory.runs() == runs
    frozen = memory.freeze()
    memory.commit((3,), b"\3" * PAGE)
    assert memory.runs() != runs
    assert frozen.runs() == runs
    assert frozen.read_page(3) == b"\2" * PAGE


def test_root_hash_covers_the_size() -> None:
    """Grown memory differs from memory that hasn't grown, though both hold zeros."""
    memory = PagedMemory.new(1)
    before = memory.root_hash()
    memory.wasm_pages = 2
    assert memory.root_hash() != before


def test_page_digests_lead_to_the_page_that_differs() -> None:
    """Two memories that differ in one page differ in one group digest and in one page digest below it."""
    a, b = PagedMemory.new(1024), PagedMemory.new(1024)
    for memory in (a, b):
        memory.commit((1, 300, 9000), b"\1" * (3 * PAGE))
    b.commit((300,), b"\2" * PAGE)
    assert [g for g, digest in a.group_digests().items() if b.group_digests()[g] != digest] == [1]
    assert [k for k, d in enumerate(a.page_digests(1)) if b.page_digests(1)[k] != d] == [44]


def test_audit_shares_cover_everything_once() -> None:
    """All shares of a rotation together find each damaged page exactly once."""
    memory = PagedMemory.new(64)
    memory.commit(range(1024), b"\1" * (1024 * PAGE))
    memory.root_hash()
    for page in (0, 255, 256, 700, 1023):
        memory.flip(page, 100)
    assert [p for share in range(7) for p in memory.audit_share(share, 7)] == [0, 255, 256, 700, 1023]
