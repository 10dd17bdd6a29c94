"""Which subnet hosts a canister.

Rule module. Spec: interface spec, "Canister ids" leave the assignment free; here, as in the replica, each subnet owns ranges of
consecutive ids, of 2^20 ids when a network is made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal, SubnetId

RANGE_SIZE: Final = 1 << 20
_CACHE_LIMIT: Final = 1 << 16

Range = tuple[CanisterId, CanisterId]
"""First and last canister id, both included."""


def allocation_range(subnet_index: int, size: int = RANGE_SIZE) -> Range:
    """The ids of the n-th subnet of a network, counted from 0."""
    return Principal.canister(subnet_index * size), Principal.canister((subnet_index + 1) * size - 1)


class RoutingTable:
    """Ranges of canister ids with their subnets; subnet ids route to themselves, `aaaaa-aa` to the own subnet."""

    __slots__ = ("_cache", "_ends", "_hosts", "_starts", "own_subnet", "subnets")

    def __init__(self, own_subnet: SubnetId, ranges: Iterable[tuple[CanisterId, CanisterId, SubnetId]]) -> None:
        """`ranges`: first id, last id, subnet; they may not overlap."""
        rows = []
        for first, last, subnet in ranges:
            start, end = first.canister_index(), last.canister_index()
            assert start is not None and end is not None and start <= end, f"{first}..{last} is no range of canister ids"  # noqa: PT018
            rows.append((start, end, subnet))
        rows.sort()
        assert all(a[1] < b[0] for a, b in pairwise(rows)), "ranges of canister ids overlap"
        self._starts = [start for start, _, _ in rows]
        self._ends = [end for _, end, _ in rows]
        self._hosts = [subnet for _, _, subnet in rows]
        self._cache: dict[Principal, SubnetId | None] = {}
        self.own_subnet = own_subnet
        self.subnets = tuple(sorted({*self._hosts, own_subnet}))
        """Every subnet, ascending."""

    def route(self, receiver: Principal) -> SubnetId | None:
        """The host of a canister or management canister, or None if there is none."""
        try:
            return self._cache[receiver]
        except KeyError:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            found = self._cache[receiver] = self._find(receiver)
            return found

    def assign(self, canister_id: CanisterId, subnet: SubnetId) -> None:
        """From now on this subnet hosts the id, whoever hosts its neighbours."""
        index = canister_id.canister_index()
        assert index is not None, f"{canister_id} is no canister id"
        rows: list[tuple[int, int, SubnetId]] = [(index, index, subnet)]
        for start, end, host in zip(self._starts, self._ends, self._hosts, strict=True):
            pieces = ((start, min(end, index - 1)), (max(start, index + 1), end))
            rows += [(low, high, host) for low, high in dict.fromkeys(pieces) if low <= high]
        rows.sort()
        self._starts, self._ends, self._hosts = (list(column) for column in zip(*rows, strict=True))
        self._cache.clear()

    def is_local(self, receiver: Principal) -> bool:
        """Hosted by the own subnet, its management canister included."""
        return self.route(receiver) == self.own_subnet

    def is_management(self, receiver: Principal) -> bool:
        """The own management canister, under either of its names."""
        return receiver == MANAGEMENT_CANISTER or receiver == self.own_subnet

    def ranges_of(self, subnet: SubnetId) -> tuple[Range, ...]:
        """The id ranges of a subnet, ascending."""
        rows = zip(self._starts, self._ends, self._hosts, strict=True)
        return tuple((Principal.canister(start), Principal.canister(end)) for start, end, host in rows if host == subnet)

    def _find(self, receiver: Principal) -> SubnetId | None:
        index = receiver.canister_index()
        if index is None:
            return self.own_subnet if receiver == MANAGEMENT_CANISTER else self._subnet_named(receiver)
        at = bisect_right(self._starts, index) - 1
        return self._hosts[at] if at >= 0 and index <= self._ends[at] else None

    def _subnet_named(self, receiver: Principal) -> SubnetId | None:
        at = bisect_right(self.subnets, receiver) - 1
        return self.subnets[at] if at >= 0 and self.subnets[at] == receiver else None
