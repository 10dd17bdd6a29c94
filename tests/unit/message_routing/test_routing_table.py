"""Which subnet hosts whom."""

from __future__ import annotations

import pytest

from ic_types.principal import MANAGEMENT_CANISTER, Principal
from message_routing.routing_table import RANGE_SIZE, RoutingTable, allocation_range
from tests.support.routing_world import USER, canister_id, subnet_id

A, B, C = (subnet_id(n) for n in range(3))


@pytest.fixture
def table() -> RoutingTable:
    """Two subnets with a range each, B with a second one, and C without any canisters."""
    extra = (Principal.canister(5 << 20), Principal.canister((5 << 20) + 9), B)
    return RoutingTable(A, [(*allocation_range(1), B), (*allocation_range(0), A), extra])


def test_canisters_route_to_the_range_they_are_in(table: RoutingTable) -> None:
    """Both ends belong to the range."""
    assert table.route(canister_id(0, 0)) == A
    assert table.route(canister_id(0, RANGE_SIZE - 1)) == A
    assert table.route(canister_id(1, 0)) == B
    assert table.route(Principal.canister((5 << 20) + 9)) == B
    assert table.route(Principal.canister((5 << 20) + 10)) is None
    assert table.route(canister_id(2, 0)) is None


def test_subnets_route_to_themselves_and_the_management_canister_to_the_own(table: RoutingTable) -> None:
    """`aaaaa-aa` is wherever one asks."""
    assert table.route(B) == B
    assert table.route(MANAGEMENT_CANISTER) == A
    assert table.route(C) is None
    assert table.route(USER) is None
    assert table.is_management(A)
    assert table.is_management(MANAGEMENT_CANISTER)
    assert not table.is_management(B)


def test_answers_are_the_same_the_second_time(table: RoutingTable) -> None:
    """The cache holds misses too."""
    for who in (canister_id(0, 3), canister_id(2, 0), B):
        assert table.route(who) == table.route(who)
    assert table.is_local(canister_id(0, 3))
    assert not table.is_local(canister_id(1, 3))


def test_ranges_of_a_subnet_ascend(table: RoutingTable) -> None:
    """As they are certified."""
    assert [first for first, _ in table.ranges_of(B)] == [canister_id(1, 0), Principal.canister(5 << 20)]
    assert table.ranges_of(C) == ()


def test_overlapping_ranges_are_a_bug() -> None:
    """A canister has one host."""
    with pytest.raises(AssertionError, match="overlap"):
        RoutingTable(A, [(*allocation_range(0), A), (Principal.canister(7), Principal.canister(8), B)])
