"""Committed runs under a linear memory, and the three ways to find written pages."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import kernel
from sandbox.dirty_pages import DirtyPages, PagemapEntries, PrivatePages, WriteProtection
from sandbox.mapping import Layout, MappedMemory, spans
from sandbox.requests import Run

PAGE = 4096
PAGES = 12


def dense(pagemap: int) -> WriteProtection:
    """Write protection that takes any memory for dense at the first touch."""
    return WriteProtection(pagemap, PAGES)


DETECTORS = (WriteProtection, dense, PrivatePages, PagemapEntries)
RUNS = st.builds(
    lambda page, count, place: Run(page, min(count, PAGES - page), None if place is None else place * PAGE),
    st.integers(0, PAGES - 1),
    st.integers(1, 5),
    st.one_of(st.none(), st.integers(0, 30)),
)


@settings(deadline=None)
@given(runs=st.lists(RUNS, max_size=12), asked=RUNS)
def test_layout_is_what_a_page_table_says(runs: list[Run], asked: Run) -> None:
    """Runs laid over each other show the last one on top; `shows` compares with what is there."""
    layout, table = Layout(), dict[int, int | None]()
    for run in runs:
        layout.replace(run)
        for k in range(run.count):
            table[run.page + k] = None if run.offset is None else run.offset + k * PAGE
    shown = {r.page + k: r.offset + k * PAGE for r in layout.runs() if r.offset is not None for k in range(r.count)}
    assert shown == {page: offset for page, offset in table.items() if offset is not None}
    pages = [r.page for r in layout.runs()]
    assert pages == sorted(pages)
    expected = all(
        table.get(asked.page + k) == (None if asked.offset is None else asked.offset + k * PAGE) for k in range(asked.count)
    )
    if layout.shows(asked):
        assert expected


def test_spans() -> None:
    """Neighbouring pages are one run."""
    assert spans([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 1), (9, 2)]


@dataclass
class Lab:
    """A memory under test."""

    detector: DirtyPages
    fd: int
    base: int = field(default_factory=lambda: kernel.map_anywhere(PAGES * PAGE, _ANONYMOUS))

    def __post_init__(self) -> None:
        self.memory = MappedMemory(self.fd)
        self.memory.attach(self.base)
        self.detector.watch(self.base, PAGES * PAGE)

    def write(self, page: int, value: int) -> None:
        """Write a byte."""
        ctypes.memset(self.base + page * PAGE, value, 1)

    def content(self) -> list[bytes]:
        """What the memory shows."""
        raw = ctypes.string_at(self.base, PAGES * PAGE)
        return [raw[k * PAGE : (k + 1) * PAGE] for k in range(PAGES)]

    def written(self) -> tuple[int, ...]:
        """Pages found."""
        return self.detector.written(self.base, PAGES * PAGE).indices


_ANONYMOUS = kernel.MAP_PRIVATE | kernel.MAP_ANONYMOUS | kernel.MAP_NORESERVE


@pytest.fixture(scope="module")
def committed() -> Iterator[int]:
    """A file with 40 different pages."""
    fd = os.memfd_create("committed", os.MFD_CLOEXEC)
    for k in range(40):
        os.write(fd, bytes([100 + k]) * PAGE)
    yield os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(fd)


Kind = Callable[[int], DirtyPages]


def opened(kind: Kind) -> DirtyPages:
    """This detector."""
    return kind(os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))


ACTIONS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, PAGES - 1), st.integers(0, 255)),
    st.tuples(st.just("read"), st.integers(0, PAGES - 1)),
    st.tuples(st.just("scan")),
    st.tuples(st.just("map"), RUNS),
    st.tuples(st.just("back")),
    st.tuples(st.just("move")),
)


@pytest.mark.parametrize("kind", DETECTORS)
@settings(deadline=None, max_examples=40)
@given(actions=st.lists(ACTIONS, max_size=25))
def test_every_changed_page_is_found(kind: Kind, committed: int, actions: list[tuple[object, ...]]) -> None:
    """Whatever is mapped, read, rolled back or moved: each changed page is found once, and contents are as a model says."""
    lab = Lab(opened(kind), committed)
    model, reported = [bytes(PAGE)] * PAGES, [bytes(PAGE)] * PAGES
    changed: set[int] = set()
    for action in actions:
        match action:
            case ("write", int(page), int(value)):
                lab.write(page, value)
                model[page] = bytes([value]) + model[page][1:]
                changed.add(page)
            case ("read", int(page)):
                ctypes.string_at(lab.base + page * PAGE, 1)
            case ("scan",):
                found = lab.written()
                really = {page for page in changed if model[page] != reported[page]}
                assert really <= set(found)
                if kind is not PagemapEntries:  # it also finds, once, pages of zeros that were only read
                    assert set(found) <= changed
                lab.memory.private.update(found)
                reported, changed = list(model), set()
            case ("map", Run() as run):
                lab.memory.map_runs([run], lab.detector)
                for k in range(run.count):
                    at = None if run.offset is None else run.offset // PAGE + k
                    model[run.page + k] = bytes(PAGE) if at is None else bytes([100 + at]) * PAGE
                    reported[run.page + k] = model[run.page + k]
                    changed.discard(run.page + k)
            case ("back",):
                found = lab.written()
                lab.memory.private.update(found)
                below = {r.page + k: (r.offset or 0) // PAGE + k for r in lab.memory.layout.runs() for k in range(r.count)}
                private = sorted(lab.memory.private)
                lab.memory.roll_back(private, lab.detector)
                for page in private:
                    model[page] = bytes([100 + below[page]]) * PAGE if page in below else bytes(PAGE)
                reported, changed = list(model), set()
            case ("move",):
                lab.memory.private.update(lab.written())
                lab.base = kernel.map_anywhere(PAGES * PAGE, _ANONYMOUS)
                lab.memory.attach(lab.base)
                lab.detector.watch(lab.base, PAGES * PAGE)
                reported, changed = list(model), set()
        assert lab.content() == model


def test_reads_of_the_file_are_not_writes(committed: int) -> None:
    """Reading what was committed costs no report, also when such a page is written later."""
    lab = Lab(opened(WriteProtection), committed)
    lab.memory.map_runs([Run(0, 6, 0)], lab.detector)
    assert lab.content()[5] == bytes([105]) * PAGE
    assert lab.written() == ()
    lab.write(5, 1)
    assert lab.written() == (5,)
    lab.write(5, 2)
    lab.write(11, 2)
    assert lab.written() == (5, 11)
    assert lab.written() == ()


@pytest.mark.parametrize("kind", DETECTORS)
def test_present_pages(kind: Kind) -> None:
    """Touched pages of anonymous memory are told, untouched ones aren't."""
    detector = opened(kind)
    base = kernel.map_anywhere(PAGES * PAGE, _ANONYMOUS)
    ctypes.memset(base + 3 * PAGE, 1, PAGE + 1)
    found = [((start - base) // PAGE, length // PAGE) for start, length in detector.present(base, PAGES * PAGE)]
    assert sum(length for _, length in found) == 2
    assert found[0][0] == 3
