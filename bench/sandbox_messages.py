"""Part of the sandbox benchmark: messages per second of one sandbox with its node's commit, in turns with the bare loop.

The bare loop's sandbox is served here by a loop of its own, so that the CPU time of its two processes is known too. In batches,
and where the node tells the next message with the one it asks for, node and sandbox work at the same time; that shows in the
rates only with two idle cores. Else they take turns, as the bare loop does.
Run: make bench-sandbox, or python -m bench.sandbox_messages --profile BATCH for a profile of the node's side.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.report import Figure
from bench.sandbox_kit import ARGUMENT, Box, cpu_ns, emit, launcher, median, scratch

if TYPE_CHECKING:
    import zmq

MESSAGES, TURNS = 400, 50
"""Short turns: what else the machine does changes from second to second."""
AIM = ">= 0.8"
BIG = """(module
 (import "ic0" "msg_arg_data_size" (func $size (result i32)))
 (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
 (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
 (import "ic0" "msg_reply" (func $reply))
 (memory (export "memory") 1024)
 (func (export "canister_update read") (local $at i32) (local $sum i32)
   (loop $again
     (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
     (local.set $at (i32.add (local.get $at) (i32.const 4096)))
     (br_if $again (i32.lt_u (local.get $at) (i32.const 67108864))))
   (call $reply))
 (func (export "canister_update inc")
   (call $copy (i32.const 64) (i32.const 0) (call $size))
   (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.load (i32.const 64))))
   (call $append (i32.const 8192) (i32.const 8)) (call $reply)))"""


@dataclass
class Rates:
    """One kind of run, measured several times."""

    rate: list[float] = field(default_factory=list)
    node_us: list[float] = field(default_factory=list)
    """CPU per message."""
    sandbox_us: list[float] = field(default_factory=list)

    def add(self, seconds: float, node_s: float, sandbox_ns: int) -> None:
        """One run."""
        self.rate.append(MESSAGES / seconds)
        self.node_us.append(node_s * 1e6 / MESSAGES)
        self.sandbox_us.append(sandbox_ns / 1e3 / MESSAGES)


class Floor:
    """The bare loop's sandbox in a child, and this process as its node."""

    def __init__(self) -> None:
        self.address = f"ipc://{scratch()}/floor"
        self.pid = os.fork()
        if self.pid == 0:
            self._serve()
        self.socket: zmq.Socket[bytes] | None = None

    def _serve(self) -> None:
        import gc

        import msgpack
        import zmq

        from bench.bare_loop import BareSandbox

        socket = zmq.Context().socket(zmq.DEALER)
        socket.connect(self.address)
        box = BareSandbox()
        gc.disable()
        while batch := msgpack.unpackb(socket.recv()):
            socket.send(msgpack.packb([box.run(arg) for arg in batch]))
        os._exit(0)

    def connect(self) -> None:
        """Begin to talk; after everything was forked."""
        import zmq

        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(self.address)
        self.run(1, 1)

    def run(self, count: int, batch: int) -> None:
        """So many messages, in requests of so many."""
        import msgpack

        assert self.socket is not None
        request = msgpack.packb([ARGUMENT] * batch)
        for _ in range(count // batch):
            self.socket.send(request)
            msgpack.unpackb(self.socket.recv())

    def end(self) -> None:
        """Stop the child."""
        import msgpack

        assert self.socket is not None
        self.socket.send(msgpack.packb([]))
        os.waitpid(self.pid, 0)


def timed(rates: Rates, pid: int, action: Any) -> None:
    """Run and note wall time and CPU of both processes."""
    before, began, cpu = cpu_ns(pid), time.perf_counter(), time.process_time()
    action()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    rates.add(wall, cpu, cpu_ns(pid) - before)


def figures() -> list[Figure]:
    """Rates side by side."""
    from bench.bare_loop import WAT

    floor, forks = Floor(), [launcher() for _ in range(6)]
    floor.connect()
    kinds = {
        "batches of 100": (Box(forks[0], WAT, batch_size=100), True, 100),
        "batches of 100, 64 MiB heap read before": (Box(forks[1], BIG, batch_size=100), True, 100),
        "one by one": (Box(forks[2], WAT, batch_size=1), False, 1),
        "one by one, 64 MiB heap read before": (Box(forks[3], BIG, batch_size=1), False, 1),
        "one by one, the next told": (Box(forks[4], WAT, batch_size=1), True, 1),
        "one by one, the next told, 64 MiB heap read before": (Box(forks[5], BIG, batch_size=1), True, 1),
    }
    for box, lookahead, _ in kinds.values():
        if "read" in box.info.updates:
            box.run(box.message("read"))
        box.run_many(box.message("inc"), 200, lookahead=lookahead)
    floors = {size: Rates() for size in (1, 100)}
    found = {name: Rates() for name in kinds}
    for _ in range(TURNS):
        for size, rates in floors.items():
            timed(rates, floor.pid, lambda size=size: floor.run(MESSAGES, size))
        for name, (box, lookahead, _) in kinds.items():
            timed(found[name], box.pid, lambda b=box, ahead=lookahead: b.run_many(b.message("inc"), MESSAGES, lookahead=ahead))
    for box, _, _ in kinds.values():
        box.controller.close()
    floor.end()
    made = []
    for name, (_box, _lookahead, size) in kinds.items():
        made += compared(name, found[name], floors[size], f"bare loop, batch {size}")
    return made


def compared(name: str, ours: Rates, floor: Rates, reference: str) -> list[Figure]:
    """Rate, and CPU of both processes, against the bare loop's."""
    slower = median(floor.rate)
    ratio = median([a / b for a, b in zip(ours.rate, floor.rate, strict=True)])
    common = {"unit": "us/message", "reference_name": reference}
    made = [
        Figure(
            name=f"messages, {name}",
            value=ratio * slower,
            unit="messages/s",
            reference_name=reference,
            reference=slower,
            aim=AIM,
        )
    ]
    for what, mine, theirs in (("node", ours.node_us, floor.node_us), ("sandbox", ours.sandbox_us, floor.sandbox_us)):
        made.append(Figure(name=f"CPU of the {what}, {name}", value=median(mine), reference=median(theirs), **common))
    return made


def profile(batch: int) -> None:
    """Where the node's time goes, by function; profiling makes everything several times slower."""
    from bench.bare_loop import WAT

    box = Box(launcher(), WAT, batch_size=batch)
    box.run_many(box.message("inc"), 200, lookahead=batch > 1)
    profiler = cProfile.Profile()
    profiler.runcall(box.run_many, box.message("inc"), 20 * MESSAGES, lookahead=batch > 1)
    box.controller.close()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    if "--profile" in sys.argv:
        profile(int(sys.argv[2]))
    else:
        emit(figures())
