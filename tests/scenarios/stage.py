"""Where scenarios are played: three universal canisters `a`, `b` and `c`, near one another or far apart, and what users learn.

Each network (in this process or of real processes) is a Stage; what it records must not depend on which one it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ic_types.candid import encoder
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from subnet.lab.universal import Program
from subnet.management import candid_types
from subnet.management.methods import METHODS
from tests.support.lone_node import example

NAMES = ("a", "b", "c")
MOST_ROUNDS = 150


@dataclass(frozen=True)
class Ended:
    """How a user's call ended."""

    reply: bytes | None
    code: int = 0
    error: str = ""
    text: str = ""


class Network(Protocol):
    """What a stage needs of a network."""

    ids: dict[str, Principal]

    def send(self, canister_id: Principal, method: str, arg: bytes, about: Principal) -> bytes:
        """Submit a user's call, for the next round; `about`: on whose subnet. Returns its message id."""

    def round(self, seconds: int = 1) -> None:
        """Make a round so many seconds after the last one (or more rounds that take as long)."""

    def ended(self, message_id: bytes) -> Ended | None:
        """How a call ended; None while it is open."""


@dataclass
class Stage:
    """A network during one scenario."""

    network: Network
    notes: list[tuple[str, Any]] = field(default_factory=list)

    def id(self, name: str) -> Principal:
        """The canister's id."""
        return self.network.ids[name]

    # --- calls

    def send(self, name: str, program: Program, method: str = "update") -> bytes:
        """A user calls a canister in the next round."""
        return self.network.send(self.id(name), method, bytes(program), self.id(name))

    def manage(self, method: str, name: str, **more: Any) -> bytes:
        """A user manages a canister in the next round."""
        kind = METHODS[method].argument
        assert kind is not None
        arg = encoder.encode([kind], [{"canister_id": self.id(name), **more}])
        return self.network.send(MANAGEMENT_CANISTER, method, arg, self.id(name))

    def install(self, name: str, mode: str = "install", arg: Program | None = None, module: str = "universal") -> bytes:
        """A user installs code in the next round."""
        more = {"mode": {mode: None}, "wasm_module": example(module), "arg": bytes(arg or Program())}
        return self.manage("install_code", name, **more)

    def rounds(self, count: int = 1, seconds: int = 1) -> None:
        """Let time pass."""
        for _ in range(count):
            self.network.round(seconds)

    def wait(self, message_id: bytes) -> Ended:
        """Make rounds until a call has ended."""
        for _ in range(MOST_ROUNDS):
            found = self.network.ended(message_id)
            if found is not None:
                return found
            self.network.round()
        raise AssertionError(f"no answer within {MOST_ROUNDS} rounds")

    def is_open(self, message_id: bytes) -> bool:
        """Whether a call hasn't ended."""
        return self.network.ended(message_id) is None

    def ask(self, name: str, program: Program, method: str = "update") -> Ended:
        """Call and wait."""
        return self.wait(self.send(name, program, method))

    def do(self, method: str, name: str, **more: Any) -> Ended:
        """Manage and wait."""
        return self.wait(self.manage(method, name, **more))

    # --- notes

    def note(self, what: str, value: Any) -> None:
        """Record something that must be the same everywhere; ids of canisters become names."""
        if isinstance(value, Ended):
            text = value.text
            for name in NAMES:
                text = text.replace(self.id(name).to_text(), name)
            text = text.splitlines()[0] if text else ""
            value = ("reply", value.reply) if value.reply is not None else ("reject", value.code, value.error, text)
        self.notes.append((what, value))

    # --- before the next scenario

    def reset(self) -> None:
        """Empty, running canisters with fresh universal code."""
        started = [self.manage("start_canister", name) for name in NAMES]
        emptied = [self.manage("uninstall_code", name) for name in NAMES]
        self.wait_all([*started, *emptied])
        self.rounds(8)  # what is still on its way arrives
        self.wait_all([self.install(name) for name in NAMES])

    def wait_all(self, message_ids: Iterable[bytes]) -> None:
        """All of these must succeed."""
        for message_id in message_ids:
            found = self.wait(message_id)
            assert found.reply is not None, found


def canister_argument(canister_id: Principal) -> bytes:
    """The Candid record that most management methods take."""
    return encoder.encode([candid_types.CANISTER_ID], [{"canister_id": canister_id}])


def played(stage: Stage, play: Callable[[Stage], None]) -> list[tuple[str, Any]]:
    """Play a scenario on fresh canisters; its notes."""
    stage.reset()
    play(stage)
    return stage.notes
