"""Messages for random canisters, and running them as a node would: in batches, with pauses, aborts and resets."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from ic_types.reject import ErrorCode
from sandbox.module_info import ModuleInfo
from sandbox.protocol import (
    EntryPoint,
    ExecutionInput,
    Finished,
    Paused,
    Stop,
    Trapped,
)
from tests.unit.sandbox_process.sandbox_harness import Harness, contents, essence, message

LIMIT = 3_000_000
_MOST_ABORTS = 5
_OURS = re.compile(r"/memfd:(memory|buffer)|anon_inode:\[userfaultfd\]|/proc/\d+/pagemap")
_OVERRUN = "attempted to perform a large memory operation"


class Overrun(Exception):
    """One step was larger than a slice: that fails only where there are slices."""


@contextmanager
def opened(wasm: bytes, **options: Any) -> Iterator[Harness]:
    """A sandbox in this process whose descriptors are closed at its end, since there are many of them one after the other."""
    before = _descriptors()
    try:
        with Harness(wasm, **options) as box:
            yield box
            os.close(box._transport.descriptors()[0])  # the engine has another one of the compiled module
    finally:
        for fd, target in _descriptors().items():
            if before.get(fd) != target and _OURS.match(target):
                os.close(fd)


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself is closed by now
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def plan(info: ModuleInfo, seed: int, count: int = 8, limit: int = LIMIT) -> list[ExecutionInput]:
    """An install and messages to random entry points with random arguments."""
    rng = random.Random(seed)
    kinds = [(EntryPoint.UPDATE, name) for name in info.updates] + [(EntryPoint.QUERY, name) for name in info.queries]
    if "canister_heartbeat" in info.entry_points:
        kinds.append((EntryPoint.HEARTBEAT, ""))
    chosen = [(entry, "") for entry in (EntryPoint.START, EntryPoint.INIT) if f"canister_{entry.value}" in info.entry_points]
    chosen += [rng.choice(kinds) for _ in range(count)]
    return [
        message(
            method,
            entry,
            arg=rng.randbytes(rng.choice((0, 4, 8, 30))),
            instruction_limit=limit,
            slice_limit=limit,
            may_reply=entry in (EntryPoint.UPDATE, EntryPoint.QUERY),
        )
        for entry, method in chosen
    ]


def sliced(inputs: list[ExecutionInput], size: int) -> list[ExecutionInput]:
    """The same messages with this slice limit."""
    return [replace(one, slice_limit=min(size, one.instruction_limit)) for one in inputs]


def outcome(box: Harness, inputs: list[ExecutionInput], batch: int = 1, aborts: random.Random | None = None) -> tuple[Any, ...]:
    """Answers to all inputs and what they leave; with `aborts`, paused messages are now and then given up and repeated.

    Raises: Overrun.
    """
    answers: list[Any] = []
    given_up = 0
    while len(answers) < len(inputs):
        reply = box.execute(*inputs[len(answers) : len(answers) + batch])
        while True:
            answers += [answer for answer in reply.answers if not isinstance(answer, Paused)]
            if (
                reply.stop in (Stop.PAUSED, Stop.SETTLE)
                and aborts is not None
                and given_up < _MOST_ABORTS
                and aborts.random() < 0.2
            ):
                given_up += 1
                aborted = box.abort()
                box.reset(aborted.heap_touched, aborted.stable_touched)
                break
            if reply.stop is Stop.SETTLE:
                reply = box.settled()
            elif reply.stop is Stop.PAUSED:
                reply = box.resume()
            elif reply.stop is Stop.TRAPPED:
                trapped = reply.answers[-1]
                assert isinstance(trapped, Trapped), "as the reply says"
                if _OVERRUN in trapped.message:
                    raise Overrun
                box.reset(trapped.heap_touched, trapped.stable_touched)
                break
            else:
                break
    return [shown(one) for one in answers], contents(box.heap), contents(box.stable), box.heap.wasm_pages, box.globals


def shown(answer: Any) -> Any:
    """An answer without what may differ between runs: page lists that name unchanged pages, and slices."""
    if not isinstance(answer, Finished) and answer.error_code == ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED:
        return "instruction limit", answer.logs  # how far beyond it ran depends on where slices end
    return essence(answer)
