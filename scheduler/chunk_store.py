"""The chunk store: pieces of modules that are too large for one message, found by their hash.

Rule module. Spec: abstract behaviour, `chunk_store`; interface spec, "IC method upload_chunk". A store is a value: a change
makes another one, so copies for snapshots and queries cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ic_types import canonical

CHUNK_BYTES = 1 << 20
"""Largest chunk, and what each chunk is billed for."""


@dataclass(frozen=True, slots=True)
class ChunkStore:
    """Chunks by their SHA-256, in the order of the hashes."""

    chunks: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def memory_bytes(self) -> int:
        """Billed bytes: a whole MiB for each chunk."""
        return len(self.chunks) * CHUNK_BYTES

    def with_chunk(self, chunk_hash: bytes, chunk: bytes) -> ChunkStore:
        """With one more chunk."""
        return ChunkStore(dict(sorted({**self.chunks, chunk_hash: chunk}.items())))


canonical.register(ChunkStore, lambda store: tuple(store.chunks))
"""The hashes say what the chunks are."""
EMPTY_STORE = ChunkStore()
