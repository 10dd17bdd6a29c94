"""Cycles are conserved, exactly and in every round, whatever canisters of two subnets do with them."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.lone_world import lone_world
from tests.support.random_load import LIMITS, NAMES, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.mark.parametrize("seed", range(5))
def test_cycles_are_conserved_in_every_round(seed: int) -> None:
    """minted + received + returned - sent - burned - lost is what balances, queues, contexts and prepayments hold."""
    seen: Counter[str] = Counter()
    paused = 0
    with lone_world(*NAMES, limits=LIMITS) as world:
        for results in run(world, seed, 50):
            world.check()
            for result in results.values():
                seen.update({name: value for name, value in result.stats.items() if not name.startswith("total_")})
            for node in world.nodes.values():
                paused += sum(canister.long_execution is not None for canister in node.replica.state.canisters.values())
        assert all(node.replica.state.flow.sent for node in world.nodes.values())
    assert seen["messages"] > 100
    assert seen["xnet_in_requests"] > 20
    assert seen["refused_slices"] == 0
    assert paused, "some messages are paused when cycles are counted"
