"""Modules that scripts and tests install: files, bytes, or the names of examples; and the service files beside them.

Plumbing: reads files. The same rules as in topology files (docs/topology.md, `wasm` and `candid`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.canister_reader import EXAMPLES
from configs.wasm_info import WasmInfo, read_info
from ic_types.candid.did import DidFile, load_did, parse_did, with_init_args
from ic_types.errors import BadInput, InvalidWasm


@dataclass(frozen=True, slots=True)
class Module:
    """A module and how it is spoken to."""

    name: str
    wasm: bytes
    did: DidFile | None


def load_module(given: Path | str | bytes, did: Path | str | None = None) -> Module:
    """A module from a path, from the name of an example, or from its bytes; `did` is the path of its service file.

    Raises: BadInput when there is no such file, or it is no module.
    """
    if isinstance(given, bytes):
        name, path, raw = "the given bytes", None, given
    else:
        path = _find(given)
        name, raw = str(path), path.read_bytes()
    try:
        info = read_info(raw)
    except InvalidWasm as error:
        raise BadInput(f"{name} is not a Wasm module: {error}") from None
    return Module(name, raw, _service(path, info, did))


def _find(given: Path | str) -> Path:
    file = f"{given}" if str(given).endswith((".wasm", ".wasm.gz")) else f"{given}.wasm"
    for path in (Path(given), EXAMPLES / file):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in EXAMPLES.glob("*.wasm")))
    raise BadInput(f"there is no module {given}, nor an example of that name; examples: {known}")


def _service(path: Path | None, info: WasmInfo, did: Path | str | None) -> DidFile | None:
    if did is not None:
        return load_did(Path(did))
    if path is not None:
        stem = path.name.split(".")[0]
        for place in (path.parent / f"{stem}.did", path.parent / stem / f"{stem}.did"):
            if place.is_file():
                return load_did(place)
    if info.candid is None:
        return None
    found = parse_did(info.candid)
    return found if info.candid_args is None else with_init_args(found, info.candid_args)
