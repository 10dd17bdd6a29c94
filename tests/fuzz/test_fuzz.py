"""50,000 odd modules and 20,000 odd replies of sandboxes: nothing but the defined errors comes out.

`make fuzz` goes on with other seeds.
"""

from __future__ import annotations

import random

import pytest

from sandbox.wasm.prepare import prepare
from tests.fuzz import module_cases, reply_cases

SEED = 1_000_000
"""Of the first case here; each case is made from its own number."""
PARTS, CASES = 5, 10_000


@pytest.mark.parametrize("part", range(PARTS))
def test_modules(part: int) -> None:
    """Broken modules are refused with InvalidWasm, what is accepted is valid once instrumented."""
    first, tally = SEED + part * CASES, module_cases.Tally()
    print(f"seed {first}")
    module_cases.run(first, CASES, tally)
    assert tally.accepted + tally.refused == CASES
    assert tally.refused > CASES // 4
    # Otherwise the instrumenter would see little of it.
    assert tally.accepted > CASES // 5
    assert all(tally.by_kind.get(kind, 0) > 10 for kind in ("bytes", "sections", "operators", "gzip", "padded", "grown"))


def test_replies() -> None:
    """Damaged replies are refused with WireError or SandboxFailure, what is accepted can be committed."""
    tally = reply_cases.Tally()
    print(f"seed {SEED}")
    reply_cases.run(SEED, 20_000, tally)
    assert tally.refused > 5000
    assert tally.accepted > 1000


def test_padding_changes_nothing() -> None:
    """Numbers written longer than necessary leave methods, globals, data and the charge of an install as they are."""
    for number, wasm in enumerate(module_cases.pool()[0]):
        one = prepare(wasm, module_cases.LIMITS).info
        other = prepare(module_cases.padded(random.Random(number), wasm), module_cases.LIMITS).info
        for name in ("updates", "queries", "entry_points", "globals", "initial_pages", "compile_instructions", "reuse_safe"):
            assert getattr(one, name) == getattr(other, name)
