"""A network in a dictionary: canisters with code, settings and metadata, and the management methods that commands use.

It takes and gives real Candid, and enforces controllers, so that what commands send and understand is checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2

from configs.wasm_info import read_info
from ic_types import bls
from ic_types.candid.decoder import decode
from ic_types.candid.did import DidFile
from ic_types.candid.encoder import encode
from ic_types.cbor import SELF_DESCRIBED
from ic_types.identity import Identity
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal
from subnet.lab.calls import CallRejected
from subnet.lab.link import Path
from subnet.management.methods import METHODS

DEFAULTS: dict[str, Any] = {
    "compute_allocation": 0,
    "memory_allocation": 0,
    "freezing_threshold": 2_592_000,
    "reserved_cycles_limit": 5 * 10**12,
    "minimum_incoming_canister_call_cycles": 0,
    "log_visibility": {"controllers": None},
    "log_memory_limit": 4096,
    "snapshot_visibility": {"controllers": None},
    "status_visibility": {"controllers": None},
    "wasm_memory_limit": 3 << 30,
    "wasm_memory_threshold": 0,
    "environment_variables": [],
}


@dataclass(slots=True)
class FakeCanister:
    """A canister."""

    settings: dict[str, Any]
    cycles: int = 0
    wasm: bytes = b""
    arg: bytes = b""
    status: str = "running"
    installs: list[str] = field(default_factory=list)
    """Modes in order."""
    chunks: list[bytes] = field(default_factory=list)


class FakeLink:
    """Satisfies `subnet.lab.link.Link`."""

    def __init__(self, root_key: bytes = b"\x07" * 96) -> None:
        self.where = "fake"
        self.root_key = bls.to_der(root_key)
        self.canisters: Mapping[str, CanisterId] = {}
        self.services: dict[str, DidFile] = {}
        self.state: dict[CanisterId, FakeCanister] = {}
        self.calls: list[str] = []
        """Methods of update calls, in order."""
        self.fails: str = ""
        """Method that is rejected."""
        self.answers: dict[str, bytes] = {}
        """Replies of canisters, by method."""

    def call(self, identity: Identity, canister_id: CanisterId, method: str, arg: bytes, effective: CanisterId) -> bytes:
        """An update call."""
        self.calls.append(method)
        if method == self.fails:
            raise CallRejected(5, "it was asked to fail", "IC0503", what=f"call of {method}")
        if canister_id != MANAGEMENT_CANISTER:
            if method not in self.answers:
                raise CallRejected(
                    5, f"Canister {canister_id} has no update method {method!r}", "IC0536", what=f"call of {method}"
                )
            return self.answers[method]
        types = METHODS[method]
        value = self._manage(identity.principal, method, decode(arg, types.arguments)[0])
        return encode(types.results, [value] if types.results else [])

    def query(self, identity: Identity, canister_id: CanisterId, method: str, arg: bytes, effective: CanisterId) -> bytes:
        """A query."""
        return self.call(identity, canister_id, method, arg, effective)

    def read(self, identity: Identity, canister_id: CanisterId, path: Path) -> bytes | None:
        """What certificates would say."""
        found = self.state.get(canister_id)
        if found is None:
            return None
        match path:
            case (b"controllers",):
                return SELF_DESCRIBED + cbor2.dumps([bytes(one) for one in found.settings["controllers"]])
            case (b"module_hash",):
                return hashlib.sha256(found.wasm).digest() if found.wasm else None
            case (b"metadata", b"candid:service") if found.wasm:
                service = read_info(found.wasm).candid
                return None if service is None else service.encode()
        return None

    def place(self, subnet: str | None) -> CanisterId:
        """The first id."""
        return Principal.canister(0)

    def subnet_of(self, canister_id: CanisterId) -> str:
        """There is one."""
        return "app"

    def topology_identity(self, name: str | None) -> Identity | None:
        """There is no topology."""
        return None

    def service(self, name: str) -> DidFile | None:
        """A service file of the topology."""
        return self.services.get(name)

    def _manage(self, caller: Principal, method: str, value: dict[str, Any]) -> Any:
        if method == "provisional_create_canister_with_cycles":
            made = value["specified_id"] or Principal.canister(len(self.state))
            given = {name: one for name, one in (value["settings"] or {}).items() if one is not None}
            self.state[made] = FakeCanister({**DEFAULTS, "controllers": [caller], **given}, value["amount"])
            return {"canister_id": made}
        canister_id = value.get("canister_id") or value["target_canister"]
        found = self.state[canister_id]
        if caller not in found.settings["controllers"]:
            text = f"Only controllers of canister {canister_id} can call ic00 method {method}"
            raise CallRejected(5, text, "IC0512", what=f"call of {method}")
        return self._on(found, canister_id, method, value)

    def _on(self, found: FakeCanister, canister_id: CanisterId, method: str, value: dict[str, Any]) -> Any:
        match method:
            case "install_code" | "install_chunked_code":
                (mode,) = value["mode"]
                assert bool(found.wasm) == (mode != "install"), f"{mode} of a canister that has {len(found.wasm)} bytes"
                found.wasm = value["wasm_module"] if method == "install_code" else b"".join(found.chunks)
                found.arg = value["arg"]
                found.installs.append(mode)
            case "upload_chunk":
                found.chunks.append(value["chunk"])
                return {"hash": hashlib.sha256(value["chunk"]).digest()}
            case "clear_chunk_store":
                found.chunks.clear()
            case "update_settings":
                found.settings |= {name: one for name, one in value["settings"].items() if one is not None}
            case "start_canister" | "stop_canister":
                found.status = {"start_canister": "running", "stop_canister": "stopped"}[method]
            case "delete_canister":
                del self.state[canister_id]
            case "canister_status":
                return _status(found)
            case "provisional_top_up_canister":
                found.cycles += value["amount"]
            case _:
                raise AssertionError(f"the fake has no method {method}")
        return None


def _status(found: FakeCanister) -> dict[str, Any]:
    """`canister_status`, with zeroes for what nobody asks."""
    numbers = ("version", "memory_size", "reserved_cycles", "idle_cycles_burned_per_day")
    kind = METHODS["canister_status"].results[0]
    zeroes = {f.key: {g.key: 0 for g in f.type.fields} for f in kind.fields if f.key in ("memory_metrics", "query_stats")}  # type: ignore[union-attr]
    return {
        "status": {found.status: None},
        "ready_for_migration": False,
        "settings": found.settings,
        "module_hash": hashlib.sha256(found.wasm).digest() if found.wasm else None,
        "cycles": found.cycles,
        **dict.fromkeys(numbers, 0),
        **zeroes,
    }
