"""Install_code over several rounds: suspending the rule at the end of a slice, going on, giving up, starting again.

Rule module. Not in the spec: the replica's time slicing. The rule that installs is a generator; between rounds it stays
suspended here. That is local: what is hashed is `Canister.long_install`, from which any node gets the same rule by running the
finished slices again. At most one install is in progress on a subnet.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from ic_types.principal import CanisterId
from ic_types.units import NumInstructions
from sandbox.execution_state import ExecutionState
from scheduler.canister import Canister
from scheduler.effects import AbortMessage, Effect, EffectResult, Effects
from subnet.management.context import ManagementOutcome, SubnetContext


@dataclass(frozen=True, slots=True, eq=False)
class SliceEnd:
    """The rule is suspended until the next round; it is sent the SubnetContext of that round."""

    execution: ExecutionState
    """What is paused in the sandbox."""
    instructions: int
    """Used by the rule in this round."""


InstallRule: TypeAlias = Generator[Effect | SliceEnd, EffectResult | SubnetContext | None, ManagementOutcome]


@dataclass(slots=True)
class Suspended:
    """A rule at the end of a slice."""

    rule: InstallRule
    execution: ExecutionState


@dataclass(slots=True)
class InstallRuns:
    """Local: suspended rules, and which canisters have a long install."""

    ongoing: dict[CanisterId, None] = field(default_factory=dict)
    suspended: dict[CanisterId, Suspended] = field(default_factory=dict)

    def rebuild(self, canisters: dict[CanisterId, Canister]) -> None:
        """Make the index anew from the canisters (after a restore, when no install is paused)."""
        self.suspended.clear()
        self.ongoing = {i: None for i in sorted(canisters) if canisters[i].long_install is not None}


def run_slice(ctx: SubnetContext, canister_id: CanisterId, rule: InstallRule, *, resumed: bool) -> Effects[ManagementOutcome]:
    """Run the rule until it ends or its slice does."""
    sent: EffectResult | SubnetContext | None = ctx if resumed else None
    while True:
        try:
            step = rule.send(sent)
        except StopIteration as end:
            ctx.installs.ongoing.pop(canister_id, None)
            ctx.installs.suspended.pop(canister_id, None)
            return cast("ManagementOutcome", end.value)
        if isinstance(step, SliceEnd):
            ctx.installs.ongoing[canister_id] = None
            ctx.installs.suspended[canister_id] = Suspended(rule, step.execution)
            return ManagementOutcome(payload=None, instructions=step.instructions)
        sent = yield step


def abort_install(ctx: SubnetContext, canister: Canister) -> Effects[None]:
    """Throw the finished slices of a paused install away; it keeps its prepayment and starts again later."""
    long, run = canister.long_install, ctx.installs.suspended.pop(canister.canister_id)
    assert long is not None, "only a paused install is aborted"
    run.rule.close()
    yield AbortMessage(canister.canister_id, run.execution)
    long.paused, long.slices, long.instructions = False, 0, NumInstructions(0)
    ctx.touch(canister.canister_id)


def abort_all(ctx: SubnetContext) -> Effects[None]:
    """A checkpoint leaves no install paused."""
    for canister_id in sorted(ctx.installs.suspended):
        yield from abort_install(ctx, ctx.canisters[canister_id])
