"""What the management canister asks of its subnet, and the records of a call and its outcome.

Rule module. `subnet.state` satisfies SubnetContext with the same object that is the scheduler's World; tests have a small one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from configs.fees import CyclesCostSchedule
from ic_types.candid.values import Value
from ic_types.chain_keys.registry import ChainKeys
from ic_types.messages import Ingress, Request
from ic_types.principal import CanisterId, Principal, SubnetId
from ic_types.reject import Payload
from ic_types.units import Cycles
from message_routing.queues import CanisterQueues
from message_routing.routing_table import RoutingTable
from scheduler.canister import Canister
from scheduler.world import SubnetView
from subnet.management.block_makers import BlockMakers
from xnet.stream import Stream

if TYPE_CHECKING:
    from subnet.management.consensus_calls import ConsensusCalls
    from subnet.management.installs import InstallRuns


class SubnetContext(SubnetView, Protocol):
    """One subnet in one round, as the management canister sees it."""

    @property
    def own_subnet(self) -> SubnetId:
        """Id of this subnet."""

    @property
    def node_count(self) -> int:
        """Nodes of this subnet."""

    @property
    def root_subnet(self) -> SubnetId:
        """Id of the root subnet, whose canisters may create canisters anywhere."""

    @property
    def subnet_admins(self) -> tuple[Principal, ...]:
        """Subnet admins; empty on a subnet that has none."""

    @property
    def routing(self) -> RoutingTable:
        """Which subnet hosts which canister."""

    @property
    def chain_keys(self) -> ChainKeys:
        """Keys for signatures, of all subnets."""

    @property
    def consensus_calls(self) -> ConsensusCalls:
        """Calls that wait for an answer from consensus."""

    @property
    def streams(self) -> Mapping[SubnetId, Stream]:
        """What is on its way to other subnets, and to this one."""

    @property
    def replica_version(self) -> str:
        """Version of the replica that executes this round."""

    @property
    def registry_version(self) -> int:
        """Version of the registry that this round goes by."""

    @property
    def block_makers(self) -> BlockMakers:
        """Which node made how many blocks, day by day."""

    @property
    def management_queues(self) -> CanisterQueues:
        """Input and output queues of the management canister."""

    @property
    def compiled(self) -> dict[bytes, None]:
        """Hashes of modules compiled since the last checkpoint; compiling them again hardly costs the round."""

    @property
    def installs(self) -> InstallRuns:
        """Local: the suspended rules of long installs, see `installs`."""

    @property
    def stopping(self) -> dict[CanisterId, None]:
        """Local index: canisters that are stopping."""

    def allocate_canister_id(self) -> CanisterId | None:
        """The next id of this subnet's ranges, passing over ids that are taken; None when they are used up."""

    def add_canister(self, canister: Canister) -> None:
        """Take a new canister into the state and tell the scheduler."""

    def remove_canister(self, canister_id: CanisterId) -> None:
        """Take a deleted canister out of the state and tell the scheduler."""

    def random_bytes(self, count: int) -> bytes:
        """The next bytes of the round's random generator."""

    def mint(self, amount: Cycles) -> None:
        """Count cycles that a provisional method creates out of nothing."""


@dataclass(frozen=True, slots=True)
class ManagementCall:
    """A call to the management canister."""

    message: Ingress | Request
    target: Canister | None = None
    """The canister that it is about, once the caller was found to be allowed to do this to it."""

    @property
    def canister(self) -> Canister:
        """The canister that it is about."""
        assert self.target is not None, f"{self.message.method} is about no canister"
        return self.target

    @property
    def caller(self) -> Principal:
        """Who calls."""
        return self.message.sender

    @property
    def payment(self) -> Cycles:
        """Attached cycles; users can't attach any."""
        return self.message.payment if isinstance(self.message, Request) else Cycles(0)

    @property
    def by_user(self) -> bool:
        """The call is an ingress message."""
        return isinstance(self.message, Ingress)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryView:
    """What a query of the management canister sees: the canisters of a certified height."""

    canister: Callable[[CanisterId], Canister | None]
    """A canister, with what it owes taken off its balance."""
    canister_ids: Callable[[], Iterable[CanisterId]]
    subnet_admins: tuple[Principal, ...]
    fees: CyclesCostSchedule
    streams: Mapping[SubnetId, Stream]


QueryRule: TypeAlias = Callable[[QueryView, Canister | None, Value], Value]
"""A query method: from the canister that it is about (None: it is about none) and the argument to the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementOutcome:
    """What became of a call."""

    payload: Payload | None
    """The answer; None: the call stays open (a canister is stopping, an install goes on)."""
    refund: Cycles = Cycles(0)
    instructions: int = 0
    """Of this slice, taken off the round's budget for subnet messages."""
