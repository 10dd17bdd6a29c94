"""A canister takes the id of a canister of another subnet, as at the end of a migration.

Rule module. Spec: abstract behaviour, "Canister renaming". Who asks for it checks the conditions on both canisters, as the
migration orchestrator does (`subnet.lab.renaming`); each subnet makes its part of the change in the round of the same height.
"""

from __future__ import annotations

import structlog

from ic_types import trace
from ic_types.canister_rename import CanisterRename
from ic_types.units import Cycles
from message_routing.queues import CanisterQueues
from scheduler import cycles_account
from scheduler.canister import Canister, RunStatus
from scheduler.canister_history import Change, ChangeOrigin, RenameCanister
from scheduler.cycles_account import BurnCause
from subnet.node import tree_update
from subnet.state.world import RoundWorld

log = structlog.get_logger("node")


def rename(world: RoundWorld, one: CanisterRename) -> None:
    """Route the new id to its new host; there the canister gets it, where it was its canister goes."""
    state = world.state
    trace.emit("subnet.node.renaming.rename", one.canister_id, str(one.new_canister_id))
    state.routing.assign(one.new_canister_id, one.host)
    state.renamed[one.new_canister_id] = one.host
    state.registry_changes += 1
    tree_update.set_ranges(state)
    former = state.canisters.get(one.new_canister_id)
    if former is not None:
        _remove(world, former)
    if one.host == state.own.subnet_id:
        canister = state.canisters.get(one.canister_id)
        if canister is None or not may_move(canister):
            log.error("renaming.refused", canister=str(one.canister_id), height=state.height)
            return
        _move(world, canister, one)


def may_move(canister: Canister) -> bool:
    """Stopped, without messages and snapshots."""
    queues = canister.queues
    idle = not (queues.has_input() or queues.has_output() or canister.callbacks or canister.contexts)
    return canister.status is RunStatus.STOPPED and idle and not canister.snapshots


def _remove(world: RoundWorld, canister: Canister) -> None:
    left = canister.balance + canister.reserved_balance
    canister.balance = canister.reserved_balance = Cycles(0)
    cycles_account.burn(world, canister, left, BurnCause.DELETION)
    world.remove_canister(canister.canister_id)


def _move(world: RoundWorld, canister: Canister, one: CanisterRename) -> None:
    world.remove_canister(canister.canister_id)
    what = RenameCanister(
        canister_id=one.canister_id,
        total_num_changes=canister.history.total,
        rename_to=one.new_canister_id,
        to_version=one.version,
        to_total_num_changes=one.total_num_changes,
        requested_by=one.requested_by,
    )
    canister.canister_id = one.new_canister_id
    canister.version = max(canister.version, one.version) + 1
    origin = ChangeOrigin(one.orchestrator, True, one.orchestrator_version)
    change = Change(world.time, canister.version, origin, what)
    renumbered = canister.history.renumbered(one.total_num_changes)
    canister.history = renumbered.added(change, world.limits.canister_history_entries)
    canister.queues = CanisterQueues(world.limits.queue_capacity)
    if canister.execution is not None:
        canister.execution = canister.execution.fork()  # sandboxes that run on it know the old id
    world.add_canister(canister)
