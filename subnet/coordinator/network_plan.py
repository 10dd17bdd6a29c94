"""What a run consists of, resolved: no paths, no Candid text, no defaults left open.

Rule module. Made once from a topology; recorded in the journal's genesis record, so that a run directory can be replayed
and continued without the files that it was made from.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types import wire
from ic_types.outcall_rule import OutcallRule
from ic_types.principal import CanisterId, Principal


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetPlan:
    """A subnet to be."""

    name: str
    subnet_type: str
    nodes: int
    limits: SubnetLimits
    fees: CyclesCostSchedule
    chain_keys: tuple[str, ...] = ()
    """Texts of the keys that it signs with."""
    held_chain_keys: tuple[str, ...] = ()
    """Further keys, of which it gives public keys only."""
    admins: tuple[Principal, ...] = ()


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class CanisterPlan:
    """A canister that is created and installed before the workload begins."""

    name: str
    canister_id: CanisterId
    subnet: int
    """Place of the subnet in topology order."""
    installer: str
    """Name of the identity that creates and installs it."""
    create_arg: bytes
    """Of provisional_create_canister_with_cycles."""
    wasm: bytes
    """SHA-256 of the module; its bytes are in NetworkPlan.wasms."""
    init_arg: bytes
    controllers_after: tuple[Principal, ...] | None = None
    """Set after the install, when the installer is to be none of them."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """A network to be; subnets and canisters in topology order."""

    name: str
    profile: str
    seed: int
    identity_seed: int
    genesis_time_ns: int
    block_interval_ns: int
    rehash_rounds: int = 100
    identities: tuple[str, ...]
    subnets: tuple[SubnetPlan, ...]
    root: str
    canisters: tuple[CanisterPlan, ...] = ()
    wasms: dict[bytes, bytes]
    outcalls: tuple[OutcallRule, ...] = ()
    """How HTTPS outcalls are answered; the first rule that fits."""
    topology_digest: str = ""
    """Of the topology it was made from, workload included."""

    def virtual_time_at(self, height: int) -> int:
        """Batch time of a height in virtual time."""
        return self.genesis_time_ns + height * self.block_interval_ns

    def seed_bytes(self) -> bytes:
        """What enters the genesis randomness."""
        return self.seed.to_bytes(8, "big")
