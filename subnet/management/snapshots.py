"""Taking, listing and deleting snapshots.

Rule module. Spec: abstract behaviour, "IC Management Canister: Take canister snapshot", "List canister snapshots" and "Delete
canister snapshot"; fees and order of the checks are the replica's.
"""

from __future__ import annotations

from ic_types import trace
from ic_types.candid.values import Value
from ic_types.reject import ErrorCode, reject
from ic_types.units import WASM_PAGE_BYTES
from sandbox.execution_state import ExecutionState
from scheduler.canister import Canister
from scheduler.snapshots import CanisterSnapshot, snapshot_id
from subnet.management import access, answers, candid_snapshots, code, resources
from subnet.management.answers import EMPTY_REPLY
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext
from subnet.management.errors import ManagementError


def take(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """A snapshot of the canister as it is, in place of another one if asked for; then the code may go.

    Conditions: there is a snapshot to replace, or room for one more; the canister has code, and the cycles for the memory.
    Raises: ManagementError (IC0101, IC0207, IC0210, IC0305, IC0406, IC0532).
    """
    canister, uninstall = call.canister, bool(args["uninstall_code"])
    replaced = check_replacement(ctx, canister, args["replace_snapshot"])
    check_heap_delta(ctx, canister)
    size, execution = size_of(canister), canister.execution
    gone = canister.chunk_store.memory_bytes + (execution.memory_bytes() if execution else 0) if uninstall else 0
    instructions = ctx.limits.snapshot_instructions + size
    price = ctx.fees.execution(instructions)
    reserved = resources.check_growth(ctx, canister, canister.memory_usage() + size - replaced - gone, call.caller, price)
    if execution is None:
        raise _rejected(f"Failed to create snapshot for empty canister {canister.canister_id}:")
    resources.pay(ctx, canister, price, reserved)
    taken = _snapshot_of(ctx, canister, execution)
    canister.snapshots = canister.snapshots.without(args["replace_snapshot"]).added(taken)
    trace.emit("subnet.management.snapshots.take", canister.canister_id, taken.snapshot_id.hex())
    if uninstall:
        code.uninstall(ctx, call, args["sender_canister_version"])
    access.changed(ctx, canister)
    result = answers.reply(candid_snapshots.SNAPSHOT, listed(taken))
    return ManagementOutcome(payload=result, refund=call.payment, instructions=instructions)


def _snapshot_of(ctx: SubnetContext, canister: Canister, execution: ExecutionState) -> CanisterSnapshot:
    return CanisterSnapshot(
        snapshot_id=next_snapshot_id(canister),
        canister_id=canister.canister_id,
        uploaded=False,
        taken_at=ctx.time,
        version=canister.version,
        module=execution.wasm,
        module_hash=execution.module.module_hash,
        heap=execution.heap.fork(),
        stable=execution.stable.fork(),
        globals=execution.exported_globals(),
        chunk_store=canister.chunk_store,
        certified_data=canister.certified_data,
        global_timer=canister.global_timer,
        hook=canister.low_memory_hook,
    )


def next_snapshot_id(canister: Canister) -> bytes:
    """A new id; ids of deleted snapshots don't come back."""
    number, canister.next_snapshot = canister.next_snapshot, canister.next_snapshot + 1
    return snapshot_id(canister.canister_id, number)


def size_of(canister: Canister) -> int:
    """Billed bytes of a snapshot that is taken now."""
    execution, size = canister.execution, canister.chunk_store.memory_bytes + len(canister.certified_data)
    if execution is None:
        return size
    memories = (execution.heap.wasm_pages + execution.stable.wasm_pages) * WASM_PAGE_BYTES
    return size + memories + execution.global_bytes() + execution.module.module_bytes


def list_snapshots(_ctx: SubnetContext, call: ManagementCall, _args: Value) -> ManagementOutcome:
    """All snapshots of the canister, oldest first."""
    found = [listed(snapshot) for snapshot in call.canister.snapshots.values()]
    return ManagementOutcome(payload=answers.reply(candid_snapshots.LIST, found), refund=call.payment)


def listed(snapshot: CanisterSnapshot) -> Value:
    """`snapshot` of the service description."""
    return {"id": snapshot.snapshot_id, "taken_at_timestamp": snapshot.taken_at, "total_size": snapshot.memory_bytes}


def delete(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Forget a snapshot.

    Raises: ManagementError (IC0305, IC0406).
    """
    canister = call.canister
    snapshot = find(ctx, canister, args["snapshot_id"])
    canister.snapshots = canister.snapshots.without(snapshot.snapshot_id)
    access.changed(ctx, canister)
    return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment)


def find(ctx: SubnetContext, canister: Canister, wanted: bytes) -> CanisterSnapshot:
    """A snapshot of this canister.

    Raises: ManagementError (IC0305; IC0406 when it is another canister's).
    """
    snapshot = find_anywhere(ctx, canister, wanted)
    if snapshot.canister_id != canister.canister_id:
        raise _rejected(f"The snapshot {wanted.hex()} does not belong to canister {canister.canister_id}.")
    return snapshot


def find_anywhere(ctx: SubnetContext, canister: Canister, wanted: bytes) -> CanisterSnapshot:
    """A snapshot of any canister of the subnet; `canister`: for whom it is wanted.

    Raises: ManagementError (IC0305).
    """
    snapshot = canister.snapshots.get(wanted)
    if snapshot is None and len(wanted) > 8:
        owner = ctx.canisters.get(type(canister.canister_id)(wanted[8:37]))
        snapshot = None if owner is None else owner.snapshots.get(wanted)
    if snapshot is None:
        text = f"Could not find the snapshot ID {wanted.hex()} for canister {canister.canister_id}."
        raise ManagementError(reject(ErrorCode.CANISTER_SNAPSHOT_NOT_FOUND, text))
    return snapshot


def check_replacement(ctx: SubnetContext, canister: Canister, replaced: bytes | None) -> int:
    """Whether there is the snapshot to replace, or room for one more; billed bytes of the replaced one.

    Raises: ManagementError (IC0305, IC0406).
    """
    if replaced is not None:
        return find(ctx, canister, replaced).memory_bytes
    if len(canister.snapshots) >= ctx.limits.max_snapshots:
        most = ctx.limits.max_snapshots
        raise _rejected(f"Canister {canister.canister_id} has reached the maximum number of snapshots allowed: {most}.")
    return 0


def check_heap_delta(ctx: SubnetContext, canister: Canister) -> None:
    """Whether the canister may change more memory.

    Raises: ManagementError (IC0210).
    """
    if resources.heap_delta_limited(ctx, canister):
        text = f"Canister {canister.canister_id} is heap delta rate limited: current delta debit is {canister.heap_delta_debit}"
        text += f", but limit is {ctx.limits.heap_delta_rate_limit}."
        raise ManagementError(reject(ErrorCode.CANISTER_HEAP_DELTA_RATE_LIMITED, text))


def _rejected(text: str) -> ManagementError:
    return ManagementError(reject(ErrorCode.CANISTER_REJECTED_MESSAGE, text))
