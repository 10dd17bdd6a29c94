"""Messages per second of one canister through the node's controller, each committed before the next is asked for.

Beside it the bare loop with the same canister and heap, measured in the same run.
Run: python -m bench.sandbox_commit [--profile BATCH]
"""

from __future__ import annotations

import cProfile
import os
import pstats
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sandbox.launcher import ForkLauncher
from sandbox.main import run_sandbox

MESSAGES = 12_000
BATCHES = (1, 10, 100)


def bare_loop() -> dict[int, float]:
    """Messages/s of the floor by batch size."""
    text = subprocess.run([sys.executable, "-m", "bench.bare_loop"], capture_output=True, check=True, text=True).stdout
    return {int(size): float(rate) for size, rate in re.findall(r"batch\s+(\d+):\s+(\d+)", text)}


def measure(launchers: dict[int, ForkLauncher], profile: int) -> dict[int, tuple[float, float]]:
    """(messages/s, node's CPU seconds per message) by batch size."""
    import wasmtime
    import zmq

    from bench.bare_loop import WAT
    from configs.fees import CyclesCostSchedule
    from configs.limits import SubnetLimits
    from ic_types.principal import Principal
    from sandbox import artefacts
    from sandbox.controller import SandboxController
    from sandbox.execution_state import ExecutionState
    from sandbox.protocol import EntryPoint, Environment, ExecutionContext, ExecutionInput, Finished

    canister, folder = Principal.canister(1), Path(tempfile.mkdtemp(prefix="icsim-bench-"))
    limits = SubnetLimits()
    info, artefact = artefacts.compile_locally(bytes(wasmtime.wat2wasm(WAT)), limits, folder / "cache")
    environment = Environment(
        canister_id=canister,
        subnet_id=Principal.canister(2),
        root_key=b"",
        subnet_type="application",
        limits=limits,
        fees=CyclesCostSchedule(),
    )
    message = ExecutionInput(
        entry=EntryPoint.UPDATE,
        method="inc",
        caller=Principal(b"\x04"),
        arg=(5).to_bytes(8, "little"),
        time_ns=1,
        instruction_limit=limits.instructions_per_message,
        slice_limit=limits.instructions_per_slice,
    )
    context, result = ExecutionContext(balance=10**15), {}
    for size, launcher in launchers.items():
        controller = SandboxController(
            context=zmq.Context(),
            endpoint=f"ipc://{folder}/node-{size}",
            launcher=launcher,
            artefact_loader=lambda name: artefacts.load(folder / "cache", name)[1],
            environment_for=lambda _canister: environment,
            compiler_endpoint=None,
            batch_size=size,
        )
        state = ExecutionState.fresh(info, artefact)
        upcoming = (message,) * (size - 1)

        def run(
            count: int,
            controller: SandboxController = controller,
            state: ExecutionState = state,
            ahead: tuple[ExecutionInput, ...] = upcoming,
        ) -> None:
            for key in range(count):
                controller.run(key, canister, state, message, context, ahead)
                [(_key, answer)] = controller.completions(60_000)
                assert isinstance(answer, Finished)
                state.commit(answer)

        run(size)
        profiler = cProfile.Profile()
        if size == profile:
            profiler.enable()
        began, cpu = time.perf_counter(), time.process_time()
        run(MESSAGES)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        profiler.disable()
        if size == profile:
            pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
        result[size] = MESSAGES / wall, cpu / MESSAGES
        controller.close()
    return result


def main() -> None:
    """Print the table and write the result."""
    profile = int(sys.argv[2]) if "--profile" in sys.argv else 0
    launchers = {size: ForkLauncher(run_sandbox) for size in BATCHES}  # before ZeroMQ and wasmtime are used
    measured = measure(launchers, profile)
    floor = bare_loop()

    from bench.report import Figure, publish

    figures = []
    for size in BATCHES:
        rate, cpu = measured[size]
        figures.append(
            Figure(
                name=f"committed messages, batch {size}",
                value=rate,
                unit="messages/s",
                reference_name=f"bare loop, batch {size}",
                reference=floor[size],
                aim="ratio 0.25" if size == 1 else "",
            )
        )
        figures.append(Figure(name=f"CPU of the node, batch {size}", value=cpu * 1e6, unit="us/message"))
    publish("sandbox_commit", f"One canister, committed by the node ({os.cpu_count()} cores)", figures)


if __name__ == "__main__":
    main()
