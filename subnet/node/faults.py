"""Faults that a run asks a node to make: damage in its own committed memory.

Rule module. `flip:NODE,CANISTER,PAGE,BYTE@HEIGHT` flips a bit of one byte of a canister's heap before the batch of that
height is executed, behind the back of the page digests, and ends the canister's sandboxes so that the next message sees it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ic_types.errors import ConfigError
from ic_types.principal import CanisterId, Principal
from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES

if TYPE_CHECKING:
    from subnet.node.replica import Replica
    from subnet.protocol import NodeConfig

log = structlog.get_logger("node")
_PAGES_EACH = WASM_PAGE_BYTES // OS_PAGE_BYTES
_FORM = re.compile(r"flip:([^,@]+),([^,@]+),(\d+),(\d+)@(\d+)")


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One flip."""

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


def parse_faults(config: NodeConfig) -> list[FaultPlan]:
    """The plans of this node.

    Raises: ConfigError when a plan has another form.
    """
    return [parse_fault(text) for text in config.faults]


def parse_fault(text: str) -> FaultPlan:
    """One plan, `flip:app-1/2,rrkah-...-cai,2,0@17`.

    Raises: ConfigError when it has another form.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ConfigError(f"fault {text!r}: expected flip:NODE,CANISTER,PAGE,BYTE@HEIGHT")
    _, canister, page, byte, height = match.groups()
    if int(byte) >= OS_PAGE_BYTES:
        raise ConfigError(f"fault {text!r}: a page has bytes 0 to {OS_PAGE_BYTES - 1}")
    return FaultPlan(Principal.from_text(canister), int(page), int(byte), int(height))
