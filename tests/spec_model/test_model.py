"""The rules against a plain model written from the specification, on random actions of two subnets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.spec_model.machine import TwoSubnets, compare
from tests.support.lone_node import helpers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """Launcher and compiler."""
    with helpers() as folder:
        yield folder


def test_every_step_is_one_that_the_model_allows(sockets: Path) -> None:
    """Balances, statuses, versions, answers, refunds and invariants, at each step of random runs; all kinds of steps occur."""
    TwoSubnets.sockets = sockets
    TwoSubnets.seen.clear()
    for seed in SEEDS:
        compare(seed, shrink=False)
    rare = (
        "kill of a sandbox",
        "cleanup",
        "refund of an expired call",
        "response 6 IC0601",
        "response to a deleted call context",
        "Returned",
    )
    assert all(TwoSubnets.seen[kind] for kind in rare), sorted(TwoSubnets.seen.items())
