"""Heartbeats, global timers and the low-memory hook: which task a canister gets in a round, and when messages go first.

Rule module. Spec: abstract behaviour, "Call context creation: Heartbeat", "... Global timer" and "... On low wasm memory",
"Scheduling on low wasm memory hook" (#rule-on-low-wasm-memory); the rotation is the replica's.
"""

from __future__ import annotations

from ic_types.units import WASM_PAGE_BYTES
from sandbox.protocol import EntryPoint
from scheduler import cycles_account
from scheduler.canister import Canister, RunStatus, SystemTask
from scheduler.cycles_account import Account
from scheduler.message_inputs import method_table
from scheduler.snapshots import LowMemoryHook
from scheduler.world import World

GLOBAL_TIMER, HEARTBEAT, MESSAGE = 0, 1, 2
KINDS = 3


def enqueue_tasks(world: World) -> list[Canister]:
    """Give every canister with a heartbeat or an expired timer its tasks of this round; returns those that got some."""
    scheduler = world.scheduler
    due = scheduler.due_timers(world.time, world.canisters)
    candidates = sorted({*scheduler.heartbeats, *due}) if due else sorted(scheduler.heartbeats)
    chosen: list[Canister] = []
    for canister_id in candidates:
        canister = world.canisters[canister_id]
        if canister.long_execution is None and canister.long_install is None and choose_tasks(world, canister):
            chosen.append(canister)
        scheduler.note(canister)
    return chosen


def choose_tasks(world: World, canister: Canister) -> bool:
    """Advance the canister's rotation to the first kind of work that it has; a task kind puts both tasks in front.

    Conditions: Running, the method is exported; for the timer: it is set and has expired.
    """
    if canister.execution is None or canister.status is not RunStatus.RUNNING:
        return False
    exports = method_table(canister.execution).entry_points
    timer = 0 < canister.global_timer <= world.time and "canister_global_timer" in exports
    heartbeat = "canister_heartbeat" in exports
    applicable = (timer, heartbeat, canister.queues.has_input())
    if not (timer or heartbeat):
        return False
    world.touch(canister.canister_id)
    for _ in range(KINDS):
        kind = canister.next_scheduled
        canister.next_scheduled = (kind + 1) % KINDS
        if applicable[kind]:
            break
    if kind == MESSAGE:
        return False
    order = (
        (EntryPoint.GLOBAL_TIMER, EntryPoint.HEARTBEAT)
        if kind == GLOBAL_TIMER
        else (EntryPoint.HEARTBEAT, EntryPoint.GLOBAL_TIMER)
    )
    wanted = {EntryPoint.GLOBAL_TIMER: timer, EntryPoint.HEARTBEAT: heartbeat}
    canister.tasks = [SystemTask(entry) for entry in order if wanted[entry]]
    return True


def drop_leftover_tasks(world: World, canisters: list[Canister]) -> None:
    """Tasks belong to their round: those that found no room are forgotten."""
    for canister in canisters:
        canister.tasks.clear()
        world.scheduler.note(canister)


def update_low_memory_hook(canister: Canister) -> None:
    """Arm the hook when little of the allowed heap is left; call after messages that grew it and after changed settings.

    Conditions: S.wasm_memory_limit < |wasm_memory| + S.wasm_memory_threshold, also for a limit of 0.
    """
    settings = canister.settings
    heap = 0 if canister.execution is None else canister.execution.heap.wasm_pages * WASM_PAGE_BYTES
    if settings.wasm_memory_limit >= heap + settings.wasm_memory_threshold:
        canister.low_memory_hook = LowMemoryHook.CONDITION_NOT_SATISFIED
    elif canister.low_memory_hook is LowMemoryHook.CONDITION_NOT_SATISFIED:
        canister.low_memory_hook = LowMemoryHook.READY


def next_task(account: Account, canister: Canister) -> SystemTask | None:
    """Take the task that runs before the canister's next message; the hook runs once until its condition was false again.

    Conditions: for the hook: Ready, Running, the liquid balance covers the instruction limit (until then it stays Ready).
    """
    if canister.low_memory_hook is LowMemoryHook.READY and canister.status is RunStatus.RUNNING:
        if canister.execution is None or "canister_on_low_wasm_memory" not in method_table(canister.execution).entry_points:
            canister.low_memory_hook = LowMemoryHook.EXECUTED
        elif can_pay(account, canister):
            canister.low_memory_hook = LowMemoryHook.EXECUTED
            return SystemTask(EntryPoint.ON_LOW_WASM_MEMORY)
    return canister.tasks.pop(0) if canister.tasks else None


def can_pay(account: Account, canister: Canister) -> bool:
    """The liquid balance covers a whole message."""
    price = account.fees.execution(account.limits.instructions_per_message, wasm64=cycles_account.is_wasm64(canister))
    return canister.balance >= price + cycles_account.freezing_threshold(canister, account.fees)


def waits_for_cycles(account: Account, canister: Canister) -> bool:
    """All that it has to run is a hook that it can't pay."""
    if canister.long_execution is not None or canister.tasks or canister.queues.has_input():
        return False
    return not can_pay(account, canister)
