"""The rules against a plain model written from the specification, on random actions of two subnets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.spec_model.machine import TwoSubnets
from tests.support.lone_node import helpers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """Launcher and compiler."""
    with helpers() as folder:
        yield folder


def test_every_step_is_one_that_the_model_allows(sockets: Path) -> None:
    """Balances, statuses, versions, answers, refunds and invariants, at each step of random runs."""
    chosen = int(os.environ.get("SEED", "1"))
    print(f"seed {chosen}: `SEED={chosen} make model` repeats this")
    TwoSubnets.sockets = sockets
    run_state_machine_as_test(
        seed(chosen)(TwoSubnets),
        settings=settings(
            max_examples=int(os.environ.get("EXAMPLES", "15")),
            stateful_step_count=25,
            deadline=None,
            report_multiple_bugs=False,
            phases=[Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(sorted(TwoSubnets.seen.items()))
