"""Installing, upgrading and uninstalling code.

Rule module. Spec: abstract behaviour, "IC Management Canister: Code installation", "Code upgrade" and "Code uninstallation".
Each step of an install runs on an execution state of its own, and the canister changes only after all of them have succeeded;
what stays of a failed install is its price, and the logs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import trace
from ic_types.candid.values import Value
from ic_types.reject import ErrorCode, Payload, reject
from ic_types.units import WASM_PAGE_BYTES, Cycles, NumBytes, NumInstructions, TimeNs
from sandbox.execution_state import ExecutionState
from sandbox.module_info import ModuleInfo
from sandbox.protocol import EntryPoint
from scheduler import answer_application, call_context_rules, cycles_account, error_texts
from scheduler.canister import Canister
from scheduler.core import Core
from scheduler.cycles_account import BurnCause
from subnet.management import access, errors
from subnet.management.answers import EMPTY_REPLY
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext
from subnet.management.errors import ManagementError
from subnet.management.install_steps import InstallWork, compile_module, run_step, steps_rule
from subnet.management.installs import InstallRule

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

    Conditions: the caller controls the canister, which is empty for `install` and not for `upgrade`; its liquid balance covers
    the instruction limit of an install.
    """
    canister = access.controlled(ctx, call, args["canister_id"])
    mode, long = InstallMode.parse(args["mode"]), canister.long_install
    limit = ctx.limits.instructions_per_install
    if long is not None:
        prepaid = long.prepaid
        long.paused, long.started_time = True, ctx.time
    else:
        check_mode(ctx, canister, mode)
        prepaid = ctx.fees.execution(limit)
        refused = cycles_account.withdraw(ctx, canister, prepaid, call.caller)
        if refused is not None:
            raise errors.install_not_enough_cycles(refused)
    work = InstallWork(ctx=ctx, call=call, canister=canister, prepaid=prepaid, limit=limit, time=ctx.time)
    trace.emit("subnet.management.code.install_code", canister.canister_id, mode.kind)
    try:
        installed = yield from _prepare(work, mode, args["wasm_module"], args["arg"])
        settle(work)
        take_over(work, mode, installed)
    except ManagementError as failed:
        settle(work)
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
        fresh = ExecutionState.fresh(compiled.info, compiled.artefact)
        yield from run_step(work, fresh, EntryPoint.START, new_code=True)
        yield from run_step(work, fresh, EntryPoint.INIT, arg, new_code=True)
        return fresh
    if old is None:
        raise ManagementError(error_texts.no_module(work.canister.canister_id))
    _check_persistence(old.module, mode, compiled.info)
    before = old.fork()
    if not mode.skip_pre_upgrade:
        yield from run_step(work, before, EntryPoint.PRE_UPGRADE)
    upgraded = ExecutionState.fresh(compiled.info, compiled.artefact)
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
    cycles_account.refund_execution(ctx, canister, work.prepaid, work.limit - used, wasm64=False)
    canister.install_debit = NumInstructions(canister.install_debit + used)
    canister.metrics.instructions += used
    if work.logs:
        core = Core(time=ctx.time, round_number=ctx.round_number, limits=ctx.limits, fees=ctx.fees, batch_size=1)
        answer_application.append_logs(core, canister, tuple(work.logs), work.time)


def take_over(work: InstallWork, mode: InstallMode, new: ExecutionState) -> None:
    """The canister gets its new code and state.

    Raises: ManagementError, with the canister as it was, when it can't pay for or the subnet doesn't have the memory.
    """
    ctx, canister = work.ctx, work.canister
    old, before = canister.execution, canister.memory_usage()
    canister.execution = new
    try:
        _check_memory(ctx, canister, before)
        if canister.balance < work.cycles_burned:
            raise ManagementError(cycles_account.out_of_cycles(canister, work.cycles_burned, 0, work.call.caller))
    except ManagementError:
        canister.execution = old
        raise
    if work.cycles_burned:
        canister.balance = Cycles(canister.balance - work.cycles_burned)
        cycles_account.burn(ctx, canister, work.cycles_burned, BurnCause.CYCLES_BURN)
    if mode.kind != "upgrade":
        del canister.logs[: max(len(canister.logs) - len(work.logs), 0)]
    if work.certified_data is not None:
        canister.certified_data = work.certified_data
    elif mode.kind != "upgrade":
        canister.certified_data = b""
    canister.global_timer = TimeNs(work.global_timer or 0)
    canister.version += 1
    canister.next_scheduled = 0
    canister.last_install = ctx.time
    delta = work.dirty_pages * 4096
    canister.heap_delta_debit = NumBytes(canister.heap_delta_debit + delta)
    ctx.scheduler.heap_delta_estimate += delta


def _check_memory(ctx: SubnetContext, canister: Canister, before: int) -> None:
    """The canister's own limit, room on the subnet, and cycles for the new freezing threshold, where the canister grew."""
    limit, execution = canister.settings.wasm_memory_limit, canister.execution
    heap = 0 if execution is None else execution.heap.wasm_pages * WASM_PAGE_BYTES
    if limit and heap > limit:
        raise ManagementError(error_texts.over_memory_limit(canister.canister_id, limit, heap))
    reserved = max(canister.settings.memory_allocation, before)
    grown = canister.memory_usage() - reserved
    if grown <= 0:
        return
    if grown > max(ctx.available_memory(), 0):
        raise errors.memory_oversubscribed(grown, max(ctx.available_memory(), 0))
    missing = cycles_account.freezing_threshold(canister, ctx.fees) - canister.balance
    if missing > 0:
        text = (
            f"Canister cannot grow memory by {grown} bytes due to insufficient cycles. "
            f"At least {missing:_} additional cycles are required."
        )
        raise ManagementError(reject(ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW, text))


def uninstall_code(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Back to an empty canister; open calls are rejected, and what still comes back to them is only booked."""
    canister = access.controlled(ctx, call, args["canister_id"])
    canister.execution = None
    canister.certified_data = b""
    canister.global_timer = TimeNs(0)
    canister.version += 1
    canister.logs.clear()
    canister.tasks.clear()
    call_context_rules.delete_all(canister, error_texts.uninstalled(canister.canister_id), ctx)
    access.changed(ctx, canister)
    return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment)
