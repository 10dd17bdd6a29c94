"""From a checked topology to the plan of a run.

Plumbing: reads the modules. Canister ids are known before anything runs: the k-th canister of a subnet gets the k-th id of its
range.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import fields
from typing import Any

from configs.argument import Argument, CallPlace, Names
from configs.digest import digest
from configs.topology import CanisterSettings, CanisterSpec, Topology, WorkloadPhase
from ic_types.candid import types as candid_types
from ic_types.candid.encoder import encode
from ic_types.errors import BadInput, CandidError, ConfigError
from ic_types.principal import CanisterId, Principal
from subnet.coordinator.genesis import canister_range
from subnet.coordinator.network_plan import CanisterPlan, NetworkPlan, SubnetPlan
from subnet.identities import identity_named
from subnet.management.candid_types import PROVISIONAL_CREATE

_MAX_CONTROLLERS = 10
_RECORDS = (WorkloadPhase, Argument)


def canister_ids(topology: Topology) -> dict[str, CanisterId]:
    """Id of every canister by name."""
    ids: dict[str, CanisterId] = {}
    for place, subnet in enumerate(topology.subnets):
        first = canister_range(place, subnet.limits.canister_ids_per_subnet)[0].canister_index()
        assert first is not None, "ranges begin with canister ids"
        here = [canister.name for canister in topology.canisters if canister.subnet == subnet.name]
        ids |= {name: Principal.canister(first + number) for number, name in enumerate(here)}
    return ids


def topology_names(identity_seed: int, identities: tuple[str, ...], ids: dict[str, CanisterId]) -> Names:
    """How arguments find principals by name."""
    known = frozenset(identities)

    def identity(name: str) -> Principal:
        if name not in known and name != "anonymous":
            raise KeyError(f"there is no identity {name!r}")
        return identity_named(identity_seed, name).principal

    def canister(name: str) -> Principal:
        if name not in ids:
            raise KeyError(f"there is no canister {name!r}")
        return ids[name]

    return Names(canister=canister, identity=identity)


def read_plan(topology: Topology) -> NetworkPlan:
    """The plan of a topology.

    Raises: BadInput when a module can't be read any more or an argument can't be encoded.
    """
    ids = canister_ids(topology)
    names = topology_names(topology.identity_seed, topology.identities, ids)
    places = {subnet.name: place for place, subnet in enumerate(topology.subnets)}
    wasms: dict[bytes, bytes] = {}
    for canister in topology.canisters:
        if canister.info.sha256 not in wasms:
            try:
                wasms[canister.info.sha256] = canister.wasm.read_bytes()
            except OSError as error:
                raise BadInput(f"module {canister.wasm} of canister {canister.name} can't be read: {error.strerror}") from error
    return NetworkPlan(
        name=topology.name,
        profile=topology.profile,
        seed=topology.seed,
        identity_seed=topology.identity_seed,
        genesis_time_ns=topology.genesis_time_ns,
        block_interval_ns=topology.block_interval_ns,
        rehash_rounds=topology.rehash_rounds,
        identities=topology.identities,
        subnets=tuple(
            SubnetPlan(
                name=one.name,
                subnet_type=one.kind.value,
                nodes=one.nodes,
                limits=one.limits,
                fees=one.fees,
                chain_keys=one.chain_keys,
                held_chain_keys=one.held_chain_keys,
                admins=tuple(_principal(admin, frozenset(topology.identities), names) for admin in one.admins),
            )
            for one in topology.subnets
        ),
        root=topology.root.name,
        canisters=tuple(_canister(one, topology, ids, names, places[one.subnet]) for one in topology.canisters),
        wasms=wasms,
        outcalls=topology.outcalls,
        topology_digest=digest(topology),
    )


def _canister(canister: CanisterSpec, topology: Topology, ids: dict[str, CanisterId], names: Names, place: int) -> CanisterPlan:
    known = frozenset(topology.identities)
    installer = next((one for one in canister.controllers if isinstance(one, str) and one in known), topology.identities[0])
    wanted = tuple(_principal(one, known, names) for one in canister.controllers)
    mine = names.identity(installer)
    during = wanted if mine in wanted else (mine, *wanted[: _MAX_CONTROLLERS - 1])
    create = {
        "amount": canister.cycles,
        "settings": {"controllers": list(during), **_settings(canister.settings)},
        "specified_id": ids[canister.name],
    }
    try:
        return CanisterPlan(
            name=canister.name,
            canister_id=ids[canister.name],
            subnet=place,
            installer=installer,
            create_arg=encode([PROVISIONAL_CREATE], [create]),
            wasm=canister.info.sha256,
            init_arg=canister.init.encode(names, CallPlace(number=canister.copy, target=canister.name, seed=topology.seed)),
            controllers_after=None if during == wanted else wanted,
        )
    except (CandidError, ConfigError) as error:
        raise ConfigError(f"canister {canister.name}: {error}") from error


def _principal(controller: Principal | str, identities: frozenset[str], names: Names) -> Principal:
    if isinstance(controller, Principal):
        return controller
    return names.identity(controller) if controller in identities else names.canister(controller)


def _settings(settings: CanisterSettings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value is not None:
            found[field.name] = {value: None} if isinstance(value, str) else value
    return found


# --- the workload's phases, as bytes for the coordinator


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> str | None:
        return value.name if isinstance(value, candid_types.Prim) else None


class _Unpickler(pickle.Unpickler):
    """Makes records of ours and nothing else, so that a recorded run can't bring code."""

    def find_class(self, module: str, name: str) -> Any:
        for record in _RECORDS:
            if (module, name) == (record.__module__, record.__qualname__):
                return record
        found = getattr(candid_types, name, None) if module == candid_types.__name__ else None
        if not isinstance(found, type):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a workload")
        return found

    def persistent_load(self, name: Any) -> Any:
        found = next(
            (one for one in vars(candid_types).values() if isinstance(one, candid_types.Prim) and one.name == name), None
        )
        if found is None:
            raise pickle.UnpicklingError(f"{name} is no primitive type")
        return found


def encode_phases(phases: tuple[WorkloadPhase, ...]) -> bytes:
    """The phases for a CoordinatorConfig and the journal."""
    out = io.BytesIO()
    _Pickler(out, protocol=5).dump(phases)
    return out.getvalue()


def decode_phases(raw: bytes) -> tuple[WorkloadPhase, ...]:
    """The phases of `encode_phases`; none for no bytes.

    Raises: BadInput when they are malformed.
    """
    if not raw:
        return ()
    try:
        found = _Unpickler(io.BytesIO(raw)).load()
    except (pickle.UnpicklingError, ValueError, TypeError, EOFError, AttributeError, IndexError) as error:
        raise BadInput(f"the recorded workload is malformed: {error}") from error
    assert isinstance(found, tuple), "phases are a tuple"
    return found
