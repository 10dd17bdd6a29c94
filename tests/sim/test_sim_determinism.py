"""Two subnets under random work, in interpreters that order sets differently: equal state hashes in every round."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.lone_node import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
ROUNDS = 45


def hashes(seed: int, hash_seed: int, *options: str) -> list[str]:
    """The state hashes that a process of its own prints."""
    command = [sys.executable, "-m", "tests.support.random_load", str(seed), str(ROUNDS), *options]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("left:")]
    assert len(lines) == ROUNDS
    return lines


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_hash_seed_batches_and_evictions_never_show(seed: int) -> None:
    """Another order of sets, batches of 3, instances made anew, three sandboxes, one at work at a time: all the same."""
    first = hashes(seed, 1)
    assert len(set(first)) == ROUNDS
    options = ("batch_size=3", "reuse_instances=0", "max_sandboxes=3", "max_in_flight=1", "rehash_rounds=5")
    assert hashes(seed, 2, *options) == first
