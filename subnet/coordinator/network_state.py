"""What the coordinator knows of its nodes and subnets while it runs.

Rule module: the records alone; nodes.py, rounds.py and coordinator.py change them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ic_types.principal import SubnetId
from ic_types.query_statistics import QueryStatsPayload
from subnet.coordinator.genesis import Genesis, SubnetKeys
from subnet.coordinator.network_plan import NetworkPlan, SubnetPlan
from subnet.protocol import CertifiedSlice, RoundResult, StreamHead, SubnetRecord
from subnet.random_tape import genesis_randomness

_STANDING = ("certified_height",)
"""Counters of nodes that are no sums, besides those called total_."""


class NodePhase(Enum):
    """Where a node stands."""

    STARTING = "starting"
    CATCHING_UP = "catching_up"
    LIVE = "live"
    DEAD = "dead"


@dataclass(slots=True, eq=False)
class Node:
    """One replica node; its process may be replaced."""

    subnet: int
    index: int
    """From 1."""
    name: str
    """E.g. `app-1/2`."""
    phase: NodePhase = NodePhase.DEAD
    pid: int = 0
    address: bytes = b""
    """Of its socket at the transport; empty while it isn't connected."""
    height: int = 0
    """Last height that it answered."""
    sent: int = 0
    """Last height whose batch it was sent."""
    sent_at: float = 0.0
    restarts: int = 0
    stalled_restarts: int = 0
    """Restarts without a round of progress between them."""
    best_height: int = 0
    last_words: str = ""
    """Why its process can't go on, if it said so or ended."""


@dataclass(slots=True, eq=False)
class Subnet:
    """One subnet as its last finished round left it, and the round in work."""

    place: int
    """In topology order."""
    plan: SubnetPlan
    record: SubnetRecord
    keys: SubnetKeys
    nodes: list[Node]
    height: int = 0
    state_hash: bytes = b""
    root_hash: bytes = b""
    signature: bytes = b""
    """Threshold signature over root_hash."""
    randomness: bytes = b""
    """For the next height."""
    current_randomness: bytes = b""
    """Of the round in work."""
    heads: dict[SubnetId, StreamHead] = field(default_factory=dict)
    has_work: bool = False
    next_due_ns: int = 0
    delegation: bytes = b""
    """The root subnet's word for this subnet, for its nodes."""
    slices: list[CertifiedSlice] = field(default_factory=list)
    """For the next batch."""
    query_stats: QueryStatsPayload | None = None
    """For the next batch."""
    results: dict[int, RoundResult] = field(default_factory=dict)
    """Of the round in work, by node index."""
    totals: dict[str, int] = field(default_factory=dict)
    stage_ns: dict[str, int] = field(default_factory=dict)
    """Wall time per stage of one node, all rounds added."""
    stage_cpu_ns: dict[str, int] = field(default_factory=dict)

    def live(self) -> list[Node]:
        """Nodes that take part in rounds."""
        return [node for node in self.nodes if node.phase is NodePhase.LIVE]

    def count(self, result: RoundResult) -> None:
        """Add the counters of a round."""
        for name, value in result.stats.items():
            standing = name in _STANDING or name.startswith("total_")
            self.totals[name] = value if standing else self.totals.get(name, 0) + value
        for sums, added in ((self.stage_ns, result.stage_ns), (self.stage_cpu_ns, result.stage_cpu_ns)):
            for name, value in added.items():
                sums[name] = sums.get(name, 0) + value


@dataclass(slots=True)
class Failure:
    """Why no more rounds are made."""

    message: str
    exit_code: int


@dataclass(slots=True, eq=False)
class Network:
    """The whole network."""

    plan: NetworkPlan
    genesis: Genesis
    subnets: list[Subnet]
    height: int = 0
    """Last finished height, the same on all subnets."""
    now: int = 0
    """Batch time of the last finished round."""
    by_id: dict[SubnetId, int] = field(default_factory=dict)

    def virtual_time_at(self, height: int) -> int:
        """Batch time of a height in virtual time; what differs from it is in the journal."""
        return self.plan.virtual_time_at(height)


def new_network(plan: NetworkPlan, genesis: Genesis) -> Network:
    """The network at height 0."""
    subnets = []
    for place, (subnet, record, keys) in enumerate(zip(plan.subnets, genesis.subnets, genesis.keys, strict=True)):
        nodes = [Node(place, index, f"{subnet.name}/{index}") for index in range(1, subnet.nodes + 1)]
        randomness = genesis_randomness(plan.seed_bytes(), record.subnet_id)
        subnets.append(Subnet(place, subnet, record, keys, nodes, randomness=randomness))
    by_id = {record.subnet_id: place for place, record in enumerate(genesis.subnets)}
    return Network(plan, genesis, subnets, now=plan.genesis_time_ns, by_id=by_id)
