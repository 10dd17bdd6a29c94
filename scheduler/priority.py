"""Accumulated priority: who is owed execution, kept so that idle canisters cost nothing.

Rule module. Not in the spec: the replica's scheduler. Unit: 1 % of a core = 1_000_000. The plain rule at the end of a round is

    executed rounds += 1                                      for those that count as fully executed
    priority += compute allocation                           for every canister
    priority -= 100 % * executed rounds; executed rounds = 0  for those that executed and have no long execution pending
    free = -sum(priority - 100 % * executed rounds)           handed out evenly in canister order if positive

What all canisters get alike is held once. A canister's priority is its own difference (`Canister.accumulated_priority`)
+ the shared value + its allocation per round since the last settling + the odd units that even division leaves, which go to the
last canisters in id order (counted in a Fenwick tree over positions). The sum is held, not summed. Canisters are kept in
order of their own differences, so that those before a given one are found without looking at the others.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ic_types.principal import CanisterId
from scheduler.canister import Canister
from scheduler.odd_units import OddUnits

PERCENT = 1_000_000
FULL_ROUND = 100 * PERCENT
"""What a round of execution on one core is worth."""


LAST_ID = CanisterId(b"\xff" * 29)
"""Not below any canister id."""


def _id_of(entry: tuple[int, CanisterId]) -> CanisterId:
    return entry[1]


@dataclass(frozen=True, slots=True)
class Front:
    """A set of canisters, as its members or as everyone else, whichever is shorter."""

    all_but: bool
    ids: dict[CanisterId, None]

    def __contains__(self, canister_id: CanisterId) -> bool:
        return (canister_id in self.ids) != self.all_but


@dataclass(slots=True)
class SharedPriority:
    """The part of all priorities that is held once; state of the subnet."""

    shared: int = 0
    rounds: int = 0
    """Rounds since allocations were last settled into the own differences."""
    total: int = 0
    """Sum over all canisters of priority - 100 % * executed rounds."""
    total_allocation: int = 0
    """Percent."""
    _odd: OddUnits = field(default_factory=lambda: OddUnits(64))
    _ids: list[CanisterId] = field(default_factory=list)
    """Index: ascending; the place is the position for odd units."""
    _order: list[tuple[int, CanisterId]] = field(default_factory=list)
    """Index: (-own difference, id) of canisters without allocation, ascending."""
    _allocated: dict[CanisterId, None] = field(default_factory=dict)
    """Index: canisters with a compute allocation."""
    _joined: dict[CanisterId, None] = field(default_factory=dict)
    """Index: canisters created since `front` was last taken."""

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

    def key(self, canister: Canister) -> tuple[int, CanisterId]:
        """Sort key for starting new messages: higher priority + allocation first, then lower id."""
        return (-(self.priority(canister) + canister.settings.compute_allocation * PERCENT), canister.canister_id)

    def canonical(self) -> tuple[object, ...]:
        """What the state hash covers besides the canisters' own differences."""
        return (self.shared, self.rounds, self.total, self.total_allocation, self._odd.values())

    # --- canisters come, go and change

    def add(self, canister: Canister, canisters: Mapping[CanisterId, Canister]) -> None:
        """A new canister starts at priority 0."""
        if (self._ids and canister.canister_id < self._ids[-1]) or len(self._ids) == self._odd.capacity:
            self.settle(canisters)
            self._odd = OddUnits(max(self._odd.capacity, 2 * len(self._ids)))
        insort(self._ids, canister.canister_id)
        self.total_allocation += canister.settings.compute_allocation
        canister.accumulated_priority = 0
        canister.accumulated_priority = -self.priority(canister)
        self._file(canister)
        self._joined[canister.canister_id] = None

    def remove(self, canister: Canister, canisters: Mapping[CanisterId, Canister]) -> None:
        """A deleted canister takes its share of the sum with it; `canisters` still holds it."""
        self.total -= self.priority(canister) - FULL_ROUND * canister.executed_rounds
        self.total_allocation -= canister.settings.compute_allocation
        self.settle(canisters)
        self._unfile(canister)
        self._joined.pop(canister.canister_id, None)
        del self._ids[bisect_left(self._ids, canister.canister_id)]

    def set_allocation(self, canister: Canister, percent: int) -> None:
        """Change the compute allocation from now on."""
        before = self.priority(canister)
        self._unfile(canister)
        self.total_allocation += percent - canister.settings.compute_allocation
        canister.settings.compute_allocation = percent
        canister.accumulated_priority += before - self.priority(canister)
        self._file(canister)

    def settle(self, canisters: Mapping[CanisterId, Canister]) -> None:
        """Move everything shared into the canisters' own differences; changes no priority."""
        for canister_id in self._ids:
            canister = canisters[canister_id]
            canister.accumulated_priority = self.priority(canister)
        self.shared, self.rounds, self._odd = 0, 0, OddUnits(self._odd.capacity)
        self.rebuild({canister_id: canisters[canister_id] for canister_id in self._ids})

    def rebuild(self, canisters: Mapping[CanisterId, Canister]) -> None:
        """Make the indexes anew from the canisters."""
        self._ids = sorted(canisters)
        self._allocated, self._order = {}, []
        for canister_id in self._ids:
            canister = canisters[canister_id]
            if canister.settings.compute_allocation:
                self._allocated[canister_id] = None
            else:
                self._order.append((-canister.accumulated_priority, canister_id))
        self._order.sort()

    def _file(self, canister: Canister) -> None:
        if canister.settings.compute_allocation:
            self._allocated[canister.canister_id] = None
        else:
            insort(self._order, (-canister.accumulated_priority, canister.canister_id))

    def _unfile(self, canister: Canister) -> None:
        if canister.settings.compute_allocation:
            del self._allocated[canister.canister_id]
        else:
            del self._order[bisect_left(self._order, (-canister.accumulated_priority, canister.canister_id))]

    def _add_to(self, canister: Canister, amount: int) -> None:
        if amount:
            self._unfile(canister)
            canister.accumulated_priority += amount
            self._file(canister)

    # --- rounds

    def front(
        self, first: tuple[int, CanisterId] | None, busy: Iterable[CanisterId], canisters: Mapping[CanisterId, Canister]
    ) -> Front:
        """All canisters but the busy ones that come before this key; all of them if there is no key."""
        self._joined = {}
        excluded = dict.fromkeys(busy)
        if first is None:
            return Front(True, excluded)
        level = -first[0] - self.shared
        sure = bisect_left(self._order, (-level, CanisterId(b"")))
        doubtful = bisect_right(self._order, (self._odd.given - level, LAST_ID))
        before, behind = self._split(sure, doubtful, first)
        allocated = [i for i in self._allocated if self.key(canisters[i]) < first]
        if sure + sum(len(part) for part in before) > len(self._ids) // 2:
            spared = dict.fromkeys(i for part in (*behind, range(doubtful, len(self._order))) for i in self._ids_at(part))
            spared.update((i, None) for i in self._allocated if i not in allocated)
            spared.update(excluded)
            return Front(True, spared)
        members = [i for part in (*before, range(sure)) for i in self._ids_at(part)]
        return Front(False, {i: None for i in (*allocated, *members) if i not in excluded})

    def _ids_at(self, places: range) -> list[CanisterId]:
        return [i for _, i in self._order[places.start : places.stop]]

    def _split(self, start: int, stop: int, first: tuple[int, CanisterId]) -> tuple[list[range], list[range]]:
        """Places in the order whose canisters come before this key, and the others, by ranges.

        Among equal own differences priority doesn't fall as ids rise, since odd units go to the last ids; so those above the
        level are the group's tail, those at the level a run just before it, of which lower ids come first.
        """
        before, behind = [], []
        while start < stop:
            own = self._order[start][0]
            end = bisect_right(self._order, (own, LAST_ID), start)
            missing = own - first[0] - self.shared  # odd units that put a canister of this group at the level
            at = bisect_left(self._order, missing, start, end, key=self._odd_of)
            above = bisect_left(self._order, missing + 1, at, end, key=self._odd_of)
            lower = bisect_left(self._order, first[1], at, above, key=_id_of)
            before += [range(at, lower), range(above, end)]
            behind += [range(start, at), range(lower, above)]
            start = end
        return before, behind

    def _odd_of(self, entry: tuple[int, CanisterId]) -> int:
        return self._odd.at(bisect_left(self._ids, entry[1]))

    def end_round(
        self, front: Front, executed: Iterable[CanisterId], canisters: Mapping[CanisterId, Canister]
    ) -> list[CanisterId]:
        """Charge those in front and those that executed, hand out what is free; returns whose own difference changed."""
        charged = dict.fromkeys(executed)
        if front.all_but:
            spared = [i for i in [*front.ids, *(j for j in self._joined if j not in front.ids)] if i not in charged]
            changed = self._charge_all_but([i for i in spared if i in canisters], charged, canisters)
        else:
            charged.update(front.ids)
            changed = [i for i in charged if i in canisters]
            for canister_id in changed:
                self._charge(canisters[canister_id])
        self.rounds += 1
        self.total += self.total_allocation * PERCENT
        count = len(self._ids)
        if self.total < 0 and count:
            each, odd = divmod(-self.total, count)
            self.shared += each
            if odd:
                self._odd.add_suffix(count - odd)
            self.total = 0
        return changed

    def _charge(self, canister: Canister) -> None:
        """One executed round, paid unless a long execution goes on."""
        canister.executed_rounds += 1
        self.total -= FULL_ROUND
        if canister.long_execution is None:
            self._add_to(canister, -FULL_ROUND * canister.executed_rounds)
            canister.executed_rounds = 0

    def _charge_all_but(
        self, spared: list[CanisterId], executed: Iterable[CanisterId], canisters: Mapping[CanisterId, Canister]
    ) -> list[CanisterId]:
        """One executed round for all but these, by the shared value; those who pay later or more are put right."""
        self.shared -= FULL_ROUND
        self.total -= FULL_ROUND * (len(self._ids) - len(spared))
        changed = list(spared)
        for canister_id in spared:
            self._add_to(canisters[canister_id], FULL_ROUND)
        for canister_id in executed:
            canister = canisters.get(canister_id)
            if canister is None:
                continue
            if canister.long_execution is not None:
                canister.executed_rounds += 1
                self._add_to(canister, FULL_ROUND)
                changed.append(canister_id)
            elif canister.executed_rounds:
                self._add_to(canister, -FULL_ROUND * canister.executed_rounds)
                canister.executed_rounds = 0
                changed.append(canister_id)
        return changed

    def reset(self, canisters: Mapping[CanisterId, Canister]) -> None:
        """Forget all history, so that no difference lasts forever."""
        self.total = 0
        for canister_id in self._ids:
            canister = canisters[canister_id]
            canister.accumulated_priority = 0
            self.total -= FULL_ROUND * canister.executed_rounds
        self.shared, self.rounds, self._odd = 0, 0, OddUnits(self._odd.capacity)
        self.rebuild(canisters)
