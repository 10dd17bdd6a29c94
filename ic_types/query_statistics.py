"""What nodes tell their subnet of the queries they ran.

Rule module. Not in the spec: how `query_stats` comes about is the replica's. Collected in `subnet.node.query_collector`,
carried by batches, aggregated in `subnet.state.query_records`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import wire
from ic_types.principal import CanisterId, NodeId


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class CanisterQueryStats:
    """What one node has counted of the queries of one canister."""

    canister_id: CanisterId
    calls: int
    instructions: int
    request_bytes: int
    response_bytes: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class QueryStatsPayload:
    """A node's counts of an epoch, or a part of them; without any it says that the node is done with the epochs before."""

    proposer: NodeId
    epoch: int
    stats: tuple[CanisterQueryStats, ...] = ()
