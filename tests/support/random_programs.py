"""Random programs for universal canisters: calls, traps, memory, cycles and timers in any mixture, from a seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.lab.universal import (
    Program,
    canister_version,
    cycles_accept,
    cycles_balance,
    cycles_burn,
    get_global,
    memory_grow,
    performance_counter,
    set_timer,
    stable_grow,
    time,
)
from tests.support.lone_node import SECOND
from tests.support.spec_node import NOBODY

MAX_DEPTH = 3
STATEMENTS: tuple[Callable[[Random, Program], Program], ...] = (
    lambda r, p: p.set_global(get_global().concat(bytes([r.randrange(256)]))),
    lambda r, p: p.set_global(cycles_balance()),
    lambda r, p: p.set_page_byte(r.randrange(64), r.randrange(256)),
    lambda r, p: p.drop(stable_grow(1)),
    lambda r, p: p.stable_write(r.randrange(70_000), bytes([r.randrange(256)]) * r.randrange(1, 3000)),
    lambda r, p: p.drop(memory_grow(1)),
    lambda r, p: p.burn_loop(r.choice([10, 10, 1000, 200_000, 900_000, 5_000_000])),
    lambda r, p: p.certified_data(bytes([r.randrange(256)])),
    lambda r, p: p.drop(set_timer(time() + r.randrange(5) * SECOND)),
    lambda r, p: p.drop(cycles_accept(r.randrange(10**6))),
    lambda r, p: p.drop(cycles_burn(r.randrange(10**6))),
    lambda r, p: p.print(b"line " * r.randrange(5)),
    lambda r, p: p.trap(b"at random") if r.random() < 0.3 else p,
    lambda r, p: p.unreachable() if r.random() < 0.3 else p,
)
ANSWERS = (b"ok", get_global(), cycles_balance(), performance_counter(1).to_blob(), canister_version().to_blob())


def random_program(r: Random, peers: list[CanisterId], depth: int = 0) -> Program:
    """A few statements, calls among them, and perhaps an answer."""
    program = Program()
    for _ in range(r.randrange(1, 5)):
        kind = r.randrange(20)
        if kind < len(STATEMENTS):
            program = STATEMENTS[kind](r, program)
        elif kind == len(STATEMENTS):
            program = program.on_timer(random_program(r, peers, depth + 1) if depth < MAX_DEPTH - 1 else Program())
        elif depth < MAX_DEPTH:
            program = random_call(r, program, peers, depth)
    if r.random() < 0.6:
        return program.reply(r.choice(ANSWERS))
    return program.reject(b"no") if r.random() < 0.3 else program


def random_call(r: Random, program: Program, peers: list[CanisterId], depth: int) -> Program:
    """One more call: of a peer, of nobody, or for random bytes."""

    def maybe(chance: float, deeper: int) -> Program | None:
        return random_program(r, peers, deeper) if r.random() < chance else None

    callee, method = r.choice([*peers, NOBODY]), r.choice(["update", "update", "query", "missing"])
    arg = bytes(random_program(r, peers, depth + 1))
    if r.random() < 0.15:
        callee, method, arg = MANAGEMENT_CANISTER, "raw_rand", b"DIDL\0\0"
    return program.call(
        bytes(callee),
        method,
        arg,
        cycles=r.randrange(10**6) if r.random() < 0.5 else 0,
        timeout_s=r.randrange(1, 4) if r.random() < 0.3 else None,
        on_cleanup=maybe(0.5, MAX_DEPTH),
        on_reply=maybe(0.7, depth + 1),
        on_reject=maybe(0.7, depth + 1),
        if_not_performed=Program(),
    )
