"""Random and mutated canisters give the same answers, counts and memories, however they are run."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from ic_types.errors import InvalidWasm
from sandbox.dirty_pages import PagemapEntries, PrivatePages, WriteProtection, open_detector
from sandbox.protocol import Finished
from tests.support.random_runs import Overrun, opened, outcome, plan, sliced
from tests.support.random_wasm import mutated, random_module
from tests.unit.sandbox_process.sandbox_harness import prepared

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "canisters"
SEEDS = st.integers(0, (1 << 32) - 1)
SLICES = st.sampled_from([10_000, 30_000, 100_000, 400_000])
BATCHES = st.sampled_from([1, 2, 3, 9])
REAL = {name: (EXAMPLES / f"{name}.wasm").read_bytes() for name in ("counter", "compute", "timer", "universal")}
QUICK = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


def _run(
    wasm: bytes, inputs: list[Any], batch: int = 1, aborts: random.Random | None = None, **options: Any
) -> tuple[Any, ...]:
    with opened(wasm, **options) as box:
        return outcome(box, inputs, batch, aborts)


def _all_ways(wasm: bytes, seed: int, size: int, batch: int) -> None:
    """Two sandboxes, batches, new and used instances, slices, aborts."""
    inputs = plan(prepared(wasm)[0], seed)
    expected = _run(wasm, inputs, reuse=False)
    assert _run(wasm, inputs) == expected
    assert _run(wasm, inputs, batch, reuse=False) == expected
    assert _run(wasm, inputs, batch) == expected
    try:
        assert _run(wasm, sliced(inputs, size)) == expected
        assert _run(wasm, sliced(inputs, size), batch, random.Random(seed)) == expected
        assert _run(wasm, sliced(inputs, size), batch, random.Random(seed), reuse=False) == expected
    except Overrun:
        note("a step larger than a slice")


@QUICK
@given(seed=SEEDS, size=SLICES, batch=BATCHES)
def test_random_modules_run_the_same_in_every_way(seed: int, size: int, batch: int) -> None:
    """Grown from a seed: all ways of running them agree."""
    _all_ways(random_module(seed), seed, size, batch)


@QUICK
@given(name=st.sampled_from(sorted(REAL)), seed=SEEDS, size=SLICES, batch=BATCHES)
def test_mutated_modules_run_the_same_in_every_way(name: str, seed: int, size: int, batch: int) -> None:
    """Real canisters with operators and constants exchanged: broken in ways that nobody would think of, yet determined."""
    wasm = mutated(REAL[name], seed)
    try:
        prepared(wasm)
    except InvalidWasm:  # a constant that is an offset of data or elements isn't among those changed, but a global's is
        return
    _all_ways(wasm, seed, size, batch)


@settings(QUICK, max_examples=25)
@given(seed=SEEDS, batch=BATCHES)
def test_dirty_page_detectors_agree(seed: int, batch: int) -> None:
    """Found by userfaultfd, PAGEMAP_SCAN or pagemap, written pages leave the same memory."""
    wasm = random_module(seed)
    inputs = plan(prepared(wasm)[0], seed)
    expected = _run(wasm, inputs, batch, detector=open_detector)
    for kind in (WriteProtection, PrivatePages, PagemapEntries):

        def detector(kind: Any = kind) -> Any:
            return kind(os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))

        assert _run(wasm, inputs, batch, detector=detector) == expected


@settings(QUICK, max_examples=30)
@given(seed=SEEDS)
def test_queries_leave_nothing_and_repeat(seed: int) -> None:
    """Without tracking, each message sees the opened state: asked twice, it answers the same."""
    wasm = random_module(seed)
    inputs = plan(prepared(wasm)[0], seed)
    with opened(wasm, tracking=False) as box:
        first = [box.one(one) for one in inputs]
        again = [box.one(one) for one in inputs]
    assert first == again


def test_random_modules_do_something() -> None:
    """Otherwise agreement would mean little: most messages finish, many change memory, some trap, pause and reply."""
    kinds: Counter[str] = Counter()
    for k in range(25):
        wasm = random_module(k)
        inputs = plan(prepared(wasm)[0], k)
        with opened(wasm) as box:
            answers, heap, stable, _, _ = outcome(box, inputs)
        kinds.update("finished" if isinstance(one, Finished) else "failed" for one in answers)
        kinds.update("replied" for one in answers if isinstance(one, Finished) and one.response is not None)
        kinds["long"] += sum(isinstance(one, Finished) and one.instructions > 30_000 for one in answers)
        kinds["heap"] += bool(heap)
        kinds["stable"] += bool(stable)
    assert kinds["finished"] > 60
    assert kinds["failed"] > 20
    assert kinds["replied"] > 30
    assert kinds["long"] > 20
    assert kinds["heap"] > 15
    assert kinds["stable"] > 2, kinds
