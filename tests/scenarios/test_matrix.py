"""The same scenarios on one subnet and on three, with one node and with four, sliced and unsliced, with sandboxes killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import icsim
from tests.scenarios.catalogue import SCENARIOS
from tests.scenarios.expected import EXPECTED
from tests.scenarios.in_process import InProcess, Setting
from tests.scenarios.live import Live
from tests.scenarios.stage import Stage, played
from tests.support.lone_node import helpers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SETTINGS = (
    (Setting(spread=False, nodes=1, sliced=False, kills=False), 1),
    (Setting(spread=True, nodes=1, sliced=True, kills=True), 1),
    (Setting(spread=True, nodes=4, sliced=False, kills=True), 3),
)
"""Cells of the matrix, and every how manieth scenario is played; `make matrix` plays all in all cells."""
LIVE = (
    "deep_chain",
    "cycles_accepted",
    "trap_in_a_callback",
    "cleanup",
    "best_effort_expires",
    "stopping_waits_for_open_calls",
    "upgrade_while_a_call_is_open",
    "uninstall_while_calls_are_open",
    "long_computations",
)


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """Launcher and compiler."""
    with helpers() as folder:
        yield folder


def test_every_scenario_has_its_expectation() -> None:
    """No scenario is played for nothing, and none is expected that isn't played."""
    assert list(EXPECTED) == list(SCENARIOS)
    assert len(SCENARIOS) >= 20


@pytest.mark.parametrize(("setting", "step"), SETTINGS, ids=[str(setting) for setting, _ in SETTINGS])
def test_scenarios_look_alike_wherever_they_are_played(sockets: Path, setting: Setting, step: int) -> None:
    """Answers, refunds and states are those that the specification demands; nodes agree and invariants hold in each round."""
    network = InProcess(sockets, setting)
    try:
        for name in list(SCENARIOS)[::step]:
            assert played(Stage(network), SCENARIOS[name]) == EXPECTED[name], f"{name}, {setting}"
        assert bool(network.killed) == setting.kills
    finally:
        network.close()


def test_scenarios_on_real_processes_that_are_killed(icsim_network: Callable[..., icsim.Network]) -> None:
    """Two subnets of four nodes: sandboxes die in between, and some nodes; nobody notices."""
    network = Live(icsim_network)
    for number, name in enumerate(LIVE):
        if number % 3 == 1:
            network.kill_a_node()
        assert played(Stage(network), SCENARIOS[name]) == EXPECTED[name], f"{name}, killed: {network.killed}"
    assert len(network.killed) > 10
    assert network.net.cycles_audit().holds
