"""The replicated state: all that a subnet knows, the same on each of its nodes after the same batches.

Rule module. Spec: abstract behaviour, "The IC state"; split by room as the replica does. What isn't state (indexes that can be
rebuilt, caches, statistics of queries) says so where it is defined; docs/state.md lists both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.chain_keys.registry import ChainKeys
from ic_types.principal import CanisterId, SubnetId
from ic_types.units import Cycles, Height, TimeNs
from message_routing.cycles_flow import CyclesFlow
from message_routing.ingress_history import IngressHistory
from message_routing.lost_cycles import LostCycles
from message_routing.queues import CanisterQueues
from message_routing.refunds import RefundPool
from message_routing.routing_table import RoutingTable
from message_routing.timeouts import Deadlines
from scheduler.cycles_account import CyclesTally
from scheduler.scheduler_state import SchedulerState
from subnet.certification.state_tree import StateTree
from subnet.management.block_makers import BlockMakers
from subnet.management.consensus_calls import ConsensusCalls
from subnet.protocol import NetworkRecord, SubnetRecord
from subnet.state.canister_table import CanisterTable
from subnet.state.query_records import QueryRecords
from xnet.stream import Stream


@dataclass(slots=True, kw_only=True)
class ReplicatedState:
    """One subnet."""

    # --- constants since genesis
    network: NetworkRecord
    own: SubnetRecord
    limits: SubnetLimits
    fees: CyclesCostSchedule
    routing: RoutingTable
    root_key_der: bytes
    chain_keys: ChainKeys = field(default_factory=ChainKeys)
    # --- state
    height: Height = Height(0)
    time: TimeNs = TimeNs(0)
    randomness: bytes = b""
    """Random tape of the last batch."""
    canisters: CanisterTable = field(default_factory=CanisterTable)
    streams: dict[SubnetId, Stream] = field(default_factory=dict)
    """Including the loopback stream to the subnet itself."""
    history: IngressHistory = field(default_factory=IngressHistory)
    management_queues: CanisterQueues = field(default_factory=lambda: CanisterQueues(by_effective_id=True))
    scheduler: SchedulerState = field(default_factory=SchedulerState)
    consensus_calls: ConsensusCalls = field(default_factory=ConsensusCalls)
    refunds: RefundPool = field(default_factory=RefundPool)
    lost: LostCycles = field(default_factory=LostCycles)
    tally: CyclesTally = field(default_factory=CyclesTally)
    flow: CyclesFlow = field(default_factory=CyclesFlow)
    minted: int = 0
    """Cycles created by provisional management calls."""
    next_canister_index: int = 0
    """Index in the network of the next canister that gets an id from the subnet's range."""
    compiled: dict[bytes, None] = field(default_factory=dict)
    """Hashes of modules compiled since the last checkpoint: they debit the round by a hundredth."""
    messages_executed: int = 0
    block_makers: BlockMakers = field(default_factory=BlockMakers)
    renamed: dict[CanisterId, SubnetId] = field(default_factory=dict)
    """Ids that canisters got by renaming, with the subnets that host them since."""
    registry_changes: int = 0
    """How often a canister was renamed on the network."""
    query_records: QueryRecords = field(default_factory=QueryRecords)
    """Statistics of queries that aren't in the canisters' totals yet."""
    # --- not state: rebuilt from it
    deadlines: Deadlines = field(default_factory=Deadlines)
    tree: StateTree = field(default_factory=StateTree)
    """The certified tree; its content is a function of the state."""

    @property
    def is_system(self) -> bool:
        """System subnets have other limits for streams and histories."""
        return self.own.subnet_type == "system"

    def burned(self) -> Cycles:
        """Cycles that were paid for something on this subnet."""
        return self.tally.total_burned()

    def lost_cycles(self) -> Cycles:
        """Cycles dropped by a rule, all causes."""
        return Cycles(self.tally.total_lost() + self.lost.total())
