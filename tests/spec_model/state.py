"""The model's state, in the words of the specification: canisters, call contexts, calls and what users learned."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ic_types.principal import Principal
from tests.spec_model.script import Script


class Disallowed(AssertionError):
    """The implementation did something that the specification doesn't allow in this state."""


@dataclass(frozen=True)
class Answer:
    """What a call ends with: a reply, or a reject with its code, error code and a part of its text."""

    reply: bytes | None = None
    code: int = 0
    error: str = ""
    text: str = ""

    def __str__(self) -> str:
        return f"reply {self.reply!r}" if self.reply is not None else f"reject {self.code} {self.error} {self.text!r}"


@dataclass
class Memory:
    """The heap of the universal canister, as far as it matters; what a trap or an upgrade undoes."""

    remembered: bytes = b""
    timer: Script = ()
    heartbeat: Script = ()
    pre_upgrade: Script = ()
    slots: dict[int, Script] = field(default_factory=dict)
    """Programs of callbacks."""

    def copy(self) -> Memory:
        """Another one with the same content."""
        return replace(self, slots=dict(self.slots))

    def keep(self, script: Script) -> int:
        """Keep a program in the first free slot."""
        slot = next(k for k in range(len(self.slots) + 1) if k not in self.slots)
        self.slots[slot] = script
        return slot


@dataclass(eq=False)
class UserCall:
    """A call by a user."""

    message_id: bytes
    sender: Principal
    answer: Answer | None = None


@dataclass(frozen=True)
class Task:
    """A heartbeat or timer: nobody waits for an answer."""

    name: str


@dataclass(eq=False)
class Call:
    """A call by a canister, from call_perform until its callback has run."""

    caller: Principal
    number: int
    callee: Principal
    method: str
    argument: bytes
    cycles: int
    deadline_s: int
    context: Context
    on_reply: tuple[int, int]
    """Slots of the reply and reject callbacks."""
    on_cleanup: int | None
    made: int
    """Time of the message that made it."""
    about: Principal | None = None
    """Of management calls: the canister."""
    state: str = "sent"
    """sent, open (the callee's call context is), answered, or expired (the caller has been told so)."""
    answer: Answer | None = None
    refund: int = 0
    refusals: list[Answer] = field(default_factory=list)
    """What the system may have answered instead of delivering it."""
    owed: int = 0
    """Cycles that come back after the call expired."""
    credited: bool = False
    """They have come back, perhaps before the caller's callback learned that the call expired."""

    def expired(self, now: int) -> bool:
        """Whether the caller needn't wait any more."""
        return bool(self.deadline_s) and self.deadline_s * 10**9 < now

    def __str__(self) -> str:
        return f"call {self.number} of {self.caller} to {self.callee} {self.method}"


Origin: TypeAlias = UserCall | Call | Task


@dataclass(eq=False)
class Context:
    """A call context."""

    origin: Origin
    cycles: int
    responded: bool = False
    deleted: bool = False
    outstanding: int = 0


@dataclass(eq=False)
class Stop:
    """A stop_canister call that waits."""

    origin: UserCall | Call
    cycles: int
    since: int


@dataclass(eq=False)
class Canister:
    """A canister."""

    canister_id: Principal
    subnet: str
    controllers: tuple[Principal, ...]
    balance: int
    module: str | None = None
    """Name of the example that is installed; None while empty."""
    status: str = "running"
    stops: list[Stop] = field(default_factory=list)
    version: int = 0
    timer: int = 0
    memory: Memory = field(default_factory=Memory)
    contexts: list[Context] = field(default_factory=list)
    """Those that wait for responses."""
    calls: dict[int, Call] = field(default_factory=dict)
    """Whose callbacks haven't run."""
    next_call: int = 1
    installed_at: int = -1
    """Time of the last install, failed ones included."""
    owed: list[Call] = field(default_factory=list)
    """Expired calls that may still bring cycles back."""

    @property
    def has_heartbeat(self) -> bool:
        """Whether the module exports one."""
        return self.module == "universal_heartbeat"
