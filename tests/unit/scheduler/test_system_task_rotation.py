"""Heartbeats and timers: when they run, and how they take turns with messages."""

from __future__ import annotations

from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.units import TimeNs
from sandbox.protocol import EntryPoint
from scheduler.canister import Canister, RunStatus
from tests.support.fake_executor import FakeWorld, call, reply, set_timer, trap, work

LETTERS = {EntryPoint.HEARTBEAT: "h", EntryPoint.GLOBAL_TIMER: "t", EntryPoint.UPDATE: "m"}


def world_with(*entry_points: str, **settings: Any) -> tuple[FakeWorld, Canister]:
    """A canister that exports these; its tasks cost one instruction."""
    world = FakeWorld(**settings)
    canister = world.add_canister(entry_points=entry_points)
    for entry in (EntryPoint.HEARTBEAT, EntryPoint.GLOBAL_TIMER):
        world.executor.tasks[canister.canister_id, entry] = [work(1)]
    return world, canister


def ran(world: FakeWorld) -> str:
    """What ran since the last look: h, t and m."""
    text = "".join(LETTERS[entry] for _, entry, _ in world.executor.executed)
    world.executor.executed.clear()
    return text


def test_heartbeat_runs_every_round_without_messages() -> None:
    """An idle canister's heartbeat is never skipped."""
    world, _ = world_with("heartbeat")
    for _ in range(6):
        world.run_round()
        assert ran(world) == "h"


def test_rotation() -> None:
    """The pointer goes timer, heartbeat, message; a task kind brings the other task along behind it."""
    world, canister = world_with("heartbeat", "global_timer")
    found = []
    for _ in range(6):
        canister.global_timer = TimeNs(1)
        world.ingress(canister, [work(1), reply()])
        world.run_round()
        found.append(ran(world))
    assert found == ["thm", "htm", "m", "thm", "htm", "m"]


def test_timer_runs_once_when_its_time_has_come() -> None:
    """The timer is one-off; setting it again arms it again."""
    world, canister = world_with("global_timer")
    due = world.time + 2_500_000_000
    world.ingress(canister, [set_timer(due), reply()])
    found = []
    for _ in range(6):
        world.run_round()
        found.append(ran(world))
    assert found == ["m", "", "", "t", "", ""]
    assert canister.global_timer == 0
    assert canister.version == 2


def test_timer_that_rearms_itself() -> None:
    """A timer task may set the next timer."""
    world, canister = world_with("global_timer")
    world.executor.tasks[canister.canister_id, EntryPoint.GLOBAL_TIMER] = [work(1), set_timer(1)]
    canister.global_timer = TimeNs(1)
    world.touch(canister.canister_id)
    for _ in range(4):
        world.run_round()
        assert ran(world) == "t"


def test_trapping_timer_is_spent() -> None:
    """A timer task that traps doesn't come back."""
    world, canister = world_with("global_timer")
    world.executor.tasks[canister.canister_id, EntryPoint.GLOBAL_TIMER] = [work(1), trap()]
    canister.global_timer = TimeNs(1)
    world.touch(canister.canister_id)
    world.run_round()
    world.run_round()
    assert ran(world) == "t"
    assert canister.global_timer == 0


@pytest.mark.parametrize("status", [RunStatus.STOPPING, RunStatus.STOPPED])
def test_no_tasks_unless_running(status: RunStatus) -> None:
    """Stopping and stopped canisters have no heartbeats; once started again they do."""
    world, canister = world_with("heartbeat", "global_timer")
    canister.global_timer = TimeNs(1)
    canister.status = status
    world.touch(canister.canister_id)
    world.run_round()
    assert ran(world) == ""
    canister.status = RunStatus.RUNNING
    world.touch(canister.canister_id)
    world.run_round()
    assert ran(world) == "th"


def test_task_that_cannot_be_paid_is_dropped_silently() -> None:
    """A canister low on cycles skips heartbeats and timers; the timer stays armed."""
    world, canister = world_with("heartbeat", "global_timer", fees=CyclesCostSchedule())
    canister.balance = type(canister.balance)(10**9)
    canister.global_timer = TimeNs(1)
    world.touch(canister.canister_id)
    world.run_round()
    assert ran(world) == ""
    assert (canister.balance, canister.global_timer, canister.tasks) == (10**9, 1, [])


def test_task_has_a_context_that_nobody_hears_of() -> None:
    """Calls of a heartbeat have callbacks; there is no answer at the end."""
    world, canister = world_with("heartbeat")
    peer = world.add_canister()
    world.executor.tasks[canister.canister_id, EntryPoint.HEARTBEAT] = [work(1), call(peer.canister_id, on_reply=[work(1)])]
    world.run_round()
    entries = [entry for _, entry, _ in world.executor.executed]
    assert entries == [EntryPoint.HEARTBEAT, EntryPoint.UPDATE, EntryPoint.REPLY]
    assert world.user_responses == []
    task = world.executor.inputs[0]
    assert (task.may_reply, task.caller) == (False, b"")


def test_leftover_tasks_are_forgotten() -> None:
    """A task that found no room in its round doesn't pile up."""
    world, canister = world_with("heartbeat")
    world.limits = type(world.limits)(max_heap_delta_per_iteration=0)
    world.run_round()
    assert canister.tasks == []
    assert canister.canister_id not in world.scheduler.active


def test_long_heartbeat_is_not_started_twice() -> None:
    """While a heartbeat is paused no further one is queued."""
    world, canister = world_with("heartbeat")
    world.executor.tasks[canister.canister_id, EntryPoint.HEARTBEAT] = [work(5 * 10**9)]
    for _ in range(3):
        world.run_round()
    assert ran(world) == "h"


def test_next_timer_is_the_earliest_that_is_set() -> None:
    """The next due time skips timers that were changed or whose canister is gone."""
    world, canister = world_with("global_timer")
    other = world.add_canister(entry_points=["global_timer"])
    for c, time in ((canister, 900), (canister, 700), (other, 800)):
        c.global_timer = TimeNs(time)
        world.scheduler.note(c)
    assert world.scheduler.next_timer(world.canisters) == 700
    canister.global_timer = TimeNs(0)
    world.scheduler.note(canister)
    assert world.scheduler.next_timer(world.canisters) == 800
    world.scheduler.remove(other, world.canisters)
    del world.canisters[other.canister_id]
    assert world.scheduler.next_timer(world.canisters) == 0


def test_rebuild_gives_the_same_indexes() -> None:
    """After a restore the indexes are those that grew round by round."""
    world, canister = world_with("heartbeat", "global_timer")
    canister.global_timer = TimeNs(world.time + 10**12)
    busy = world.add_canister()
    world.ingress(busy, [work(9 * 10**9), reply()])
    for _ in range(3):
        world.run_round()
    old = world.scheduler
    before = (old.active, old.long, old.heartbeats, old.indebted, old.canonical(), old.next_timer(world.canisters))
    old.rebuild(world.canisters, world.fees)
    after = (old.active, old.long, old.heartbeats, old.indebted, old.canonical(), old.next_timer(world.canisters))
    assert before == after
