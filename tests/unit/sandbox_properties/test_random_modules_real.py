"""Random canisters in real sandbox processes, with kills, pauses and batches, against a sandbox in this process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from configs.limits import SubnetLimits
from ic_types.principal import Principal
from sandbox import artefacts
from sandbox.controller import SandboxController
from sandbox.execution_state import ExecutionState
from sandbox.launcher import ZygoteLauncher
from sandbox.module_info import CompileDone
from sandbox.protocol import EntryPoint, ExecutionInput, Finished, Paused
from tests.support.lone_node import ROOT, helpers
from tests.support.random_runs import Overrun, opened, outcome, plan, shown, sliced
from tests.support.random_wasm import random_module
from tests.unit.sandbox_process.sandbox_harness import CANISTER, CONTEXT, make_environment

pytestmark = pytest.mark.slow
SLICE = 30_000


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where a launcher and a compiler listen."""
    with helpers() as path:
        yield path


class _Node:
    """A controller that commits what finishes; every `kill_every`th answer costs a sandbox its life."""

    def __init__(self, folder: Path, batch: int, kill_every: int) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.answers, self.kill_every = 0, kill_every
        self.controller = SandboxController(
            context=self.context,
            endpoint=f"ipc://{folder}/node-{os.urandom(4).hex()}",
            launcher=ZygoteLauncher(folder),
            artefact_loader=lambda name: artefacts.load(ROOT / ".icsim" / "cache", name)[1],
            environment_for=self._environment,
            compiler_endpoint=f"ipc://{folder}/compiler",
            batch_size=batch,
            fault_point=self._fault,
        )

    def _environment(self, canister: Principal) -> Any:
        return make_environment(canister_id=canister)

    def _fault(self, _point: str, pid: int) -> None:
        self.answers += 1
        if self.kill_every and self.answers % self.kill_every == 0:
            with contextlib.suppress(ProcessLookupError):  # killed at the point before and gone already
                os.kill(pid, signal.SIGKILL)

    def one(self) -> Any:
        [(_key, result)] = self.controller.completions(60_000)
        return result

    def compile(self, wasm: bytes) -> CompileDone:
        self.controller.compile("module", wasm, SubnetLimits())
        done = self.one()
        assert isinstance(done, CompileDone), done
        return done

    def run(self, state: ExecutionState, inputs: list[ExecutionInput]) -> list[Any]:
        """Answers to all inputs."""
        answers = []
        for k, item in enumerate(inputs):
            self.controller.run(k, CANISTER, state, item, CONTEXT, inputs[k + 1 :])
            answer = self.one()
            while isinstance(answer, Paused):
                self.controller.resume(k, state)
                answer = self.one()
            if isinstance(answer, Finished):
                state.commit(answer)
            elif "attempted to perform a large memory operation" in answer.message:
                raise Overrun
            answers.append(shown(answer))
        return answers

    def close(self) -> None:
        self.controller.close()
        self.context.term()


def _nonzero(memory: Any) -> dict[int, bytes]:
    """Pages that aren't zeros."""
    pages = {page: memory.read_page(page) for page in memory.written_pages()}
    return {page: content for page, content in pages.items() if content.strip(b"\0")}


@pytest.mark.parametrize(("batch", "kill_every"), [(1, 0), (9, 0), (9, 7), (1, 5)])
def test_real_sandboxes_agree_with_the_one_in_this_process(folder: Path, batch: int, kill_every: int) -> None:
    """Sliced, in batches and through kills, real sandboxes give the answers and memories of an undisturbed one."""
    node = _Node(folder, batch, kill_every)
    compared = 0
    try:
        for seed in range(100, 112):
            wasm = random_module(seed)
            done = node.compile(wasm)
            # Queries are left out: a node commits nothing of them.
            inputs = [one for one in plan(done.info, seed) if one.entry is not EntryPoint.QUERY]
            with opened(wasm) as box:
                answers, heap, stable, pages, globals_ = outcome(box, inputs)
            state = ExecutionState.fresh(done.info, done.artefact)
            try:
                assert node.run(state, sliced(inputs, SLICE)) == answers
            except Overrun:
                continue
            assert (_nonzero(state.heap), _nonzero(state.stable)) == (heap, stable)
            assert (state.heap.wasm_pages, state.globals) == (pages, globals_)
            node.controller.drop(state)
            compared += 1
        assert node.controller.statistics().died >= (5 if kill_every else 0)
    finally:
        node.close()
    assert compared >= 8
