"""Modules from real compilers: the examples, built from Motoko, Rust and C."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.wasm.instrumentation import COUNTER
from tests.support.metered import Metered

FOLDER = Path(__file__).parents[3] / "examples" / "canisters"
MODULES = sorted(FOLDER.glob("*.wasm"))


def test_there_are_examples() -> None:
    """Otherwise this file would test nothing."""
    assert {"ledger", "exchange", "compute", "universal"} <= {path.stem for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_example_is_accepted_and_instantiates(path: Path) -> None:
    """Engine, imports and segments agree after instrumentation."""
    module = Metered(path.read_bytes())
    info = module.prepared.info
    assert info.updates
    assert all(name in module.exports for name in (one.export for one in info.globals))
    assert all(name in module.exports for name in info.entry_points)


@pytest.mark.parametrize("name", ["ledger", "exchange"])
def test_motoko_start_takes_the_same_in_one_slice_and_in_many(name: str) -> None:
    """The start function of the Motoko runtime: instructions and heap are equal, however often it is interrupted."""
    wasm = (FOLDER / f"{name}.wasm").read_bytes()
    results = []
    for piece in (1 << 40, 100, 1):
        module = Metered(wasm)
        spent = 0

        def next_slice(module: Metered = module, piece: int = piece) -> None:
            nonlocal spent
            spent += piece - module.get(COUNTER)
            module.set(COUNTER, piece)

        module.out_of_instructions = next_slice
        module.set(COUNTER, piece)
        module.run("canister_start")
        spent += piece - module.get(COUNTER)
        results.append((spent, bytes(module.memory("memory").read(module.store, 0, 1 << 20))))
    assert results[0][0] > 0
    assert results == results[:1] * 3
