"""One subnet in one round, as scheduler and management canister see it.

Rule module. Satisfies `scheduler.world.World` and `subnet.management.context.SubnetContext` over a ReplicatedState.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.chain_keys.registry import ChainKeys
from ic_types.principal import CanisterId, Principal, SubnetId
from ic_types.reject import Reject
from ic_types.units import Cycles, TimeNs
from message_routing.delivery import Delivery, GuaranteedMemory
from message_routing.ingress_history import IngressState
from message_routing.local_induction import induct_on_same_subnet
from message_routing.queues import CanisterQueues
from message_routing.routing_table import RoutingTable
from scheduler.canister import Canister, UserResponse
from scheduler.cycles_account import CyclesTally
from scheduler.effects import Effects
from scheduler.scheduler_state import SchedulerState
from subnet.management import dispatch
from subnet.management.block_makers import BlockMakers
from subnet.management.consensus_calls import ConsensusCalls
from subnet.management.installs import InstallRuns
from subnet.state.canister_table import CanisterTable
from subnet.state.replicated_state import ReplicatedState
from subnet.state.usage import Usage
from xnet.stream import Stream

UNLIMITED = 1 << 62
"""Message memory isn't limited on system subnets."""


@dataclass(slots=True)
class RoundWorld:
    """The state, with what belongs to this round alone."""

    state: ReplicatedState
    batch_size: int
    is_checkpoint: bool
    installs: InstallRuns
    stopping: dict[CanisterId, None]
    version: str = ""
    """`Batch.replica_version`."""
    user_responses: list[UserResponse] = field(default_factory=list)
    processing: dict[bytes, None] = field(default_factory=dict)
    usage: Usage = Usage()
    """What all canisters use, counted before each iteration and each management call, so that neither sees half of a change."""
    _drawn: int = 0

    # --- constants of the round

    @property
    def time(self) -> TimeNs:
        """Batch time."""
        return self.state.time

    @property
    def round_number(self) -> int:
        """Height of the batch."""
        return self.state.height

    @property
    def limits(self) -> SubnetLimits:
        """Limits of the subnet."""
        return self.state.limits

    @property
    def fees(self) -> CyclesCostSchedule:
        """Prices of the subnet."""
        return self.state.fees

    @property
    def own_subnet(self) -> SubnetId:
        """Id of this subnet."""
        return self.state.own.subnet_id

    @property
    def node_count(self) -> int:
        """Nodes of this subnet."""
        return len(self.state.own.nodes)

    @property
    def root_subnet(self) -> SubnetId:
        """Id of the root subnet."""
        return self.state.network.root

    @property
    def subnet_admins(self) -> tuple[Principal, ...]:
        """Subnet admins."""
        return self.state.own.admins

    @property
    def routing(self) -> RoutingTable:
        """Which subnet hosts which canister."""
        return self.state.routing

    @property
    def chain_keys(self) -> ChainKeys:
        """Keys for signatures, of all subnets."""
        return self.state.chain_keys

    @property
    def streams(self) -> Mapping[SubnetId, Stream]:
        """What is on its way."""
        return self.state.streams

    @property
    def replica_version(self) -> str:
        """Version of the replica that executes this round."""
        return self.version

    @property
    def registry_version(self) -> int:
        """That of genesis, and one more for each canister renamed since."""
        return 1 + self.state.registry_changes

    # --- state

    @property
    def block_makers(self) -> BlockMakers:
        """Which node made how many blocks."""
        return self.state.block_makers

    @property
    def canisters(self) -> CanisterTable:
        """All canisters of the subnet."""
        return self.state.canisters

    @property
    def scheduler(self) -> SchedulerState:
        """The scheduler's own state."""
        return self.state.scheduler

    @property
    def tally(self) -> CyclesTally:
        """Cycles burned and lost on this subnet."""
        return self.state.tally

    @property
    def management_queues(self) -> CanisterQueues:
        """Queues of the management canister."""
        return self.state.management_queues

    @property
    def consensus_calls(self) -> ConsensusCalls:
        """Calls that wait for an answer from consensus."""
        return self.state.consensus_calls

    @property
    def compiled(self) -> dict[bytes, None]:
        """Hashes of modules compiled since the last checkpoint."""
        return self.state.compiled

    def touch(self, canister_id: CanisterId) -> None:
        """This canister changes in this round."""
        self.state.canisters.touch(canister_id)

    def take_touched(self) -> list[CanisterId]:
        """Canisters touched since the last call; what they use is counted."""
        self.count_usage()
        return self.state.canisters.take_fresh()

    def mark_processing(self, message_id: bytes) -> None:
        """An ingress message has started and isn't answered yet."""
        status = self.state.history.get(message_id)
        if status is not None and status.state is IngressState.RECEIVED:
            self.state.history.processing(message_id, self.time)

    def available_memory(self) -> int:
        """Bytes that canisters of the subnet may still take, the reserve for responses left out."""
        return max(self.limits.subnet_memory_capacity - self.limits.response_memory_reserve - self.usage.memory, 0)

    def available_message_memory(self) -> int:
        """Bytes of guaranteed-response memory that calls may still take."""
        if self.state.is_system:
            return UNLIMITED
        used = self.usage.guaranteed + self.state.management_queues.guaranteed_memory()
        return max(self.limits.guaranteed_response_memory - used, 0)

    def available_callbacks(self) -> int:
        """Calls that may still be opened on the subnet."""
        return max(self.limits.callback_soft_limit - self.usage.callbacks, 0)

    def count_usage(self) -> None:
        """Take what the canisters use now for what the following rules see."""
        self.usage = self.state.canisters.usage().total

    # --- canisters come and go

    def allocate_canister_id(self) -> CanisterId | None:
        """The next free id of this subnet's range."""
        state = self.state
        last = state.own.range_end.canister_index()
        assert last is not None, "ranges consist of canister ids"
        while state.next_canister_index <= last:
            canister_id = Principal.canister(state.next_canister_index)
            state.next_canister_index += 1
            if canister_id not in state.canisters:
                return canister_id
        return None

    def add_canister(self, canister: Canister) -> None:
        """Take a new canister into the state and tell the scheduler."""
        self.state.canisters.add(canister)
        self.state.scheduler.add(canister, self.state.canisters)

    def remove_canister(self, canister_id: CanisterId) -> None:
        """Take a deleted canister out of the state and tell the scheduler."""
        self.state.scheduler.remove(self.state.canisters[canister_id], self.state.canisters)
        self.state.canisters.remove(canister_id)

    def uninstalled(self, canister: Canister) -> None:
        """The canister lost its code for want of cycles."""
        self.touch(canister.canister_id)

    def mint(self, amount: Cycles) -> None:
        """Count cycles that a provisional method creates."""
        self.state.minted += amount

    # --- what happens elsewhere

    def random_bytes(self, count: int) -> bytes:
        """The next bytes of the round's random generator: SHA-256 in counter mode over the random tape."""
        drawn = b""
        while len(drawn) < count:
            block = self._drawn.to_bytes(8, "big")
            drawn += hashlib.sha256(b"\x0cicsim-random" + self.state.randomness + bytes(self.own_subnet) + block).digest()
            self._drawn += 1
        return drawn[:count]

    def continue_install(self, budget: int) -> Effects[int | None]:
        """Run one slice of the long install_code in progress."""
        self.count_usage()
        return dispatch.continue_install(self, budget)

    def execute_subnet_message(self, budget: int) -> Effects[int | None]:
        """Run the next executable message to the management canister."""
        self.count_usage()
        return dispatch.execute_next(self, budget)

    def delivery(self) -> Delivery:
        """The port through which messages get into input queues."""
        state = self.state
        self.count_usage()
        return Delivery(
            canisters=state.canisters,
            management_queues=state.management_queues,
            routing=state.routing,
            deadlines=state.deadlines,
            memory=GuaranteedMemory(self.available_message_memory()),
            lost=state.lost,
        )

    def induct_locally(self) -> None:
        """Move messages between canisters of this subnet."""
        induct_on_same_subnet(self.delivery())

    def settle_user_responses(self) -> None:
        """Put outcomes of ingress messages into the history."""
        for response in self.user_responses:
            if isinstance(response.outcome, Reject):
                self.state.history.rejected(response.message_id, response.outcome, self.time)
            else:
                self.state.history.replied(response.message_id, response.outcome, self.time)
        self.user_responses.clear()
