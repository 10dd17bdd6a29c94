"""Budgets of a round: instructions for canisters and for the management canister, heap delta.

Rule module. Not in the spec: the replica's figures. Instruction budgets are per core; each core gets the same full budget.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.limits import SubnetLimits
from scheduler.world import World

SUBNET_MESSAGES_SHARE = 16
"""The management canister gets a 16th of a round's instructions."""


@dataclass(slots=True)
class RoundLimits:
    """What is left of a round; instructions may go below zero by the last slice."""

    instructions: int
    subnet_instructions: int
    heap_delta_left: int
    """Until the round stops starting iterations, bytes."""


def start_limits(limits: SubnetLimits) -> RoundLimits:
    """Budgets at the start of a round: one slice may overshoot, so it is kept back."""
    longest_slice = max(limits.instructions_per_slice, limits.instructions_per_install_slice)
    budget = limits.instructions_per_round - longest_slice + 1
    share = limits.instructions_per_round // SUBNET_MESSAGES_SHARE
    return RoundLimits(budget, share, limits.max_heap_delta_per_iteration)


def heap_delta_limit(world: World) -> int:
    """Bytes that may be written since the last checkpoint before messages wait; part of the capacity is kept for later."""
    limits = world.limits
    interval = limits.checkpoint_interval
    remaining = interval - world.round_number % interval
    capacity, reserve = limits.subnet_heap_delta_capacity, limits.heap_delta_initial_reserve
    return capacity - (capacity - reserve) * remaining // interval
