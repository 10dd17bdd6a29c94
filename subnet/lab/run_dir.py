"""Run directories: where a run's files go, who uses them, and what later commands need to know of the run.

Plumbing. `run.json` holds what the journal doesn't: the topology's invariants and the canisters' service files. A directory in
use names its owner in the file `owner`, so that no two networks write to it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from configs.argument import CallPlace
from configs.topology import Topology
from ic_types.candid import types as t
from ic_types.candid.did import DidFile, parse_did
from ic_types.errors import BadInput
from subnet.control import default_home
from subnet.coordinator.journal import FILE_NAME as JOURNAL_FILE
from subnet.coordinator.plan_reader import canister_ids, topology_names
from subnet.process_tools import is_alive, owner_of, start_time
from subnet.zygote_protocol import OWNER_FILE

RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
_SCHEMA = 1


def home() -> Path:
    """Where caches, run directories and the list of running networks are: `.icsim` in the checkout, or $ICSIM_HOME."""
    named = os.environ.get("ICSIM_HOME")
    return Path(named).resolve() if named else default_home()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedInvariant:
    """An `[[invariant]]` of the topology, with its argument encoded."""

    name: str
    canisters: tuple[str, ...]
    method: str
    arg: str
    """Hexadecimal."""
    equal: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class RunFile:
    """What `run.json` holds."""

    topology: str = ""
    """The file it came from, for people."""
    digest: str = ""
    invariants: tuple[RecordedInvariant, ...] = ()
    services: tuple[str, ...] = ()
    """Texts of service files."""
    service_of: dict[str, int] = field(default_factory=dict)
    """Place in `services`, by canister name."""

    def service(self, canister: str) -> DidFile | None:
        """The service file of a canister of the topology."""
        place = self.service_of.get(canister)
        return None if place is None else parse_did(self.services[place], f"service file of {canister}")


def run_file(topology: Topology, origin: str) -> RunFile:
    """What is to be remembered of a topology."""
    names = topology_names(topology.identity_seed, topology.identities, canister_ids(topology))
    services: dict[int, tuple[int, str]] = {}
    service_of = {}
    for canister in topology.canisters:
        if canister.did is not None and canister.did.service is not None:
            place, _ = services.setdefault(id(canister.did), (len(services), service_text(canister.did)))
            service_of[canister.name] = place
    return RunFile(
        topology=origin,
        digest=_digest(topology),
        invariants=tuple(
            RecordedInvariant(
                name=one.name,
                canisters=one.canisters,
                method=one.method,
                arg=one.argument.encode(names, CallPlace(seed=topology.seed)).hex(),
                equal=one.equal,
            )
            for one in topology.invariants
        ),
        services=tuple(text for _, text in services.values()),
        service_of=service_of,
    )


def _digest(topology: Topology) -> str:
    from configs.digest import digest

    return digest(topology)


def service_text(did: DidFile) -> str:
    """A service file as one text, its imports included."""
    lines = [f"type {name} = {kind.target if isinstance(kind, t.Rec) else kind};" for name, kind in did.types.items()]
    return "\n".join([*lines, f"service : {str(did.service).removeprefix('service ')}"])


def write_run_file(folder: Path, found: RunFile) -> None:
    """Write `run.json`."""
    (folder / RUN_FILE).write_text(json.dumps({"schema": _SCHEMA, **asdict(found)}, indent=1) + "\n")


def read_run_file(folder: Path | None) -> RunFile:
    """Read `run.json`; an empty one when there is none.

    Raises: BadInput when it is malformed.
    """
    if folder is None or not (folder / RUN_FILE).is_file():
        return RunFile()
    try:
        data = json.loads((folder / RUN_FILE).read_text())
        return RunFile(
            topology=data["topology"],
            digest=data["digest"],
            invariants=tuple(
                RecordedInvariant(**{**one, "canisters": tuple(one["canisters"]), "equal": tuple(one["equal"])})
                for one in data["invariants"]
            ),
            services=tuple(data["services"]),
            service_of=data["service_of"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder / RUN_FILE} can't be read ({error}); was it written by another version?") from error


# --- directories


def new_directory(path: Path) -> Path:
    """An empty directory for a new run.

    Raises: BadInput when it is in use, holds something, or can't be made.
    """
    refuse_if_in_use(path)
    if (path / JOURNAL_FILE).exists():
        raise BadInput(f"{path} holds a run already; choose another --out, or continue that run with --resume {path}")
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path} is a file; --out names a directory")
    if path.is_dir() and any(path.iterdir()):
        raise BadInput(f"{path} is not empty; choose an empty or a new directory with --out")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"run directory {path} can't be made: {error.strerror}; choose another with --out") from error
    return path


def default_directory(name: str, seed: int) -> Path:
    """A new directory under `runs` of the home, numbered.

    Raises: BadInput when it can't be made.
    """
    base = home() / "runs"
    number = 1
    while True:
        path = base / f"{name}-{seed}-{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise BadInput(f"run directory {path} can't be made: {error.strerror}; choose another with --out") from error
        else:
            return path


def recorded_directory(path: Path) -> Path:
    """The directory of an earlier run.

    Raises: BadInput when there is no run in it, or it is still going on.
    """
    if not path.is_dir():
        raise BadInput(f"{path} is no directory; name the run directory of an earlier `icsim run`")
    if not (path / JOURNAL_FILE).is_file():
        raise BadInput(f"{path} holds no run ({JOURNAL_FILE} is missing); name the run directory of an earlier `icsim run`")
    refuse_if_in_use(path)
    return path


def refuse_if_in_use(path: Path) -> None:
    """Raises: BadInput when a network that runs writes to this directory."""
    owner = owner_of(path)
    if owner is not None and is_alive(*owner):
        raise BadInput(
            f"{path} is in use by a running network (process {owner[0]}); choose another directory, or end it with "
            f"`icsim down --dir {path}`"
        )


def claim(path: Path, pid: int) -> None:
    """Let a process own the directory."""
    draft = path / f".{OWNER_FILE}.{os.getpid()}"
    draft.write_text(f"{pid} {start_time(pid)}\n")
    draft.replace(path / OWNER_FILE)


def release(path: Path) -> None:
    """Nobody uses the directory any more."""
    (path / OWNER_FILE).unlink(missing_ok=True)
