"""Accumulated priority held once equals the plain rule that touches every canister in every round."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types.messages import Ingress
from ic_types.principal import CanisterId, Principal
from ic_types.units import Cycles, TimeNs
from message_routing.queues import CanisterQueues
from scheduler.canister import Canister, LongExecution, Settings
from scheduler.odd_units import OddUnits
from scheduler.priority import FULL_ROUND, PERCENT, SharedPriority


def canister_of(index: int, allocation: int) -> Canister:
    """A canister of which only the scheduling fields matter."""
    return Canister(
        canister_id=Principal.canister(index),
        settings=Settings(controllers=(), compute_allocation=allocation),
        balance=Cycles(0),
        created=TimeNs(0),
        queues=CanisterQueues(),
    )


LONG: Any = LongExecution(Ingress.__new__(Ingress), Cycles(0), True, 1)


@dataclass
class Plain:
    """The plain rule: dicts, and a look at every canister every round."""

    priority: dict[CanisterId, int] = field(default_factory=dict)
    executed: dict[CanisterId, int] = field(default_factory=dict)

    def key(self, canister: Canister) -> tuple[int, CanisterId]:
        """Order of new executions."""
        value = self.priority[canister.canister_id] + canister.settings.compute_allocation * PERCENT
        return (-value, canister.canister_id)

    def front(self, canisters: dict[CanisterId, Canister], busy: set[CanisterId], starting: set[CanisterId]) -> set[CanisterId]:
        """Walk the order until the first canister that starts something; skip other busy ones."""
        found = set()
        for canister in sorted(canisters.values(), key=self.key):
            if canister.canister_id in starting:
                break
            if canister.canister_id not in busy:
                found.add(canister.canister_id)
        return found

    def end_round(self, charged: set[CanisterId], canisters: dict[CanisterId, Canister], long: set[CanisterId]) -> None:
        """The formulas as they stand."""
        for canister_id in canisters:
            self.executed[canister_id] += canister_id in charged
            self.priority[canister_id] += canisters[canister_id].settings.compute_allocation * PERCENT
            if self.executed[canister_id] and canister_id not in long and canister_id in charged:
                self.priority[canister_id] -= FULL_ROUND * self.executed[canister_id]
                self.executed[canister_id] = 0
        free = -sum(self.priority[i] - FULL_ROUND * self.executed[i] for i in canisters)
        if free <= 0:
            return
        left = len(canisters)
        for canister_id in sorted(canisters):
            share = free // left
            self.priority[canister_id] += share
            free, left = free - share, left - 1
        assert free == 0


def compare(shared: SharedPriority, plain: Plain, canisters: dict[CanisterId, Canister]) -> None:
    """All priorities are equal, and the sum is what is held."""
    assert {i: shared.priority(c) for i, c in canisters.items()} == plain.priority
    assert {i: c.executed_rounds for i, c in canisters.items()} == plain.executed
    total = sum(plain.priority[i] - FULL_ROUND * plain.executed[i] for i in canisters)
    assert shared.total == total
    assert total >= 0 or not canisters
    fresh = SharedPriority()
    fresh.rebuild(canisters)
    assert (shared._order, shared._allocated.keys()) == (fresh._order, fresh._allocated.keys())


def one_round(
    rng: random.Random, shared: SharedPriority, plain: Plain, canisters: dict[CanisterId, Canister], activity: float
) -> None:
    """Some canisters have work, some of these get executed, some messages become long or end."""
    busy = {i for i in canisters if rng.random() < activity or canisters[i].long_execution is not None}
    starting = {i for i in busy if canisters[i].long_execution is None}
    expected = plain.front(canisters, busy, starting)
    keys = [shared.key(canisters[i]) for i in starting]
    front = shared.front(min(keys, default=None), sorted(busy), canisters)
    assert {i for i in canisters if i in front} == expected
    executed = {i for i in sorted(busy) if rng.random() < 0.7} | {i for i in sorted(expected) if rng.random() < 0.1}
    for canister_id in sorted(executed):
        canisters[canister_id].long_execution = LONG if rng.random() < 0.2 else None
    long = {i for i in canisters if canisters[i].long_execution is not None}
    if rng.random() < 0.15:
        join(rng, shared, plain, canisters)  # created by a message of this round
    changed = shared.end_round(front, sorted(executed), canisters)
    assert len(changed) <= len(canisters) + len(executed)
    plain.end_round(executed | expected, canisters, long)
    compare(shared, plain, canisters)


def join(rng: random.Random, shared: SharedPriority, plain: Plain, canisters: dict[CanisterId, Canister]) -> None:
    """A canister is created, mostly behind all others."""
    index = rng.choice([max([i.canister_index() or 0 for i in canisters], default=0) + 1, rng.randrange(10**6, 10**7)])
    canister = canister_of(index, rng.choice([0, 0, 0, 0, 5]))
    if canister.canister_id in canisters:
        return
    canisters[canister.canister_id] = canister
    plain.priority[canister.canister_id] = plain.executed[canister.canister_id] = 0
    shared.add(canister, canisters)


def leave(rng: random.Random, shared: SharedPriority, plain: Plain, canisters: dict[CanisterId, Canister]) -> None:
    """A canister is deleted."""
    if not canisters:
        return
    canister_id = rng.choice(sorted(canisters))
    shared.remove(canisters[canister_id], canisters)
    del canisters[canister_id], plain.priority[canister_id], plain.executed[canister_id]


@given(st.integers(0, 2**32), st.integers(0, 30), st.sampled_from([0.0, 0.05, 0.5, 0.9]))
@settings(deadline=None, max_examples=120)
def test_shared_priority_equals_the_plain_rule(seed: int, count: int, activity: float) -> None:
    """Priorities, front of idle canisters and the held sum agree after every round, with canisters coming and going."""
    rng, shared, plain = random.Random(seed), SharedPriority(), Plain()
    canisters: dict[CanisterId, Canister] = {}
    for _ in range(count):
        join(rng, shared, plain, canisters)
    for _ in range(25):
        one_round(rng, shared, plain, canisters, activity)
        if rng.random() < 0.1:
            leave(rng, shared, plain, canisters)
        if canisters and rng.random() < 0.1:
            shared.set_allocation(canisters[rng.choice(sorted(canisters))], rng.choice([0, 0, 3, 10]))
        if rng.random() < 0.03:
            shared.reset(canisters)
            plain.priority = dict.fromkeys(canisters, 0)


def test_idle_network_changes_nothing() -> None:
    """If nobody has work nobody's own difference changes."""
    shared = SharedPriority()
    canisters = {c.canister_id: c for c in (canister_of(i, 0) for i in range(1, 100))}
    for canister in canisters.values():
        shared.add(canister, canisters)
    for _ in range(50):
        front = shared.front(None, [], canisters)
        assert shared.end_round(front, [], canisters) == []
    assert {shared.priority(c) for c in canisters.values()} == {0}


def test_one_busy_canister_among_many_touches_nobody_else() -> None:
    """Who executes every round falls behind the idle ones, which are then charged together."""
    shared = SharedPriority()
    canisters = {c.canister_id: c for c in (canister_of(i, 0) for i in range(1, 200))}
    for canister in canisters.values():
        shared.add(canister, canisters)
    busy = Principal.canister(5)
    for number in range(100):
        front = shared.front(shared.key(canisters[busy]), [busy], canisters)
        changed = shared.end_round(front, [busy], canisters)
        assert number < 2 or set(changed) <= {busy}


def test_more_canisters_than_capacity() -> None:
    """Growing past the tree's capacity changes no priority."""
    shared = SharedPriority()
    canisters: dict[CanisterId, Canister] = {}
    plain = Plain()
    rng = random.Random(1)
    while len(canisters) < 140:
        join(rng, shared, plain, canisters)
        if len(canisters) % 10 == 0:
            one_round(rng, shared, plain, canisters, 0.1)


@pytest.mark.parametrize("capacity", [1, 2, 7, 64])
def test_odd_units_count_suffixes(capacity: int) -> None:
    """The tree counts what a plain list counts."""
    rng, units, plain = random.Random(capacity), OddUnits(capacity), [0] * capacity
    for _ in range(200):
        start = rng.randrange(capacity)
        units.add_suffix(start)
        for position in range(start, capacity):
            plain[position] += 1
        assert [units.at(p) for p in range(capacity)] == plain
