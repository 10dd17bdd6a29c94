"""Loading a snapshot onto a canister.

Rule module. Spec: abstract behaviour, "IC Management Canister: Load canister snapshot"; fees, codes and order of the checks are
the replica's. Memories of the canister's own snapshots are forked, so it takes the time of mapping their runs; those of another
canister are copied, as no sandbox may hold a descriptor of another canister's memory.
"""

from __future__ import annotations

from typing import cast

from ic_types.candid.values import Value
from ic_types.reject import ErrorCode, reject
from ic_types.units import WASM_PAGE_BYTES
from sandbox.execution_state import ExecutionState
from sandbox.memory_bytes import copied_apart, read_bytes
from scheduler import error_texts
from scheduler.canister import Canister
from scheduler.canister_history import LoadSnapshot
from scheduler.effects import Compiled, CompileError, CompileModule, CompileResult, Effects
from scheduler.snapshots import CanisterSnapshot, LowMemoryHook, UploadedModule
from subnet.management import access, errors, history, resources, snapshots, steps
from subnet.management.answers import EMPTY_REPLY
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext
from subnet.management.errors import ManagementError
from subnet.management.install_steps import round_price
from subnet.management.installs import InstallRule


def load(ctx: SubnetContext, call: ManagementCall, args: Value) -> InstallRule:
    """Code, memories, chunk store and certified data become those of a snapshot; nothing changes if anything is wrong with it.

    Conditions: the caller controls the canister that the snapshot belongs to as well; the module is valid, and the globals of
    uploaded metadata are those of the module; the state of its low-memory hook agrees with the canister's settings; there are
    cycles for the memory.
    Raises: ManagementError (IC0101, IC0207, IC0210, IC0305, IC0406, IC0408, IC0505, IC0532).
    """
    canister = call.canister
    snapshots.check_heap_delta(ctx, canister)
    snapshot = snapshots.find_anywhere(ctx, canister, args["snapshot_id"])
    _check_owner(ctx, call, snapshot)
    baseline = ctx.fees.instructions(ctx.limits.snapshot_instructions)
    resources.check_affordable(ctx, canister, baseline, call.caller)
    steps.passed("load", "checked", canister.canister_id)
    compiled, used = yield from _compile(ctx, canister, snapshot)
    steps.passed("load", "compiled", canister.canister_id)
    loaded = _execution(canister, snapshot, compiled)
    steps.passed("load", "mapped", canister.canister_id)
    _check_hook(canister, snapshot)
    usage = loaded.memory_bytes() + snapshot.chunk_store.memory_bytes
    usage += canister.history.memory_bytes + canister.snapshots.memory_bytes
    instructions = compiled.info.compile_instructions + snapshot.memory_bytes
    price = baseline + ctx.fees.execution(instructions, wasm64=compiled.info.wasm64)
    reserved = resources.check_growth(ctx, canister, usage, call.caller, price)
    resources.pay(ctx, canister, price, reserved)
    steps.passed("load", "paid", canister.canister_id)
    _take_over(ctx, canister, snapshot, loaded)
    steps.passed("load", "taken_over", canister.canister_id)
    owner = None if snapshot.canister_id == canister.canister_id else snapshot.canister_id
    what = LoadSnapshot(snapshot.snapshot_id, snapshot.version, snapshot.taken_at, snapshot.uploaded, owner)
    history.record(ctx, call, canister, args["sender_canister_version"], what)
    access.changed(ctx, canister)
    steps.passed("load", "recorded", canister.canister_id)
    return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment, instructions=used)


def _check_owner(ctx: SubnetContext, call: ManagementCall, snapshot: CanisterSnapshot) -> None:
    owner = ctx.canisters[snapshot.canister_id]
    if owner is not call.canister and call.caller not in owner.settings.controllers:
        text = (
            f"Only a controller of the canister that snapshot {snapshot.snapshot_id.hex()} belongs to can load it on canister "
            f"{call.canister.canister_id}. Sender: {call.caller}."
        )
        raise ManagementError(reject(ErrorCode.CANISTER_REJECTED_MESSAGE, text))


def _compile(ctx: SubnetContext, canister: Canister, snapshot: CanisterSnapshot) -> Effects[tuple[Compiled, int]]:
    """The compiled module, and what that takes off the round."""
    wasm = module_of(snapshot)
    result = cast("CompileResult", (yield CompileModule(wasm)))
    if isinstance(result, CompileError):
        text = f"Canister's Wasm module is not valid: {result.reason}"
        raise ManagementError(error_texts.canister_error(canister.canister_id, ErrorCode.CANISTER_INVALID_WASM, text))
    return result, round_price(ctx, result)


def module_of(snapshot: CanisterSnapshot) -> bytes:
    """The module's bytes."""
    module = snapshot.module
    return read_bytes(module.memory, 0, module.size) if isinstance(module, UploadedModule) else module


def _execution(canister: Canister, snapshot: CanisterSnapshot, compiled: Compiled) -> ExecutionState:
    """The execution state that the snapshot describes.

    Raises: ManagementError (IC0408) when its globals aren't those of the module.
    """
    shown = compiled.info.exported_globals
    if [kind for kind, _ in snapshot.globals] != [one.kind for one in shown]:
        text = "Wasm exported globals of canister module and snapshot metadata do not match."
        raise errors.invalid_payload(text)
    own = snapshot.canister_id == canister.canister_id
    heap, stable = (one.fork() if own else copied_apart(one) for one in (snapshot.heap, snapshot.stable))
    values = [info.initial for info in compiled.info.globals]
    for one, (_, bits) in zip(shown, snapshot.globals, strict=True):
        if one.place >= 0:
            values[one.place] = bits
    return ExecutionState(compiled.info, compiled.artefact, heap, stable, tuple(values), module_of(snapshot))


def _check_hook(canister: Canister, snapshot: CanisterSnapshot) -> None:
    """Uploaded metadata may not claim a state of the hook that the settings rule out.

    Raises: ManagementError (IC0408).
    """
    if not snapshot.uploaded or snapshot.hook is None:
        return
    settings, heap = canister.settings, snapshot.heap.wasm_pages * WASM_PAGE_BYTES
    low = bool(settings.wasm_memory_limit) and settings.wasm_memory_limit < heap + settings.wasm_memory_threshold
    if low == (snapshot.hook is LowMemoryHook.CONDITION_NOT_SATISFIED):
        name = "".join(part.capitalize() for part in snapshot.hook.value.split("_"))
        text = (
            f"Hook status (Some({name})) of uploaded snapshot is inconsistent with the canister's state "
            f"(hook condition satisfied: {str(low).lower()})."
        )
        raise errors.invalid_payload(text)


def _take_over(ctx: SubnetContext, canister: Canister, snapshot: CanisterSnapshot, loaded: ExecutionState) -> None:
    canister.execution = loaded
    canister.chunk_store = snapshot.chunk_store
    canister.certified_data = snapshot.certified_data
    if snapshot.uploaded and snapshot.global_timer is not None:
        canister.global_timer = snapshot.global_timer
    if snapshot.uploaded and snapshot.hook is not None:
        canister.low_memory_hook = snapshot.hook
    canister.version += 1
    canister.last_install = ctx.time
