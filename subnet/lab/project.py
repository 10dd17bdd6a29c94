"""Project files (`icsim.toml`): the canisters of an application, and in which order they are deployed.

Plumbing: reads files. Every error names file, line and key. Not in the spec: the file's form is ours.
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.argument import Argument, CallPlace, Names
from configs.keys import CANISTER, SETTINGS, Form, Key
from configs.toml_table import Source, Table, read_source
from configs.wasm_info import WasmInfo, read_info
from ic_types.candid.did import DidFile, load_did, parse_did, with_init_args
from ic_types.errors import BadInput, CandidError, ConfigError, InvalidWasm
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from subnet.lab.canister_admin import DEFAULT_CYCLES
from subnet.lab.canister_names import check_name

FILE = "icsim.toml"
MEMORY = ".icsim"
"""Folder beside the project file in which ids are kept."""
_SHARED = {key.name: key for key in CANISTER}
_KEYS = (
    *(_SHARED[name] for name in ("name", "init", "init_hex", "candid", "cycles", "settings")),
    Key("wasm", Form.TEXT, "module: a path from this file", required=True),
    Key("subnet", Form.TEXT, "where it is made: name or id", default="the first application subnet"),
    Key("controllers", Form.TEXTS, "identities, canisters or principals", default="whoever deploys"),
    Key("depends", Form.TEXTS, "canisters that are installed before, besides those that init names"),
    Key("environment", Form.TABLE, "environment variables"),
)
_TOP = (Key("canister", Form.TABLES, "a canister"),)
_NAMED = re.compile(r"\{canister:([^{}\s]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectCanister:
    """A canister as the project wants it."""

    name: str
    wasm: Path
    info: WasmInfo
    did: DidFile | None
    init: Argument
    subnet: str | None
    cycles: int
    controllers: tuple[str, ...] | None
    """Names or principals; None: whoever deploys."""
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    depends: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project file."""

    path: Path
    canisters: tuple[ProjectCanister, ...]
    """Those that others depend on first."""

    def services(self) -> dict[str, DidFile]:
        """Service files by canister."""
        return {one.name: one.did for one in self.canisters if one.did is not None}

    def chosen(self, names: tuple[str, ...]) -> tuple[ProjectCanister, ...]:
        """These canisters, those they depend on and those that control them; all without names.

        Raises: BadInput when there is none of a name.
        """
        known = {one.name: one for one in self.canisters}
        wanted: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in known:
                raise BadInput(f"{self.path} has no canister {name!r}; it has: {', '.join(known) or 'none'}")
            if name not in wanted:
                wanted.add(name)
                todo += [one for one in (*known[name].depends, *(known[name].controllers or ())) if one in known]
        return tuple(one for one in self.canisters if not names or one.name in wanted)


def find_project(start: Path) -> Path | None:
    """The project file of a folder: in it or above it."""
    return next((folder / FILE for folder in (start, *start.parents) if (folder / FILE).is_file()), None)


def load_project(path: Path) -> Project:
    """Read a project file, the modules and service files that it names.

    Raises: ConfigError.
    """
    source = read_source(path)
    parts = Table(source, (), source.data, _TOP).tables("canister", _KEYS)
    names: list[str] = []
    for part in parts:
        names.append(_name(part, names))
    canisters = [_canister(source, part, names) for part in parts]
    return Project(path=path.resolve(), canisters=_ordered(source, canisters))


def _name(part: Table, taken: list[str]) -> str:
    name = part.text("name")
    if name in taken:
        part.fail("name", f"there are two canisters called {name!r}")
    try:
        check_name(name)
    except BadInput as error:
        part.fail("name", str(error))
    return name


def _canister(source: Source, part: Table, names: list[str]) -> ProjectCanister:
    name = part.text("name")
    wasm = source.base / part.text("wasm")
    info = _info(part, wasm)
    did = _service(source, part, wasm, info)
    init = _init(part, did, names)
    depends = dict.fromkeys((*(part.texts("depends") or ()), *_NAMED.findall(init.text)))
    if unknown := [one for one in depends if one not in names]:
        key = "depends" if unknown[0] in (part.texts("depends") or ()) else "init"
        part.fail(key, f"there is no canister {unknown[0]!r}; the project has: {', '.join(names)}")
    return ProjectCanister(
        name=name,
        wasm=wasm,
        info=info,
        did=did,
        init=init,
        subnet=part.text("subnet") if part.has("subnet") else None,
        cycles=part.number("cycles", DEFAULT_CYCLES),
        controllers=part.texts("controllers"),
        settings=_settings(part),
        environment=_environment(part),
        depends=tuple(depends),
    )


def _info(part: Table, wasm: Path) -> WasmInfo:
    try:
        return read_info(wasm.read_bytes())
    except OSError as error:
        part.fail("wasm", f"{wasm} can't be read: {error.strerror}; build the module first")
    except InvalidWasm as error:
        part.fail("wasm", f"{wasm} is not a Wasm module: {error}")


def _service(source: Source, part: Table, wasm: Path, info: WasmInfo) -> DidFile | None:
    given = part.text("candid")
    try:
        if given:
            return load_did(source.base / given)
        if info.candid is None:
            return None
        did = parse_did(info.candid, f"service file in {wasm.name}")
        return did if info.candid_args is None else with_init_args(did, info.candid_args, f"init arguments in {wasm.name}")
    except CandidError as error:
        part.fail("candid" if given else "wasm", f"its service file is wrong: {error}")


def _init(part: Table, did: DidFile | None, names: list[str]) -> Argument:
    if part.has("init_hex"):
        if part.has("init"):
            part.fail("init_hex", "init is given too; an install has one argument")
        return Argument(raw=part.octets("init_hex"))
    if did is None and not part.has("init"):
        return Argument(raw=b"", text="")
    argument = Argument(text=part.text("init", "()"), types=None if did is None else did.init)

    def stand_in(_: str) -> Principal:
        return MANAGEMENT_CANISTER

    try:
        argument.encode(Names(stand_in, stand_in), CallPlace())
    except (CandidError, ConfigError) as error:
        part.fail("init", str(error))
    return argument


def _settings(part: Table) -> dict[str, Any]:
    table = part.table("settings", SETTINGS)
    if table is None:
        return {}
    found: dict[str, Any] = {key.name: table.number(key.name) for key in SETTINGS if table.has(key.name) and not key.choices}
    if table.has("log_visibility"):
        found["log_visibility"] = {table.text("log_visibility"): None}
    return found


def _environment(part: Table) -> dict[str, str]:
    found = part.data.get("environment", {})
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        part.fail("environment", "expected a table of texts")
    return dict(found)


def _ordered(source: Source, canisters: list[ProjectCanister]) -> tuple[ProjectCanister, ...]:
    known = {one.name: one for one in canisters}
    sorter = graphlib.TopologicalSorter({one.name: [d for d in one.depends if d != one.name] for one in canisters})
    try:
        return tuple(known[name] for name in sorter.static_order())
    except graphlib.CycleError as error:
        source.fail(("canister",), f"canisters depend on one another in a circle: {' -> '.join(reversed(error.args[1]))}")
