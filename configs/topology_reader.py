"""From the tables of a topology file to its records, with every check that needs no running network.

Rule module, but for the module and service files it reads through `canister_reader`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from configs.canister_reader import CanisterReader
from configs.fees import CyclesCostSchedule
from configs.keys import CANISTER, IDENTITIES, SUBNET, TOPOLOGY
from configs.limits import SubnetType
from configs.outcall_reader import read_outcalls
from configs.profiles import ProfileType, changed, load_profile
from configs.toml_table import Source, Table, shown
from configs.topology import (
    ANONYMOUS_NAME,
    DEFAULT_CHAIN_KEYS,
    DEFAULT_GENESIS_NS,
    CanisterSpec,
    SubnetSpec,
    Topology,
    chain_key_texts,
)
from configs.workload_reader import read_workload
from ic_types.errors import InvalidPrincipal
from ic_types.principal import Principal

DEFAULT_IDENTITY = "user"
_DEFAULT_PROFILE = "mainnet"


class TopologyReader:
    """Reads one document."""

    def __init__(self, source: Source, default_name: str) -> None:
        self.source = source
        self.table = Table(source, (), source.data, TOPOLOGY)
        self.default_name = default_name
        self.groups: dict[str, tuple[str, ...]] = {}
        """Names that stand for several identities."""

    def read(self) -> Topology:
        """The records.

        Raises: ConfigError, CandidError or InvalidWasm, always naming the file and the key.
        """
        table = self.table
        profile = table.text("profile", _DEFAULT_PROFILE)
        identities = self._identities()
        subnets = self._subnets(load_profile(profile), identities)
        reader = CanisterReader(self.source, subnets, identities, self.groups)
        canisters = self._canisters(subnets, reader)
        seed = table.number("seed")
        workload, invariants = read_workload(table, reader, self.groups, canisters, seed)
        return Topology(
            name=table.text("name", self.default_name),
            profile=profile,
            seed=seed,
            identity_seed=table.number("identity_seed"),
            genesis_time_ns=table.time_ns("genesis_time", DEFAULT_GENESIS_NS),
            block_interval_ns=table.number("block_interval_ms", 1000) * 1_000_000,
            rehash_rounds=table.number("rehash_rounds", 100),
            subnets=subnets,
            identities=identities,
            canisters=canisters,
            workload=workload,
            invariants=invariants,
            outcalls=read_outcalls(table, self.source),
        )

    # --- subnets

    def _subnets(self, profile: dict[SubnetType, ProfileType], identities: tuple[str, ...]) -> tuple[SubnetSpec, ...]:
        tables = self.table.tables("subnet", SUBNET)
        if not tables:
            self.table.fail("subnet", "there is no subnet; a network needs at least a system subnet")
        self._unique(tables)
        root = self._root(tables)
        subnets = [self._subnet(part, profile, number == root, identities) for number, part in enumerate(tables)]
        if not any(part.has("chain_keys") or part.has("held_chain_keys") for part in tables):
            signer = next((number for number in range(len(subnets)) if number != root), root)
            subnets[signer] = replace(subnets[signer], chain_keys=chain_key_texts(DEFAULT_CHAIN_KEYS))
        return tuple(subnets)

    def _root(self, tables: Sequence[Table]) -> int:
        """Which subnet is the root: the one that says so, otherwise the first system subnet."""
        marked = [number for number, part in enumerate(tables) if part.flag("root")]
        systems = [n for n, part in enumerate(tables) if part.text("type") == SubnetType.SYSTEM.value]
        if len(marked) > 1:
            first = tables[marked[0]].text("name")
            tables[marked[1]].fail("root", f"two subnets are marked as root, {first!r} is the other; exactly one can be")
        if marked and marked[0] not in systems:
            tables[marked[0]].fail("root", "the root is a system subnet; this one is of another type")
        if not systems:
            self.table.fail("subnet", 'there is no root: at least one subnet must have type = "system"')
        return (marked or systems)[0]

    def _subnet(
        self, part: Table, profile: dict[SubnetType, ProfileType], is_root: bool, identities: tuple[str, ...]
    ) -> SubnetSpec:
        kind = SubnetType(part.text("type"))
        numbers = changed(changed(profile[kind], self.table), part)
        nodes = part.number("nodes")
        given = {
            field: part.number(key)
            for key, field in (("cores", "scheduler_cores"), ("checkpoint_interval", "checkpoint_interval"))
            if part.has(key)
        }
        limits = replace(numbers.limits, **given)
        slice_limit = max(limits.instructions_per_slice, limits.instructions_per_install_slice)
        if limits.instructions_per_round < slice_limit:
            part.fail(
                "limits",
                f"instructions_per_round is {limits.instructions_per_round}, less than the larger slice {slice_limit}; "
                "a round must hold one slice",
            )
        for name in ("instructions_per_slice", "instructions_per_install_slice", "scheduler_cores", "checkpoint_interval"):
            if not getattr(limits, name):
                part.fail("limits", f"{name} is 0; it must be at least 1")
        admins = self._admins(part, identities)
        fees = CyclesCostSchedule.free() if admins else numbers.fees
        return SubnetSpec(
            name=part.text("name"),
            kind=kind,
            is_root=is_root,
            nodes=nodes,
            limits=limits,
            fees=replace(fees, subnet_size=part.number("fee_nodes", nodes)),
            admins=admins,
            chain_keys=self._chain_keys(part, "chain_keys"),
            held_chain_keys=self._chain_keys(part, "held_chain_keys"),
        )

    def _chain_keys(self, part: Table, name: str) -> tuple[str, ...]:
        try:
            return chain_key_texts(part.texts(name) or ())
        except ValueError as error:
            part.fail(name, f"{error}, or are a NAME alone, for all of them")

    def _admins(self, part: Table, identities: tuple[str, ...]) -> tuple[Principal | str, ...]:
        found: list[Principal | str] = []
        for name in part.texts("admins") or ():
            try:
                found.append(name if name in identities else Principal.from_text(name))
            except InvalidPrincipal:
                known = ", ".join(identities)
                part.fail("admins", f"{name!r} is neither an identity nor a principal; identities are {known}")
        return tuple(found)

    def _unique(self, tables: Sequence[Table]) -> None:
        seen: dict[str, Table] = {}
        for part in tables:
            name = part.text("name")
            if name in seen:
                other = self.source.lines.get((*seen[name].place, "name"))
                part.fail("name", f"the name {name!r} is taken" + (f", see line {other}" if other else ""))
            seen[name] = part

    # --- identities

    def _identities(self) -> tuple[str, ...]:
        value = self.table.data.get("identities")
        if value is None:
            return (DEFAULT_IDENTITY,)
        if isinstance(value, list):
            found = self.table.texts("identities") or ()
        elif isinstance(value, dict):
            part = Table(self.source, ("identities",), value, IDENTITIES)
            prefix = part.text("prefix", DEFAULT_IDENTITY)
            numbered = tuple(f"{prefix}-{n}" for n in range(part.number("count")))
            found = (*(part.texts("names") or ()), *numbered)
            if numbered:
                self.groups[prefix] = numbered
        else:
            self.table.fail("identities", f"expected a list of names or a table, found {shown(value)}")
        self._check_identities(found)
        return found

    def _check_identities(self, found: tuple[str, ...]) -> None:
        def fail(problem: str) -> NoReturn:
            self.table.fail("identities", problem)

        if not found:
            fail("the list is empty; leave it out for one identity named user")
        seen: set[str] = set()
        for name in found:
            if name == ANONYMOUS_NAME or name == "each":
                fail(f"{name!r} has a meaning of its own; choose another name")
            if not name or len(name) > 40 or not name.replace("-", "").replace("_", "").isalnum():
                fail(f"{name!r} is no name; names have letters, digits, - and _, at most 40")
            if name in seen or name in self.groups:
                fail(f"the name {name!r} stands twice")
            seen.add(name)

    # --- canisters

    def _canisters(self, subnets: tuple[SubnetSpec, ...], reader: CanisterReader) -> tuple[CanisterSpec, ...]:
        tables = self.table.tables("canister", CANISTER)
        self._unique(tables)
        for part in tables:
            reader.declare(part)
        per_subnet = dict.fromkeys([s.name for s in subnets], 0)
        found: list[CanisterSpec] = []
        for part in tables:
            copies = reader.read(part)
            found += copies
            home = next(s for s in subnets if s.name == copies[0].subnet)
            per_subnet[home.name] += len(copies)
            if per_subnet[home.name] > home.limits.canister_ids_per_subnet:
                part.fail(
                    "count" if part.has("count") else "name",
                    f"{per_subnet[home.name]} canisters on subnet {home.name}; allowed are "
                    f"{home.limits.canister_ids_per_subnet} (canister_ids_per_subnet)",
                )
        return tuple(found)
