"""Every answer that no honest sandbox can give is refused, and the honest ones next to it are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.limits import SubnetLimits
from ic_types.errors import SandboxFailure
from ic_types.principal import Principal
from ic_types.reject import ErrorCode
from sandbox.answer_check import Asked, check_answer
from sandbox.module_info import GlobalInfo, ModuleInfo
from sandbox.protocol import (
    Answer,
    Closure,
    EntryPoint,
    ExecutionContext,
    ExecutionInput,
    Finished,
    OutgoingCall,
    Pages,
    Paused,
    RejectMessage,
    ReplyData,
    Trapped,
)

PAGE = bytes(4096)
LIMITS = SubnetLimits(max_stable_memory=10 << 16)
PEER = Principal.canister(9)
MODULE = ModuleInfo(
    module_hash=bytes(32),
    wasm64=False,
    heap_pages_initial=2,
    heap_pages_max=5,
    globals=(GlobalInfo("a", "i32", 0), GlobalInfo("b", "f64", 0), GlobalInfo("c", "v128", 0)),
)
MESSAGE = ExecutionInput(entry=EntryPoint.UPDATE, method="m", instruction_limit=1000, slice_limit=100)
CONTEXT = ExecutionContext(
    balance=500,
    cycles_available=50,
    output_slots=((PEER, 1),),
    callbacks_available=3,
    subnet_memory_available=2 << 16,
)
ASKED = Asked(MESSAGE, CONTEXT, MODULE, 2, 1, LIMITS, tracking=True)
FINISHED = Finished(instructions=80, slice_instructions=80, globals=(1, 2, 3), heap_pages=2, stable_pages=1)
TRAPPED = Trapped(instructions=80, slice_instructions=80, error_code=502, message="trap")
CALL = OutgoingCall(callee=bytes(PEER), method="m", arg=b"", cycles=0, on_reply=Closure(1, 2), on_reject=Closure(1, 2))


def asked(**changes: Any) -> Asked:
    """What was asked, with changes to it or, by name, to its message and context."""
    message = {k: changes.pop(k) for k in list(changes) if k in ExecutionInput.__dataclass_fields__}
    context = {k: changes.pop(k) for k in list(changes) if k in ExecutionContext.__dataclass_fields__}
    return replace(ASKED, message=replace(MESSAGE, **message), context=replace(CONTEXT, **context), **changes)


HONEST: list[tuple[Answer, Asked]] = [
    (FINISHED, ASKED),
    (replace(FINISHED, globals=(2**32 - 1, 2**64 - 1, 2**128 - 1)), ASKED),
    (replace(FINISHED, instructions=1000, slice_instructions=1040), ASKED),
    (replace(FINISHED, instructions=180, slice_instructions=80), asked(instructions_before=100)),
    (replace(FINISHED, heap_pages=4), ASKED),
    (replace(FINISHED, heap_pages=3, stable_pages=2), ASKED),
    (replace(FINISHED, heap_pages=5), asked(memory_allocation=3 << 16, memory_usage=2 << 16)),
    (replace(FINISHED, heap=Pages((0, 31), PAGE * 2), stable=Pages((15,), PAGE), stable_dirty_marks=1), ASKED),
    (replace(FINISHED, response=ReplyData(bytes(2 << 20))), ASKED),
    (replace(FINISHED, response=RejectMessage("x" * (2 << 20))), ASKED),
    (
        replace(FINISHED, response=ReplyData(bytes(3 << 20))),
        asked(entry=EntryPoint.QUERY, replicated=False, tracking=False),
    ),
    (replace(FINISHED, cycles_accepted=50, cycles_burned=550), ASKED),
    (replace(FINISHED, calls=(CALL, replace(CALL, callee=b"\1"), replace(CALL, callee=b"\2", cycles=500))), ASKED),
    (replace(FINISHED, calls=(replace(CALL, timeout_s=300, on_cleanup=Closure(2**32 - 1, 2**32 - 1)),)), ASKED),
    (replace(FINISHED, certified_data=bytes(32), global_timer=2**64 - 1), ASKED),
    (replace(FINISHED, accepted=True), asked(entry=EntryPoint.INSPECT_MESSAGE, tracking=False)),
    (replace(FINISHED, logs=(b"x" * 4000,)), ASKED),
    (replace(FINISHED, globals=(), heap_pages=0), asked(entry=EntryPoint.QUERY, tracking=False)),
    (TRAPPED, ASKED),
    (replace(TRAPPED, heap_touched=(0, 79), stable_touched=(3,), heap=Pages((0, 79), PAGE * 2)), ASKED),
    (Paused(slice_instructions=101, instructions=101), ASKED),
    (Paused(slice_instructions=60, instructions=260), asked(instructions_before=200)),
]

IMPOSSIBLE: dict[str, tuple[Answer, Asked]] = {
    "more instructions than allowed": (replace(FINISHED, instructions=1001, slice_instructions=1001), ASKED),
    "negative instructions": (replace(FINISHED, instructions=-1, slice_instructions=-1), ASKED),
    "sum of slices is wrong": (replace(FINISHED, instructions=90), ASKED),
    "fewer than in earlier slices": (FINISHED, asked(instructions_before=100)),
    "pause without slicing": (Paused(slice_instructions=101, instructions=101), asked(slice_limit=1000)),
    "pause before the slice ended": (Paused(slice_instructions=100, instructions=100), ASKED),
    "pause after nothing": (Paused(slice_instructions=0, instructions=200), asked(instructions_before=200)),
    "too few globals": (replace(FINISHED, globals=(1, 2)), ASKED),
    "global too wide": (replace(FINISHED, globals=(2**32, 2, 3)), ASKED),
    "negative global": (replace(FINISHED, globals=(1, -2, 3)), ASKED),
    "heap shrank": (replace(FINISHED, heap_pages=1), ASKED),
    "heap above its maximum": (replace(FINISHED, heap_pages=6), asked(subnet_memory_available=1 << 40)),
    "stable memory shrank": (replace(FINISHED, stable_pages=0), ASKED),
    "stable memory above its maximum": (replace(FINISHED, stable_pages=11), asked(subnet_memory_available=1 << 40)),
    "more memory than the subnet has": (replace(FINISHED, heap_pages=5), ASKED),
    "page outside": (replace(FINISHED, heap=Pages((32,), PAGE)), ASKED),
    "negative page": (replace(FINISHED, heap=Pages((-1,), PAGE)), ASKED),
    "pages out of order": (replace(FINISHED, heap=Pages((3, 2, 4), PAGE * 3)), ASKED),
    "page twice": (replace(FINISHED, stable=Pages((2, 2), PAGE * 2), stable_dirty_marks=2), ASKED),
    "content too short": (replace(FINISHED, heap=Pages((1, 2), PAGE)), ASKED),
    "content without pages": (replace(TRAPPED, heap=Pages((), PAGE)), ASKED),
    "too many marks": (replace(FINISHED, stable_dirty_marks=17), ASKED),
    "negative marks": (replace(FINISHED, stable_dirty_marks=-1), ASKED),
    "pages of a query": (replace(FINISHED, heap=Pages((1,), PAGE)), asked(entry=EntryPoint.QUERY, tracking=False)),
    "response to nobody": (replace(FINISHED, response=ReplyData(b"")), asked(may_reply=False)),
    "second response": (replace(FINISHED, response=ReplyData(b"")), asked(already_responded=True)),
    "response of a heartbeat": (replace(FINISHED, response=ReplyData(b"")), asked(entry=EntryPoint.HEARTBEAT)),
    "response of a cleanup": (replace(FINISHED, response=RejectMessage("")), asked(entry=EntryPoint.CLEANUP)),
    "response too large": (replace(FINISHED, response=ReplyData(bytes((2 << 20) + 1))), ASKED),
    "reject message too large in bytes": (replace(FINISHED, response=RejectMessage("é" * ((1 << 20) + 1))), ASKED),
    "accepts where nothing is asked": (replace(FINISHED, accepted=True), ASKED),
    "accepts more than available": (replace(FINISHED, cycles_accepted=51), ASKED),
    "accepts less than nothing": (replace(FINISHED, cycles_accepted=-1), ASKED),
    "burns more than it has": (replace(FINISHED, cycles_burned=501), ASKED),
    "burns less than nothing": (replace(FINISHED, cycles_burned=-1), ASKED),
    "attaches more than it has": (replace(FINISHED, calls=(replace(CALL, cycles=501),)), ASKED),
    "attaches less than nothing": (replace(FINISHED, calls=(replace(CALL, cycles=-1),)), ASKED),
    "calls beyond the queue": (replace(FINISHED, calls=(CALL, CALL)), ASKED),
    "calls beyond the callbacks": (
        replace(FINISHED, calls=tuple(replace(CALL, callee=bytes([k])) for k in range(4))),
        ASKED,
    ),
    "calls beyond a full queue's capacity": (
        replace(FINISHED, calls=(replace(CALL, callee=b"\5"),) * 501),
        asked(callbacks_available=1000),
    ),
    "call in init": (replace(FINISHED, calls=(CALL,)), asked(entry=EntryPoint.INIT)),
    "call in a query": (replace(FINISHED, calls=(CALL,)), asked(entry=EntryPoint.QUERY, tracking=False)),
    "call in a cleanup": (replace(FINISHED, calls=(CALL,)), asked(entry=EntryPoint.CLEANUP)),
    "callee too long": (replace(FINISHED, calls=(replace(CALL, callee=bytes(30)),)), ASKED),
    "method name too long": (replace(FINISHED, calls=(replace(CALL, method="m" * 20_001),)), ASKED),
    "argument too long": (replace(FINISHED, calls=(replace(CALL, arg=bytes((10 << 20) + 1)),)), ASKED),
    "timeout too long": (replace(FINISHED, calls=(replace(CALL, timeout_s=301),)), ASKED),
    "callback out of range": (replace(FINISHED, calls=(replace(CALL, on_reply=Closure(2**32, 0)),)), ASKED),
    "environment out of range": (replace(FINISHED, calls=(replace(CALL, on_reject=Closure(0, 2**32)),)), ASKED),
    "negative environment": (replace(FINISHED, calls=(replace(CALL, on_cleanup=Closure(0, -1)),)), ASKED),
    "certified data too long": (replace(FINISHED, certified_data=bytes(33)), ASKED),
    "timer beyond 64 bits": (replace(FINISHED, global_timer=2**64), ASKED),
    "timer before 1970": (replace(FINISHED, global_timer=-1), ASKED),
    "timer set in a query": (replace(FINISHED, global_timer=1), asked(entry=EntryPoint.QUERY, tracking=False)),
    "lines dropped for no others": (replace(FINISHED, lines_dropped=1), ASKED),
    "log longer than the canister's": (replace(FINISHED, logs=(b"x" * 5000,)), asked(log_bytes=4900)),
    "log too long": (replace(FINISHED, logs=(b"x" * (2 << 20), b"x" * 100)), ASKED),
    "log of too many records": (replace(TRAPPED, logs=(b"",) * ((2 << 20) + 1)), ASKED),
    "unknown error": (replace(TRAPPED, error_code=12), ASKED),
    "error of another room": (replace(TRAPPED, error_code=int(ErrorCode.CANISTER_STOPPED)), ASKED),
    "error message too long": (replace(TRAPPED, message="x" * 100_000), ASKED),
    "touched page beyond any memory": (replace(TRAPPED, heap_touched=(80,)), ASKED),
    "touched stable pages out of order": (replace(TRAPPED, stable_touched=(2, 1)), ASKED),
    "trap with half a page": (replace(TRAPPED, heap=Pages((1,), b"x")), ASKED),
}


@pytest.mark.parametrize("k", range(len(HONEST)))
def test_honest_answer_is_accepted(k: int) -> None:
    """Answers at the edge of what is allowed pass."""
    check_answer(*HONEST[k])


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_answer_is_refused(case: str) -> None:
    """One step beyond the edge is refused with a reason."""
    with pytest.raises(SandboxFailure, match=r"impossible answer: \S+"):
        check_answer(*IMPOSSIBLE[case])


def test_wasm64_environment_may_have_64_bits() -> None:
    """A callback's environment is as wide as a pointer."""
    wide = replace(FINISHED, calls=(replace(CALL, on_reply=Closure(0, 2**64 - 1)),))
    check_answer(wide, asked(module=replace(MODULE, wasm64=True)))
    with pytest.raises(SandboxFailure):
        check_answer(wide, ASKED)
