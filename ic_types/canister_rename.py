"""A canister that takes the id of a canister of another subnet, as batches tell subnets of it.

Rule module.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import wire
from ic_types.principal import CanisterId, Principal, SubnetId


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class CanisterRename:
    """A canister of subnet `host` takes the id of a canister of another subnet, which goes; all subnets route the id anew."""

    canister_id: CanisterId
    new_canister_id: CanisterId
    host: SubnetId
    version: int
    """Of the canister that had the new id."""
    total_num_changes: int
    """Of its history."""
    orchestrator: CanisterId
    orchestrator_version: int
    requested_by: Principal
