"""The network that a run is about: typed, frozen, complete; nothing in it needs a look at the file again.

Rule module. Not in the spec: the file format (docs/topology.md) is ours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from configs.argument import Argument
from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits, SubnetType
from configs.wasm_info import WasmInfo
from ic_types.candid.did import DidFile
from ic_types.chain_keys.key_id import KeyId, KeyKind
from ic_types.outcall_rule import OutcallRule
from ic_types.principal import Principal

ANONYMOUS_NAME = "anonymous"
"""The caller without a key; a name that no identity may have."""
DEFAULT_GENESIS_NS = 1_735_689_600_000_000_000
"""2025-01-01T00:00:00Z."""


DEFAULT_CHAIN_KEYS = ("key_1", "test_key_1", "dfx_test_key")
"""Names of the keys of a network whose topology names none: those of mainnet, and that of local networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetSpec:
    """A subnet."""

    name: str
    kind: SubnetType
    is_root: bool
    nodes: int
    limits: SubnetLimits
    """Profile, then the topology's changes, then the subnet's."""
    fees: CyclesCostSchedule
    chain_keys: tuple[str, ...] = ()
    """Keys that it signs with, in their text form."""
    held_chain_keys: tuple[str, ...] = ()
    """Further keys, of which it gives public keys only."""
    admins: tuple[Principal | str, ...] = ()
    """Subnet admins: principals, or names of identities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanisterSettings:
    """Settings that differ from the defaults; None where the default holds."""

    compute_allocation: int | None = None
    memory_allocation: int | None = None
    freezing_threshold: int | None = None
    reserved_cycles_limit: int | None = None
    wasm_memory_limit: int | None = None
    wasm_memory_threshold: int | None = None
    log_visibility: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanisterSpec:
    """A canister; copies (`count`) are canisters of their own here."""

    name: str
    copy: int = 0
    """Number among the copies; 0 when there is one."""
    group: str
    """Name in the file, shared by copies."""
    wasm: Path
    info: WasmInfo
    subnet: str
    init: Argument
    did: DidFile | None = None
    cycles: int
    controllers: tuple[Principal | str, ...]
    """Principals, or names of identities and canisters."""
    settings: CanisterSettings = CanisterSettings()

    def argument(self, method: str, text: str) -> Argument:
        """Candid text as an argument of a method, typed by the service file if there is one.

        Raises: CandidError when the service file has no such method.
        """
        types = None if self.did is None or self.did.service is None else self.did.method(method).args
        return Argument(text=text, types=types)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCall:
    """One call of a phase."""

    number: int
    round: int
    """Of the phase, from 0."""
    caller: str
    canister: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPhase:
    """Who calls what, how often, with which argument, for how many rounds."""

    name: str
    callers: tuple[str, ...]
    canisters: tuple[str, ...]
    method: str
    argument: Argument
    kind: str = "update"
    expect: str = "reply"
    calls_per_round: int = 1
    rounds: int = 1
    start_round: int = 0
    """Rounds to wait, counted from the end of the installs or of the phase `after`."""
    after: str | None = None

    @property
    def calls(self) -> int:
        """Calls in all."""
        return self.calls_per_round * self.rounds

    def call(self, number: int) -> PhaseCall:
        """Who makes the call with this number, and to whom.

        Callers and canisters take turns. Where their numbers have a common divisor, the canisters move on by one after each
        common period, so that every caller comes to every canister.
        """
        who, what = len(self.callers), len(self.canisters)
        moved = number // math.lcm(who, what) if math.gcd(who, what) > 1 else 0
        return PhaseCall(
            number=number,
            round=number // self.calls_per_round,
            caller=self.callers[number % who],
            canister=self.canisters[(number + moved) % what],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InvariantSpec:
    """What must hold at the end: fields of a query's answer that are equal, at each of the canisters."""

    name: str
    canisters: tuple[str, ...]
    method: str
    argument: Argument
    equal: tuple[str, ...]
    """Names of fields of the record that the method answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A network and its workload."""

    name: str
    profile: str
    seed: int
    identity_seed: int
    genesis_time_ns: int
    block_interval_ns: int
    rehash_rounds: int
    subnets: tuple[SubnetSpec, ...]
    identities: tuple[str, ...]
    canisters: tuple[CanisterSpec, ...]
    workload: tuple[WorkloadPhase, ...]
    invariants: tuple[InvariantSpec, ...] = ()
    outcalls: tuple[OutcallRule, ...] = ()

    @property
    def root(self) -> SubnetSpec:
        """The root subnet."""
        return next(s for s in self.subnets if s.is_root)

    def subnet(self, name: str) -> SubnetSpec:
        """A subnet by name. Raises: KeyError."""
        return _named(self.subnets, name)

    def canister(self, name: str) -> CanisterSpec:
        """A canister by name. Raises: KeyError."""
        return _named(self.canisters, name)


_T = TypeVar("_T", SubnetSpec, CanisterSpec)


def _named(items: tuple[_T, ...], name: str) -> _T:
    for item in items:
        if item.name == name:
            return item
    raise KeyError(name)


def chain_key_texts(names: Iterable[str]) -> tuple[str, ...]:
    """Text forms of chain keys, without repetitions; a bare name stands for the keys of all algorithms.

    Raises: ValueError when one is no key.
    """
    found: dict[str, None] = {}
    for name in names:
        keys = [KeyId.parse(name)] if ":" in name else [KeyId(kind, name) for kind in KeyKind]
        if not keys[0].name:
            KeyId.parse(name)
        found |= {str(key): None for key in keys}
    return tuple(found)


def key_seed(identity_seed: int, purpose: str) -> bytes:
    """32 bytes from which one key derives (Ed25519 of an identity, BLS of a subnet); `identity_seed` alone decides."""
    return hashlib.sha256(f"icsim key|{identity_seed}|{purpose}".encode()).digest()
