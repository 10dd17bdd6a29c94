"""Sandboxes and nodes killed at every named step of installs, upgrades and loads of snapshots: nothing shows.

Abstract behaviour, "IC Management Canister: Code installation", "Code upgrade", "Load canister snapshot": each is atomic.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import icsim
from configs.limits import SubnetLimits
from ic_types import trace
from ic_types.candid import decoder
from ic_types.principal import MANAGEMENT_CANISTER
from ic_types.trace import TraceEvent
from subnet.lab.universal import Program, get_global, stable_grow, stable_read
from subnet.management.methods import METHODS
from subnet.management.steps import EVENT, NAMES, STEPS
from tests.support.live_network import wait_until
from tests.support.lone_node import example
from tests.support.spec_node import USER, SpecNode, management_arg
from tests.support.wasm_samples import compile_wat, module

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(200),
    pytest.mark.spec("management-install-code"),
    pytest.mark.spec("management-upgrade-code"),
    pytest.mark.spec("management-load-snapshot"),
]
LIMITS = replace(SubnetLimits(), instructions_per_install_slice=1_000_000, instructions_per_install=2_000_000_000)
SLICES = Program().burn_loop(600_000)
INIT = Program().set_global(b"one").drop(stable_grow(1)).stable_write(0, b"one") + SLICES
PRE = Program().stable_write(0, b"pre") + SLICES
POST = Program().set_global(b"two") + SLICES
SHOW = Program().append(get_global()).append(stable_read(0, 3)).reply()


STARTS = compile_wat(
    module(
        """
        (memory 1)
        (func $start
            (local $left i32)
            (local.set $left (i32.const 1000000))
            (loop $again
                (i32.store (i32.const 4) (i32.add (i32.load (i32.const 4)) (i32.const 3)))
                (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
        (start $start)
        (func (export "canister_update update")
            (call $msg_reply_data_append (i32.const 0) (i32.const 8))
            (call $msg_reply))
        """,
        "msg_reply",
        "msg_reply_data_append",
    )
)
"""Works in its start function."""


@dataclass(slots=True)
class Reaper:
    """Kills sandboxes whose canister passes a step; not more than twice, as a third death at one message ends the node."""

    node: SpecNode
    victim: str
    passed: Counter[str] = field(default_factory=Counter)
    killed: int = 0

    def see(self, event: TraceEvent) -> None:
        """Something happened in the node."""
        if event.step != EVENT:
            return
        self.passed[event.detail] += 1
        pids = {bytes(canister): pid for canister, pid in self.node.controller.pids("update").items()}
        if event.detail == self.victim and event.subject in pids and self.killed < 2:
            os.kill(pids[event.subject], signal.SIGKILL)
            self.killed += 1


def story(node: SpecNode) -> list[object]:
    """Install, upgrade, reinstall and load, each over several rounds and once failing; all that shows of it."""
    seen: list[object] = []

    def manage(method: str, value: dict[str, Any]) -> None:
        message = node.ingress(MANAGEMENT_CANISTER, method, management_arg(method, value), USER)
        result, rounds = node.round(message), 0
        seen.append(result.state_hash)
        while message.message_id not in node.outcomes:
            rounds += 1
            seen.append(node.round(checkpoint=rounds == 3).state_hash)  # an unfinished install starts again
        seen.append((rounds, node.outcomes[message.message_id]))

    def code(mode: str, arg: Program, wasm: bytes = example("universal")) -> None:
        node.canister(canister).install_debit = type(node.canister(canister).install_debit)(0)
        value = {"mode": {mode: None}, "canister_id": canister, "wasm_module": wasm, "arg": bytes(arg)}
        manage("install_code", value)
        seen.append(node.ask(canister, SHOW))

    canister = node.create()
    for mode in ("install", "upgrade", "reinstall"):
        code(mode, Program(), STARTS)
    node.done("uninstall_code", {"canister_id": canister})
    code("install", SLICES + Program().trap("no"))
    code("install", INIT)
    node.ask(canister, Program().on_pre_upgrade(PRE).reply())
    manage("take_canister_snapshot", {"canister_id": canister})
    (snapshot,) = node.canister(canister).snapshots
    code("upgrade", SLICES + Program().trap("no"))
    code("upgrade", POST)
    code("reinstall", SLICES + Program().trap("no"))
    code("reinstall", Program().set_global(b"new") + SLICES)
    manage("load_canister_snapshot", {"canister_id": canister, "snapshot_id": snapshot})
    seen.append(node.ask(canister, SHOW))
    node.check()
    return seen


def told(folder: Path, victim: str) -> tuple[list[object], Reaper]:
    """The story on a fresh node, with sandboxes killed at one step."""
    node = SpecNode(folder, limits=LIMITS)
    reaper = Reaper(node, victim)
    trace.set_sink(reaper.see)
    try:
        return story(node), reaper
    finally:
        trace.set_sink(None)
        node.close()


@pytest.fixture(scope="module")
def undisturbed(sockets: Path) -> tuple[list[object], Counter[str]]:
    """Nobody is killed; every step is passed."""
    seen, reaper = told(sockets, "")
    return seen, reaper.passed


def test_every_step_is_passed(undisturbed: tuple[list[object], Counter[str]]) -> None:
    """The list of fault points, and that installs take several rounds, succeed and fail."""
    seen, passed = undisturbed
    for work, steps in STEPS.items():
        print(f"{work:10}", ", ".join(f"{step} {passed[f'{work}.{step}']}" for step in steps))
    assert set(passed) == set(NAMES)
    ends = [one for one in seen if isinstance(one, tuple) and isinstance(one[0], int)]
    assert [outcome.error for _, outcome in ends if outcome.reply is None] == 3 * ["IC0503"]
    assert sum(rounds > 3 for rounds, _ in ends) >= 9, [rounds for rounds, _ in ends]


@pytest.mark.parametrize("victim", NAMES)
def test_killed_sandboxes(sockets: Path, undisturbed: tuple[list[object], Counter[str]], victim: str) -> None:
    """State hashes of all rounds, answers and what the canister replies are those of an undisturbed run."""
    seen, reaper = told(sockets, victim)
    assert seen == undisturbed[0]
    assert reaper.passed[victim] > 0


# --- nodes

TOPOLOGY: dict[str, Any] = {
    "profile": "minimal",
    "limits": {"instructions_per_install_slice": 1_000_000, "checkpoint_interval": 14},
    "subnet": [{"name": "main", "type": "system", "nodes": 4}],
}
BY_NODE = {1: [f"install.{step}" for step in STEPS["install"]], 2: [f"upgrade.{step}" for step in STEPS["upgrade"]]}
BY_NODE[3] = [f"load.{step}" for step in STEPS["load"]]
BY_NODE[4] = [f"reinstall.{step}" for step in STEPS["reinstall"]]
"""Which nodes are killed at which steps: one step each in a run."""


def lived(net: icsim.Network) -> list[object]:
    """The same on a network; before each part all nodes are up again."""
    seen: list[object] = []

    def done(what: Callable[[], object]) -> None:
        with contextlib.suppress(icsim.CallRejected):
            seen.append(what())
        wait_until(lambda: {node.phase for node in net.subnets["main"].status().nodes} == {"live"}, "all are up again", 60)
        seen.append((net.height, net.state_hashes()))

    def code(mode: str, arg: Program, wasm: bytes = example("universal")) -> None:
        value = {"mode": {mode: None}, "canister_id": canister.id, "wasm_module": wasm, "arg": bytes(arg)}
        arg_bytes = management_arg("install_code", value)
        done(lambda: net.raw_call(MANAGEMENT_CANISTER, "install_code", arg_bytes, effective=canister.id))
        done(lambda: canister.call_raw("update", bytes(SHOW)))

    canister = net.create_canister("main")
    for mode in ("install", "upgrade", "reinstall"):
        code(mode, Program(), STARTS)
    done(lambda: canister.call_raw("update", bytes(SHOW)))
    value = {"canister_id": canister.id}
    done(
        lambda: net.raw_call(
            MANAGEMENT_CANISTER, "uninstall_code", management_arg("uninstall_code", value), effective=canister.id
        )
    )
    code("install", SLICES + Program().trap("no"))
    code("install", INIT)
    canister.call_raw("update", bytes(Program().on_pre_upgrade(PRE).reply()))
    canister.stop()
    taken = management_arg("take_canister_snapshot", value)
    raw = net.raw_call(MANAGEMENT_CANISTER, "take_canister_snapshot", taken, effective=canister.id)
    snapshot = decoder.decode(raw, METHODS["take_canister_snapshot"].results)[0]["id"]
    canister.start()
    code("upgrade", SLICES + Program().trap("no"))
    code("upgrade", POST)
    code("reinstall", SLICES + Program().trap("no"))
    code("reinstall", Program().set_global(b"new") + SLICES)
    load = management_arg("load_canister_snapshot", {**value, "snapshot_id": snapshot})
    done(lambda: net.raw_call(MANAGEMENT_CANISTER, "load_canister_snapshot", load, effective=canister.id))
    done(lambda: canister.call_raw("update", bytes(SHOW)))
    return seen


@pytest.fixture(scope="module")
def undisturbed_network() -> list[object]:
    """A run in which no node is killed."""
    with icsim.network(TOPOLOGY) as net:
        seen = lived(net)
        assert [node.restarts for node in net.subnets["main"].status().nodes] == [0, 0, 0, 0]
    return seen


@pytest.mark.parametrize("turn", range(max(len(steps) for steps in BY_NODE.values())))
def test_killed_nodes(undisturbed_network: list[object], turn: int) -> None:
    """Each node ends at a step of its own and comes back; heights, state hashes and replies are those of an undisturbed run."""
    struck = {node: steps[turn] for node, steps in BY_NODE.items() if turn < len(steps)}
    with icsim.network(TOPOLOGY, faults=[f"crash:main/{node},{step}@1" for node, step in struck.items()]) as net:
        assert lived(net) == undisturbed_network
        restarts = [node.restarts for node in net.subnets["main"].status().nodes]
    assert restarts == [int(node in struck) for node in (1, 2, 3, 4)], struck
