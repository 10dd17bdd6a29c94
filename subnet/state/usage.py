"""How much of the subnet's memory and callbacks its canisters use, kept up to date canister by canister.

Rule module. Spec: abstract behaviour, "Cycle bookkeeping and resource consumption"; what counts is the replica's. Not state: it
follows from the canisters. Only those touched since the last look are counted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ic_types.principal import CanisterId
from scheduler.canister import Canister


class Usage(NamedTuple):
    """Of one canister, or of all together."""

    memory: int = 0
    """Bytes: the larger of allocation and use."""
    guaranteed: int = 0
    """Bytes of guaranteed-response messages and reservations."""
    best_effort: int = 0
    """Bytes of best-effort messages."""
    callbacks: int = 0
    """Open calls."""


def usage_of(canister: Canister) -> Usage:
    """What one canister uses."""
    return Usage(
        max(canister.settings.memory_allocation, canister.memory_usage()),
        canister.queues.guaranteed_memory(),
        canister.queues.best_effort_memory(),
        len(canister.callbacks),
    )


@dataclass(slots=True)
class UsageIndex:
    """Use by canister, and the sums."""

    total: Usage = Usage()
    best_effort: dict[CanisterId, int] = field(default_factory=dict)
    """Canisters with best-effort messages, and the bytes of these."""
    _known: dict[CanisterId, Usage] = field(default_factory=dict)

    def update(self, canister_ids: Iterable[CanisterId], canisters: Mapping[CanisterId, Canister]) -> None:
        """Count these canisters again; those that are gone use nothing."""
        for canister_id in canister_ids:
            canister = canisters.get(canister_id)
            before, after = self._known.get(canister_id, Usage()), Usage() if canister is None else usage_of(canister)
            if before == after:
                continue
            self.total = Usage(*(old - was + now for old, was, now in zip(self.total, before, after, strict=True)))
            if canister is None:
                self._known.pop(canister_id, None)
            else:
                self._known[canister_id] = after
            if after.best_effort:
                self.best_effort[canister_id] = after.best_effort
            else:
                self.best_effort.pop(canister_id, None)

    def check(self, canisters: Mapping[CanisterId, Canister]) -> None:
        """The sums are what counting everything gives. Raises: AssertionError."""
        counted = Usage(*(sum(one) for one in zip(*map(usage_of, canisters.values()), strict=True))) if canisters else Usage()
        assert self.total == counted, f"usage {self.total}, counted {counted}"
