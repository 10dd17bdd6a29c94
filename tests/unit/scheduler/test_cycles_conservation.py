"""Cycles are neither made nor destroyed, whatever random calls, traps, slices and uninstalls do; nothing depends on timing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.messages import Request
from ic_types.principal import Principal
from ic_types.reject import Reply
from scheduler.charging import uninstall
from scheduler.core import Core
from scheduler.effects import Effect, EffectResult
from scheduler.invariants import broken
from scheduler.round import Parallel, Round, RoundSummary, drive
from tests.support.fake_executor import (
    FakeExecutor,
    FakeWorld,
    Op,
    accept,
    burn,
    call,
    dirty,
    log,
    reject_with,
    reply,
    set_timer,
    trap,
    work,
)

FEES = CyclesCostSchedule()
LIMITS = SubnetLimits(
    instructions_per_round=199,
    instructions_per_slice=100,
    instructions_per_install_slice=100,
    instructions_per_message=1000,
    instructions_per_query=1000,
    instruction_overhead_per_execution=3,
    instruction_overhead_per_canister=5,
    instruction_overhead_per_canister_finalization=0,
    dirty_page_overhead=10,
    max_paused_executions=2,
    queue_capacity=5,
    callback_quota=4,
    callback_soft_limit=30,
)
FAR = Principal.canister(10**6 + 7)


def random_script(rng: random.Random, peers: list[Principal], depth: int = 0) -> list[Op]:
    """A few operations; calls nest up to four deep."""
    script: list[Op] = [work(rng.choice([1, 10, 90, 150, 400]) if rng.random() < 0.7 else 2)]
    for _ in range(rng.randrange(3) if depth < 4 else 0):
        inner: Any = lambda: random_script(rng, peers, depth + 1)  # noqa: E731
        script.append(
            call(
                rng.choice(peers),
                inner(),
                cycles=rng.choice([0, 5, 10**6, 10**14]),
                on_reply=inner(),
                on_reject=inner(),
                on_cleanup=rng.choice([None, inner()]),
                method=rng.choice(["update", "update", "update", "query", "composite", "absent"]),
                timeout_s=rng.choice([None, None, 10]),
            )
        )
    extras = [accept(10**5), accept(10**15), burn(777), burn(10**18), dirty(2, 1), log(b"x"), set_timer(5), work(1500)]
    script += rng.sample(extras, rng.randrange(3))
    script += rng.choice([[reply(b"r" * rng.randrange(300))], [reply()], [reject_with()], [trap()], []])
    return script


def build(seed: int, batch_size: int = 1) -> tuple[FakeWorld, random.Random]:
    """Six canisters, two of them short of cycles, one with tasks, one 64-bit."""
    rng = random.Random(seed)
    world = FakeWorld(fees=FEES, limits=LIMITS, batch_size=batch_size)
    balances = [10**15, 10**15, 10**15, 10**12, 2 * 10**7, 10**15]
    for index, balance in enumerate(balances):
        tasks = ["heartbeat", "global_timer"] if index == 1 else []
        canister = world.add_canister(balance, wasm64=index == 2, entry_points=tasks, compute_allocation=index)
        canister.settings.freezing_threshold_s = index * 1000
    return world, rng


def load(world: FakeWorld, rng: random.Random) -> None:
    """Some ingress messages and a request from elsewhere."""
    peers = [*world.canisters, FAR]
    for _ in range(rng.randrange(5)):
        canister = world.canisters[rng.choice(sorted(world.canisters))]
        world.ingress(
            canister, random_script(rng, peers), method=rng.choice(["update", "update", "query", "absent", "composite"])
        )
    if rng.random() < 0.5:
        canister = world.canisters[rng.choice(sorted(world.canisters))]
        world.request(
            canister,
            random_script(rng, peers),
            cycles=rng.choice([0, 10**9]),
            sender=Principal.canister(10**6 + rng.randrange(9**5)),
        )


def answer_remote(world: FakeWorld, rng: random.Random) -> None:
    """Canisters elsewhere answer, keeping some of the cycles."""
    for message in list(world.remote):
        if isinstance(message, Request) and rng.random() < 0.5:
            world.answer(message, Reply(b"far"), kept=rng.randrange(message.payment + 1))


def everything(world: FakeWorld) -> list[object]:
    """What has to be equal between runs."""
    return [
        [
            (c.balance, c.version, c.next_context_id, c.next_callback_id, c.contexts, c.metrics, c.global_timer, list(c.logs))
            for c in world.canisters.values()
        ],
        [world.scheduler.priority.priority(c) for c in world.canisters.values()],
        world.tally,
        world.user_responses,
        [(m.callback_id, in_order(m)) for m in world.remote],
    ]


def in_order(message: object) -> object:
    """The comparable part of a message."""
    return (message.receiver, message.payment) if isinstance(message, Request) else message


Driver = Callable[[Round, FakeExecutor], RoundSummary]


def run(seed: int, driver: Driver = drive, batch_size: int = 1, rounds: int = 12) -> FakeWorld:
    """A run with load, answers from elsewhere, checkpoints and an uninstall; cycles and invariants checked every round."""
    world, rng = build(seed, batch_size)
    start = world.all_cycles()
    for number in range(rounds):
        load(world, rng)
        answer_remote(world, rng)
        world.is_checkpoint = number % 5 == 4
        world.run_round(driver)
        victim = world.canisters[rng.choice(sorted(world.canisters))]
        if number == 8 and (victim.long_execution is None or not victim.long_execution.paused):
            world.scheduler.charges.settle(world, victim)
            uninstall(world, victim)
        assert world.all_cycles() == start
        for canister in world.canisters.values():
            assert not list(broken(canister))
    return world


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_cycles_are_conserved(seed: int) -> None:
    """Burned + lost + held = what there was, after every round, whatever the canisters do."""
    world = run(seed)
    assert set(world.tally.lost) <= set()


def interleaved(seed: int) -> Driver:
    """A driver that carries out the cores' effects in a random interleaving."""
    rng = random.Random(seed)

    def driver(rounds: Round, execute: FakeExecutor) -> RoundSummary:
        result: Any = None
        while True:
            try:
                step = rounds.send(result)
            except StopIteration as stop:
                return cast("RoundSummary", stop.value)
            result = side_by_side(step, execute, rng) if isinstance(step, Parallel) else execute(step)

    return driver


def side_by_side(step: Parallel, execute: FakeExecutor, rng: random.Random) -> list[Core]:
    """All cores at once, in random order of their answers."""
    done: dict[int, Core] = {}
    waiting: dict[int, Any] = dict.fromkeys(range(len(step.cores)))
    while waiting:
        at = rng.choice(sorted(waiting))
        try:
            effect = step.cores[at].send(waiting.pop(at))
        except StopIteration as stop:
            done[at] = stop.value
        else:
            waiting[at] = execute(effect)
    return [done[k] for k in sorted(done)]


@given(st.integers(0, 2**32), st.integers(0, 2**32))
@settings(deadline=None, max_examples=10)
def test_interleaving_of_cores_does_not_show(seed: int, order: int) -> None:
    """Cores driven one after the other or in any mixture give the same state."""
    assert everything(run(seed)) == everything(run(seed, interleaved(order)))


@given(st.integers(0, 2**32), st.sampled_from([2, 7, 100]))
@settings(deadline=None, max_examples=10)
def test_batch_size_does_not_show(seed: int, batch_size: int) -> None:
    """Looking ahead changes nothing."""
    assert everything(run(seed)) == everything(run(seed, batch_size=batch_size))


def test_predictions_come_true() -> None:
    """The inputs offered to run ahead are those that run next, while nothing interferes."""
    world = FakeWorld(batch_size=4)
    canister = world.add_canister()
    for number in range(10):
        world.ingress(canister, [work(number + 1), reply()])
    offered = []

    class Watching(FakeExecutor):
        """Keeps what was offered."""

        def __call__(self, effect: Effect) -> EffectResult:
            offered.append(effect.upcoming)  # type: ignore[union-attr]
            return super().__call__(effect)

    world.executor = Watching(world.fees, world.limits)
    world.run_round()
    inputs = world.executor.inputs
    assert [len(upcoming) for upcoming in offered] == [3, 2, 1, 3, 2, 1, 3, 2, 1, 0]
    for at, upcoming in enumerate(offered):
        assert list(upcoming) == inputs[at + 1 : at + 1 + len(upcoming)]


def test_small_limits_are_reached() -> None:
    """The random runs do meet long, aborted and failing messages, refusals and uninstalls."""
    seen: set[str] = set()
    for seed in range(12):
        world = run(seed)
        seen |= {f"burned {cause.value}" for cause in world.tally.burned}
        seen |= {str(getattr(r.outcome, "error_code", "reply")) for r in world.user_responses}
        seen |= {"aborted"} if world.executor.aborted else set()
    assert {"aborted", "burned uninstall", "reply", "207", "503", "522", "506", "406", "536", "527"} <= seen
