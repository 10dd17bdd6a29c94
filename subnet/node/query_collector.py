"""What a node has counted of queries: by epochs, until it is in a batch.

Rule module. Not in the spec: the replica's collector and payload builder. Local to the node; what it submits becomes state. An
epoch begins with a certified height here and not with its first query, so that the last epoch before a quiet time is submitted
too; and a node without anything to submit only speaks when the records of others wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ic_types.principal import CanisterId, NodeId
from ic_types.query_statistics import CanisterQueryStats, QueryStatsPayload
from scheduler.canister import QueryStats
from subnet.state.query_records import QueryRecords

MAX_CANISTERS = 1000
"""In one payload; the others follow."""


class QueryCollector:
    """One node's counts."""

    def __init__(self, node: NodeId, epoch_length: int) -> None:
        self._node, self._epoch_length = node, epoch_length
        self._epoch = 0
        self._current: dict[CanisterId, QueryStats] = {}
        self._finished: deque[tuple[int, dict[CanisterId, QueryStats]]] = deque()
        """Not submitted yet, oldest first."""

    def certified(self, height: int) -> None:
        """Queries run on this height from now on."""
        epoch = height // self._epoch_length
        if epoch > self._epoch:
            if self._current:
                self._finished.append((self._epoch, self._current))
            self._epoch, self._current = epoch, {}

    def count(self, stats: Mapping[CanisterId, QueryStats]) -> None:
        """A query ended."""
        for canister_id, one in stats.items():
            self._current.setdefault(canister_id, QueryStats()).add(one)

    def offer(self, records: QueryRecords) -> QueryStatsPayload | None:
        """What should be in the next batch, given what the state has; offered until it is there."""
        last = records.last_epoch(self._node)
        too_late = max(last - 1, -1 if records.highest_aggregated is None else records.highest_aggregated)
        while self._finished:
            epoch, stats = self._finished[0]
            submitted = records.submitted(self._node, epoch)
            left = sorted(canister_id for canister_id in stats if canister_id not in submitted)
            if left and epoch > too_late:
                figures = tuple(_figures(canister_id, stats[canister_id]) for canister_id in left[:MAX_CANISTERS])
                return QueryStatsPayload(proposer=self._node, epoch=epoch, stats=figures)
            self._finished.popleft()
        done = self._epoch - 1
        if done > last and records.waits_since_before(done):
            return QueryStatsPayload(proposer=self._node, epoch=done)
        return None


def _figures(canister_id: CanisterId, stats: QueryStats) -> CanisterQueryStats:
    return CanisterQueryStats(
        canister_id=canister_id,
        calls=stats.calls,
        instructions=stats.instructions,
        request_bytes=stats.request_bytes,
        response_bytes=stats.response_bytes,
    )
