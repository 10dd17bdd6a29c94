"""A network of real processes for scenarios, whose sandboxes and nodes are killed at random while they play."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from typing import Any

import icsim
from ic_types.candid import encoder
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from subnet.management import candid_types
from tests.scenarios.stage import NAMES, Ended

TOPOLOGY: dict[str, Any] = {
    "profile": "minimal",
    "identities": ["alice"],
    "limits": {
        "instructions_per_slice": 1_000_000,
        "instructions_per_install_slice": 200_000_000,
        "instructions_per_round": 220_000_000,
        "install_code_rate_limit": 10**15,
    },
    "subnet": [
        {"name": "nns", "type": "system", "nodes": 1},
        {"name": "one", "type": "application", "nodes": 4},
        {"name": "two", "type": "application", "nodes": 4},
    ],
}
HOMES = {"a": "one", "b": "two", "c": "one"}
NODES = ("one/2", "two/3", "one/4", "two/1")


class Live:
    """Satisfies `stage.Network`."""

    def __init__(self, start: Callable[..., icsim.Network], seed: int = 1) -> None:
        self.net = start(TOPOLOGY, check_invariants=True)
        self.dice = random.Random(seed)
        self.killed: list[str] = []
        self.ids: dict[str, Principal] = {}
        made = {name: self.net.create_canister(HOMES[name]) for name in NAMES}
        self.ids = {name: one.id for name, one in made.items()}
        owners = [self.net.identities["alice"], *self.ids.values()]
        for canister_id in self.ids.values():
            value = {"canister_id": canister_id, "settings": {"controllers": owners}}
            arg = encoder.encode([candid_types.UPDATE_SETTINGS], [value])
            self.net.raw_call(MANAGEMENT_CANISTER, "update_settings", arg)

    def send(self, canister_id: Principal, method: str, arg: bytes, about: Principal) -> bytes:
        """Submit it; it arrives with the next round."""
        caller = self.net.caller
        return caller.submit(caller.identity(None), canister_id, method, arg, about if about != canister_id else None)

    def ended(self, message_id: bytes) -> Ended | None:
        """As the coordinator knows it."""
        found = self.net.request(message_id)
        if found.status not in ("replied", "rejected", "expired"):
            return None
        return Ended(
            found.reply if found.status == "replied" else None, found.reject_code, found.error_code, found.reject_message
        )

    def round(self, seconds: int = 1) -> None:
        """A round; every fourth time a sandbox dies before it."""
        if self.dice.random() < 0.25:
            self.kill_a_sandbox()
        self.net.tick(seconds)

    def kill_a_sandbox(self) -> None:
        """Any of any node."""
        found = sorted((title, pid) for title, pid in self.net.processes().items() if title.startswith("sandbox "))
        if found:
            title, pid = self.dice.choice(found)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed.append(title)

    def kill_a_node(self) -> None:
        """One of four; it comes back and catches up."""
        node = self.dice.choice(NODES)
        self.net.kill_node(node)
        self.killed.append(f"node {node}")
