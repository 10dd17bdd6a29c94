"""Faults that a run asks a node to make: damage in its own state, or its own end.

Rule module. `flip:NODE,CANISTER,PAGE,BYTE@HEIGHT` flips a bit of one byte of a canister's heap before the batch of that
height is executed, behind the back of the page digests, and ends the canister's sandboxes so that the next message sees it.
`forge:SUBNET,CANISTER,CYCLES@HEIGHT` adds cycles that nobody minted to a balance, on every node of the subnet alike.
`crash:NODE,STEP@HEIGHT` ends the node as by kill -9 when it passes a step (`subnet.management.steps`) for the first time
from that height on; a node that is started again isn't asked to.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from ic_types.errors import ConfigError
from ic_types.principal import CanisterId, Principal
from ic_types.trace import TraceEvent
from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES, Cycles
from subnet.management import steps

if TYPE_CHECKING:
    from subnet.node.replica import Replica
    from subnet.protocol import NodeConfig

log = structlog.get_logger("node")
_PAGES_EACH = WASM_PAGE_BYTES // OS_PAGE_BYTES
_FLIP = re.compile(r"flip:([^,@]+),([^,@]+),(\d+),(\d+)@(\d+)")
_CRASH = re.compile(r"crash:([^,@]+),([^,@]+)@(\d+)")
_FORGE = re.compile(r"forge:([^,@]+),([^,@]+),(\d+)@(\d+)")


class FaultPlan(Protocol):
    """One fault."""

    def strike(self, replica: Replica, height: int) -> None:
        """Do the damage if its time has come."""


@dataclass(frozen=True, slots=True)
class Flip:
    """Damage in one node's memory: its state differs from the others'."""

    canister_id: CanisterId
    page: int
    byte: int
    height: int

    def strike(self, replica: Replica, height: int) -> None:
        """Flip the byte if its time has come and the canister has such a page."""
        if height != self.height:
            return
        canister = replica.state.canisters.get(self.canister_id)
        pages = 0 if canister is None or canister.execution is None else canister.execution.heap.wasm_pages * _PAGES_EACH
        if canister is None or canister.execution is None or self.page >= pages:
            log.error("fault.missed", canister=str(self.canister_id), page=self.page, pages=pages, height=height)
            return
        canister.execution.heap.flip(self.page, self.byte)
        replica.driver.drop_sandboxes(canister.execution)
        log.warning("fault.flipped", canister=str(self.canister_id), page=self.page, byte=self.byte, height=height)


@dataclass(frozen=True, slots=True)
class Forge:
    """Cycles out of nothing: all nodes agree on a state that breaks an invariant."""

    canister_id: CanisterId
    cycles: int
    height: int

    def strike(self, replica: Replica, height: int) -> None:
        """Add the cycles if their time has come and the canister exists."""
        if height != self.height:
            return
        canister = replica.state.canisters.get(self.canister_id)
        if canister is None:
            log.error("fault.missed", canister=str(self.canister_id), height=height)
            return
        canister.balance = Cycles(canister.balance + self.cycles)
        replica.state.canisters.touch(self.canister_id)
        log.warning("fault.forged", canister=str(self.canister_id), cycles=self.cycles, height=height)


@dataclass(slots=True)
class Crash:
    """The end of this process at a step."""

    step: str
    height: int
    due: bool = False

    def strike(self, _replica: Replica, height: int) -> None:
        """From its height on it waits for the step."""
        self.due = height >= self.height

    def see(self, event: TraceEvent) -> None:
        """Something happened in this process."""
        if self.due and event.step == steps.EVENT and event.detail == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def parse_faults(config: NodeConfig) -> list[FaultPlan]:
    """The plans of this node.

    Raises: ConfigError when a plan has another form.
    """
    return [parse_fault(text) for text in config.faults]


def parse_fault(text: str) -> FaultPlan:
    """One plan, `flip:app-1/2,rrkah-...-cai,2,0@17`.

    Raises: ConfigError when it has another form.
    """
    forged = _FORGE.fullmatch(text)
    if forged is not None:
        return Forge(Principal.from_text(forged[2]), int(forged[3]), int(forged[4]))
    crash = _CRASH.fullmatch(text)
    if crash is not None:
        return Crash(crash[2], int(crash[3]))
    match = _FLIP.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"fault {text!r}: expected flip:NODE,CANISTER,PAGE,BYTE@HEIGHT, forge:SUBNET,CANISTER,CYCLES@HEIGHT or "
            f"crash:NODE,STEP@HEIGHT"
        )
    _, canister, page, byte, height = match.groups()
    if int(byte) >= OS_PAGE_BYTES:
        raise ConfigError(f"fault {text!r}: a page has bytes 0 to {OS_PAGE_BYTES - 1}")
    return Flip(Principal.from_text(canister), int(page), int(byte), int(height))
