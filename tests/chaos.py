"""Sandboxes killed with kill -9 at every fault point: hashes and answers stay those of an undisturbed run.

`python -m tests.chaos [KILLS]` (make chaos). One node in this process with real sandboxes executes the same batches twice; the
second time its sandboxes are killed right after an answer was sent and before it is committed (answered), between the commits
of answers that were run ahead (between_commits), at steps of installs (install), between slices (paused), at queries (query),
and at any moment of their work (running). Who is killed when is drawn from a seed.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from configs.limits import SubnetLimits
from ic_types.candid import encoder
from ic_types.messages import Ingress
from ic_types.principal import ANONYMOUS, MANAGEMENT_CANISTER, CanisterId
from subnet.lab import universal as u
from subnet.lab.universal import Program
from subnet.management import candid_types
from subnet.protocol import IngressOutcome, QueryReply, QueryRequest
from tests.support.lone_node import LoneNode, example, helpers, network_record

POINTS = ("answered", "between_commits", "install", "paused", "query", "running")
LIMITS = replace(
    SubnetLimits(),
    instructions_per_slice=1_000_000,
    instructions_per_install_slice=200_000_000,
    instructions_per_round=220_000_000,
    instructions_per_message=2_000_000_000,
)
MODULES = ("universal", "universal", "universal", "counter", "counter", "compute")
ROUNDS = 36


@dataclass(slots=True)
class Record:
    """All that a run shows to the outside."""

    hashes: list[bytes] = field(default_factory=list)
    outcomes: list[IngressOutcome] = field(default_factory=list)
    queries: list[QueryReply] = field(default_factory=list)
    asked: int = 0


@dataclass(slots=True)
class Killer:
    """Counts how often each fault point is passed, and kills at some of them."""

    dice: random.Random
    wanted: int
    """Kills in all; 0 to kill nobody."""
    passed: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    odds: dict[str, float] = field(default_factory=dict)
    dead: dict[int, None] = field(default_factory=dict)
    """Nobody is killed, and counted, twice."""

    def at(self, point: str, pid: int) -> bool:
        """The sandbox `pid` is at this point; whether it was killed."""
        self.passed[point] += 1
        if not self.wanted or pid in self.dead or self.dice.random() >= self.odds.get(point, 0.0):
            return False
        os.kill(pid, signal.SIGKILL)
        self.dead[pid] = None
        self.killed[point] += 1
        return True

    def aim(self, passed: Counter[str]) -> None:
        """Spread the kills over the points, given how often an undisturbed run passes each."""
        self.odds = {point: min(0.9, 1.8 * self.wanted / len(POINTS) / max(passed[point], 1)) for point in POINTS}

    @property
    def total(self) -> int:
        """Kills so far."""
        return sum(self.killed.values())


class ChaosRun:
    """The batches of one run, the same for every run of the same seed, and a node that executes them."""

    def __init__(self, folder: Path, killer: Killer, seed: int, **options: Any) -> None:
        network, shares = network_record()
        self.killer = killer
        self.node = LoneNode(folder, network, "app", shares["app"][0], limits=LIMITS, fault_point=self.at, **options)
        self.node.driver.on_wait = self.during_a_round
        self.dice = random.Random(seed)
        self.record = Record()
        self.canisters: list[CanisterId] = []
        self.struck: dict[CanisterId, None] = {}
        """Whose sandbox was killed at work in this round: after the third death at one message a node stops."""

    def run(self, rounds: int) -> Record:
        """Create the canisters, then so many rounds of work."""
        for module in MODULES:
            self.canisters.append(self.node.install(example(module)))
        for _ in range(rounds):
            self.one_round(self.messages(), self.queries())
        while self.node.replica.state.scheduler.active:
            self.one_round([], [])
        while self.node.driver.busy:
            self.node.driver.step(50)
        self.record.queries.sort(key=lambda reply: reply.cookie)
        self.node.check()
        return self.record

    def one_round(self, messages: list[Ingress], queries: list[QueryRequest]) -> None:
        """Half of the queries are answered before the round, half while it goes on, all on the height before it."""
        self.record.asked += len(queries)
        self.struck.clear()
        for query in queries[::2]:
            self.ask(query)
        while self.node.driver.busy:
            self.node.driver.step(50)
        for query in queries[1::2]:
            self.ask(query)
        result = self.node.round(*messages)
        self.record.hashes.append(result.state_hash)
        self.record.outcomes += result.outcomes

    def ask(self, query: QueryRequest) -> None:
        """Start a query."""
        self.node.driver.start_query(self.node.replica.query(query), self.record.queries.append)

    def at(self, point: str, pid: int) -> None:
        """The controller passes a fault point."""
        self.killer.at(point, pid)

    def during_a_round(self) -> None:
        """Called while the round waits for sandboxes."""
        pids = self.node.controller.pids("update") | self.node.controller.pids("query")
        spared = sorted(canister for canister in pids if canister not in self.struck)
        if spared:
            victim = self.killer.dice.choice(spared)
            if self.killer.at("running", pids[victim]):
                self.struck[victim] = None

    # --- what the batches hold

    def messages(self) -> list[Ingress]:
        """A round's ingress: long batches, calls, traps, memory, slices, upgrades."""
        one, two, three, counter, other, compute = self.canisters
        node, dice = self.node, self.dice
        amount = dice.randrange(1, 1000).to_bytes(8, "little")
        made = [node.ingress(dice.choice((counter, other)), "inc", amount) for _ in range(24)]
        made += [node.ingress(dice.choice((one, two, three)), "update", bytes(self.program())) for _ in range(8)]
        if dice.random() < 0.4:
            made.append(node.ingress(compute, "primes", dice.randrange(2_000, 30_000).to_bytes(8, "little")))
        if dice.random() < 0.6:
            made.append(self.upgrade(dice.choice((one, two, three)), dice.choice(("upgrade", "upgrade", "reinstall"))))
        dice.shuffle(made)
        return made

    def program(self, depth: int = 0) -> Program:
        """A random program of the universal canister."""
        dice, there = self.dice, self.dice.choice(self.canisters[:3])
        page, byte = dice.randrange(64), dice.randrange(256)
        choices: list[Callable[[], Program]] = [
            lambda: Program().set_page_byte(page, byte).reply(u.get_global()),
            lambda: Program().set_global(bytes([byte]) * page).drop(u.stable_grow(1)).stable_write(page, b"s").reply(),
            lambda: Program().set_page_byte(page, byte).trap("no"),
            lambda: Program().drop(u.memory_grow(1)).burn_loop(byte * 3000).reply_int(u.memory_size()),
            lambda: Program().on_pre_upgrade(Program().stable_write(0, bytes([byte]))).reply(u.cycles_balance()),
            lambda: Program().drop(u.set_timer(u.time() + 2 * 10**9)).on_timer(Program().set_page_byte(page, byte)).reply(),
        ]
        if depth < 3:
            falls = Program().trap("in the callback") if byte < 60 else None
            clean = Program().set_page_byte(page, byte)
            inner = self.program(depth + 1)
            choices += 3 * [
                lambda: Program().call(there, "update", inner, cycles=byte * 1000, on_reply=falls, on_cleanup=clean)
            ]
        return dice.choice(choices)()

    def upgrade(self, canister: CanisterId, mode: str) -> Ingress:
        """Install the universal canister again."""
        value = {
            "mode": {mode: None},
            "canister_id": canister,
            "wasm_module": example("universal"),
            "arg": bytes(Program().set_global(b"new").drop(u.stable_grow(1))),
        }
        return self.node.ingress(MANAGEMENT_CANISTER, "install_code", encoder.encode([candid_types.INSTALL_CODE], [value]))

    def queries(self) -> list[QueryRequest]:
        """A round's queries."""
        program = bytes(Program().append(u.get_global()).reply(u.cycles_balance()))
        chosen = self.dice.choices(self.canisters[:5], k=4)
        return [
            QueryRequest(
                cookie=self.record.asked + k,
                sender=ANONYMOUS,
                receiver=receiver,
                method="read" if receiver in self.canisters[3:5] else "query",
                arg=program,
            )
            for k, receiver in enumerate(chosen)
        ]


def execute(folder: Path, killer: Killer, *, seed: int, rounds: int, **options: Any) -> tuple[Record, ChaosRun]:
    """One run from start to end."""
    made = ChaosRun(folder, killer, seed, **options)
    try:
        return made.run(rounds), made
    finally:
        made.node.close()


@dataclass(slots=True)
class Comparison:
    """An undisturbed run and one with kills."""

    undisturbed: Record
    disturbed: Record
    killer: Killer
    statistics: object

    def checks(self) -> dict[str, bool]:
        """What must hold."""
        calm, wild, killer = self.undisturbed, self.disturbed, self.killer
        return {
            f"{len(calm.hashes)} state hashes equal": wild.hashes == calm.hashes,
            f"{len(calm.outcomes)} outcomes of messages equal": wild.outcomes == calm.outcomes,
            f"all {wild.asked} queries answered": len(wild.queries) == wild.asked == calm.asked,
            "answers of queries equal": wild.queries == calm.queries,
            f"at least {killer.wanted} kills, those at work not counted": (
                killer.total - killer.killed["running"] >= killer.wanted
            ),
            "kills at every point": all(killer.killed[point] for point in POINTS),
        }


def compare(wanted: int, seed: int, rounds: int, **options: Any) -> Comparison:
    """Execute the same batches without and with kills."""
    with helpers() as folder:
        calm = Killer(random.Random(seed), 0)
        undisturbed, _ = execute(folder, calm, seed=seed, rounds=rounds)
        killer = Killer(random.Random(seed + 1), wanted)
        killer.aim(calm.passed)
        disturbed, made = execute(folder, killer, seed=seed, rounds=rounds, **options)
        return Comparison(undisturbed, disturbed, killer, made.node.controller.statistics())


def main(wanted: int = 200, seed: int = 1) -> int:
    """Print the table; 1 if anything differs."""
    began = time.monotonic()
    # Every replaced sandbox is a warning, and here there are hundreds.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    result = compare(wanted, seed, ROUNDS)
    killer, checks = result.killer, result.checks()
    print(f"{'fault point':18}{'passed':>8}{'killed':>8}")
    for point in POINTS:
        print(f"{point:18}{killer.passed[point]:8}{killer.killed[point]:8}")
    print(f"{'in all':18}{sum(killer.passed.values()):8}{killer.total:8}")
    for text, holds in checks.items():
        print(f"{'ok    ' if holds else 'FAILED'}  {text}")
    print(f"seed {seed}, {time.monotonic() - began:.1f} s, {result.statistics}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
