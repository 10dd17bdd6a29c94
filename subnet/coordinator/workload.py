"""The topology's workload: phases turned into signed envelopes, round by round.

Rule module. Not in the spec. All follows from the phases, the seed and the heights at which earlier phases were answered.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from configs.argument import CallPlace, Names
from configs.topology import PhaseCall, WorkloadPhase
from ic_types.envelope import build_call
from ic_types.principal import Principal
from ic_types.units import NS_PER_SECOND, TimeNs
from subnet.coordinator.driver import DriverCall, DriverQuery
from subnet.coordinator.network_plan import NetworkPlan
from subnet.coordinator.plan_reader import topology_names
from subnet.identities import identity_named
from subnet.protocol import IngressOutcome, QueryReply


@dataclass(slots=True)
class PhaseProgress:
    """How far a phase is."""

    phase: WorkloadPhase
    start_height: int | None = None
    """Height whose batch gets its first calls; None while it waits for another phase."""
    sent: int = 0
    replied: int = 0
    rejected: int = 0
    unexpected: int = 0
    """Answers that aren't what the phase expects."""
    first_unexpected: str = ""
    answered_height: int = 0

    @property
    def done(self) -> bool:
        """All calls are sent and answered."""
        return self.sent == self.phase.calls and self.replied + self.rejected == self.sent


@dataclass(slots=True)
class Workload:
    """All phases."""

    plan: NetworkPlan
    phases: tuple[WorkloadPhase, ...]
    start_height: int | None = None
    """First height that belongs to the workload; None until the installs are done."""
    progress: dict[str, PhaseProgress] = field(default_factory=dict)
    problem: str | None = None
    _names: Names = field(init=False)
    _ttl_ns: int = 0
    _tokens: dict[int, PhaseProgress] = field(default_factory=dict)
    _last_token: int = 0
    _ahead: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    """Envelopes that are signed already, by phase, number and the time at which they are sent."""
    _constant: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.progress = {phase.name: PhaseProgress(phase) for phase in self.phases}
        ids = {canister.name: canister.canister_id for canister in self.plan.canisters}
        self._names = topology_names(self.plan.identity_seed, self.plan.identities, ids)
        self._ttl_ns = min(subnet.limits.ingress_ttl_s for subnet in self.plan.subnets) * NS_PER_SECOND

    @property
    def finished(self) -> bool:
        """All phases are over."""
        return all(progress.done for progress in self.progress.values())

    @property
    def will_send(self) -> bool:
        """Some phase is not held up by answers."""
        return any(
            one.sent < one.phase.calls
            and (one.start_height is not None or one.phase.after is None or self.progress[one.phase.after].done)
            for one in self.progress.values()
        )

    @property
    def rounds(self) -> int:
        """Rounds in which calls are sent, as far as it is known; later phases may wait for answers."""
        ends: dict[str, int] = {}
        for phase in self.phases:
            ends[phase.name] = ends.get(phase.after or "", 0) + phase.start_round + phase.rounds
        return max(ends.values(), default=0)

    def calls(self, height: int, now: int | None = None) -> tuple[list[DriverCall], list[DriverQuery]]:
        """Calls and queries of this round, phase by phase; `now` is the network's time before it, by default virtual."""
        now = self.plan.virtual_time_at(height - 1) if now is None else now
        if self.start_height is None:
            self.start_height = height
        calls: list[DriverCall] = []
        queries: list[DriverQuery] = []
        for progress in self.progress.values():
            if not self._has_started(progress, height):
                continue
            phase, first = progress.phase, progress.sent
            assert progress.start_height is not None, "a phase that has started knows when"
            end = min(phase.calls, (height - progress.start_height + 1) * phase.calls_per_round)
            for number in range(first, end):
                self._add(progress, number, now, calls, queries)
            progress.sent = max(first, end)
        return calls, queries

    def prepare(self, height: int, now: int | None = None) -> None:
        """Sign ahead the calls of this height, of phases that have started; `now` as for `calls`."""
        now = self.plan.virtual_time_at(height - 1) if now is None else now
        for progress in self.progress.values():
            if progress.start_height is None or progress.start_height > height or progress.phase.kind == "query":
                continue
            end = min(progress.phase.calls, (height - progress.start_height + 1) * progress.phase.calls_per_round)
            for number in range(progress.sent, end):
                key = (progress.phase.name, number, now)
                if key not in self._ahead:
                    self._ahead[key] = self._envelope(progress.phase, number, now)

    def _has_started(self, progress: PhaseProgress, height: int) -> bool:
        if progress.start_height is None:
            begin = self.start_height
            if progress.phase.after is not None:
                before = self.progress[progress.phase.after]
                begin = before.answered_height + 1 if before.done else None
            if begin is not None:
                progress.start_height = begin + progress.phase.start_round
        return progress.start_height is not None and progress.start_height <= height

    def _add(self, progress: PhaseProgress, number: int, now: int, calls: list[DriverCall], queries: list[DriverQuery]) -> None:
        self._last_token += 1
        self._tokens[self._last_token] = progress
        if progress.phase.kind == "query":
            queries.append(self._query(progress.phase, number))
            return
        ahead = self._ahead.pop((progress.phase.name, number, now), None)
        calls.append(DriverCall(self._last_token, ahead or self._envelope(progress.phase, number, now)))

    def _query(self, phase: WorkloadPhase, number: int) -> DriverQuery:
        call = phase.call(number)
        sender = Principal(identity_named(self.plan.identity_seed, call.caller).principal)
        target = self._names.canister(call.canister)
        return DriverQuery(self._last_token, sender, target, phase.method, self._argument(phase, call))

    def _envelope(self, phase: WorkloadPhase, number: int, now: int) -> bytes:
        call = phase.call(number)
        return build_call(
            identity_named(self.plan.identity_seed, call.caller),
            canister_id=self._names.canister(call.canister),
            method=phase.method,
            arg=self._argument(phase, call),
            expiry=TimeNs(now + self._ttl_ns),
            nonce=hashlib.sha256(f"{phase.name}/{number}".encode()).digest()[:16],
        )

    def _argument(self, phase: WorkloadPhase, call: PhaseCall) -> bytes:
        if not phase.argument.varies and phase.name in self._constant:
            return self._constant[phase.name]
        place = CallPlace(
            phase=phase.name,
            seed=self.plan.seed,
            number=call.number,
            round=call.round,
            caller=call.caller,
            target=call.canister,
        )
        arg = self._constant[phase.name] = phase.argument.encode(self._names, place)
        return arg

    def answered(self, token: int, outcome: IngressOutcome | QueryReply, height: int) -> None:
        """The outcome of a call or query."""
        progress = self._tokens.pop(token)
        replied = outcome.status == "replied"
        progress.replied += replied
        progress.rejected += not replied
        expect = progress.phase.expect
        if expect != "any" and replied != (expect == "reply"):
            progress.unexpected += 1
            if not progress.first_unexpected:
                said = outcome.reject_message if not replied else "replied"
                progress.first_unexpected = f"{said} {outcome.error_code}".strip()
        progress.answered_height = max(progress.answered_height, height)
