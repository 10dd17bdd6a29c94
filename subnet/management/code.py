"""Installing, upgrading and uninstalling code.

Rule module. Spec: abstract behaviour, "IC Management Canister: Code installation", "Code upgrade", "Install chunked code" and
"Code uninstallation".
Each step of an install runs on an execution state of its own, and the canister changes only after all of them have succeeded;
what stays of a failed install is its price, and the logs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ic_types.candid.values import Value
from ic_types.reject import Payload
from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES, Cycles, NumInstructions, TimeNs
from sandbox.execution_state import ExecutionState
from sandbox.module_info import ModuleInfo
from sandbox.protocol import EntryPoint
from scheduler import call_context_rules, cycles_account, error_texts
from scheduler.canister import Canister
from scheduler.canister_history import CodeDeployment, CodeUninstall
from scheduler.chunk_store import CHUNK_BYTES, EMPTY_STORE
from scheduler.cycles_account import BurnCause
from subnet.management import access, chunks, errors, history, resources, steps
from subnet.management.answers import EMPTY_REPLY
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext
from subnet.management.errors import ManagementError
from subnet.management.install_steps import InstallWork, compile_module, run_step, steps_rule
from subnet.management.installs import InstallRule
from subnet.management.wasm_kind import is_wasm64

ORTHOGONAL_PERSISTENCE = "enhanced-orthogonal-persistence"
"""Private custom section by which a module declares that its heap survives upgrades."""


@dataclass(frozen=True, slots=True)
class InstallMode:
    """`canister_install_mode`."""

    kind: str
    """install, reinstall or upgrade."""
    skip_pre_upgrade: bool = False
    persistence: str | None = None
    """keep or replace."""

    @classmethod
    def parse(cls, value: Value) -> InstallMode:
        """From a decoded `canister_install_mode`."""
        ((kind, options),) = value.items()
        if kind != "upgrade" or options is None:
            return cls(kind)
        persistence = options["wasm_memory_persistence"]
        return cls(kind, bool(options["skip_pre_upgrade"]), None if persistence is None else next(iter(persistence)))


def install_code(ctx: SubnetContext, call: ManagementCall, args: Value) -> InstallRule:
    """Install, reinstall or upgrade; ends with the outcome of the call. May be suspended at the end of a slice.

    Conditions: the canister is empty for `install` and not for `upgrade`; its liquid balance covers the instruction limit of an
    install.
    """
    wasm = args["wasm_module"]
    wasm64 = is_wasm64(wasm)
    return (yield from _install(ctx, call, args, lambda _work: wasm, wasm64=wasm64))


def install_chunked_code(ctx: SubnetContext, call: ManagementCall, args: Value) -> InstallRule:
    """The same, with a module put together from chunks in the store of the canister or of another one of this subnet.

    Conditions: the caller controls the store canister as well, or is it; all chunks are there; their hash is the named one.
    """
    wanted, hashes = args["wasm_module_hash"], [item["hash"] for item in args["chunk_hashes_list"]]
    store_id = call.canister.canister_id if args["store_canister"] is None else args["store_canister"]
    if len(wanted) != 32:
        raise errors.contract_violation(f"Invalid wasm hash {list(wanted)}")
    if len(hashes) > ctx.limits.chunk_store_bytes // CHUNK_BYTES:
        most = ctx.limits.chunk_store_bytes // CHUNK_BYTES
        found = f"The number of elements exceeds maximum allowed {most}"
        raise errors.invalid_payload(f"Error decoding candid: {found}, got {len(hashes)}")
    store = ctx.canisters.get(store_id)
    if store is None:
        raise errors.store_not_found(store_id, ctx.own_subnet, call.canister.canister_id)
    access.check(access.Access.CONTROLLERS_OR_SELF, store, call.caller, (), call.message.method)
    chunks_there = store.chunk_store

    def assembled(work: InstallWork) -> bytes:
        work.spend(CHUNK_BYTES * len(hashes))
        return chunks.assemble(chunks_there, hashes, wanted)

    wasm64 = is_wasm64(b"".join(chunks_there.chunks.get(one, b"") for one in hashes))
    return (yield from _install(ctx, call, args, assembled, wasm64=wasm64))


def _install(
    ctx: SubnetContext, call: ManagementCall, args: Value, source: Callable[[InstallWork], bytes], *, wasm64: bool
) -> InstallRule:
    canister = call.canister
    mode, long = InstallMode.parse(args["mode"]), canister.long_install
    limit = ctx.limits.instructions_per_install
    if long is not None:
        prepaid = long.prepaid
        long.paused, long.started_time = True, ctx.time
    else:
        check_mode(ctx, canister, mode)
        prepaid = ctx.fees.execution(limit, wasm64=wasm64)
        refused = cycles_account.withdraw(ctx, canister, prepaid, call.caller)
        if refused is not None:
            raise errors.install_not_enough_cycles(refused)
    work = InstallWork(
        ctx=ctx, call=call, canister=canister, kind=mode.kind, prepaid=prepaid, limit=limit, time=ctx.time, wasm64=wasm64
    )
    steps.passed(work.kind, "paid", canister.canister_id)
    try:
        wasm = source(work)
        installed = yield from _prepare(work, mode, wasm, args["arg"])
        settle(work)
        steps.passed(work.kind, "settled", canister.canister_id)
        take_over(work, mode, installed)
        steps.passed(work.kind, "taken_over", canister.canister_id)
        deployed = CodeDeployment(mode.kind, installed.module.module_hash)
        history.record(work.ctx, call, canister, args["sender_canister_version"], deployed)
        steps.passed(work.kind, "recorded", canister.canister_id)
    except ManagementError as failed:
        settle(work)
        steps.passed(work.kind, "failed", canister.canister_id)
        return _ended(work, failed.reject)
    return _ended(work, EMPTY_REPLY)


def _ended(work: InstallWork, payload: Payload) -> ManagementOutcome:
    work.canister.long_install = None
    access.changed(work.ctx, work.canister)
    return work.outcome(payload)


def check_mode(ctx: SubnetContext, canister: Canister, mode: InstallMode) -> None:
    """Whether an install may start now.

    Raises: ManagementError (IC0209, IC0514, IC0537).
    """
    if canister.install_debit > 0:
        raise errors.install_rate_limited(canister.canister_id)
    if mode.kind == "install" and canister.execution is not None:
        raise errors.not_empty(canister.canister_id)
    if mode.kind == "upgrade" and canister.execution is None:
        raise ManagementError(error_texts.no_module(canister.canister_id))


def _prepare(work: InstallWork, mode: InstallMode, wasm: bytes, arg: bytes) -> steps_rule[ExecutionState]:
    """Compile, run all steps, and give the state to install."""
    old = work.canister.execution
    compiled = yield from compile_module(work, wasm)
    if mode.kind != "upgrade":
        fresh = ExecutionState.fresh(compiled.info, compiled.artefact, wasm)
        yield from run_step(work, fresh, EntryPoint.START, new_code=True)
        yield from run_step(work, fresh, EntryPoint.INIT, arg, new_code=True)
        return fresh
    if old is None:
        raise ManagementError(error_texts.no_module(work.canister.canister_id))
    _check_persistence(old.module, mode, compiled.info)
    before = old.fork()
    if not mode.skip_pre_upgrade:
        yield from run_step(work, before, EntryPoint.PRE_UPGRADE)
    upgraded = ExecutionState.fresh(compiled.info, compiled.artefact, wasm)
    upgraded.stable = before.stable.fork()
    if mode.persistence == "keep":
        initial = upgraded.heap.wasm_pages
        upgraded.heap = before.heap.fork()
        upgraded.heap.wasm_pages = max(upgraded.heap.wasm_pages, initial)
    yield from run_step(work, upgraded, EntryPoint.START, new_code=True)
    yield from run_step(work, upgraded, EntryPoint.POST_UPGRADE, arg, new_code=True)
    return upgraded


def _check_persistence(old: ModuleInfo, mode: InstallMode, new: ModuleInfo) -> None:
    """Spec: a canister whose heap should survive can't lose it by an upgrade that says nothing about it."""
    if _persists(old) and mode.persistence is None:
        raise errors.missing_upgrade_option(
            "Enhanced orthogonal persistence requires the `wasm_memory_persistence` upgrade option."
        )
    if mode.persistence == "keep" and not _persists(new):
        raise errors.invalid_upgrade_option(
            "The `wasm_memory_persistence: opt keep` upgrade option requires that the new canister module supports "
            "enhanced orthogonal persistence."
        )


def _persists(module: ModuleInfo) -> bool:
    return any(s.name == ORTHOGONAL_PERSISTENCE and not s.public for s in module.custom_sections)


def settle(work: InstallWork) -> None:
    """Pay for what was executed, whether it succeeded or not, and note it for rate limits and logs; once only."""
    if work.settled:
        return
    work.settled = True
    ctx, canister = work.ctx, work.canister
    used = min(work.used, work.limit)
    cycles_account.refund_execution(ctx, canister, work.prepaid, work.limit - used, wasm64=work.wasm64)
    canister.install_debit = NumInstructions(canister.install_debit + used)
    canister.metrics.instructions += used
    for dropped, lines in work.logs:
        canister.logs.add(lines, work.time, canister.settings.log_memory_limit, dropped)


def take_over(work: InstallWork, mode: InstallMode, new: ExecutionState) -> None:
    """The canister gets its new code and state.

    Raises: ManagementError, with the canister as it was, when it can't pay for or the subnet doesn't have the memory.
    """
    ctx, canister = work.ctx, work.canister
    reserved = _check_memory(ctx, canister, new)
    if canister.balance < work.cycles_burned + reserved:
        raise ManagementError(cycles_account.out_of_cycles(canister, work.cycles_burned, 0, work.call.caller))
    canister.execution = new
    resources.reserve(canister, reserved)
    if work.cycles_burned:
        canister.balance = Cycles(canister.balance - work.cycles_burned)
        cycles_account.burn(ctx, canister, work.cycles_burned, BurnCause.CYCLES_BURN)
    if mode.kind != "upgrade":
        canister.logs.keep_newest(sum(len(lines) for _, lines in work.logs))
    if work.certified_data is not None:
        canister.certified_data = work.certified_data
    elif mode.kind != "upgrade":
        canister.certified_data = b""
    canister.global_timer = TimeNs(work.global_timer or 0)
    canister.version += 1
    canister.next_scheduled = 0
    canister.last_install = ctx.time
    resources.add_heap_delta(ctx, canister, work.dirty_pages * OS_PAGE_BYTES)


def _check_memory(ctx: SubnetContext, canister: Canister, new: ExecutionState) -> Cycles:
    """The canister's own limit, room on the subnet, and cycles for the new freezing threshold, where the canister grew.

    The cycles to reserve for the growth.
    """
    limit, old, usage = canister.settings.wasm_memory_limit, canister.execution, canister.memory_usage()
    heap = new.heap.wasm_pages * WASM_PAGE_BYTES
    if limit and heap > limit:
        raise ManagementError(error_texts.over_memory_limit(canister.canister_id, limit, heap))
    new_usage = usage - (0 if old is None else old.memory_bytes()) + new.memory_bytes()
    grown = new_usage - max(canister.settings.memory_allocation, usage)
    if grown <= 0:
        return Cycles(0)
    if grown > max(ctx.available_memory(), 0):
        raise errors.memory_oversubscribed(grown, max(ctx.available_memory(), 0))
    missing = resources.threshold_at(ctx, canister, new_usage) - canister.balance
    if missing > 0:
        raise errors.grow_not_affordable(grown, missing)
    return resources.reservation(ctx, canister, grown)


def uninstall_code(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Back to an empty canister; open calls are rejected, and what still comes back to them is only booked."""
    uninstall(ctx, call, args["sender_canister_version"])
    return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment)


def uninstall(ctx: SubnetContext, call: ManagementCall, sender_version: int | None) -> None:
    """What uninstall_code does to the canister that the call is about."""
    canister = call.canister
    canister.execution = None
    canister.chunk_store = EMPTY_STORE
    canister.certified_data = b""
    canister.global_timer = canister.last_install = TimeNs(0)
    canister.version += 1
    canister.logs.clear()
    canister.tasks.clear()
    call_context_rules.delete_all(canister, error_texts.uninstalled(), ctx)
    history.record(ctx, call, canister, sender_version, CodeUninstall())
    access.changed(ctx, canister)
