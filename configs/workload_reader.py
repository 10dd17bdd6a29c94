"""Workload phases of a topology file.

Rule module.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from configs.argument import Argument, CallPlace, numbered
from configs.canister_reader import CanisterReader
from configs.keys import INVARIANT, WORKLOAD
from configs.toml_table import Table
from configs.topology import ANONYMOUS_NAME, CanisterSpec, InvariantSpec, WorkloadPhase
from ic_types.candid.types import Record, Type, resolve
from ic_types.errors import CandidError

_EACH = "each"


def read_workload(
    topology: Table,
    reader: CanisterReader,
    groups: Mapping[str, tuple[str, ...]],
    canisters: Sequence[CanisterSpec],
    seed: int,
) -> tuple[tuple[WorkloadPhase, ...], tuple[InvariantSpec, ...]]:
    """The phases in order, and the invariants to check at the end.

    Raises: ConfigError naming the phase and key.
    """
    workload = _WorkloadReader(reader, groups, canisters, seed)
    tables = topology.tables("workload", WORKLOAD)
    names = [part.text("name", f"phase-{number}") for number, part in enumerate(tables)]
    phases = tuple(workload.phase(part, names, number) for number, part in enumerate(tables))
    return phases, tuple(workload.invariant(part) for part in topology.tables("invariant", INVARIANT))


class _WorkloadReader:
    def __init__(
        self, reader: CanisterReader, groups: Mapping[str, tuple[str, ...]], canisters: Sequence[CanisterSpec], seed: int
    ) -> None:
        identities = reader.identities
        self.reader = reader
        self.callers: dict[str, tuple[str, ...]] = {name: (name,) for name in identities}
        self.callers |= groups
        self.callers |= {_EACH: tuple(identities), ANONYMOUS_NAME: (ANONYMOUS_NAME,)}
        self.first = identities[0]
        self.canisters = {c.name: c for c in canisters}
        self.targets: dict[str, tuple[str, ...]] = {}
        for canister in canisters:
            self.targets[canister.group] = (*self.targets.get(canister.group, ()), canister.name)
        self.targets |= {name: (name,) for name in self.canisters}
        self.seed = seed

    def phase(self, part: Table, names: Sequence[str], number: int) -> WorkloadPhase:
        """One phase."""
        name = names[number]
        if name in names[:number]:
            part.fail("name", f"the name {name!r} is taken by an earlier phase")
        callers = self._several(part, "caller", self.callers, (self.first,), "identity")
        canisters = self._several(part, "canister", self.targets, (), "canister")
        method = part.text("method")
        kind = part.text("kind", "update")
        argument = self._argument(part, name, method, kind, callers, canisters)
        return WorkloadPhase(
            name=name,
            callers=callers,
            canisters=canisters,
            method=method,
            argument=argument,
            kind=kind,
            expect=part.text("expect", "reply"),
            calls_per_round=part.number("calls_per_round", 1),
            rounds=part.number("rounds", 1),
            start_round=part.number("start_round"),
            after=self._after(part, names, number),
        )

    def invariant(self, part: Table) -> InvariantSpec:
        """One invariant; its method must be a query whose result is a record with the fields."""
        canisters = self._several(part, "canister", self.targets, (), "canister")
        method = part.text("method")
        name = part.text("name")
        fields = part.texts("equal") or ()
        if len(fields) < 2:
            part.fail("equal", f"{len(fields)} fields; an equation needs two or more")
        argument = self._argument(part, name, method, "query", (self.first,), canisters)
        for canister in canisters:
            self._check_fields(part, self.canisters[canister], method, fields)
        return InvariantSpec(name=name, canisters=canisters, method=method, argument=argument, equal=fields)

    def _check_fields(self, part: Table, canister: CanisterSpec, method: str, fields: tuple[str, ...]) -> None:
        if canister.did is None:
            part.fail("canister", f"canister {canister.name!r} has no service file, so the fields of its answers aren't known")
        results = canister.did.method(method).results
        answer = resolve(results[0]) if results else None
        known = [f.key for f in answer.fields] if isinstance(answer, Record) else []
        for field in fields:
            if field not in known:
                part.fail("equal", f"the answer of {method!r} has no field {field!r}; it has: {', '.join(known) or 'none'}")

    def _several(
        self, part: Table, key: str, known: Mapping[str, tuple[str, ...]], default: tuple[str, ...], what: str
    ) -> tuple[str, ...]:
        given = part.texts(key)
        if given is None:
            return default
        if not given:
            part.fail(key, "the list is empty; name at least one")
        found: list[str] = []
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, list(known), n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(list(known)[:12]) or 'none'}"
                part.fail(key, f"there is no {what} {name!r}; {hint}")
            found += known[name]
        return tuple(found)

    def _argument(
        self, part: Table, phase: str, method: str, kind: str, callers: tuple[str, ...], canisters: tuple[str, ...]
    ) -> Argument:
        types: tuple[Type, ...] | None = None
        seen: set[str] = set()
        for name in canisters:
            canister = self.canisters[name]
            if canister.group not in seen:
                seen.add(canister.group)
                types = self._method_types(part, canister, method, kind)
        if part.has("arg_hex"):
            if part.has("arg"):
                part.fail("arg_hex", "arg is given too; a call has one argument")
            return Argument(raw=part.octets("arg_hex"))
        argument = Argument(text=numbered(part.text("arg", "()"), self.reader.sizes), types=types)
        place = CallPlace(phase=phase, seed=self.seed, caller=callers[0], target=canisters[0])
        self.reader.check_argument(part, "arg", argument, place)
        return argument

    def _method_types(self, part: Table, canister: CanisterSpec, method: str, kind: str) -> tuple[Type, ...] | None:
        """The method's argument types, None when no service file tells them; the module must export it."""
        exported = canister.info.methods.get(method)
        if exported is None:
            public = [m for m in canister.info.methods if not m.startswith(("__", "@"))]
            close = difflib.get_close_matches(method, public, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it exports: {', '.join(public) or 'none'}"
            part.fail("method", f"canister {canister.name!r} has no method {method!r}; {hint}")
        if kind == "query" and exported == "update":
            part.fail("kind", f"{method!r} of canister {canister.name!r} is an update method; it can't be queried")
        if kind == "update" and exported == "composite_query":
            part.fail("kind", f"{method!r} of canister {canister.name!r} is a composite query; it can only be queried")
        try:
            return canister.argument(method, "").types
        except CandidError:
            return None

    def _after(self, part: Table, names: Sequence[str], number: int) -> str | None:
        if not part.has("after"):
            return None
        name = part.text("after")
        if name not in names[:number]:
            part.fail("after", f"there is no earlier phase {name!r}; there are: {', '.join(names[:number]) or 'none'}")
        return name
