"""The pytest plugin: `icsim_network` gives a test its own small network and ends it with the test.

Plumbing. Registered as the entry point `pytest11: icsim`; imports nothing heavy until the fixture is used.

    def test_counter(icsim_network):
        net = icsim_network()                       # one subnet of one node, profile minimal
        counter = net.create_canister()
        counter.install("counter.wasm")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from subnet.lab.network import Network


@pytest.fixture
def icsim_network() -> Iterator[Callable[..., Network]]:
    """A function that starts a network, with the arguments of `icsim.network`; all that it started end with the test."""
    from subnet.lab.starter import network

    started: list[Network] = []

    def start(topology: Any = None, **options: Any) -> Network:
        running = network(topology, **options).start()
        started.append(running)
        return running

    yield start
    for running in reversed(started):
        running.close()
