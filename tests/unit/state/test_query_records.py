"""Statistics of queries: from a node's counts over payloads to the totals that a subnet agrees on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ic_types import canonical
from ic_types.principal import Principal
from ic_types.query_statistics import CanisterQueryStats, QueryStatsPayload
from scheduler.canister import QueryStats
from subnet.node.query_collector import MAX_CANISTERS, QueryCollector
from subnet.state.query_records import QueryRecords, medians

NODES = tuple(Principal.self_authenticating(bytes([k])) for k in range(4))
A, B = Principal.canister(1), Principal.canister(2)
LATER = 100


def payload(node: int, epoch: int, **calls: int) -> QueryStatsPayload:
    """So many calls of canisters `a` and `b`, each of ten instructions and two bytes each way."""
    named = {"a": A, "b": B}
    stats = tuple(
        CanisterQueryStats(canister_id=named[name], calls=n, instructions=10 * n, request_bytes=2 * n, response_bytes=2 * n)
        for name, n in calls.items()
    )
    return QueryStatsPayload(proposer=NODES[node], epoch=epoch, stats=stats)


def taken(records: QueryRecords, *payloads: QueryStatsPayload) -> dict[Principal, QueryStats]:
    """What canisters get when these payloads come one after the other."""
    found: dict[Principal, QueryStats] = {}
    for one in payloads:
        assert records.add(one, NODES, LATER) is None
        for canister_id, stats in records.aggregate(len(NODES)).items():
            found.setdefault(canister_id, QueryStats()).add(stats)
    return found


def times(calls: int) -> QueryStats:
    """What `payload` makes of so many calls."""
    return QueryStats(calls, 10 * calls, 2 * calls, 2 * calls)


def test_an_epoch_is_aggregated_when_three_of_four_nodes_are_past_it() -> None:
    """The median of the three, times four; the fourth node's record comes too late."""
    records = QueryRecords()
    assert not taken(records, payload(0, 1, a=5), payload(1, 1, a=7), payload(2, 1, a=100), payload(0, 2), payload(1, 2))
    assert taken(records, payload(2, 2)) == {A: times(7 * 4)}
    assert records.highest_aggregated == 1
    assert records.add(payload(3, 1, a=1), NODES, LATER) == "its epoch 1 is aggregated already"


def test_nodes_without_a_record_count_as_zero() -> None:
    """Two of four saw the canister: the median is between 0 and the smaller; one of four is nothing."""
    records = QueryRecords()
    late = (payload(0, 2), payload(1, 2), payload(2, 2), payload(3, 2))
    found = taken(records, payload(0, 1, a=8, b=9), payload(1, 1, a=6), *late[:3])
    assert found == {A: times(6 * 4), B: times(0)}
    records = QueryRecords()
    assert taken(records, payload(0, 1, a=8), payload(1, 1, a=6), *late[1:], late[0]) == {A: times(0)}, "one past, two not"


def test_incomplete_records_are_left_out() -> None:
    """A node that hasn't gone on may still add to its record, so it isn't taken."""
    records = QueryRecords()
    first = payload(0, 1, a=3), payload(1, 1, a=3), payload(2, 1, a=3), payload(3, 1, a=1000)
    assert taken(records, *first, payload(0, 2), payload(1, 2), payload(2, 2)) == {A: times(3 * 4)}


def test_epochs_may_be_passed_over_and_several_end_at_once() -> None:
    """What nodes counted in epochs 1, 3 and 4 is aggregated as soon as three nodes are past each."""
    records = QueryRecords()
    assert not taken(records, payload(0, 1, a=1), payload(0, 3, a=1), payload(0, 9), payload(1, 3, a=1), payload(1, 9))
    assert taken(records, payload(2, 4, a=1), payload(2, 9)) == {A: times(4)}, "of epochs 1 and 4 the median is zero"
    assert records.highest_aggregated == 4


def test_a_record_may_come_in_parts() -> None:
    """Payloads of the same epoch complete one another."""
    records = QueryRecords()
    parts = [one for node in range(3) for one in (payload(node, 1, a=2), payload(node, 1, b=3), payload(node, 2))]
    assert taken(records, *parts) == {A: times(2 * 4), B: times(3 * 4)}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (replace(payload(0, 2, a=1), proposer=Principal(b"x")), "its proposer is no node of this subnet"),
        (payload(0, LATER + 1, a=1), f"its epoch {LATER + 1} hasn't begun"),
        (payload(0, -1, a=1), "its epoch -1 hasn't begun"),
        (payload(0, 1, a=1), "its proposer has gone on after epoch 1"),
        (payload(0, 2, a=1), f"canister {A} is in it twice"),
        (payload(0, 2, b=-1), f"a figure of canister {B} is out of range"),
        (payload(0, 2, b=1 << 64), f"a figure of canister {B} is out of range"),
    ],
)
def test_payloads_that_are_ignored(bad: QueryStatsPayload, reason: str) -> None:
    """They change nothing, not even what is hashed."""
    records = QueryRecords()
    taken(records, payload(0, 2, a=1))
    before = records.to_canonical()
    assert records.add(bad, NODES, LATER) == reason
    assert records.to_canonical() == before


@given(st.lists(st.integers(0, 1 << 64), min_size=1, max_size=13), st.integers(0, 6))
def test_median(values: list[int], absent: int) -> None:
    """Half of the nodes have at most as much, half at least; of an even number the mean of the two in the middle."""
    found = medians([QueryStats(calls=value) for value in values], len(values) + absent).calls
    everyone = sorted(values + [0] * absent)
    low, high = everyone[(len(everyone) - 1) // 2], everyone[len(everyone) // 2]
    assert found == (low + high) // 2


def test_the_hash_follows_every_change() -> None:
    """Two states with the same records have the same bytes, whatever was aggregated in between."""
    one, other = QueryRecords(), QueryRecords()
    first = one.to_canonical()
    taken(one, payload(0, 1, a=1))
    assert one.to_canonical() != first
    taken(other, payload(0, 1, a=1))
    assert one.to_canonical() == other.to_canonical()
    assert one.to_canonical() == canonical.encode((None, {NODES[0]: {1: {A: times(1)}}}))


# --- the collector


def counted(calls: int) -> dict[Principal, QueryStats]:
    """Queries of canister A."""
    return {A: times(calls)}


def test_what_was_counted_is_offered_when_its_epoch_is_over() -> None:
    """Once, until it is in the state; then no more."""
    collector, records = QueryCollector(NODES[0], 10), QueryRecords()
    for height in (1, 4, 9):
        collector.certified(height)
        collector.count(counted(2))
    assert collector.offer(records) is None
    collector.certified(10)
    collector.count(counted(1))
    offered = collector.offer(records)
    assert offered == payload(0, 0, a=6)
    assert collector.offer(records) == offered, "it didn't get into the last batch"
    taken(records, offered)
    assert collector.offer(records) is None
    collector.certified(25)
    assert collector.offer(records) == payload(0, 1, a=1)


def test_a_node_without_counts_speaks_only_when_others_wait() -> None:
    """An empty payload for the last epoch tells that it is past what others have submitted."""
    quiet, records = QueryCollector(NODES[1], 10), QueryRecords()
    quiet.certified(10)
    assert quiet.offer(records) is None
    taken(records, payload(0, 0, a=6))
    assert quiet.offer(records) is None, "the epoch after it isn't over"
    quiet.certified(20)
    assert quiet.offer(records) == payload(1, 1)
    taken(records, payload(1, 1))
    assert quiet.offer(records) is None
    taken(records, payload(0, 1), payload(2, 1))
    assert records.highest_aggregated == 0
    quiet.certified(30)
    assert quiet.offer(records) is None, "nothing waits"


def test_counts_of_aggregated_epochs_are_given_up() -> None:
    """A node that slept submits what still counts."""
    collector, records = QueryCollector(NODES[3], 10), QueryRecords()
    for height in (5, 15):
        collector.certified(height)
        collector.count(counted(1))
    taken(records, *(payload(node, 0, a=1) for node in range(3)), *(payload(node, 1) for node in range(3)))
    collector.certified(20)
    assert collector.offer(records) == payload(3, 1, a=1)


def test_many_canisters_are_offered_in_parts() -> None:
    """A payload has a bounded number of canisters, in the order of their ids."""
    collector, records = QueryCollector(NODES[0], 10), QueryRecords()
    ids = [Principal.canister(k) for k in range(2 * MAX_CANISTERS + 1)]
    collector.count({canister_id: QueryStats(calls=1) for canister_id in reversed(ids)})
    collector.certified(10)
    seen = []
    while (offered := collector.offer(records)) is not None:
        seen.append([one.canister_id for one in offered.stats])
        assert records.add(offered, NODES, 1) is None
    assert [len(part) for part in seen] == [MAX_CANISTERS, MAX_CANISTERS, 1]
    assert [canister_id for part in seen for canister_id in part] == ids
