"""Part of the sandbox benchmark: time to commit and to roll back, against pages touched, for memories of 16 MiB and 4 GiB.

A message writes so many pages, spread evenly over the whole memory, and either ends (then they are committed) or traps (then
they are rolled back and the next message finds the old content). Figures are for the whole message. The 4 GiB memory stands
beside the small one: what counts is what was touched, not what there is. Last comes the search for written pages.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from bench.report import Figure
from bench.sandbox_kit import Box, cpu_ns, emit, launcher, median, process_cpu_ns

WASM_PAGES = {"16 MiB": 256, "4 GiB": 65536}
TOUCHED = (1, 16, 256, 4096)
REPEATS = 5
READ_MIB = (64, 1024)
READ_MESSAGES = 400


def module(wasm_pages: int) -> str:
    """`write` and `fail` write that many pages (of the argument), `read` reads every page below, `one` writes a single page."""
    end = (wasm_pages << 16) - 4096
    stride = f"(i32.div_u (i32.const {wasm_pages * 16}) (i32.load (i32.const 0)))"
    write = f"""(call $copy (i32.const 0) (i32.const 0) (i32.const 8))
   (loop $again
    (i32.store offset=8 (i32.shl (i32.mul (local.get $n) {stride}) (i32.const 12))
     (i32.add (i32.load (i32.const 4)) (local.get $n)))
    (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.load (i32.const 0)))))"""
    return f"""(module
 (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
 (memory (export "memory") {wasm_pages})
 (func (export "canister_update write") (local $n i32) {write})
 (func (export "canister_update fail") (local $n i32) {write} unreachable)
 (func (export "canister_update one") (i32.store (i32.const 8) (i32.add (i32.const 1) (i32.load (i32.const 8)))))
 (func (export "canister_update read") (local $at i32)
   (loop $again
    (drop (i32.load (local.get $at)))
    (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const {end}))))))"""


@dataclass
class Times:
    """Milliseconds per message."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def timed(box: Box, times: Times, action: Any) -> None:
    """Wall time, and CPU of both processes."""
    before, began = process_cpu_ns() + cpu_ns(box.pid), time.perf_counter()
    action()
    times.wall.append((time.perf_counter() - began) * 1e3)
    times.cpu.append((process_cpu_ns() + cpu_ns(box.pid) - before) / 1e6)


def touching(boxes: dict[str, Box]) -> dict[tuple[str, int, str], Times]:
    """By method, pages and memory, in turns."""
    found: dict[tuple[str, int, str], Times] = {}
    for box in boxes.values():
        box.run(box.message("one"))
    salt = 0
    for _ in range(REPEATS):
        for pages in TOUCHED:
            for size, box in boxes.items():
                for method in ("write", "fail"):
                    salt += 1
                    argument = pages.to_bytes(4, "little") + (salt << 16 & 0xFFFF_FFFF).to_bytes(4, "little")
                    message = box.message(method, argument)

                    def action(box: Box = box, message: Any = message, fails: bool = method == "fail") -> None:
                        box.run(message)
                        if fails:  # the rollback is done before the next message runs
                            box.run(box.message("one"))

                    timed(box, found.setdefault((method, pages, size), Times()), action)
    return found


def searching(boxes: dict[int, Box]) -> dict[int, float]:
    """CPU of the sandbox in us, for a message that writes one page; by the MiB of heap that was written and read."""
    for mebibytes, box in boxes.items():
        box.run(box.message("write", (mebibytes * 256).to_bytes(4, "little") + (9 << 16).to_bytes(4, "little")))
        box.run(box.message("read"))
    spent: dict[int, list[float]] = {mebibytes: [] for mebibytes in boxes}
    for repeat in range(REPEATS + 1):
        for mebibytes, box in boxes.items():
            before = cpu_ns(box.pid)
            box.run_many(box.message("one"), READ_MESSAGES, lookahead=True)
            if repeat:
                spent[mebibytes].append((cpu_ns(box.pid) - before) / 1e3 / READ_MESSAGES)
    return {mebibytes: median(times) for mebibytes, times in spent.items()}


def figures() -> list[Figure]:
    """Commit and rollback, then the search."""
    forks = [launcher() for _ in range(len(WASM_PAGES) + 1 + len(READ_MIB))]
    boxes = {size: Box(forks.pop(), module(pages), batch_size=1) for size, pages in WASM_PAGES.items()}
    found = touching(boxes)
    made, (small, large) = [], WASM_PAGES
    for method, name in (("write", "commit"), ("fail", "rollback and the next message")):
        for pages in TOUCHED:
            for what in ("wall", "cpu"):
                ours, theirs = (median(getattr(found[method, pages, size], what)) for size in (large, small))
                unit = "ms CPU" if what == "cpu" else "ms"
                made.append(
                    Figure(
                        name=f"{name}, {pages} pages of {large}", value=ours, unit=unit, reference_name=small, reference=theirs
                    )
                )
    for box in boxes.values():
        box.controller.close()
    in_use = {mebibytes: Box(forks.pop(), module(mebibytes * 16)) for mebibytes in (1, *READ_MIB)}
    spent = searching(in_use)
    for mebibytes in READ_MIB:
        each = (spent[mebibytes] - spent[1]) / (mebibytes - 1)
        name = f"finding a written page in a heap of {mebibytes} MiB in use"
        made.append(Figure(name=name, value=each, unit="us CPU per MiB", aim="<= 1"))
    for box in in_use.values():
        box.controller.close()
    return made


if __name__ == "__main__":
    emit(figures())
