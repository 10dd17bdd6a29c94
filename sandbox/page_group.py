"""256 pages of a memory: where they lie and what they hash to.

Rule module. A group is a node of the Merkle tree (256 digests of 32 bytes; zeros for a page of zeros) and the unit that
copies share. Only the memory whose epoch owns it changes where its pages lie; hashing a shared group is the same for all.
"""

from __future__ import annotations

import hashlib

from ic_types.units import OS_PAGE_BYTES
from sandbox.page_runs import runs_of
from sandbox.page_store import Epoch, PageFile, Slot
from sandbox.requests import Run

GROUP_PAGES = 256
ZERO_PAGE = bytes(OS_PAGE_BYTES)
ZERO_DIGEST = bytes(32)
ZERO_NODE = bytes(32 * GROUP_PAGES)


def page_digest(content: bytes) -> bytes:
    """Digest of one page; zeros for zeros, so that it can't be told from one never written."""
    return ZERO_DIGEST if content == ZERO_PAGE else hashlib.sha256(content).digest()


def node_digest(node: bytes) -> bytes:
    """Digest of 256 digests; zeros if there is nothing below."""
    return ZERO_DIGEST if node == ZERO_NODE else hashlib.sha256(node).digest()


class Group:
    """Slots and digests of 256 neighbouring pages."""

    __slots__ = ("_digest", "_runs", "_stale", "digests", "owner", "slots")

    def __init__(self, owner: Epoch) -> None:
        self.owner = owner
        self.slots: list[Slot | None] = [None] * GROUP_PAGES
        self.digests = ZERO_NODE
        """Valid for pages that aren't stale."""
        self._stale = 0
        """Bit k: page k isn't hashed yet."""
        self._digest: bytes | None = ZERO_DIGEST
        self._runs: tuple[Run, ...] | None = ()

    def copy(self, owner: Epoch) -> Group:
        """A copy that `owner` may change."""
        twin = Group.__new__(Group)
        twin.owner, twin.slots, twin.digests = owner, self.slots.copy(), self.digests
        twin._stale, twin._digest, twin._runs = self._stale, self._digest, self._runs
        return twin

    def put(self, k: int, zero: bool, epoch: Epoch, *, stale: bool = True) -> Slot | None:
        """Give page k a slot that this epoch may write; returns it, None for a page of zeros."""
        slot = self.slots[k]
        if stale:
            self._stale |= 1 << k
            self._digest = None
        if zero:
            self.slots[k] = self._runs = None
            return None
        if slot is None or slot.owner is not epoch:
            slot = self.slots[k] = Slot(epoch)
            self._runs = None
        return slot

    def runs(self, index: int) -> tuple[Run, ...]:
        """Runs of the written pages; `index` is the group's own."""
        if self._runs is None:
            base = index * GROUP_PAGES
            self._runs = runs_of((base + k, slot) for k, slot in enumerate(self.slots) if slot is not None)
        return self._runs

    def forget_runs(self) -> None:
        """The slots moved."""
        self._runs = None

    def mark_stale(self, pages: list[int]) -> None:
        """Hash these again before the next digest."""
        for k in pages:
            self._stale |= 1 << k
        self._digest = None

    def digest(self, file: PageFile) -> bytes:
        """Digest of the group; reads and hashes the pages that changed."""
        if self._digest is None:
            self._rehash(file)
            self._digest = node_digest(self.digests)
        return self._digest

    def _rehash(self, file: PageFile) -> None:
        node, stale = bytearray(self.digests), self._stale
        pages = []
        while stale:
            lowest = stale & -stale
            pages.append(lowest.bit_length() - 1)
            stale ^= lowest
        for k, content in self._contents(file, pages):
            node[k * 32 : k * 32 + 32] = page_digest(content)
        self.digests, self._stale = bytes(node), 0

    def audit(self, file: PageFile, first: int, last: int) -> list[int]:
        """Hashed pages of [first, last) whose content isn't what was hashed."""
        pages = [k for k, slot in enumerate(self.slots[first:last], first) if slot is not None]
        if self._stale:
            pages = [k for k in pages if not self._stale >> k & 1]
        return [k for k, content in self._contents(file, pages) if page_digest(content) != self.digests[k * 32 : k * 32 + 32]]

    def _contents(self, file: PageFile, pages: list[int]) -> list[tuple[int, bytes]]:
        slots = [self.slots[k] for k in pages]
        written = iter(file.read_many([slot.offset for slot in slots if slot is not None]))
        return [(k, ZERO_PAGE if slot is None else next(written)) for k, slot in zip(pages, slots, strict=True)]
