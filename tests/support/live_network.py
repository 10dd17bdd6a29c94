"""Networks of real processes for tests: a small topology with a bit of everything, runs of it, and their state hashes.

Two subnets; universal canisters that call each other across them with cycles, traps in callbacks, a ledger, a clock, a
compute canister whose messages are sliced, random bytes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from configs.loader import topology_from_dict
from configs.topology import Topology
from ic_types import wire
from ic_types.principal import Principal
from subnet.coordinator.plan_reader import encode_phases, read_plan
from subnet.lab import universal as u
from subnet.lab.universal import Program
from subnet.launch import ROOT, RunningNetwork, start_network
from subnet.network_config import CoordinatorConfig
from subnet.process_tools import start_time

CACHE = str(ROOT / ".icsim" / "cache")
NEAR, FAR = Principal.canister(0), Principal.canister(1 << 20)
"""The universal canisters: the first of subnet `nns`, the first of subnet `app`."""
HEIGHT = 24
"""At which the workload is over."""
Hashes = dict[tuple[str, int], dict[int, str]]
"""State hashes by subnet and height, and node."""


def everything(seed: int = 7, nodes: tuple[int, int] = (2, 2), **changes: Any) -> Topology:
    """The topology; its messages are sliced over rounds, some across a checkpoint."""
    data = {
        "name": "everything",
        "profile": "minimal",
        "seed": seed,
        "identity_seed": 3,
        "limits": {
            "instructions_per_slice": 4_000_000,
            "instructions_per_install_slice": 60_000_000,
            "instructions_per_round": 100_000_000,
            "checkpoint_interval": 5,
        },
        "identities": {"names": ["alice"], "count": 4, "prefix": "user"},
        "subnet": [
            {"name": "nns", "type": "system", "nodes": nodes[0]},
            {"name": "app", "type": "application", "nodes": nodes[1]},
        ],
        "canister": [
            {"name": "near", "wasm": "universal.wasm", "subnet": "nns"},
            {"name": "far", "wasm": "universal.wasm", "subnet": "app"},
            {"name": "other", "wasm": "universal.wasm", "subnet": "app"},
            {"name": "prime", "wasm": "compute.wasm", "subnet": "app"},
            {"name": "clock", "wasm": "timer.wasm", "subnet": "nns"},
            {
                "name": "gold",
                "wasm": "ledger.wasm",
                "subnet": "app",
                "init": '(record { symbol = "GOLD"; minter = {identity:alice} })',
            },
        ],
        "workload": list(phases()),
        **changes,
    }
    return topology_from_dict(data, base=ROOT)


def phases() -> Iterator[dict[str, Any]]:
    """Calls with cycles both ways, traps and cleanups, random bytes, slices, tokens."""
    kept = Program().poke(u.scratch_address(), u.argument()).reply(u.argument())
    paid = Program().reply(u.cycles_accept(700))
    there = Program().call(FAR, "update", paid, cycles=2000, on_reply=Program().reply(u.cycles_refunded()))
    wrote = Program().drop(u.stable_grow(1)).stable_write(0, u.caller()).reply(b"x")
    back = Program().call(NEAR, "update", wrote, timeout_s=100)
    falls = Program().call(
        NEAR, "update", Program().reply(b"y"), on_reply=Program().trap("on purpose"), on_cleanup=Program().set_global(b"clean")
    )
    random = Program().call(b"", "raw_rand", b"DIDL\0\0", on_reply=kept)
    for name, canister, program, calls, expect in (
        ("there", "near", there, 3, "reply"),
        ("back", "other", back, 2, "reply"),
        ("falls", "far", falls, 2, "reject"),
        ("random", ["near", "far"], random, 2, "reply"),
    ):
        yield {
            "name": name,
            "caller": "user",
            "canister": canister,
            "method": "update",
            "arg_hex": bytes(program).hex(),
            "calls_per_round": calls,
            "rounds": 6,
            "expect": expect,
        }
    yield {
        "name": "slices",
        "canister": "prime",
        "method": "primes",
        "arg_hex": (120_000).to_bytes(8, "little").hex(),
        "rounds": 2,
    }
    yield {"name": "mint", "caller": "alice", "canister": "gold", "method": "mint", "arg": "({identity:user}, 1_000)"}
    yield {
        "name": "transfer",
        "caller": "user",
        "canister": "gold",
        "method": "transfer",
        "arg": "({identity:user+1}, {rand:3})",
        "calls_per_round": 4,
        "rounds": 5,
    }


def config(topology: Topology, out: Path | None, **options: Any) -> CoordinatorConfig:
    """What a coordinator needs for a run."""
    return CoordinatorConfig(
        name=topology.name,
        plan=wire.encode(read_plan(topology)),
        workload=encode_phases(topology.workload),
        socket_dir="",
        cache_dir=CACHE,
        out_dir=None if out is None else str(out),
        **options,
    )


@contextmanager
def running(settings: CoordinatorConfig) -> Iterator[RunningNetwork]:
    """A network, and the check that nothing of it is left afterwards."""
    with start_network(settings) as network:
        yield network
    assert not network.folder.exists(), "the socket folder is gone with its network"


def run(settings: CoordinatorConfig, height: int = HEIGHT) -> dict[str, Any]:
    """Run to a height and stop; the summary, in which every answer was as expected."""
    with running(settings) as network:
        network.client.advance(to_height=height, timeout_s=120)
        summary = network.client.summary()
    assert not [phase for phase in summary["phases"] if phase["unexpected"]], summary["phases"]
    return summary


def hashes(folder: Path) -> Hashes:
    """All state hashes that a run recorded; all nodes of a subnet have the same at each height."""
    found: Hashes = {}
    for line in (folder / "heights.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault((row["subnet"], row["height"]), {})[row["node"]] = row["state_hash"]
    for place, by_node in found.items():
        assert len(set(by_node.values())) == 1, f"nodes differ at {place}: {by_node}"
    return found


def agreed(folder: Path) -> dict[tuple[str, int], str]:
    """The state hash of each subnet at each height."""
    return {place: next(iter(by_node.values())) for place, by_node in hashes(folder).items()}


def agreed_in_journal(folder: Path) -> dict[tuple[str, int], str]:
    """The same from the journal of `everything`, which also has what a killed run agreed on."""
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db:
        rows = db.execute("SELECT subnet, height, state_hash FROM heights").fetchall()
    return {(("nns", "app")[subnet], height): found.hex() for subnet, height, found in rows}


def alive(pids: dict[int, int | None]) -> list[int]:
    """Those of these processes (pid to start time) that still run."""
    return [pid for pid, started in pids.items() if started is not None and start_time(pid) == started]


def started(pids: list[int]) -> dict[int, int | None]:
    """Processes with their start times, for `alive`."""
    return {pid: start_time(pid) for pid in pids}


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = 20.0) -> None:
    """Wait for something that other processes do; the limit is a safety net."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"still not so after {limit_s} s: {what}"
        os.sched_yield()
        time.sleep(0.005)
