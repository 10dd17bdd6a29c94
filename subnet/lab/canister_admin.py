"""What controllers do with canisters, as calls of the management canister.

Plumbing, over a session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from configs.wasm_info import metadata_names
from ic_types.principal import CanisterId, Principal
from subnet.lab.session import Session

DEFAULT_CYCLES = 100_000_000_000_000
CHUNK_BYTES = 1 << 20
LARGEST_MESSAGE = 1_900_000
"""Modules that don't fit into one ingress message with this much for module and argument are uploaded in chunks."""
KEEPS_HEAP = "enhanced-orthogonal-persistence"
"""Metadata of modules whose heap outlives upgrades."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a canister."""

    id: bytes
    taken_at_ns: int
    size: int


def create(
    session: Session,
    *,
    cycles: int = DEFAULT_CYCLES,
    settings: dict[str, Any] | None = None,
    subnet: str | None = None,
    specified_id: Principal | None = None,
) -> CanisterId:
    """A new empty canister, controlled by the session's identity unless the settings say otherwise."""
    argument = {"amount": cycles, "settings": settings or None, "specified_id": specified_id}
    about = specified_id if specified_id is not None else session.link.place(subnet)
    found: CanisterId = session.manage("provisional_create_canister_with_cycles", argument, about)["canister_id"]
    return found


def install(
    session: Session,
    canister_id: CanisterId,
    wasm: bytes,
    arg: bytes,
    mode: str,
    *,
    keep_heap: bool | None = None,
    skip_pre_upgrade: bool | None = None,
) -> None:
    """Install code; mode is install, reinstall or upgrade.

    An upgrade keeps the heap of modules that say they live on it, or as `keep_heap` says.
    """
    chosen: dict[str, Any] = {mode: None}
    if mode == "upgrade":
        if keep_heap is None and KEEPS_HEAP in metadata_names(wasm):
            keep_heap = True
        persistence = {None: None, True: {"keep": None}, False: {"replace": None}}[keep_heap]
        chosen = {mode: {"skip_pre_upgrade": skip_pre_upgrade, "wasm_memory_persistence": persistence}}
    if len(wasm) + len(arg) <= LARGEST_MESSAGE:
        argument = {"mode": chosen, "canister_id": canister_id, "wasm_module": wasm, "arg": arg}
        session.manage("install_code", argument, canister_id)
        return
    session.manage("clear_chunk_store", {"canister_id": canister_id}, canister_id)
    hashes = [_upload(session, canister_id, wasm[at : at + CHUNK_BYTES]) for at in range(0, len(wasm), CHUNK_BYTES)]
    chunked: dict[str, Any] = {
        "mode": chosen,
        "target_canister": canister_id,
        "store_canister": None,
        "chunk_hashes_list": [{"hash": one} for one in hashes],
        "wasm_module_hash": hashlib.sha256(wasm).digest(),
        "arg": arg,
    }
    session.manage("install_chunked_code", chunked, canister_id)
    session.manage("clear_chunk_store", {"canister_id": canister_id}, canister_id)


def _upload(session: Session, canister_id: CanisterId, chunk: bytes) -> bytes:
    found: bytes = session.manage("upload_chunk", {"canister_id": canister_id, "chunk": chunk}, canister_id)["hash"]
    return found


def about(session: Session, method: str, canister_id: CanisterId) -> Any:
    """A method that takes the canister's id and nothing else: start, stop, delete, uninstall, status."""
    return session.manage(method, {"canister_id": canister_id}, canister_id)


def update_settings(session: Session, canister_id: CanisterId, settings: dict[str, Any]) -> None:
    """Change the settings that are named."""
    session.manage("update_settings", {"canister_id": canister_id, "settings": settings}, canister_id)


def top_up(session: Session, canister_id: CanisterId, amount: int) -> None:
    """Give it cycles out of nothing."""
    session.manage("provisional_top_up_canister", {"canister_id": canister_id, "amount": amount}, canister_id)


def logs(session: Session, canister_id: CanisterId) -> list[tuple[int, int, bytes]]:
    """Index, time in ns and content of the log's records."""
    found = session.ask_management("fetch_canister_logs", {"canister_id": canister_id}, canister_id)
    return [(one["idx"], one["timestamp_nanos"], one["content"]) for one in found["canister_log_records"]]


def take_snapshot(session: Session, canister_id: CanisterId, replace: bytes | None = None) -> Snapshot:
    """A snapshot of the canister as it is; it should be stopped."""
    argument = {"canister_id": canister_id, "replace_snapshot": replace}
    return _snapshot(session.manage("take_canister_snapshot", argument, canister_id))


def snapshots(session: Session, canister_id: CanisterId) -> Sequence[Snapshot]:
    """The canister's snapshots."""
    return [_snapshot(one) for one in about(session, "list_canister_snapshots", canister_id)]


def on_snapshot(session: Session, method: str, canister_id: CanisterId, snapshot_id: bytes) -> None:
    """load_canister_snapshot or delete_canister_snapshot."""
    session.manage(method, {"canister_id": canister_id, "snapshot_id": snapshot_id}, canister_id)


def _snapshot(value: dict[str, Any]) -> Snapshot:
    return Snapshot(value["id"], value["taken_at_timestamp"], value["total_size"])
