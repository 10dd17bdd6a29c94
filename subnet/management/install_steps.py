"""The steps of an install: compiling, and running one entry point on an execution state of its own.

Rule module. Spec: abstract behaviour, "Code installation" and "Code upgrade", where `Mod.init`, `pre_upgrade` and
`post_upgrade` are applied. All steps share one instruction limit; each is sliced like an update call.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeVar, cast

from ic_types.reject import ErrorCode, Payload
from ic_types.units import Cycles, NumInstructions, TimeNs
from sandbox.execution_state import ExecutionState
from sandbox.protocol import (
    Answer,
    EntryPoint,
    ExecutionContext,
    ExecutionInput,
    Finished,
    Paused,
    Trapped,
)
from scheduler import error_texts
from scheduler.canister import Canister, LongInstall
from scheduler.canister_history import CHANGE_BYTES
from scheduler.effects import (
    Compiled,
    CompileError,
    CompileModule,
    CompileResult,
    Effect,
    EffectResult,
    ResumeMessage,
    RunMessage,
)
from scheduler.message_inputs import STATUS_NUMBER
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext
from subnet.management.errors import ManagementError
from subnet.management.installs import SliceEnd
from subnet.management.steps import passed

T = TypeVar("T")
steps_rule = Generator[Effect | SliceEnd, EffectResult | SubnetContext | None, T]
"""A part of an install that yields effects and slice ends."""

KNOWN_MODULE_DIVISOR = 100
"""What a module compiled since the last checkpoint costs the round: this part of its price."""

_EXPORTS = {
    EntryPoint.START: "canister_start",
    EntryPoint.INIT: "canister_init",
    EntryPoint.PRE_UPGRADE: "canister_pre_upgrade",
    EntryPoint.POST_UPGRADE: "canister_post_upgrade",
}


@dataclass(slots=True, kw_only=True)
class InstallWork:
    """An install under way: what it may use, and what its finished steps did."""

    ctx: SubnetContext
    """Of the round in which it runs now."""
    call: ManagementCall
    canister: Canister
    kind: str
    """install, reinstall or upgrade."""
    prepaid: Cycles
    limit: int
    time: TimeNs
    """`ic0.time` of all steps: that of the round in which the install started."""
    wasm64: bool = False
    """Price class of the new module."""
    used: int = 0
    """Instructions of all steps, compilation included."""
    used_in_round: int = 0
    dirty_pages: int = 0
    certified_data: bytes | None = None
    global_timer: int | None = None
    cycles_burned: int = 0
    logs: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)
    """Of each step: lines that it dropped itself, and those it kept."""
    settled: bool = False

    def spend(self, instructions: int, *, of_round: int | None = None) -> None:
        """Count instructions against the install's limit, and as many against the round unless told otherwise."""
        self.used += instructions
        self.used_in_round += instructions if of_round is None else of_round

    def outcome(self, payload: Payload) -> ManagementOutcome:
        """How the call ends."""
        return ManagementOutcome(payload=payload, refund=self.call.payment, instructions=self.used_in_round)


def compile_module(work: InstallWork, wasm: bytes) -> steps_rule[Compiled]:
    """Validate and compile; the price is part of the install's instructions, whatever a cache has.

    Raises: ManagementError (IC0505; IC0522 when the price exceeds the limit).
    """
    result = cast("CompileResult", (yield CompileModule(wasm)))
    if isinstance(result, CompileError):
        work.spend(min(result.charged_instructions, work.limit))
        text = f"Canister's Wasm module is not valid: {result.reason}"
        raise _failed(work, ErrorCode.CANISTER_INVALID_WASM, text)
    work.spend(result.info.compile_instructions, of_round=round_price(work.ctx, result))
    if work.used > work.limit:
        raise _over_limit(work)
    passed(work.kind, "compiled", work.canister.canister_id)
    return result


def round_price(ctx: SubnetContext, compiled: Compiled) -> int:
    """What compiling costs the round: little for a module that was compiled since the last checkpoint."""
    price, known = compiled.info.compile_instructions, compiled.info.module_hash in ctx.compiled
    ctx.compiled[compiled.info.module_hash] = None
    return price // KNOWN_MODULE_DIVISOR if known else price


def run_step(
    work: InstallWork, execution: ExecutionState, entry: EntryPoint, arg: bytes = b"", *, new_code: bool = False
) -> steps_rule[None]:
    """Run an entry point if the module exports it, and commit what it did to this execution state.

    `new_code`: the version is the one after the install, and no timer is set.
    Raises: ManagementError when it traps.
    """
    if _EXPORTS[entry] not in execution.module.entry_points:
        return
    left = work.limit - work.used
    if left <= 0:
        raise _over_limit(work)
    message = ExecutionInput(
        entry=entry,
        caller=work.call.caller,
        arg=arg,
        time_ns=work.time,
        instruction_limit=left,
        slice_limit=min(work.ctx.limits.instructions_per_install_slice, left),
        may_reply=False,
    )
    answer = yield from _run_slices(work, execution, message, _context(work, execution, entry, new_code=new_code))
    work.logs.append((answer.lines_dropped, answer.logs))
    if isinstance(answer, Trapped):
        changed = execution.heap.count_changed(answer.heap.indices, answer.heap.content)
        work.spend(min(answer.slice_instructions + _page_charge(work, execution, changed), work.limit - work.used))
        raise _failed(work, answer.error_code, answer.message)
    assert not answer.calls, "a step of an install can't call"
    heap, stable = execution.commit(answer)
    work.spend(answer.slice_instructions + _page_charge(work, execution, heap))
    work.dirty_pages += heap + stable
    work.cycles_burned += answer.cycles_burned
    if answer.certified_data is not None:
        work.certified_data = answer.certified_data
    if new_code and answer.global_timer is not None:
        work.global_timer = answer.global_timer
    passed(work.kind, entry.value, work.canister.canister_id)


def _run_slices(
    work: InstallWork, execution: ExecutionState, message: ExecutionInput, context: ExecutionContext
) -> steps_rule[Finished | Trapped]:
    """Run the message to its end, suspended between slices."""
    canister_id, slices = work.canister.canister_id, 0
    answer = cast("Answer", (yield RunMessage(canister_id, execution, message, context)))
    while isinstance(answer, Paused):
        slices += 1
        work.spend(answer.slice_instructions)
        _note_pause(work)
        passed(work.kind, "slice", canister_id)
        end = SliceEnd(execution, work.used_in_round)
        work.used_in_round = 0
        work.ctx = cast("SubnetContext", (yield end))
        answer = cast("Answer", (yield ResumeMessage(canister_id, execution, slices)))
    return answer


def _note_pause(work: InstallWork) -> None:
    """What is hashed of a paused install."""
    canister, ctx = work.canister, work.ctx
    if canister.long_install is None:
        canister.long_install = LongInstall(work.call.message, work.prepaid, True, ctx.round_number, work.time)
    canister.long_install.slices += 1
    canister.long_install.instructions = NumInstructions(work.used)
    ctx.touch(canister.canister_id)
    ctx.scheduler.note(canister)


def _context(work: InstallWork, execution: ExecutionState, entry: EntryPoint, *, new_code: bool) -> ExecutionContext:
    """Spec: `Env` of the step; version and timer are those after the install where new code runs."""
    ctx, canister, settings = work.ctx, work.canister, work.canister.settings
    limited = entry in (EntryPoint.INIT, EntryPoint.POST_UPGRADE)
    return ExecutionContext(
        balance=canister.balance,
        reserved_balance=canister.reserved_balance,
        canister_version=canister.version + 1 if new_code else canister.version,
        global_timer=0 if new_code else canister.global_timer,
        status=STATUS_NUMBER[canister.status],
        controllers=settings.controllers,
        environment_variables=settings.environment_variables,
        memory_usage=execution.memory_bytes() + canister.stored_bytes() + (CHANGE_BYTES if new_code else 0),
        message_memory=canister.message_memory,
        memory_allocation=settings.memory_allocation,
        compute_allocation=settings.compute_allocation,
        freezing_threshold_s=settings.freezing_threshold_s,
        subnet_memory_available=max(ctx.available_memory(), 0),
        wasm_memory_limit=settings.wasm_memory_limit if limited else 0,
        log_bytes=settings.log_memory_limit,
    )


def _page_charge(work: InstallWork, execution: ExecutionState, pages: int) -> int:
    factor = work.ctx.limits.wasm64_dirty_page_multiplier if execution.module.wasm64 else 1
    return pages * work.ctx.limits.dirty_page_overhead * factor


def _failed(work: InstallWork, code: int, text: str) -> ManagementError:
    return ManagementError(error_texts.canister_error(work.canister.canister_id, code, text))


def _over_limit(work: InstallWork) -> ManagementError:
    text = f"Canister exceeded the limit of {work.limit} instructions for single message execution."
    return _failed(work, ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED, text)
