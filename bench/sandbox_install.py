"""Part of the sandbox benchmark: installing a module of 3 MB, cold and warm, and from a fork to the first answer.

The module is the Motoko program of `bench/canisters` with its functions repeated until it is that large, so that it consists of
what compilers really emit. Cold goes the whole way: compiler process, validation, instrumentation, compilation, cache, a new
sandbox, the start function and `canister_init`. The reference compiles the module as submitted, in turns, with the sandbox's
engine settings.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.report import Figure
from bench.sandbox_kit import CANISTERS, Box, cpu_ns, emit, launcher, median, scratch
from ic_types.principal import Principal
from sandbox.protocol import EntryPoint
from sandbox.wasm import binary

SIZE = 3_000_000
COLD_TURNS, WARM_TURNS, STARTS = 3, 9, 11
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parents[1]
CANDID_NOTHING = b"DIDL\0\0"


def large_module() -> bytes:
    """The Motoko program with so many copies of its functions that it has `SIZE` bytes or more."""
    wasm = (CANISTERS / "garbage.wasm").read_bytes()
    parts = {part.kind: wasm[part.start : part.end] for part in binary.sections(wasm) if part.kind != binary.CUSTOM}
    copies = 1 + (SIZE - len(wasm)) // len(parts[binary.CODE]) + 1
    for kind in (binary.FUNCTION, binary.CODE):
        reader = binary.Reader(parts[kind])
        count = reader.unsigned()
        parts[kind] = binary.unsigned(count * copies) + reader.data[reader.pos :] * copies
    order = [kind for kind in (*range(1, 10), binary.DATA_COUNT, binary.CODE, binary.DATA) if kind in parts]
    return binary.HEADER + b"".join(binary.section(kind, parts[kind]) for kind in order)


def numbered(wasm: bytes, number: int) -> bytes:
    """The same program as another module, so that no cache knows it."""
    return wasm + binary.section(binary.CUSTOM, binary.name("turn") + bytes((number,)))


def start_compiler(endpoint: str, cache: str) -> int:
    """The compiler process; before this one uses ZeroMQ or wasmtime."""
    pid = os.fork()
    if pid == 0:
        from sandbox import compiler

        os.setpgid(0, 0)
        compiler.run(endpoint, cache)
        os._exit(0)
    os.setpgid(pid, pid)
    return pid


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process, its children, and all that these have waited for."""
    total, pids = 0.0, [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        pids += [int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    for one in pids:
        ticks = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()[11:15]
        total += sum(map(int, ticks)) * TICK_S
    return total


@dataclass
class Times:
    """Of one kind of turn."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def figure(
        self, name: str, scale: float, unit: str, reference: Times | None, reference_name: str, aim: str
    ) -> list[Figure]:
        """Wall and CPU time, each beside the reference's."""
        made = []
        for what, ours, theirs in (
            ("", self.wall, reference and reference.wall),
            (", CPU", self.cpu, reference and reference.cpu),
        ):
            made.append(
                Figure(
                    name=name + what,
                    value=median(ours) * scale,
                    unit=unit,
                    reference_name=reference_name,
                    reference=median(theirs) * scale if theirs else None,
                    aim="" if what else aim,
                )
            )
        return made


class Installer:
    """A node's side that installs modules over and over."""

    def __init__(self) -> None:
        folder = scratch()
        self.cache, endpoint = Path(folder) / "cache", f"ipc://{folder}/compiler"
        self.compiler = start_compiler(endpoint, str(self.cache))
        self.box = Box(launcher(), "", folder=Path(folder), compiler=endpoint)

    def install(self, wasm: bytes, times: Times) -> None:
        """From the bytes of a module to the committed state of the new canister."""
        from sandbox.module_info import CompileDone
        from sandbox.protocol import Finished

        box, cpu = self.box, tree_cpu(self.compiler)
        began, own = time.perf_counter(), time.process_time()
        box.controller.compile("module", wasm, box.limits)
        [(_key, done)] = box.controller.completions(600_000)
        assert isinstance(done, CompileDone), done
        box.state = box.fresh(done.info, done.artefact)
        for entry in (EntryPoint.START, EntryPoint.INIT):
            answer = box.run(box.message("", CANDID_NOTHING, entry=entry))
            assert isinstance(answer, Finished), answer.message
        times.wall.append(time.perf_counter() - began)
        times.cpu.append(time.process_time() - own + tree_cpu(self.compiler) - cpu + cpu_ns(box.pid) / 1e9)
        box.controller.drop(box.state)

    def close(self) -> None:
        """End all processes."""
        self.box.controller.close()
        os.killpg(self.compiler, signal.SIGKILL)
        os.waitpid(self.compiler, 0)


def bare_compilation(wasm: bytes, times: Times) -> None:
    """wasmtime alone, one thread, settings as in a sandbox."""
    import wasmtime

    from sandbox.engine_config import make_engine

    engine = make_engine()
    began, cpu = time.perf_counter(), time.process_time()
    wasmtime.Module(engine, wasm).serialize()
    times.wall.append(time.perf_counter() - began)
    times.cpu.append(time.process_time() - cpu)


def first_answers() -> tuple[Times, list[float]]:
    """From asking for a process to the answer of its first message, and the same of the bare loop."""
    from bench.bare_loop import WAT

    ours, bare = Times(), []
    box = Box(launcher(), WAT)
    for number in range(STARTS):
        box.canister, box.state = Principal.canister(number), box.fresh(box.info, box.artefact)
        began, cpu = time.perf_counter(), time.process_time()
        box.run(box.message("inc"))
        ours.wall.append(time.perf_counter() - began)
        ours.cpu.append(time.process_time() - cpu + cpu_ns(box.pid) / 1e9)
        box.controller.drop(box.state)
        bare.append(_bare_first_answer())
    box.controller.close()
    return ours, bare


def _bare_first_answer() -> float:
    loop = subprocess.Popen(
        [sys.executable, "-u", "-m", "bench.bare_loop"], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert loop.stdout is not None
    found = re.search(r"([\d.]+) ms", loop.stdout.readline())
    os.killpg(loop.pid, signal.SIGKILL)
    loop.wait()
    assert found is not None
    return float(found[1]) / 1e3


def figures() -> list[Figure]:
    """Installing, then starting."""
    installer, module = Installer(), large_module()
    cold, warm, bare = Times(), Times(), Times()
    try:
        for turn in range(COLD_TURNS):
            fresh = numbered(module, turn)
            installer.install(fresh, cold)
            bare_compilation(fresh, bare)
            for _ in range(WARM_TURNS // COLD_TURNS):
                installer.install(fresh, warm)
    finally:
        installer.close()
    made = [Figure(name="module", value=len(module) / 1e6, unit="MB")]
    made += cold.figure("install of it, cold", 1, "s", bare, "wasmtime's compilation", "<= 2 x")
    made += warm.figure("install of it, warm", 1e3, "ms", None, "", "<= 30")
    ours, loop = first_answers()
    started = Times(loop, [])
    return made + ours.figure("fork to first answer", 1e3, "ms", started, "bare loop", "<= 15")


if __name__ == "__main__":
    emit(figures())
