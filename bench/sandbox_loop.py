"""Messages per second of one real sandbox process, next to the bare loop with the same canister and heap.

The script plays a node that takes every answer without committing it. Run: python bench/sandbox_loop.py [--profile]
"""

from __future__ import annotations

import cProfile
import os
import pstats
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zmq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from configs.fees import CyclesCostSchedule  # noqa: E402
from configs.limits import SubnetLimits  # noqa: E402
from ic_types import wire  # noqa: E402
from ic_types.principal import Principal  # noqa: E402
from sandbox import confinement  # noqa: E402
from sandbox.main import run_sandbox  # noqa: E402
from sandbox.module_info import ModuleInfo  # noqa: E402
from sandbox.protocol import EntryPoint, Environment, ExecutionContext, ExecutionInput, Finished  # noqa: E402
from sandbox.requests import Close, Execute, Executed, MemoryImage, Open, Opened  # noqa: E402

MESSAGES = 12_000
COMPILER = """
import sys, wasmtime
from bench.bare_loop import WAT
from configs.limits import SubnetLimits
from ic_types import wire
from sandbox.artefacts import native_code
from sandbox.wasm.prepare import prepare
made = prepare(bytes(wasmtime.wat2wasm(WAT)), SubnetLimits())
info = wire.encode(made.info)
sys.stdout.buffer.write(len(info).to_bytes(8, "big") + info + native_code(made))
"""


def compiled() -> tuple[ModuleInfo, int]:
    """The bare loop's canister, compiled by another process."""
    raw = subprocess.run([sys.executable, "-c", COMPILER], cwd=ROOT, capture_output=True, check=True).stdout
    size = int.from_bytes(raw[:8], "big")
    fd = os.memfd_create("module")
    os.write(fd, raw[8 + size :])
    return wire.decode(raw[8 : 8 + size], ModuleInfo), fd


def start(endpoint: str, profile: bool) -> tuple[int, socket.socket]:
    """Fork a sandbox process."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        profiler = cProfile.Profile()
        if profile:
            confinement.confine = lambda: ()
            profiler.enable()
        run_sandbox(endpoint, b"box", theirs, "icsim sandbox bench")
        profiler.disable()
        if profile:
            pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
        os._exit(0)
    theirs.close()
    return pid, ours


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print messages/s per batch size."""
    profile = "--profile" in sys.argv
    info, artefact = compiled()
    endpoint = f"ipc://{tempfile.mkdtemp()}/node"
    began = time.perf_counter()
    pid, unix = start(endpoint, profile)
    router = zmq.Context().socket(zmq.ROUTER)
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.bind(endpoint)
    heap, stable, buffer = (os.memfd_create(name) for name in ("heap", "stable", "buffer"))
    socket.send_fds(unix, [b"d"], [artefact, heap, stable, buffer])
    environment = Environment(
        canister_id=Principal.canister(1),
        subnet_id=Principal.canister(2),
        root_key=b"",
        subnet_type="application",
        limits=SubnetLimits(),
        fees=CyclesCostSchedule(),
    )
    empty = MemoryImage(wasm_pages=0, runs=())
    request = Open(
        cookie=1,
        environment=environment,
        wasm64=False,
        heap=MemoryImage(wasm_pages=info.heap_pages_initial, runs=()),
        stable=empty,
        globals=(),
        reuse_instance=True,
        tracking=True,
    )
    while True:
        try:
            router.send_multipart([b"box", wire.encode(request)])
            break
        except zmq.ZMQError:
            router.poll(1)
    opened = wire.decode(router.recv_multipart()[1], Opened)
    print(f"fork to opened {(time.perf_counter() - began) * 1e3:.1f} ms; lacking: {opened.lacking}")
    message = ExecutionInput(
        entry=EntryPoint.UPDATE,
        method="inc",
        caller=Principal(b"\x04"),
        arg=(5).to_bytes(8, "little"),
        time_ns=1,
        instruction_limit=40_000_000_000,
        slice_limit=2_000_000_000,
    )
    context = ExecutionContext(balance=10**15)
    for size in (1, 10, 100):
        began, cpu, box = time.perf_counter(), time.process_time(), cpu_seconds(pid)
        for cookie in range(MESSAGES // size):
            router.send_multipart([b"box", wire.encode(Execute(cookie=cookie, inputs=(message,) * size, context=context))])
            reply = wire.decode(router.recv_multipart()[1], Executed)
            assert len(reply.answers) == size
            assert isinstance(reply.answers[0], Finished)
        wall, cpu, box = time.perf_counter() - began, time.process_time() - cpu, cpu_seconds(pid) - box
        per = [f"{1e6 * seconds / MESSAGES:6.1f}" for seconds in (wall, box, cpu)]
        times = f"us each: wall {per[0]}, cpu of sandbox {per[1]}, of node {per[2]}"
        print(f"batch {size:3}: {MESSAGES / wall:8.0f} messages/s; {times}")
    router.send_multipart([b"box", wire.encode(Close(0))])
    os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
