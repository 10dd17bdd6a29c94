"""Plumbing shared by the parts of the sandbox benchmark: sandboxes without a network, CPU time, figures of a part as JSON.

Each part runs in a process of its own, which forks what it needs before it uses ZeroMQ or wasmtime.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report import Figure
from ic_types import wire

if TYPE_CHECKING:
    from sandbox.controller import SandboxController
    from sandbox.execution_state import ExecutionState
    from sandbox.launcher import ForkLauncher
    from sandbox.module_info import ModuleInfo
    from sandbox.protocol import ExecutionInput

CANISTERS = Path(__file__).parent / "canisters"
EXAMPLES = Path(__file__).parents[1] / "examples" / "canisters"
_KEPT_BYTES = 8 << 20
ARGUMENT = (5).to_bytes(8, "little")


def emit(figures: list[Figure]) -> None:
    """Hand the figures over to `bench.sandbox`."""
    json.dump([asdict(figure) for figure in figures], sys.stdout)


def launcher() -> ForkLauncher:
    """A process that forks sandboxes, from a parent in which everything is imported, as the zygote has it."""
    from importlib import import_module

    from sandbox.launcher import ForkLauncher
    from sandbox.main import run_sandbox

    for module in ("sandbox.artefacts", "sandbox.controller"):
        import_module(module)
    wire.prepare()
    gc.collect()
    gc.freeze()
    return ForkLauncher(run_sandbox)


def scratch() -> str:
    """A folder that goes with this process."""
    folder, owner = tempfile.mkdtemp(prefix="icsim-bench-"), os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process so far."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def process_cpu_ns() -> int:
    """CPU time of this process so far."""
    return time.process_time_ns()


def thread_cpu(action: Callable[[], object]) -> float:
    """CPU seconds of this thread that an action takes."""
    began = time.thread_time()
    action()
    return time.thread_time() - began


class Box:
    """A node's side without a node: one canister in one sandbox."""

    def __init__(
        self, forks: ForkLauncher, wasm: bytes | str, *, batch_size: int = 100, folder: Path | None = None, compiler: str = ""
    ) -> None:
        import wasmtime
        import zmq

        from configs.fees import CyclesCostSchedule
        from configs.limits import SubnetLimits
        from ic_types.principal import Principal
        from sandbox import artefacts, kernel
        from sandbox.controller import SandboxController
        from sandbox.protocol import Environment, ExecutionContext

        kernel.keep_freed_memory(_KEPT_BYTES)  # as a node does
        self.folder = folder or Path(scratch())
        self.canister, self.limits = Principal.canister(1), SubnetLimits()
        self.batch_size, self.context = batch_size, ExecutionContext(balance=10**15)
        cache = self.folder / "cache"
        self.controller: SandboxController = SandboxController(
            context=zmq.Context.instance(),
            endpoint=f"ipc://{self.folder}/node-{os.urandom(4).hex()}",
            launcher=forks,
            artefact_loader=lambda name: artefacts.load(cache, name)[1],
            environment_for=lambda canister: Environment(
                canister_id=canister,
                subnet_id=Principal.canister(2),
                root_key=b"",
                subnet_type="application",
                limits=self.limits,
                fees=CyclesCostSchedule(),
            ),
            compiler_endpoint=compiler or None,
            batch_size=batch_size,
        )
        if wasm:
            plain = bytes(wasmtime.wat2wasm(wasm)) if isinstance(wasm, str) else wasm
            self.info, self.artefact = artefacts.compile_locally(plain, self.limits, cache)
            self.state = self.fresh(self.info, self.artefact)

    def fresh(self, info: ModuleInfo, artefact: str) -> ExecutionState:
        """A newly instantiated canister."""
        from sandbox.execution_state import ExecutionState

        return ExecutionState.fresh(info, artefact)

    def message(self, method: str, arg: bytes = ARGUMENT, **fields: Any) -> ExecutionInput:
        """An update message with ample instructions."""
        from ic_types.principal import Principal
        from sandbox.protocol import EntryPoint, ExecutionInput

        given: dict[str, Any] = {"entry": EntryPoint.UPDATE, "caller": Principal(bytes(29)), "time_ns": 1, **fields}
        limits = {"instruction_limit": 1 << 50, "slice_limit": 1 << 50}
        return ExecutionInput(method=method, arg=arg, **given, **limits)

    def run(self, message: ExecutionInput, upcoming: Sequence[ExecutionInput] = (), *, commit: bool = True) -> Any:
        """One message to its answer, committed if it ended well."""
        from sandbox.protocol import Finished

        self.controller.run("key", self.canister, self.state, message, self.context, upcoming)
        [(_key, answer)] = self.controller.completions(120_000)
        if commit and isinstance(answer, Finished):
            self.state.commit(answer)
        return answer

    def run_many(self, message: ExecutionInput, count: int, *, lookahead: bool) -> None:
        """So many equal messages, each committed before the next is asked for; told in advance as the scheduler does."""
        from sandbox.protocol import Finished

        controller, canister, state, context = self.controller, self.canister, self.state, self.context
        upcoming = (message,) * (2 * self.batch_size) if lookahead else ()
        for key in range(count):
            controller.run(key, canister, state, message, context, upcoming)
            [(_key, answer)] = controller.completions(60_000)
            assert isinstance(answer, Finished), answer
            state.commit(answer)

    @property
    def pid(self) -> int:
        """Of the sandbox."""
        return self.controller.pids()[self.canister]
