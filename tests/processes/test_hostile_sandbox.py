"""Sandboxes taken over from inside: whatever they try fails harmlessly, is logged, and changes no result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import wasmtime
import zmq

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.errors import SandboxFailure
from ic_types.principal import Principal
from sandbox import artefacts
from sandbox.controller import MAX_DEATHS, SandboxController
from sandbox.execution_state import ExecutionState
from sandbox.launcher import ZygoteLauncher
from sandbox.module_info import CompileDone
from sandbox.protocol import EntryPoint, Environment, ExecutionContext, ExecutionInput, Finished
from tests.support import hostile_acts
from tests.support.lone_node import ROOT, LoneNode, example, network_record

pytestmark = pytest.mark.slow

CANISTER, OTHER = Principal.canister(1), Principal.canister(2)
LIMITS = SubnetLimits(stable_dirty_pages_install=1024)
SPARE = 256 << 20
CONTEXT = ExecutionContext(balance=10**15)
WAT = """(module
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory 2 4) (global $runs (mut i64) (i64.const 0))
  (func $add
    (global.set $runs (i64.add (global.get $runs) (i64.const 1)))
    (i64.store (i32.const 8192) (i64.mul (global.get $runs) (i64.const 3)))
    (drop (call $grow (i64.const 1))) (call $write (i64.const 100) (i64.const 8192) (i64.const 8)))
  (func $answer (call $append (i32.const 8192) (i32.const 8)) (call $reply))
  (func (export "canister_update add") (call $add) (call $answer))
  (func (export "canister_query get") (call $answer)))"""
LYING, ACTING = sorted(hostile_acts.LIES), sorted(hostile_acts.ACTS)
SLOW = {"spin", "huge_frame", "oversized"}
"""Noticed by the watchdog alone."""


@contextmanager
def hostile_helpers(always: str = "") -> Iterator[Path]:
    """A socket folder in which a launcher of hostile sandboxes and a compiler listen."""
    folder = Path(tempfile.mkdtemp(prefix="icsim-test-"))
    command = [sys.executable, "-m", "tests.support.hostile_helpers", str(folder), str(ROOT / ".icsim" / "cache"), always]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", "the helpers don't start"
        yield folder
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where a launcher and a compiler listen."""
    with hostile_helpers() as path:
        yield path


@pytest.fixture(scope="module")
def module(folder: Path) -> CompileDone:
    """The compiled canister."""
    with _controller(folder, "honest") as controller:
        controller.compile("module", bytes(wasmtime.wat2wasm(WAT)), LIMITS)
        [(_key, done)] = controller.completions(60_000)
        assert isinstance(done, CompileDone)
        return done


@contextmanager
def _controller(folder: Path, behaviour: str, watchdog_s: float = 60.0, batch_size: int = 100) -> Iterator[SandboxController]:
    context: zmq.Context[Any] = zmq.Context()
    controller = SandboxController(
        context=context,
        endpoint=f"ipc://{folder}/node-{os.urandom(4).hex()}",
        launcher=ZygoteLauncher(folder),
        artefact_loader=lambda name: artefacts.load(ROOT / ".icsim" / "cache", name)[1],
        environment_for=_environment,
        compiler_endpoint=f"ipc://{folder}/compiler",
        batch_size=batch_size,
        watchdog_s=watchdog_s,
        spare_bytes=SPARE,
        name=behaviour,
    )
    try:
        yield controller
    finally:
        controller.close()
        context.destroy(linger=0)


def _environment(canister: Principal) -> Environment:
    return Environment(
        canister_id=canister,
        subnet_id=Principal.canister(3),
        root_key=b"",
        subnet_type="application",
        limits=LIMITS,
        fees=CyclesCostSchedule(),
    )


def _message(method: str = "add", entry: EntryPoint = EntryPoint.UPDATE) -> ExecutionInput:
    limit = 5_000_000
    return ExecutionInput(entry=entry, method=method, instruction_limit=limit, slice_limit=limit)


def _scenario(controller: SandboxController, module: CompileDone, canister: Principal = CANISTER) -> tuple[Any, ...]:
    """Twelve messages, also in batches; the answers and the state that they leave."""
    state = ExecutionState.fresh(module.info, module.artefact)
    answers = []
    messages = [_message()] * 12
    for k, message in enumerate(messages):
        controller.run(k, canister, state, message, CONTEXT, messages[k + 1 :])
        [(_key, answer)] = controller.completions(120_000)
        assert isinstance(answer, Finished), answer
        state.commit(answer)
        answers.append((answer.response, answer.instructions, answer.globals, answer.stable_pages))
    return answers, state.heap.root_hash(), state.stable.root_hash(), state.globals


@pytest.fixture(scope="module")
def honest(folder: Path, module: CompileDone) -> tuple[Any, ...]:
    """What comes out with honest sandboxes."""
    with _controller(folder, "honest") as controller:
        return _scenario(controller, module)


def test_forbidden_acts_fail(folder: Path, module: CompileDone, honest: tuple[Any, ...]) -> None:
    """Files, sockets, processes, signals, other memories, the node's memory, limits, privileges: all refused."""
    with _controller(folder, "everything*9") as controller:
        assert _scenario(controller, module) == honest
        assert _scenario(controller, module, OTHER) == honest
        assert controller.statistics().failures == 0
        assert set(controller.pids()) == {CANISTER, OTHER}
    report = (folder / "report").read_bytes()
    lines = report[4 : 4 + int.from_bytes(report[:4], "little")].decode().splitlines()
    told = dict(line.split(": ") for line in lines)
    assert sorted(told) == sorted(hostile_acts.ATTEMPTS)
    by_descriptor = {"write_memory": "EBADF", "write_code": "EBADF", "map_memory": "EACCES", "cut_memory": "EINVAL"}
    assert {name: why for name, why in told.items() if why != "EPERM"} == by_descriptor
    assert not [line for line in lines if line.endswith("worked")]


@pytest.mark.parametrize("lie", LYING)
def test_lies_cost_the_sandbox_its_life(lie: str, folder: Path, module: CompileDone, honest: tuple[Any, ...]) -> None:
    """A reply that no honest sandbox gives is never committed; another sandbox gives the right one."""
    with structlog.testing.capture_logs() as logs, _controller(folder, f"{lie}*1") as controller:
        assert _scenario(controller, module) == honest
        assert controller.statistics().failures == 1
    [line] = [entry for entry in logs if entry["event"] == "sandbox.replaced"]
    assert line["canister"] == str(CANISTER)
    assert line["message"] == f"update 'add' of canister {CANISTER}"
    assert line["node"] == f"{lie}*1"
    assert "impossible answer: " in line["cause"]


HARMLESS = ("nothing", "two_frames", "talk_on_line", "shut_line")
"""The sandbox may still be asked and answer well before this is noticed."""


@pytest.mark.parametrize("act", ACTING)
def test_acts_cost_the_sandbox_its_life(act: str, folder: Path, module: CompileDone, honest: tuple[Any, ...]) -> None:
    """Nonsense, floods, deaths, hangs and hunger end one sandbox, not the node, and change nothing."""
    watchdog = 1.0 if act in SLOW else 60.0
    with structlog.testing.capture_logs() as logs, _controller(folder, f"{act}*1", watchdog) as controller:
        assert _scenario(controller, module) == honest
        while act in ("shut_line", "talk_on_line") and not logs:
            controller.completions(10)
        assert controller.statistics().failures in ((0, 1) if act in HARMLESS else (1,))
        assert controller.statistics().spawned <= 2
    events = [entry["event"] for entry in logs]
    assert set(events) <= {"sandbox.replaced", "sandbox.died", "sandbox.misbehaved"}
    assert events or act in ("nothing", "two_frames")


@pytest.mark.parametrize("act", ["take_memory", "fill_buffer"])
def test_hunger_is_noticed_by_its_size(act: str, folder: Path, module: CompileDone) -> None:
    """The cause says how much was taken and how much is allowed."""
    with structlog.testing.capture_logs() as logs, _controller(folder, f"{act}*1") as controller:
        _scenario(controller, module)
    [line] = [entry for entry in logs if entry["event"] == "sandbox.replaced"]
    assert "MiB of memory where" in line["cause"]


@pytest.mark.parametrize("lie", sorted(hostile_acts.WITHIN_BOUNDS))
def test_lies_within_bounds_show_as_another_state(lie: str, folder: Path, module: CompileDone, honest: tuple[Any, ...]) -> None:
    """What one node alone can't notice ends in a result or state hash that differs from the other nodes'."""
    with _controller(folder, f"{lie}*1") as controller:
        found = _scenario(controller, module)
        assert controller.statistics().failures == 0
    assert found != honest


@pytest.mark.parametrize(
    ("behaviour", "times", "cause"),
    [
        ("garbage", 3, "impossible answer: not a message"),
        ("spin", 3, "no answer within 1 s"),
        ("die", MAX_DEATHS, "its process ended"),
        ("too_many_instructions", 3, "impossible answer: 1125899906842624 instructions"),
        ("take_memory", 3, "MiB of memory where"),
    ],
)
def test_the_last_failure_in_a_row_stops_the_node(
    behaviour: str, times: int, cause: str, folder: Path, module: CompileDone
) -> None:
    """Canister, message and cause are named; nothing was committed."""
    state = ExecutionState.fresh(module.info, module.artefact)
    before = state.heap.root_hash()
    with _controller(folder, f"{behaviour}*{times}", watchdog_s=1.0 if behaviour == "spin" else 60.0) as controller:
        controller.run("key", CANISTER, state, _message(), CONTEXT)
        with pytest.raises(SandboxFailure) as caught:
            controller.completions(120_000)
    told = str(caught.value)
    assert told.startswith(
        f"update 'add' of canister {CANISTER} failed {times} times in a row in its sandbox, at last because: "
    )
    assert cause in told
    assert (state.version, state.heap.root_hash()) == (0, before)


def test_hostile_queries_fail_alone(folder: Path, module: CompileDone) -> None:
    """A query whose sandboxes misbehave three times completes with the cause; later ones work, and the node goes on."""
    state = ExecutionState.fresh(module.info, module.artefact)
    with _controller(folder, "garbage*3") as controller:
        controller.query("q", CANISTER, state.fork(), _message("get", EntryPoint.QUERY), CONTEXT)
        [(_key, failed)] = controller.completions(60_000)
        assert isinstance(failed, SandboxFailure)
        assert f"query 'get' of canister {CANISTER} failed 3 times" in str(failed)
        controller.query("q", CANISTER, state.fork(), _message("get", EntryPoint.QUERY), CONTEXT)
        [(_key, answer)] = controller.completions(60_000)
        assert isinstance(answer, Finished)


def test_whole_node_goes_on_with_other_sandboxes() -> None:
    """Rounds of a replica give the same state, certified tree and outcomes, whatever its first two sandboxes did."""
    network, shares = network_record()
    found = []
    for behaviour in ("honest*0", "garbage*2", "page_outside*2", "die*1"):
        with hostile_helpers(behaviour) as folder:
            node = LoneNode(folder, network, "app", shares["app"][0], limits=LIMITS)
            try:
                canister = node.install(example("counter"))
                results = [node.round(node.ingress(canister, "inc", bytes([k] * 8))) for k in range(4)]
                failures = node.controller.statistics().failures
            finally:
                node.close()
        assert failures == int(behaviour[-1])
        found.append([(one.state_hash, one.root_hash, one.outcomes) for one in results])
    assert found == found[:1] * len(found)


def test_whole_node_stops_instead_of_changing_state() -> None:
    """A replica none of whose sandboxes can be trusted stops in the middle of a round and says at what."""
    network, shares = network_record()
    with hostile_helpers("garbage*99") as folder:
        node = LoneNode(folder, network, "app", shares["app"][0])
        try:
            canister = node.install(example("counter"))
            told = f"update 'inc' of canister {canister} failed 3 times in a row in its sandbox, at last because: impossible"
            with pytest.raises(SandboxFailure, match=told):
                node.call(canister, "inc", bytes(8))
        finally:
            node.close()
