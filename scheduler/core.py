"""One scheduler core: what its rules may read, and what it did, kept apart until all cores are merged.

Rule module. While cores run side by side, a core touches its own canisters and its own Core alone, so that no result can depend
on which sandbox answers first; `scheduler.round` merges the Cores in core order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.principal import CanisterId
from ic_types.units import TimeNs
from scheduler.canister import UserResponse
from scheduler.cycles_account import CyclesTally


@dataclass(slots=True, kw_only=True)
class Core:
    """Constants of the round, budgets of this iteration, and everything that happened on the core."""

    # --- given
    time: TimeNs
    round_number: int
    limits: SubnetLimits
    fees: CyclesCostSchedule
    batch_size: int
    """Inputs that are offered to a sandbox at once; never changes a result."""
    memory_available: int = 1 << 62
    """Bytes that canisters of this core may still grow in this iteration."""
    memory_usage: int = 0
    """The core's share of the subnet's memory in use, in bytes."""
    message_memory_available: int = 1 << 62
    """Bytes of guaranteed-response memory that calls of this core may still take in this iteration."""
    callbacks_available: int = 1 << 62
    """Calls that may still be opened on the subnet, as of the start of the iteration."""
    # --- used up and produced
    instructions_left: int = 0
    """May go below zero by the last slice."""
    heap_delta: int = 0
    """Bytes."""
    messages: int = 0
    """Messages finished with more than zero instructions."""
    slices: int = 0
    instructions: int = 0
    """Executed by canisters, overheads of the round left out."""
    callbacks_created: int = 0
    tally: CyclesTally = field(default_factory=CyclesTally)
    user_responses: list[UserResponse] = field(default_factory=list)
    processing: list[bytes] = field(default_factory=list)
    """Ingress messages that were started and aren't answered yet."""
    touched: dict[CanisterId, None] = field(default_factory=dict)
    fully_executed: list[CanisterId] = field(default_factory=list)
    _prices: dict[tuple[int, bool], int] = field(default_factory=dict)

    def execution_price(self, instructions: int, wasm64: bool) -> int:
        """Price of an execution with this instruction limit; there are only a few different ones."""
        price = self._prices.get((instructions, wasm64))
        if price is None:
            price = self._prices[instructions, wasm64] = self.fees.execution(instructions, wasm64=wasm64)
        return price

    def spend(self, instructions: int) -> None:
        """Take a slice's instructions off the core's budget."""
        self.instructions_left -= instructions
        self.instructions += instructions
        self.slices += 1
