"""Cases for the fuzzing of what a node makes of a sandbox's replies: each is an honest exchange with damaged bytes or values.

Only WireError and SandboxFailure may come out, since anything else would end the node; and what is accepted can be committed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types import wire
from ic_types.errors import SandboxFailure, WireError
from ic_types.principal import Principal
from sandbox.conversation import Conversation
from sandbox.execution_state import ExecutionState
from sandbox.module_info import GlobalInfo, ModuleInfo
from sandbox.protocol import (
    Closure,
    EntryPoint,
    Environment,
    ExecutionContext,
    ExecutionInput,
    Finished,
    OutgoingCall,
    Pages,
    Paused,
    RejectMessage,
    ReplyData,
    Stop,
    Trapped,
)
from sandbox.requests import Executed, Opened

MODULE = ModuleInfo(
    module_hash=bytes(32),
    wasm64=False,
    heap_pages_initial=1,
    heap_pages_max=4,
    globals=(GlobalInfo("g", "i64", 7), GlobalInfo("h", "f32", 0)),
)
CANISTER = Principal.canister(1)
ENVIRONMENT = Environment(
    canister_id=CANISTER,
    subnet_id=Principal.canister(2),
    root_key=b"",
    subnet_type="application",
    limits=SubnetLimits(),
    fees=CyclesCostSchedule(),
)
CONTEXT = ExecutionContext(balance=10**15, cycles_available=100)
MESSAGE = ExecutionInput(entry=EntryPoint.UPDATE, method="go", instruction_limit=10_000, slice_limit=1000)
NUMBERS = (
    0,
    1,
    -1,
    7,
    63,
    64,
    4096,
    1 << 16,
    1 << 31,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
    1 << 64,
    -(1 << 63),
    1 << 127,
)
CALL = OutgoingCall(
    callee=bytes(10), method="m", arg=b"arg", cycles=5, on_reply=Closure(1, 2), on_reject=Closure(1, 2), timeout_s=10
)
FINISHED = Finished(
    instructions=500, slice_instructions=500, response=ReplyData(b"reply"), calls=(CALL,), cycles_accepted=3, cycles_burned=4,
    certified_data=b"data", global_timer=9, globals=(1, 2), heap_pages=2, stable_pages=1, heap=Pages((0, 17), bytes(8192)),
    stable=Pages((3,), bytes(4096)), stable_dirty_marks=1, logs=(b"log",),
)  # fmt: skip
TRAPPED = Trapped(instructions=500, slice_instructions=500, error_code=503, message="why", logs=(b"log",), heap_touched=(3,))
HONEST: tuple[tuple[Any, Stop], ...] = (
    (FINISHED, Stop.END),
    (replace(FINISHED, response=RejectMessage("no"), calls=()), Stop.END),
    (TRAPPED, Stop.TRAPPED),
    (Paused(slice_instructions=1001, instructions=1001), Stop.PAUSED),
)  # fmt: skip


TELLING = (0x00, 0x7F, 0x80, 0x90, 0xA0, 0xC0, 0xC1, 0xC2, 0xC4, 0xCB, 0xCF, 0xD3, 0xD9, 0xDD, 0xDF, 0xFF)
"""Bytes that mean something in msgpack."""


@dataclass
class Tally:
    """What came of the cases so far."""

    accepted: int = 0
    refused: int = 0


def run(first: int, count: int, tally: Tally) -> None:
    """Cases `first` and on.

    Raises: AssertionError naming the case.
    """
    for number in range(first, first + count):
        try:
            attempt(number, tally)
        except Exception as error:
            how = f"python -m tests.fuzz --replies --seed {number} --cases 1"
            raise AssertionError(f"reply {number}: {type(error).__name__}: {error}; again by: {how}") from error


def attempt(number: int, tally: Tally) -> None:
    """Run a case.

    Raises: whatever isn't WireError or SandboxFailure.
    """
    rng = random.Random(number)
    answer, stop = rng.choice(HONEST)
    reply = Executed(cookie=2, answers=(answer,), stop=stop)
    raw = _bytes(rng, wire.encode(reply)) if rng.random() < 0.5 else wire.encode(_values(rng, reply, rng.randint(1, 3)))
    state = ExecutionState.fresh(MODULE, "artefact")
    talk = Conversation(CANISTER, state, ENVIRONMENT, 10)
    steps = talk.run(MESSAGE, CONTEXT, (MESSAGE, MESSAGE))
    next(steps)
    try:
        steps.send([Opened(1), wire.decode(raw, Executed, Opened)])
    except (WireError, SandboxFailure):
        tally.refused += 1
    except StopIteration as done:
        tally.accepted += 1
        if isinstance(done.value, Finished):
            state.commit(done.value)
            state.heap.root_hash()


def _bytes(rng: random.Random, raw: bytes) -> bytes:
    out = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(out), 200)) if rng.random() < 0.8 else rng.randrange(len(out))
        match rng.randrange(4):
            case 0:
                out[at] = rng.choice(
                    (0x00, 0x7F, 0x80, 0x90, 0xA0, 0xC0, 0xC1, 0xC2, 0xC4, 0xCB, 0xCF, 0xD3, 0xD9, 0xDD, 0xDF, 0xFF)
                )
            case 1:
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                del out[at : at + rng.randint(1, 3)]
            case _:
                out[at:at] = rng.randbytes(rng.randint(1, 5))
    return bytes(out)


def _values(rng: random.Random, reply: Any, changes: int) -> Any:
    """The reply with some values exchanged for others of the same type."""
    for _ in range(changes):
        reply = _changed(rng, reply)
    return reply


def _changed(rng: random.Random, value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        name = rng.choice([one.name for one in fields(value)])
        return replace(value, **{name: _changed(rng, getattr(value, name))})
    changes: dict[type, Callable[[], Any]] = {
        int: lambda: rng.choice(NUMBERS),
        bool: lambda: not value,
        bytes: lambda: rng.choice((b"", value[:-1], value + b"x", bytes(40), bytes(5000))),
        str: lambda: rng.choice(("", "x" * 30_000, "\ud7ff\0")),
        Stop: lambda: rng.choice(list(Stop)),
        tuple: lambda: _items(rng, value),
        type(None): lambda: None,
    }
    return changes[type(value)]()


def _items(rng: random.Random, items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not items:
        return items
    at = rng.randrange(len(items))
    match rng.randrange(4):
        case 0:
            return (*items[:at], *items[at + 1 :])
        case 1:
            return (*items, items[at])
        case _:
            return (*items[:at], _changed(rng, items[at]), *items[at + 1 :])
