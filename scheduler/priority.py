"""Accumulated priority: who is owed execution, kept so that idle canisters cost nothing.

Rule module. Not in the spec: the replica's scheduler. Unit: 1 % of a core = 1_000_000. The plain rule at the end of a round is

    priority += compute allocation                           for every canister
    priority -= 100 % * executed rounds; executed rounds = 0  for those that executed and have no long execution pending
    free = -sum(priority - 100 % * executed rounds)           handed out evenly in canister order if positive

What all canisters get alike is held once. A canister's priority is its own difference (`Canister.accumulated_priority`)
+ the shared value + its allocation per round since it joined + the odd units that even division leaves, which go to the last
canisters in id order (counted in a Fenwick tree over positions). The sum is held, not summed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ic_types.principal import CanisterId
from scheduler.canister import Canister

PERCENT = 1_000_000
FULL_ROUND = 100 * PERCENT
"""What a round of execution on one core is worth."""


class OddUnits:
    """How often each position was among the last r of its round: suffix increments, point queries, both O(log n)."""

    __slots__ = ("_tree", "given")

    def __init__(self, size: int) -> None:
        self._tree = [0] * (size + 1)
        self.given = 0
        """Rounds with odd units so far: no position got more."""

    def add_suffix(self, start: int) -> None:
        """One unit for every position from `start` on."""
        self.given += 1
        at, tree = start + 1, self._tree
        while at < len(tree):
            tree[at] += 1
            at += at & -at

    def at(self, position: int) -> int:
        """Units that this position got."""
        at, total, tree = position + 1, 0, self._tree
        while at:
            total += tree[at]
            at -= at & -at
        return total

    def values(self) -> tuple[int, ...]:
        """For the state hash."""
        return tuple(self._tree)


@dataclass(slots=True)
class SharedPriority:
    """The part of all priorities that is held once; state of the subnet."""

    shared: int = 0
    rounds: int = 0
    """Rounds since the allocations in `_allocated` were last settled into the own differences."""
    total: int = 0
    """Sum over all canisters of priority - 100 % * executed rounds."""
    total_allocation: int = 0
    """Percent."""
    _ids: list[CanisterId] = field(default_factory=list)
    """Ascending; the index is the position for odd units."""
    _odd: OddUnits = field(default_factory=lambda: OddUnits(64))
    _capacity: int = 64

    # --- reading

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self) -> Iterator[CanisterId]:
        """All canisters, ascending."""
        return iter(self._ids)

    def priority(self, canister: Canister) -> int:
        """Accumulated priority now."""
        odd = self._odd.at(bisect_left(self._ids, canister.canister_id)) if self._odd.given else 0
        allocated = canister.settings.compute_allocation * PERCENT * self.rounds
        return canister.accumulated_priority + self.shared + allocated + odd

    def canonical(self) -> tuple[object, ...]:
        """What the state hash covers besides the canisters' own differences."""
        return (self.shared, self.rounds, self.total, self.total_allocation, self._capacity, self._odd.values())

    # --- canisters come, go and change

    def add(self, canister: Canister, canisters: Mapping[CanisterId, Canister]) -> None:
        """A new canister starts at priority 0."""
        if (self._ids and canister.canister_id < self._ids[-1]) or len(self._ids) == self._capacity:
            self.settle(canisters)
            self._capacity = max(self._capacity, 2 * (len(self._ids) + 1))
            self._odd = OddUnits(self._capacity)
        insort(self._ids, canister.canister_id)
        self.total_allocation += canister.settings.compute_allocation
        canister.accumulated_priority = 0
        canister.accumulated_priority = -self.priority(canister)

    def remove(self, canister: Canister, canisters: Mapping[CanisterId, Canister]) -> None:
        """A deleted canister takes its share of the sum with it."""
        self.total -= self.priority(canister) - FULL_ROUND * canister.executed_rounds
        self.total_allocation -= canister.settings.compute_allocation
        self.settle(canisters)
        del self._ids[bisect_left(self._ids, canister.canister_id)]

    def set_allocation(self, canister: Canister, percent: int) -> None:
        """Change the compute allocation from now on."""
        before = self.priority(canister)
        self.total_allocation += percent - canister.settings.compute_allocation
        canister.settings.compute_allocation = percent
        canister.accumulated_priority += before - self.priority(canister)

    def settle(self, canisters: Mapping[CanisterId, Canister]) -> None:
        """Move everything shared into the canisters' own differences; changes no priority."""
        for canister_id in self._ids:
            canister = canisters[canister_id]
            canister.accumulated_priority = self.priority(canister)
        self.shared, self.rounds, self._odd = 0, 0, OddUnits(self._capacity)

    # --- rounds

    def charge_all_but(self, exceptions: Iterable[Canister], count: int) -> None:
        """One executed round, paid at once, for `count` canisters: all but these."""
        self.shared -= FULL_ROUND
        for canister in exceptions:
            canister.accumulated_priority += FULL_ROUND
        self.total -= FULL_ROUND * count

    def charge(self, canister: Canister) -> None:
        """One executed round, paid at the end of the round or when the long execution is over."""
        canister.executed_rounds += 1
        self.total -= FULL_ROUND

    def pay(self, canister: Canister) -> None:
        """Take the executed rounds off the priority."""
        canister.accumulated_priority -= FULL_ROUND * canister.executed_rounds
        canister.executed_rounds = 0

    def end_round(self) -> None:
        """Hand out allocations and what is free."""
        self.rounds += 1
        self.total += self.total_allocation * PERCENT
        count = len(self._ids)
        if self.total < 0 and count:
            each, odd = divmod(-self.total, count)
            self.shared += each
            if odd:
                self._odd.add_suffix(count - odd)
            self.total = 0

    def reset(self, canisters: Mapping[CanisterId, Canister]) -> None:
        """Forget all history, so that no difference lasts forever."""
        self.total = 0
        for canister_id in self._ids:
            canister = canisters[canister_id]
            canister.accumulated_priority = 0
            self.total -= FULL_ROUND * canister.executed_rounds
        self.shared, self.rounds, self._odd = 0, 0, OddUnits(self._capacity)
