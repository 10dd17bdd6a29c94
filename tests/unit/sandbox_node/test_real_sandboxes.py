"""The controller with real sandbox processes and the real compiler, and `kill -9` at every fault point."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wasmtime
import zmq
from model_sandbox import CANISTER, ENVIRONMENT

from configs.limits import SubnetLimits
from sandbox import artefacts
from sandbox.controller import SandboxController
from sandbox.execution_state import ExecutionState
from sandbox.launcher import ZygoteLauncher
from sandbox.module_info import CompileDone, CompileRefused
from sandbox.protocol import (
    Answer,
    EntryPoint,
    ExecutionContext,
    ExecutionInput,
    Finished,
    Paused,
    Trapped,
)
from tests.support.lone_node import ROOT, helpers

pytestmark = pytest.mark.slow

WAT = """(module
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "canister_cycle_balance128" (func $balance (param i32)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory (export "memory") 4 40)
  (global $runs (mut i64) (i64.const 0))
  (func $add
    (call $arg (i32.const 64) (i32.const 0) (i32.const 8))
    (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.load (i32.const 64))))
    (global.set $runs (i64.add (global.get $runs) (i64.const 1)))
    (i64.store (i32.const 72) (global.get $runs)))
  (func $answer (call $append (i32.const 8192) (i32.const 8)) (call $append (i32.const 72) (i32.const 8)) (call $reply))
  (func (export "canister_init") (call $add))
  (func (export "canister_update add") (call $add) (call $answer))
  (func (export "canister_query get") (call $add) (call $answer))
  (func (export "canister_update balance") (call $add) (call $balance (i32.const 128))
    (call $append (i32.const 128) (i32.const 16)) (call $answer))
  (func (export "canister_update stable") (call $add) (drop (call $grow (i64.const 1)))
    (call $write (i64.const 100) (i64.const 8192) (i64.const 8)) (call $answer))
  (func (export "canister_update trap") (call $add) (drop (memory.grow (i32.const 1))) unreachable)
  (func (export "canister_update grow") (call $add) (drop (memory.grow (i32.const 1)))
    (i32.store (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536)) (i32.const 5)) (call $answer))
  (func (export "canister_update burn") (local $i i32)
    (loop $again
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 5000000))))
    (call $add) (call $answer))
  (func (export "canister_update spin") (local $i i32)
    (call $add)
    (loop $again
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 40000))))
    (call $add) (call $answer)))"""
METHODS = ("add", "add", "balance", "add", "stable", "trap", "add", "grow", "spin", "add")
SLICE = 150_000


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where a launcher and a compiler listen."""
    with helpers() as path:
        yield path


class Bench:
    """A controller with real processes."""

    def __init__(self, folder: Path, batch_size: int, kill_every: int = 0) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.points: Counter[str] = Counter()
        self.kill_every, self.passed = kill_every, 0
        self.controller = SandboxController(
            context=self.context,
            endpoint=f"ipc://{folder}/node-{os.urandom(4).hex()}",
            launcher=ZygoteLauncher(folder),
            artefact_loader=lambda name: artefacts.load(ROOT / ".icsim" / "cache", name)[1],
            environment_for=lambda _canister: ENVIRONMENT,
            compiler_endpoint=f"ipc://{folder}/compiler",
            batch_size=batch_size,
            name="app-1/0",
            fault_point=self.fault,
        )

    def fault(self, name: str, pid: int) -> None:
        """Kill now and then, as chaos does."""
        self.passed += 1
        if self.kill_every and self.passed % self.kill_every == 0:
            self.points[name] += 1
            with contextlib.suppress(ProcessLookupError):  # killed at the point before and gone already
                os.kill(pid, signal.SIGKILL)

    def one(self) -> Any:
        """The completion that is due."""
        [(_key, result)] = self.controller.completions(60_000)
        return result

    def compile(self, wat: str) -> CompileDone | CompileRefused:
        """Have a module compiled."""
        self.controller.compile("module", bytes(wasmtime.wat2wasm(wat)), SubnetLimits())
        return self.one()  # type: ignore[no-any-return]

    def close(self) -> None:
        """End everything."""
        self.controller.close()
        self.context.term()


@pytest.fixture
def bench(folder: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A controller; parameters are batch size and kill interval."""
    made = Bench(folder, *getattr(request, "param", (100, 0)))
    yield made
    made.close()


def asked(method: str, entry: EntryPoint = EntryPoint.UPDATE, amount: int = 1) -> ExecutionInput:
    """A message of this canister."""
    installing = entry is EntryPoint.INIT
    return ExecutionInput(
        entry=entry,
        method="" if installing else method,
        arg=amount.to_bytes(8, "little"),
        instruction_limit=5_000_000,
        slice_limit=5_000_000 if entry is EntryPoint.QUERY else SLICE,
        may_reply=not installing,
    )


def context(k: int) -> ExecutionContext:
    """The context of the k-th message."""
    return ExecutionContext(balance=10**15 + k)


def scenario(bench: Bench, rounds: int) -> tuple[list[Answer], bytes, bytes]:
    """Install, run many messages of every kind, query in between; all answers and the hashes of both memories."""
    done = bench.compile(WAT)
    assert isinstance(done, CompileDone), done
    controller, state = bench.controller, ExecutionState.fresh(done.info, done.artefact)
    answers: list[Answer] = []
    messages = [asked("", EntryPoint.INIT)] + [asked(METHODS[k % len(METHODS)], amount=k) for k in range(rounds)]
    for k, message in enumerate(messages):
        controller.run(k, CANISTER, state, message, context(k), messages[k + 1 : k + 40])
        answer = bench.one()
        answers.append(answer)
        while isinstance(answer, Paused):
            controller.resume(k, state)
            answer = bench.one()
            answers.append(answer)
        if isinstance(answer, Finished):
            state.commit(answer)
        if k % 8 == 7:
            controller.query("q", CANISTER, state.fork(), asked("get", EntryPoint.QUERY), context(k))
            answers.append(bench.one())
    return answers, state.heap.root_hash(), state.stable.root_hash()


@pytest.fixture(scope="module")
def calm(folder: Path) -> Iterator[tuple[list[Answer], bytes, bytes]]:
    """The scenario one message at a time, undisturbed."""
    made = Bench(folder, 1)
    yield scenario(made, 70)
    made.close()


def test_scenario_does_what_it_says(calm: tuple[list[Answer], bytes, bytes]) -> None:
    """Every kind of answer occurs, and the counter adds up over traps, pauses and growth."""
    answers = calm[0]
    kinds = Counter(type(answer) for answer in answers)
    assert min(kinds[Finished], kinds[Trapped], kinds[Paused]) >= 5
    added = 1 + sum(k * (2 if METHODS[k % 10] == "spin" else 1) for k in range(70) if METHODS[k % 10] != "trap")
    last = [a for a in answers if isinstance(a, Finished) and a.response is not None][-1]
    assert int.from_bytes(last.response.data[:8], "little") == added  # type: ignore[union-attr]


@pytest.mark.parametrize("bench", [(1, 3), (7, 0), (7, 2), (100, 0), (100, 5), (100, 1)], indirect=True)
def test_answers_depend_on_neither_batch_size_nor_kills(bench: Bench, calm: tuple[list[Answer], bytes, bytes]) -> None:
    """All answers and both memories are as without batches and kills; kills happened at every kind of point."""
    assert scenario(bench, 70) == calm
    if bench.kill_every == 1:
        assert set(bench.points) == {"answered", "between_commits", "install", "paused", "query"}
    if bench.kill_every:
        assert bench.controller.statistics().died > 0


def test_processes_are_titled_and_end_with_the_controller(folder: Path) -> None:
    """`ps` tells update and query sandboxes apart, and none outlives the controller."""
    made = Bench(folder, 1)
    scenario(made, 8)
    pids = [*made.controller.pids().values(), *made.controller.pids("query").values()]
    titles = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode() for pid in pids]
    assert titles == [f"icsim sandbox app-1/0 {CANISTER}", f"icsim query app-1/0 {CANISTER}"]
    gone = [os.pidfd_open(pid) for pid in pids]
    made.close()
    for pidfd in gone:
        poller = zmq.Poller()
        poller.register(pidfd, zmq.POLLIN)
        assert poller.poll(10_000)
        os.close(pidfd)


def test_long_batch_ends_early(bench: Bench) -> None:
    """The first answer of a batch doesn't wait for more than a bounded number of instructions behind it."""
    done = bench.compile(WAT)
    assert isinstance(done, CompileDone), done
    state = ExecutionState.fresh(done.info, done.artefact)
    burn = replace(asked("burn"), instruction_limit=10**9, slice_limit=10**9)
    for k in range(8):
        bench.controller.run(k, CANISTER, state, burn, context(k), (burn,) * (7 - k))
        answer = bench.one()
        assert isinstance(answer, Finished)
        assert answer.instructions > 30_000_000
        state.commit(answer)
    statistics = bench.controller.statistics()
    assert 2 <= statistics.speculative_hits < 7
    assert statistics.speculative_misses == 0


def test_refused_module_is_told(bench: Bench) -> None:
    """A module with an unknown import comes back with the reason."""
    refused = bench.compile('(module (import "env" "x" (func)))')
    assert isinstance(refused, CompileRefused)
    assert refused.charged_instructions > 0
