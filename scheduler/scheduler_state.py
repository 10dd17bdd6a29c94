"""What the scheduler keeps from round to round beside the canisters: shared priority, heap delta, and who has work.

Rule module. `priority`, `heap_delta_estimate` and the timeline of `charges` are state (`canonical`). The rest is an index over
the canisters that can be rebuilt from them (`rebuild`) and isn't hashed; it makes a round cost what has work, not what exists.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

from configs.fees import CyclesCostSchedule
from ic_types.principal import CanisterId
from ic_types.units import TimeNs
from scheduler.canister import Canister, RunStatus
from scheduler.charging import Charges
from scheduler.message_inputs import method_table
from scheduler.priority import SharedPriority


@dataclass(slots=True)
class SchedulerState:
    """One subnet's scheduler."""

    priority: SharedPriority = field(default_factory=SharedPriority)
    heap_delta_estimate: int = 0
    """Bytes written since the last checkpoint."""
    charges: Charges = field(default_factory=Charges)
    """Who owes how much for memory and compute."""
    active: dict[CanisterId, None] = field(default_factory=dict)
    """Local index: canisters that have something to run."""
    long: dict[CanisterId, None] = field(default_factory=dict)
    """Local index: canisters with a long execution."""
    installing: dict[CanisterId, None] = field(default_factory=dict)
    """Local index: canisters with a long install."""
    heartbeats: dict[CanisterId, None] = field(default_factory=dict)
    """Local index: running canisters that export canister_heartbeat."""
    indebted: dict[CanisterId, None] = field(default_factory=dict)
    """Local index: canisters with a heap delta or install debit."""
    timers: list[tuple[TimeNs, CanisterId]] = field(default_factory=list)
    """Local index: heap of global timers; entries that no longer match their canister are skipped."""
    _queued_timers: dict[CanisterId, TimeNs] = field(default_factory=dict)

    def canonical(self) -> tuple[object, ...]:
        """What the state hash covers."""
        return (self.priority.canonical(), self.heap_delta_estimate, self.charges.timeline.canonical())

    def add(self, canister: Canister, canisters: Mapping[CanisterId, Canister]) -> None:
        """A canister was created; call once, `canisters` holds it already."""
        self.priority.add(canister, canisters)
        self.charges.join(canister)
        self.note(canister)

    def remove(self, canister: Canister, canisters: Mapping[CanisterId, Canister]) -> None:
        """A canister is about to be deleted; call before it leaves `canisters`."""
        self.priority.remove(canister, canisters)
        for index in (self.active, self.long, self.installing, self.heartbeats, self.indebted):
            index.pop(canister.canister_id, None)
        self.charges.forget(canister.canister_id)

    def note(self, canister: Canister) -> None:
        """Something about this canister changed: an input, its code, status, timer, tasks or long execution."""
        canister_id, long = canister.canister_id, canister.long_execution is not None
        _set(self.active, canister_id, canister.has_work())
        _set(self.long, canister_id, long)
        _set(self.installing, canister_id, canister.long_install is not None)
        _set(self.indebted, canister_id, bool(canister.heap_delta_debit or canister.install_debit))
        running = canister.execution is not None and canister.status is RunStatus.RUNNING
        exports = method_table(canister.execution).entry_points if running and canister.execution is not None else frozenset()
        _set(self.heartbeats, canister_id, "canister_heartbeat" in exports)
        timer = canister.global_timer
        if timer and "canister_global_timer" in exports and self._queued_timers.get(canister_id) != timer:
            self._queued_timers[canister_id] = timer
            heapq.heappush(self.timers, (timer, canister_id))

    def due_timers(self, now: TimeNs, canisters: Mapping[CanisterId, Canister]) -> list[CanisterId]:
        """Canisters whose timer has expired; they stay due until the timer is changed (`note` puts it back)."""
        due: dict[CanisterId, None] = {}
        while self.timers and self.timers[0][0] <= now:
            canister_id = self._pop_timer()
            canister = canisters.get(canister_id)
            if canister is not None and 0 < canister.global_timer <= now:
                due[canister_id] = None
        return sorted(due)

    def next_timer(self, canisters: Mapping[CanisterId, Canister]) -> TimeNs:
        """The earliest timer that is set; 0 if none."""
        while self.timers:
            time, canister_id = self.timers[0]
            canister = canisters.get(canister_id)
            if canister is not None and canister.global_timer == time:
                return time
            self._pop_timer()
        return TimeNs(0)

    def _pop_timer(self) -> CanisterId:
        time, canister_id = heapq.heappop(self.timers)
        if self._queued_timers.get(canister_id) == time:
            del self._queued_timers[canister_id]
        return canister_id

    def rebuild(self, canisters: Mapping[CanisterId, Canister], fees: CyclesCostSchedule) -> None:
        """Make the indexes anew from the canisters, between two rounds (after a restore)."""
        self.active, self.long, self.installing, self.heartbeats, self.indebted = {}, {}, {}, {}, {}
        self.timers, self._queued_timers = [], {}
        self.priority.rebuild(canisters)
        for canister_id in sorted(canisters):
            self.note(canisters[canister_id])
        self.charges.rebuild([canisters[canister_id] for canister_id in sorted(canisters)], fees)


def _set(index: dict[CanisterId, None], canister_id: CanisterId, member: bool) -> None:
    if member:
        index[canister_id] = None
    else:
        index.pop(canister_id, None)
