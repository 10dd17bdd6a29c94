"""What the scheduler asks of the replicated state of its subnet.

Rule module. `subnet.state` satisfies this Protocol; tests have a small one of their own. Everything here is state or
a constant of the round; effects that need processes are yielded, never called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.principal import CanisterId
from ic_types.units import TimeNs
from scheduler.canister import Canister, UserResponse
from scheduler.cycles_account import CyclesTally
from scheduler.effects import Effects

if TYPE_CHECKING:
    from scheduler.scheduler_state import SchedulerState


class SubnetView(Protocol):
    """One subnet in one round, for everyone who executes on it."""

    @property
    def time(self) -> TimeNs:
        """Batch time."""

    @property
    def round_number(self) -> int:
        """Height of the batch."""

    @property
    def limits(self) -> SubnetLimits:
        """Limits of the subnet."""

    @property
    def fees(self) -> CyclesCostSchedule:
        """Prices of the subnet."""

    @property
    def canisters(self) -> Mapping[CanisterId, Canister]:
        """All canisters of the subnet; the scheduler only ever looks up single ones, but for rare settling."""

    @property
    def scheduler(self) -> SchedulerState:
        """The scheduler's own state."""

    @property
    def tally(self) -> CyclesTally:
        """Cycles burned and lost on this subnet."""

    @property
    def user_responses(self) -> list[UserResponse]:
        """Outcomes of ingress messages, in order, for the ingress history; the owner empties it."""

    def touch(self, canister_id: CanisterId) -> None:
        """This canister changes in this round: it is hashed again, its outputs are routed."""

    def mark_processing(self, message_id: bytes) -> None:
        """An ingress message has started and isn't answered yet; messages that are answered already are ignored."""

    def available_memory(self) -> int:
        """Bytes that canisters of the subnet may still take, the reserve for responses left out."""


class World(SubnetView, Protocol):
    """One subnet in one round, as the scheduler sees it."""

    @property
    def is_checkpoint(self) -> bool:
        """All paused executions are aborted at the end of this round."""

    @property
    def batch_size(self) -> int:
        """Inputs offered to a sandbox at once; never changes a result."""

    def take_touched(self) -> Iterable[CanisterId]:
        """Canisters touched by anyone since this was last called (and new ones), in any order; some may be gone again."""

    def available_message_memory(self) -> int:
        """Bytes of guaranteed-response memory that calls may still take."""

    def available_callbacks(self) -> int:
        """Calls that may still be opened on the subnet."""

    def continue_install(self, budget: int) -> Effects[int | None]:
        """Run one slice of the long install_code in progress; instructions used, or None if there is none."""

    def execute_subnet_message(self, budget: int) -> Effects[int | None]:
        """Run the next executable message to the management canister; round instructions used, or None if none can run.

        It passes over messages about canisters with a paused execution, and those that cost instructions when `budget` <= 0.
        It touches every canister that it changes.
        """

    def induct_locally(self) -> None:
        """Move messages between canisters of this subnet from output to input queues; touches senders and receivers."""

    def uninstalled(self, canister: Canister) -> None:
        """The canister lost its code for want of cycles: drop its snapshots, chunks and recent history."""
