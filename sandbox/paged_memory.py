"""A canister's committed memory on the node's side: pages, copy-on-write copies, and the Merkle tree over them.

Rule module. A memory is a table of groups of 256 pages; forks and snapshots share groups until one side writes. Its root hash
depends on content and size alone, never on history: a page of zeros counts as never written. Only what changed is hashed again.
Spec: `CanState.wasm_state` (memories); hashing is not in the spec, it is how nodes compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sandbox.page_group import GROUP_PAGES, ZERO_DIGEST, ZERO_NODE, ZERO_PAGE, Group, node_digest
from sandbox.page_runs import join_runs, runs_of
from sandbox.page_store import Epoch, PageFile, Slot
from sandbox.requests import Run

_PAGES_PER_WASM_PAGE = WASM_PAGE_BYTES // OS_PAGE_BYTES
_DIGEST = 32
_FEW_PAGES = 4
"""Of so many pages a memory remembers what it committed last."""


class PageTable:
    """Where each written page lies: what memories and snapshots have in common."""

    __slots__ = ("_file", "_groups", "wasm_pages")

    def __init__(self, file: PageFile, groups: dict[int, Group], wasm_pages: int) -> None:
        self._file = file
        self._groups = groups
        self.wasm_pages = wasm_pages
        """Size as grown, in Wasm pages."""

    @property
    def fd(self) -> int:
        """A read-only descriptor of the file that runs point into; stays this object's."""
        return self._file.reader

    def open_reader(self) -> int:
        """A read-only descriptor for a sandbox, the caller's to close."""
        return self._file.open_reader()

    def runs(self, pages: Iterable[int] | None = None) -> tuple[Run, ...]:
        """Where the content lies: of all written pages, or of these (ascending; offset None if never written)."""
        if pages is None:
            return join_runs(self._groups[g].runs(g) for g in sorted(self._groups))
        return runs_of((page, self._slot(page)) for page in pages)

    def read_page(self, page: int) -> bytes:
        """Content of one 4 KiB page."""
        slot = self._slot(page)
        return ZERO_PAGE if slot is None else self._file.read(slot.offset)

    def written_pages(self) -> list[int]:
        """Indices of the pages that hold anything, ascending."""
        return [(g << 8) | k for g in sorted(self._groups) for k, slot in enumerate(self._groups[g].slots) if slot is not None]

    def changed_since(self, older: PageTable) -> list[int] | None:
        """Pages that may differ from an older table, ascending; None when they share no file, so that all may."""
        if self._file is not older._file:
            return None
        pages: list[int] = []
        for g in sorted({**self._groups, **older._groups}):
            now, then = self._groups.get(g), older._groups.get(g)
            if now is not then:
                a, b = now.slots if now else [None] * GROUP_PAGES, then.slots if then else [None] * GROUP_PAGES
                pages += [(g << 8) | k for k in range(GROUP_PAGES) if a[k] is not b[k]]
        return pages

    def _slot(self, page: int) -> Slot | None:
        group = self._groups.get(page >> 8)
        return None if group is None else group.slots[page & 255]


class Snapshot(PageTable):
    """A memory as it was when it was frozen; later commits aren't seen."""

    __slots__ = ()

    def release(self) -> None:
        """Let go of pages that nobody else holds."""
        self._groups = {}


class PagedMemory(PageTable):
    """One committed memory, heap or stable."""

    __slots__ = ("_epoch", "_fresh", "_root", "_sections", "_shared", "_stale")

    def __init__(self, file: PageFile, groups: dict[int, Group], wasm_pages: int) -> None:
        super().__init__(file, groups, wasm_pages)
        self._epoch = Epoch(file)
        self._shared = False
        """Somebody else holds the same dict of groups."""
        self._stale: dict[int, None] = {}
        """Groups whose digest the sections don't have yet."""
        self._sections: dict[int, bytes] = {}
        """256 group digests each."""
        self._root: tuple[int, bytes] | None = None
        self._fresh: list[Slot] = []
        """Slots that know their content: those of the last commit, until it is hashed."""

    @classmethod
    def new(cls, wasm_pages: int) -> PagedMemory:
        """A memory of zeros; costs nothing until something is written."""
        return cls(PageFile(), {}, wasm_pages)

    # --- commits

    def commit(self, indices: Sequence[int], content: bytes) -> int:
        """Take over these pages (ascending, no repeats); returns how many really changed. The others aren't written."""
        if not indices:
            return 0
        changed = self._changed(indices, content)
        if not changed:
            return 0
        if self._shared:
            self._groups, self._shared = dict(self._groups), False
        self._forget_contents()
        few = len(indices) <= _FEW_PAGES
        writes: list[tuple[int, int]] = []
        for k, page_content in changed:
            page = indices[k]
            group = self._owned_group(page >> 8)
            slot = group.put(page & 255, page_content == ZERO_PAGE, self._epoch)
            if slot is not None:
                writes.append((slot.offset, k))
                if few:
                    self._fresh.append(slot)
                    slot.content = page_content
            self._stale[page >> 8] = None
        self._root = None
        self._write(writes, content)
        return len(changed)

    def count_changed(self, indices: Sequence[int], content: bytes) -> int:
        """How many of these pages differ from what is committed."""
        return len(self._changed(indices, content))

    def _changed(self, indices: Sequence[int], content: bytes) -> list[tuple[int, bytes]]:
        """Positions in `indices` whose content differs from what is committed, each with its new content."""
        count = len(indices)
        assert len(content) == count * OS_PAGE_BYTES, f"{len(content)} bytes for {count} pages"
        pages = [content[k : k + OS_PAGE_BYTES] for k in range(0, len(content), OS_PAGE_BYTES)]
        if count <= _FEW_PAGES:
            return [(k, page) for k, page in enumerate(pages) if self._known_content(indices[k]) != page]
        slots = [self._slot(page) for page in indices]
        old = iter(self._file.read_many([slot.offset for slot in slots if slot is not None]))
        return [(k, pages[k]) for k, slot in enumerate(slots) if (ZERO_PAGE if slot is None else next(old)) != pages[k]]

    def _forget_contents(self) -> None:
        for slot in self._fresh:
            slot.content = None
        self._fresh.clear()

    def _known_content(self, page: int) -> bytes:
        slot = self._slot(page)
        if slot is None:
            return ZERO_PAGE
        return self._file.read(slot.offset) if slot.content is None else slot.content

    def _owned_group(self, index: int) -> Group:
        group = self._groups.get(index)
        if group is None:
            group = self._groups[index] = Group(self._epoch)
        elif group.owner is not self._epoch:
            group = self._groups[index] = group.copy(self._epoch)
        return group

    def _write(self, writes: list[tuple[int, int]], content: bytes) -> None:
        """Write page k of `content` at its offset; neighbours together."""
        view, first = memoryview(content), 0
        while first < len(writes):
            offset, k = writes[first]
            last = first + 1
            while last < len(writes) and writes[last] == (offset + (last - first) * OS_PAGE_BYTES, k + last - first):
                last += 1
            self._file.write(offset, view[k * OS_PAGE_BYTES : (k + last - first) * OS_PAGE_BYTES])
            first = last

    # --- copies

    def freeze(self) -> Snapshot:
        """The memory as it is now, at no cost; the next commit pays for copying the table of groups."""
        self._share()
        return Snapshot(self._file, self._groups, self.wasm_pages)

    def fork(self) -> PagedMemory:
        """An independent copy that shares unchanged pages."""
        self._share()
        child = PagedMemory(self._file, self._groups, self.wasm_pages)
        child._shared, child._stale, child._sections = True, dict(self._stale), dict(self._sections)
        return child

    def _share(self) -> None:
        if not self._shared:
            self._shared, self._epoch = True, Epoch(self._file)

    def compact(self) -> None:
        """Move all pages, in order, into a file of their own, so that few runs remain.

        Only while no sandbox maps this memory: it would keep showing the old file, whose slots get other content.
        """
        file = PageFile()
        epoch, groups = Epoch(file), {}
        for index in sorted(self._groups):
            group = groups[index] = self._groups[index].copy(epoch)
            for k, slot in enumerate(group.slots):
                if slot is not None:
                    group.slots[k] = moved = Slot(epoch)
                    file.write(moved.offset, self._file.read(slot.offset))
            group.forget_runs()
        self._file, self._epoch, self._groups, self._shared = file, epoch, groups, False

    # --- hashes

    def root_hash(self) -> bytes:
        """SHA-256 Merkle root over size and content; hashes again what changed since it was asked last."""
        if self._root is not None and not self._stale and self._root[0] == self.wasm_pages:
            return self._root[1]
        sections: dict[int, bytearray] = {}
        for g in self._stale:
            section = sections.get(g >> 8)
            if section is None:
                section = sections[g >> 8] = bytearray(self._sections.get(g >> 8, ZERO_NODE))
            position = (g & 255) * _DIGEST
            section[position : position + _DIGEST] = self._groups[g].digest(self._file)
        self._stale = {}
        self._forget_contents()
        for index, node in sections.items():
            self._sections[index] = bytes(node)
        top = hashlib.sha256(b"icsim memory" + self.wasm_pages.to_bytes(8, "big"))
        for index in sorted(self._sections):
            if (digest := node_digest(self._sections[index])) != ZERO_DIGEST:
                top.update(index.to_bytes(8, "big") + digest)
        self._root = self.wasm_pages, top.digest()
        return self._root[1]

    def group_digests(self) -> dict[int, bytes]:
        """Digest of each group of 256 pages that isn't all zeros, ascending."""
        self.root_hash()
        digests = ((g, self._groups[g].digest(self._file)) for g in sorted(self._groups))
        return {g: digest for g, digest in digests if digest != ZERO_DIGEST}

    def page_digests(self, group: int) -> tuple[bytes, ...]:
        """Digests of the 256 pages of a group; 32 zero bytes for a page of zeros."""
        self.root_hash()
        node = self._groups[group].digests if group in self._groups else ZERO_NODE
        return tuple(node[k : k + _DIGEST] for k in range(0, len(node), _DIGEST))

    # --- damage

    def audit(self, start: int, count: int) -> list[int]:
        """Read the written pages among `count` page indices from `start` on again; those that changed unasked, ascending.

        Their digests become what the bytes say, so that the damage shows in the root hash.
        """
        damaged: list[int] = []
        first, end = start >> 8, start + count
        groups = sorted(g for g in self._groups if first <= g < (end + 255) >> 8)
        for g in groups:
            wrong = self._groups[g].audit(self._file, max(start - (g << 8), 0), min(end - (g << 8), GROUP_PAGES))
            if wrong:
                if self._shared:
                    self._groups, self._shared = dict(self._groups), False
                self._owned_group(g).mark_stale(wrong)
                self._stale[g], self._root = None, None
                damaged += [(g << 8) | k for k in wrong]
        return damaged

    def audit_share(self, share: int, of: int) -> list[int]:
        """The `share`-th of `of` parts of an audit of the whole memory, split by page index."""
        pages = self.wasm_pages * _PAGES_PER_WASM_PAGE
        start = pages * share // of
        return self.audit(start, pages * (share + 1) // of - start)

    def audit_all(self) -> list[int]:
        """An audit of everything."""
        return self.audit(0, (max(self._groups) + 1) << 8) if self._groups else []

    def flip(self, page: int, byte: int) -> None:
        """Fault hook: damage one byte of a committed page behind the digests' back."""
        content = bytearray(self.read_page(page))
        content[byte] ^= 1
        if self._slot(page) is None:
            if self._shared:
                self._groups, self._shared = dict(self._groups), False
            self._owned_group(page >> 8).put(page & 255, False, self._epoch, stale=False)
        slot = self._slot(page)
        assert slot is not None
        slot.content = None
        self._file.write(slot.offset, bytes(content))
