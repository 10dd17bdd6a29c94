"""Scripts that canisters run in the model and, compiled for the universal canister, in the implementation.

A script is a tuple of acts. Canisters are named by their places in the test's list of canisters; `Places` knows their ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ic_types.candid import encoder
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from subnet.lab import universal as u
from subnet.lab.universal import Program
from subnet.management import candid_types

Script: TypeAlias = "tuple[Act, ...]"


@dataclass(frozen=True)
class Accept:
    """Accept up to so many of the attached cycles."""

    cycles: int


@dataclass(frozen=True)
class Burn:
    """Burn up to so many cycles of the own balance."""

    cycles: int


@dataclass(frozen=True)
class Remember:
    """Keep these bytes in the heap."""

    data: bytes


@dataclass(frozen=True)
class Reply:
    """Reply with these bytes."""

    data: bytes


@dataclass(frozen=True)
class ReplyMemory:
    """Reply with the bytes remembered last."""


@dataclass(frozen=True)
class Reject:
    """Reject the call."""

    text: str


@dataclass(frozen=True)
class Trap:
    """Trap with this text."""

    text: str


@dataclass(frozen=True)
class SetTimer:
    """Set the global timer so many nanoseconds after now; 0 switches it off."""

    delay_ns: int


@dataclass(frozen=True)
class OnTimer:
    """What the global timer runs from now on."""

    script: Script


@dataclass(frozen=True)
class OnHeartbeat:
    """What the heartbeat runs from now on, in modules that have one."""

    script: Script


@dataclass(frozen=True)
class OnPreUpgrade:
    """What pre_upgrade runs from now on."""

    script: Script


@dataclass(frozen=True)
class CallCanister:
    """Call a method of a canister; without scripts the callbacks do nothing."""

    place: int
    method: str
    script: Script
    cycles: int
    timeout_s: int | None
    on_reply: Script
    on_reject: Script
    on_cleanup: Script | None


@dataclass(frozen=True)
class Manage:
    """Call the management canister about a canister."""

    place: int
    method: str
    cycles: int
    timeout_s: int | None
    on_reply: Script
    on_reject: Script


Act: TypeAlias = (
    Accept
    | Burn
    | Remember
    | Reply
    | ReplyMemory
    | Reject
    | Trap
    | SetTimer
    | OnTimer
    | OnHeartbeat
    | OnPreUpgrade
    | CallCanister
    | Manage
)


class Places:
    """Canister ids by place; a place beyond the list names nobody."""

    def __init__(self, nobody: Principal) -> None:
        self.ids: list[Principal] = []
        self.nobody = nobody

    def __getitem__(self, place: int) -> Principal:
        return self.ids[place] if place < len(self.ids) else self.nobody


def compiled(script: Script, places: Places) -> Program:
    """The program of the universal canister that does the same."""
    program = Program()
    for act in script:
        program = _add(program, act, places)
    return program


def _add(program: Program, act: Act, places: Places) -> Program:
    match act:
        case Accept(cycles):
            return program.drop(u.cycles_accept(cycles))
        case Burn(cycles):
            return program.drop(u.cycles_burn(cycles))
        case Remember(data):
            return program.set_global(data)
        case Reply(data):
            return program.reply(data)
        case ReplyMemory():
            return program.reply(u.get_global())
        case Reject(text):
            return program.reject(text)
        case Trap(text):
            return program.trap(text)
        case SetTimer(delay):
            return program.drop(u.set_timer(u.time() + delay if delay else 0))
        case OnTimer(script):
            return program.on_timer(compiled(script, places))
        case OnHeartbeat(script):
            return program.on_heartbeat(compiled(script, places))
        case OnPreUpgrade(script):
            return program.on_pre_upgrade(compiled(script, places))
        case CallCanister() | Manage():
            return program.call(
                callee_of(act, places),
                act.method,
                argument_of(act, places),
                cycles=act.cycles,
                timeout_s=act.timeout_s,
                on_reply=compiled(act.on_reply, places),
                on_reject=compiled(act.on_reject, places),
                on_cleanup=cleanup_of(act, places),
            )


def callee_of(act: CallCanister | Manage, places: Places) -> Principal:
    """Whom the act calls."""
    return places[act.place] if isinstance(act, CallCanister) else MANAGEMENT_CANISTER


def argument_of(act: CallCanister | Manage, places: Places) -> bytes:
    """The argument of the call."""
    if isinstance(act, CallCanister):
        return bytes(compiled(act.script, places))
    return canister_argument(places[act.place])


def canister_argument(canister_id: Principal) -> bytes:
    """The Candid record that most management methods take."""
    return encoder.encode([candid_types.CANISTER_ID], [{"canister_id": canister_id}])


def cleanup_of(act: CallCanister | Manage, places: Places) -> Program | None:
    """The program of the cleanup callback, if there is one."""
    if isinstance(act, CallCanister) and act.on_cleanup is not None:
        return compiled(act.on_cleanup, places)
    return None
