"""Canisters of a topology file: their modules, service files, init arguments and controllers.

Plumbing: reads modules and service files.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.argument import Argument, CallPlace, Names, numbered
from configs.keys import SETTINGS
from configs.toml_table import Source, Table
from configs.topology import ANONYMOUS_NAME, CanisterSettings, CanisterSpec, SubnetSpec
from configs.wasm_info import WasmInfo, read_info
from ic_types.candid.did import DidFile, load_did, parse_did, with_init_args
from ic_types.errors import CandidError, ConfigError, InvalidPrincipal, InvalidWasm
from ic_types.principal import MANAGEMENT_CANISTER, Principal

EXAMPLES = Path(__file__).parent.parent / "examples" / "canisters"


class CanisterReader:
    """Reads the canister tables; modules that several canisters share are read once."""

    def __init__(
        self,
        source: Source,
        subnets: Sequence[SubnetSpec],
        identities: Sequence[str],
        groups: Mapping[str, tuple[str, ...]],
    ) -> None:
        self.source = source
        self.subnets = {s.name: s for s in subnets}
        self.identities = identities
        self.names: list[str] = []
        """Of all canisters, copies counted."""
        self.sizes = {f"identity:{name}": len(members) for name, members in groups.items()}
        """Sizes of groups, as placeholders name them."""
        self._modules: dict[Path, WasmInfo] = {}
        self._known: dict[str, None] = {}
        self._services: dict[tuple[Path, str], DidFile | None] = {}

    def declare(self, part: Table) -> None:
        """Note a table's names, so that canisters may refer to later ones."""
        name = part.text("name")
        if name in self.identities or name == ANONYMOUS_NAME:
            part.fail("name", f"{name!r} is also the name of an identity; one name can't mean both")
        copies = copy_names(part)
        if both := [copy for copy in copies if copy in self._known]:
            part.fail("name", f"the canister name {both[0]!r} is taken by a copy of another canister")
        if len(self.names) + len(copies) > 1 << 20:
            part.fail("count", f"more than {1 << 20} canisters in one network")
        self.names += copies
        self._known |= dict.fromkeys(copies)
        if part.has("count"):
            self.sizes[f"canister:{name}"] = len(copies)

    def read(self, part: Table) -> list[CanisterSpec]:
        """The canisters of one table: one, or its copies."""
        subnet = part.text("subnet")
        if subnet not in self.subnets:
            part.fail("subnet", f"there is no subnet {subnet!r}; {_listed(subnet, list(self.subnets))}")
        wasm, info = self._module(part)
        did = self._service(part, wasm, info)
        init = self._init(part, did)
        default = self.subnets[subnet].limits.default_provisional_cycles
        controllers = self._controllers(part)
        settings = self._settings(part)
        cycles = part.number("cycles", default)
        return [
            CanisterSpec(
                name=name,
                copy=number,
                group=part.text("name"),
                wasm=wasm,
                info=info,
                subnet=subnet,
                init=init,
                did=did,
                cycles=cycles,
                controllers=controllers,
                settings=settings,
            )
            for number, name in enumerate(copy_names(part))
        ]

    def _module(self, part: Table) -> tuple[Path, WasmInfo]:
        name = part.text("wasm")
        path = self._find(part, name)
        info = self._modules.get(path)
        if info is None:
            try:
                info = self._modules[path] = read_info(path.read_bytes())
            except OSError as error:
                part.fail("wasm", f"{path} can't be read: {error}")
            except InvalidWasm as error:
                part.fail("wasm", f"{path} is not a Wasm module: {error}")
        return path, info

    def _find(self, part: Table, name: str) -> Path:
        bare = "/" not in name and "\\" not in name
        places = [self.source.base / name]
        if bare:
            file = name if name.endswith((".wasm", ".wasm.gz")) else f"{name}.wasm"
            places += [self.source.base / file, EXAMPLES / file]
        for place in places:
            if place.is_file():
                return place.resolve()
        known = sorted(p.stem for p in EXAMPLES.glob("*.wasm"))
        hint = f", nor an example; {_listed(name.removesuffix('.wasm'), known)}" if bare else ""
        part.fail("wasm", f"there is no file {places[0]}{hint}")

    def _service(self, part: Table, wasm: Path, info: WasmInfo) -> DidFile | None:
        given = part.text("candid")
        key = (wasm, given)
        if key not in self._services:
            try:
                self._services[key] = self._load_service(given, wasm, info)
            except CandidError as error:
                part.fail("candid" if given else "wasm", f"its service file is wrong: {error}")
        return self._services[key]

    def _load_service(self, given: str, wasm: Path, info: WasmInfo) -> DidFile | None:
        if given:
            return load_did(self.source.base / given)
        stem = wasm.name.split(".")[0]
        for place in (wasm.parent / f"{stem}.did", wasm.parent / stem / f"{stem}.did"):
            if place.is_file():
                return load_did(place)
        if info.candid is None:
            return None
        did = parse_did(info.candid, f"service file in {wasm.name}")
        if info.candid_args is None:
            return did
        return with_init_args(did, info.candid_args, f"init arguments in {wasm.name}")

    def _init(self, part: Table, did: DidFile | None) -> Argument:
        if part.has("init_hex"):
            if part.has("init"):
                part.fail("init_hex", "init is given too; an install has one argument")
            return Argument(raw=part.octets("init_hex"))
        text = numbered(part.text("init", "()"), self.sizes)
        argument = Argument(text=text, types=did.init if did is not None else None)
        if part.has("init") or argument.types:
            self.check_argument(part, "init", argument, CallPlace())
            return argument
        return Argument(raw=b"") if argument.types is None else argument

    def check_argument(self, part: Table, key: str, argument: Argument, place: CallPlace) -> None:
        """Encode an argument with stand-ins for principals, so that mistakes show before anything starts."""
        canisters, identities = self._known, self.identities

        def canister(name: str) -> Principal:
            if name in canisters:
                return MANAGEMENT_CANISTER
            raise KeyError(f"there is no canister {name!r}; {_listed(name, list(canisters))}")

        def identity(name: str) -> Principal:
            if name in identities or name == ANONYMOUS_NAME:
                return MANAGEMENT_CANISTER
            raise KeyError(f"there is no identity {name!r}; {_listed(name, identities)}")

        names = Names(canister, identity)
        try:
            argument.encode(names, place)
        except ConfigError as error:
            part.fail(key, str(error))
        except CandidError as error:
            filled = argument.expand(names, place)
            part.fail(key, str(error) + (f"; with placeholders filled in it is {filled}" if filled != argument.text else ""))

    def _controllers(self, part: Table) -> tuple[Principal | str, ...]:
        given = part.texts("controllers")
        if given is None:
            return (self.identities[0],)
        limit = 10
        if len(given) > limit:
            part.fail("controllers", f"{len(given)} controllers; at most {limit} are allowed")
        found: list[Principal | str] = []
        for name in given:
            if name in self.identities or name in self._known or name == ANONYMOUS_NAME:
                found.append(name)
                continue
            try:
                found.append(Principal.from_text(name))
            except InvalidPrincipal:
                known = _listed(name, [*self.identities, *self.names])
                part.fail("controllers", f"{name!r} is no identity, canister or principal; {known}")
        return tuple(found)

    def _settings(self, part: Table) -> CanisterSettings:
        table = part.table("settings", SETTINGS)
        if table is None:
            return CanisterSettings()
        numbers = {key.name: table.number(key.name) for key in SETTINGS if table.has(key.name) and not key.choices}
        visibility = table.text("log_visibility") if table.has("log_visibility") else None
        return CanisterSettings(log_visibility=visibility, **numbers)


def copy_names(part: Table) -> list[str]:
    """The names of a table's canisters: its own, or NAME-0, NAME-1, ... when it says how many."""
    name = part.text("name")
    return [f"{name}-{n}" for n in range(part.number("count"))] if part.has("count") else [name]


def _listed(name: str, known: Sequence[str]) -> str:
    """What may have been meant, or what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(known) > 12:
        return f"there are {len(known)}: {known[0]}, {known[1]}, ... {known[-1]}"
    return f"there are: {', '.join(known) or 'none'}"
