"""Random work for two subnets: calls in calls with cycles, traps, timers, slices; users stop, upgrade and delete canisters.

`python -m tests.support.random_load SEED ROUNDS [OPTION=NUMBER ...]` runs it and prints the state hashes of every round.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from configs.limits import SubnetLimits
from ic_types.candid import encoder
from ic_types.messages import Ingress
from ic_types.principal import CanisterId, Principal
from subnet.lab import universal as u
from subnet.lab.universal import Program
from subnet.management import candid_types
from subnet.protocol import RoundResult
from tests.support.lone_node import example
from tests.support.lone_world import LoneWorld, lone_world

LIMITS = replace(
    SubnetLimits(),
    instructions_per_slice=1_000_000,
    instructions_per_install_slice=100_000_000,
    instructions_per_round=103_000_000,
    instructions_per_message=400_000_000,
    queue_capacity=6,
)
NAMES = ("left", "right")
NOBODY = Principal.canister(77)


@dataclass
class RandomLoad:
    """Random messages for the canisters of two subnets."""

    world: LoneWorld
    dice: random.Random
    canisters: dict[CanisterId, str] = field(default_factory=dict)
    """Subnet of each."""

    def populate(self) -> None:
        """Rich canisters and poor ones."""
        for name in NAMES:
            for cycles in (10**15, 10**15, 10**15, 4 * 10**12):
                self.canisters[self.world.install(name, example("universal"), cycles)] = name

    def any(self) -> CanisterId:
        """One of them."""
        return self.dice.choice(list(self.canisters))

    def messages(self) -> dict[str, list[Ingress]]:
        """A round's."""
        made: dict[str, list[Ingress]] = {name: [] for name in NAMES}
        for _ in range(self.dice.randrange(9)):
            receiver = self.any()
            name = self.canisters[receiver]
            made[name].append(self.world[name].ingress(receiver, "update", bytes(self.program())))
        for _ in range(self.dice.randrange(3)):
            name = self.dice.choice(NAMES)
            made[name].append(self.managed(name))
        return made

    def managed(self, name: str) -> Ingress:
        """A user's call to the management canister: stops, starts, settings, upgrades, new canisters, top-ups."""
        world, dice = self.world, self.dice
        canister = dice.choice([one for one, where in self.canisters.items() if where == name])
        one = {"canister_id": canister}
        wasm = example("universal")
        init = Program().drop(u.cycles_burn(dice.randrange(1000)))
        if dice.random() < 0.3:
            init = init.trap("no install")
        choices: list[Callable[[], Ingress]] = [
            *2 * [lambda: world.manage(name, "stop_canister", candid_types.CANISTER_ID, one)],
            lambda: world.manage(name, "delete_canister", candid_types.CANISTER_ID, one),
            lambda: world.manage(name, "uninstall_code", candid_types.UNINSTALL_CODE, one),
            lambda: world.manage(
                name,
                "update_settings",
                candid_types.UPDATE_SETTINGS,
                one
                | {
                    "settings": {
                        "freezing_threshold": dice.choice((0, 10**5, 10**9)),
                        "compute_allocation": dice.choice((0, 5)),
                    }
                },
            ),
            *3 * [lambda: world.manage(name, "start_canister", candid_types.CANISTER_ID, one)],
            lambda: world.manage(
                name,
                "install_code",
                candid_types.INSTALL_CODE,
                one
                | {"mode": {dice.choice(("install", "upgrade", "reinstall")): None}, "wasm_module": wasm, "arg": bytes(init)},
            ),
            lambda: world.manage(
                name,
                "provisional_create_canister_with_cycles",
                candid_types.PROVISIONAL_CREATE,
                {"amount": dice.randrange(10**13)},
            ),
            lambda: world.manage(
                name, "provisional_top_up_canister", candid_types.PROVISIONAL_TOP_UP, one | {"amount": dice.randrange(10**12)}
            ),
        ]
        return dice.choice(choices)()

    def program(self, depth: int = 0) -> Program:
        """Calls in calls with cycles; their callees accept, refuse, trap, compute for long, or aren't there."""
        dice = self.dice
        choices = [
            lambda: Program().reply(u.cycles_accept(dice.randrange(2000))),
            lambda: Program().drop(u.cycles_accept(dice.randrange(2000))).reject("no, thank you"),
            lambda: Program().drop(u.cycles_accept(dice.randrange(2000))).trap("after accepting"),
            lambda: Program().drop(u.cycles_burn(dice.randrange(10**6))).reply(),
            lambda: Program().drop(u.cycles_accept(500)),
            lambda: Program().drop(u.cycles_accept(900)).burn_loop(dice.randrange(1_000_000)).reply(),
            lambda: Program().drop(u.set_timer(u.time() + 1)).on_timer(self.calls(2)).reply(),
            lambda: Program().drop(u.memory_grow(dice.randrange(3))).drop(u.stable_grow(1)).reply(),
        ]
        if depth < 3:
            choices += 8 * [lambda: self.calls(depth)]
        return dice.choice(choices)()

    def calls(self, depth: int) -> Program:
        """One or several calls."""
        dice, program = self.dice, Program()
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            callee, method, arg = self.any(), "update", bytes(self.program(depth + 1))
            if dice.random() < 0.1:
                callee = NOBODY
            elif dice.random() < 0.1:
                method = "no such method"
            elif dice.random() < 0.2:
                callee, method, arg = self.management()
            then = dice.choice(
                (
                    None,
                    Program().drop(u.cycles_accept(dice.randrange(500))).reply(),
                    Program().drop(u.cycles_accept(300)).trap("in the callback"),
                    Program(),
                    self.program(depth + 1),
                )
            )
            program = program.call(
                callee,
                method,
                arg,
                cycles=dice.choice((0, dice.randrange(5000), dice.randrange(10**13))),
                on_reply=then,
                on_reject=dice.choice((None, then, Program().trap("when rejected"))),
                on_cleanup=dice.choice((None, None, Program().trap("in cleanup"), Program().set_global(b"clean"))),
                timeout_s=dice.choice((None, None, dice.randrange(1, 6))),
                if_not_performed=dice.choice((None, Program().reply(b"not performed"))),
            )
        if dice.random() < 0.15:
            program = program.trap("after calling")
        return program

    def management(self) -> tuple[Principal, str, bytes]:
        """A canister's call to the management canister."""
        one = {"canister_id": self.any()}
        method, kind, value = self.dice.choice(
            [
                ("deposit_cycles", candid_types.CANISTER_ID, one),
                ("create_canister", candid_types.CREATE_CANISTER, {}),
                ("raw_rand", None, None),
                ("canister_status", candid_types.CANISTER_ID, one),
                ("stop_canister", candid_types.CANISTER_ID, one),
            ]
        )
        arg = b"DIDL\0\0" if kind is None else encoder.encode([kind], [value])
        return Principal(b""), method, arg


def run(world: LoneWorld, seed: int, rounds: int) -> Iterator[dict[str, RoundResult]]:
    """Rounds with messages, then some in which what is open is worked off; slices are late at times, checkpoints frequent."""
    dice = random.Random(seed)
    load = RandomLoad(world, dice)
    load.populate()
    for number in range(rounds):
        carried = {name: dice.random() > 0.15 for name in NAMES}
        messages = load.messages() if number < rounds * 2 // 3 else None
        yield world.round(messages, carry=carried.__getitem__, checkpoint=number % 11 == 10)


def main(seed: int, rounds: int, *options: str) -> None:
    """Print the state hashes."""
    settings: dict[str, Any] = {name: int(value) for name, value in (option.split("=") for option in options)}
    if "reuse_instances" in settings:
        settings["reuse_instances"] = bool(settings["reuse_instances"])
    with lone_world(*NAMES, limits=LIMITS, **settings) as world:
        for results in run(world, seed, rounds):
            print(*[f"{name}:{result.state_hash.hex()}" for name, result in results.items()])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
