"""Snapshots of a canister: code, memories, chunk store and certified data as they were, or as somebody uploaded them.

Rule module. Spec: abstract behaviour, `Snapshot` and the transitions about canister snapshots. Memories are forks, so a
snapshot takes memory for the pages in which it differs from its canister. The collection is a value; a change makes another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from ic_types import canonical
from ic_types.canonical import LOCAL, Encoded
from ic_types.principal import CanisterId
from ic_types.units import WASM_PAGE_BYTES, TimeNs
from sandbox.paged_memory import PagedMemory
from scheduler.chunk_store import EMPTY_STORE, ChunkStore

GLOBAL_BYTES = 8
"""Billed for each global of a snapshot taken of a canister."""
UPLOADED_GLOBAL_BYTES = 32
"""Billed for each global of uploaded metadata."""


class LowMemoryHook(Enum):
    """Spec: `on_low_wasm_memory_hook_status`."""

    CONDITION_NOT_SATISFIED = "condition_not_satisfied"
    READY = "ready"
    EXECUTED = "executed"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedModule:
    """A module that arrives in pieces: bytes of a sparse memory."""

    memory: PagedMemory
    size: int

    def to_canonical(self) -> tuple[int, bytes]:
        """What is hashed."""
        return self.size, self.memory.root_hash()


@dataclass(slots=True, kw_only=True)
class CanisterSnapshot:
    """One snapshot."""

    snapshot_id: bytes
    canister_id: CanisterId
    """Whom it belongs to."""
    uploaded: bool
    """Made of uploaded metadata; only such a one can be written to."""
    taken_at: TimeNs
    version: int
    """Of the canister at that time."""
    module: bytes | UploadedModule
    module_hash: bytes
    """Of a module taken from a canister; empty if it was uploaded."""
    heap: PagedMemory
    stable: PagedMemory
    globals: tuple[tuple[str, int], ...]
    """Kind and bits of each."""
    chunk_store: ChunkStore = EMPTY_STORE
    certified_data: bytes = b""
    global_timer: TimeNs | None = TimeNs(0)
    """0: inactive; None: not said."""
    hook: LowMemoryHook | None = LowMemoryHook.CONDITION_NOT_SATISFIED
    """None: not said."""

    @property
    def module_bytes(self) -> int:
        """Size of the module."""
        return self.module.size if isinstance(self.module, UploadedModule) else len(self.module)

    @property
    def memory_bytes(self) -> int:
        """Billed bytes: all of it, though much may be shared."""
        memories = (self.heap.wasm_pages + self.stable.wasm_pages) * WASM_PAGE_BYTES
        values = len(self.globals) * UPLOADED_GLOBAL_BYTES if self.uploaded else (len(self.globals) + 1) * GLOBAL_BYTES
        return memories + values + self.module_bytes + self.chunk_store.memory_bytes + len(self.certified_data)

    def to_canonical(self) -> tuple[object, ...]:
        """What is hashed."""
        module = self.module.to_canonical() if isinstance(self.module, UploadedModule) else self.module_hash
        memories = self.heap.root_hash(), self.stable.root_hash()
        head = self.snapshot_id, self.canister_id, self.uploaded, self.taken_at, self.version, module, *memories
        return *head, self.globals, self.chunk_store, self.certified_data, self.global_timer, self.hook


@dataclass(frozen=True, slots=True)
class Snapshots(Mapping[bytes, CanisterSnapshot]):
    """The snapshots of one canister, oldest first."""

    by_id: Mapping[bytes, CanisterSnapshot] = field(default_factory=dict)
    memory_bytes: int = field(default=0, init=False)
    """Billed bytes of all."""
    _encoded: list[Encoded] = field(default_factory=list, init=False, repr=False, compare=False, metadata=LOCAL)

    def __post_init__(self) -> None:
        """Add up what is billed."""
        object.__setattr__(self, "memory_bytes", sum(one.memory_bytes for one in self.by_id.values()))

    def __getitem__(self, snapshot_id: bytes) -> CanisterSnapshot:
        return self.by_id[snapshot_id]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.by_id)

    def __len__(self) -> int:
        return len(self.by_id)

    def added(self, snapshot: CanisterSnapshot) -> Snapshots:
        """With one more, or one in place of that with the same id (which may have been written to)."""
        return Snapshots({**self.by_id, snapshot.snapshot_id: snapshot})

    def without(self, snapshot_id: bytes | None) -> Snapshots:
        """Without one of them, if it is there."""
        return Snapshots({key: one for key, one in self.by_id.items() if key != snapshot_id})

    def encoded(self) -> Encoded:
        """Canonical bytes, made once."""
        if not self._encoded:
            self._encoded.append(Encoded(canonical.encode(tuple(one.to_canonical() for one in self.by_id.values()))))
        return self._encoded[0]


canonical.register(Snapshots, Snapshots.encoded)
NO_SNAPSHOTS = Snapshots()


def snapshot_id(canister_id: CanisterId, number: int) -> bytes:
    """The id of a canister's snapshot with this number."""
    return number.to_bytes(8, "big") + bytes(canister_id)


def owner_of(wanted: bytes) -> CanisterId | None:
    """The canister that a snapshot id names, whether there is such a snapshot or not; None if it is no snapshot id."""
    return CanisterId(wanted[8:]) if 8 < len(wanted) <= 37 else None
