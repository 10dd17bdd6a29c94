"""Statistics of queries on their way into the totals of canisters: what nodes have submitted, until an epoch is aggregated.

Rule module. Not in the spec, which leaves `query_stats` a noise function; this is the replica's. A node's record of an epoch is
complete once it has submitted for a later one; an epoch that no node has a record of is passed over. When more than two
thirds of the nodes are past the oldest epoch, the median of their figures (zero for nodes without a record of the canister),
times the number of nodes, is added to each canister's totals.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass, field

from ic_types import canonical
from ic_types.principal import CanisterId, NodeId
from ic_types.query_statistics import QueryStatsPayload
from scheduler.canister import QueryStats

_LARGEST = (1 << 64) - 1
Record = dict[CanisterId, QueryStats]
"""What a node counted in an epoch."""


@dataclass(slots=True)
class QueryRecords:
    """Records that aren't aggregated yet; state."""

    highest_aggregated: int | None = None
    """Records of this epoch and earlier ones come too late."""
    _records: dict[NodeId, dict[int, Record]] = field(default_factory=dict)
    """By node and epoch, ascending."""
    _encoded: canonical.Encoded | None = None

    def submitted(self, node: NodeId, epoch: int) -> Mapping[CanisterId, QueryStats]:
        """What a node has submitted for an epoch so far."""
        return self._records.get(node, {}).get(epoch, {})

    def last_epoch(self, node: NodeId) -> int:
        """The latest epoch that a node has submitted for; -1 if there is none."""
        return max(self._records.get(node, ()), default=-1)

    def waits_since_before(self, epoch: int) -> bool:
        """Whether anything that was counted before this epoch waits for nodes that haven't submitted for a later one."""
        return any(record for records in self._records.values() for e, record in records.items() if e < epoch)

    def add(self, payload: QueryStatsPayload, nodes: Collection[NodeId], last_epoch: int) -> str | None:
        """Take a payload in; otherwise why it is ignored. `last_epoch`: that of the last certified height."""
        problem = self._problem(payload, nodes, last_epoch)
        if problem is not None:
            return problem
        record = self._records.setdefault(payload.proposer, {}).setdefault(payload.epoch, {})
        for one in payload.stats:
            record[one.canister_id] = QueryStats(one.calls, one.instructions, one.request_bytes, one.response_bytes)
        self._encoded = None
        return None

    def _problem(self, payload: QueryStatsPayload, nodes: Collection[NodeId], last_epoch: int) -> str | None:
        if payload.proposer not in nodes:
            return "its proposer is no node of this subnet"
        if not 0 <= payload.epoch <= last_epoch:
            return f"its epoch {payload.epoch} hasn't begun"
        if self.highest_aggregated is not None and payload.epoch <= self.highest_aggregated:
            return f"its epoch {payload.epoch} is aggregated already"
        if payload.epoch < self.last_epoch(payload.proposer):
            return f"its proposer has gone on after epoch {payload.epoch}"
        seen = dict(self.submitted(payload.proposer, payload.epoch))
        for one in payload.stats:
            if one.canister_id in seen:
                return f"canister {one.canister_id} is in it twice"
            seen[one.canister_id] = QueryStats()
            if not all(0 <= n <= _LARGEST for n in (one.calls, one.instructions, one.request_bytes, one.response_bytes)):
                return f"a figure of canister {one.canister_id} is out of range"
        return None

    def aggregate(self, nodes: int) -> Record:
        """Aggregate every epoch that can be: what each canister gets, times the number of nodes already counted in."""
        found: Record = {}
        while self._aggregate_oldest(nodes, found):
            pass
        return found

    def _aggregate_oldest(self, nodes: int, found: Record) -> bool:
        epoch = min((min(records) for records in self._records.values()), default=None)
        if epoch is None:
            return False
        past = [records for records in self._records.values() if max(records) > epoch]
        if len(past) < nodes - (nodes - 1) // 3:
            return False
        counted: dict[CanisterId, list[QueryStats]] = {}
        for records in past:
            for canister_id, stats in records.get(epoch, {}).items():
                counted.setdefault(canister_id, []).append(stats)
        for canister_id in sorted(counted):
            found.setdefault(canister_id, QueryStats()).add(medians(counted[canister_id], len(past)), nodes)
        self.highest_aggregated, self._encoded = epoch, None
        for node, records in list(self._records.items()):
            records.pop(epoch, None)
            if not records:
                del self._records[node]
        return True

    def to_canonical(self) -> canonical.Encoded:
        """For the state hash; made anew only after a change."""
        if self._encoded is None:
            self._encoded = canonical.Encoded(canonical.encode((self.highest_aggregated, self._records)))
        return self._encoded


def medians(counted: list[QueryStats], count: int) -> QueryStats:
    """Median of each figure over `count` nodes, of which those that aren't listed have zeros."""
    columns = zip(*(astuple(stats) for stats in counted), strict=True)
    return QueryStats(*(_median(sorted([0] * (count - len(counted)) + list(column))) for column in columns))


def _median(values: list[int]) -> int:
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) // 2
