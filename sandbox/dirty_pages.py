"""Which pages of the heap were written since they were last asked about.

Plumbing. Three ways, the best that works is taken: userfaultfd with asynchronous write protection and PAGEMAP_SCAN (Linux
6.7, finds exactly the written pages), PAGEMAP_SCAN for private pages, and /proc/self/pagemap. The latter two can't tell an
old private page from a newly written one, so they compare digests of what they reported before.

An answer may name pages whose content is unchanged (the node compares contents); it never leaves out a changed one. Cost
follows the pages that exist in this process, not the size of the heap: where nothing was touched there are no page tables.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from ctypes import c_uint64
from typing import Protocol

from ic_types.units import OS_PAGE_BYTES
from sandbox import kernel
from sandbox.page_scan import (
    CHECK_WPASYNC,
    NOTHING,
    PAGE_FILE,
    PAGE_PRESENT,
    PAGE_SWAPPED,
    PAGE_WRITTEN,
    PAGE_ZERO,
    PAGEMAP_SCAN,
    WP_MATCHING,
    Region,
    Scanner,
    Written,
    addresses,
    as_regions,
    joined,
)

_CACHED_NUMBERS, _FEW_REGIONS = 256, 16
_UFFD_USER_MODE_ONLY = 1
_UFFD_API, _FEATURE_WP_UNPOPULATED, _FEATURE_WP_ASYNC = 0xAA, 1 << 13, 1 << 15
_REGISTER_MODE_WP = 2
_ENTRY_PRESENT, _ENTRY_SWAPPED, _ENTRY_FILE = 1 << 63, 1 << 62, 1 << 61


class DirtyPages(Protocol):
    """A way to find written pages."""

    def watch(self, address: int, length: int) -> None:
        """This range has just been mapped: its pages count as unwritten from now on."""

    def written(self, address: int, length: int) -> Written:
        """Pages of the memory at `address` written since the last call; they count as unwritten afterwards."""

    def forget(self, address: int, length: int) -> None:
        """The private pages of this range were discarded."""

    def present(self, address: int, length: int) -> list[Region]:
        """Runs of anonymous memory that exist at all, because they were read or written."""


_UFFDIO_API = kernel.iowr(_UFFD_API, 0x3F, 24)
_UFFDIO_REGISTER = kernel.iowr(_UFFD_API, 0x00, 32)
_UFFDIO_WRITEPROTECT = kernel.iowr(_UFFD_API, 0x06, 24)
_WRITEPROTECT_MODE_WP = 1
IOCTLS = (PAGEMAP_SCAN, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT)
"""What a confined process still has to ask of its descriptors."""


class _Present:
    """PAGEMAP_SCAN for pages that exist."""

    def __init__(self, pagemap: int) -> None:
        self._existing = Scanner(pagemap, 0, inverted=0, mask=0, any_of=PAGE_PRESENT | PAGE_SWAPPED)

    def present(self, address: int, length: int) -> list[Region]:
        """See DirtyPages."""
        return as_regions(self._existing.scan(address, length))


class WriteProtection(_Present):
    """Userfaultfd: the kernel marks the first write to a protected page without stopping the writer.

    Pages become protected when they are first found. A page that was only read since it was mapped is found too, and then left
    out because it still shows the file, or the kernel's page of zeros. Once a good part of the memory was touched, all of it
    is protected beforehand: then nothing but written pages is found, in half the time.
    """

    def __init__(self, pagemap: int, dense_share: int = 8) -> None:
        """Memory of which one page in `dense_share` was touched is dense.

        Raises: OSError where the kernel lacks it.
        """
        super().__init__(pagemap)
        self._dense_share = dense_share
        self._dense = (0, 0)
        """Start and end of the memory that is protected beforehand."""
        self._touched = 0
        """Pages found for the first time in the memory that `_touched_at` tells."""
        self._touched_at = 0
        self._fd = kernel.syscall(kernel.SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK | _UFFD_USER_MODE_ONLY)
        self._known: set[int] = set()
        """Addresses of private pages that were reported before."""
        self._seen: dict[tuple[int, ...], Written] = {}
        """What the same result of the kernel meant before: messages tend to write the same pages."""
        try:
            api = (c_uint64 * 3)(_UFFD_API, _FEATURE_WP_UNPOPULATED | _FEATURE_WP_ASYNC, 0)
            kernel.ioctl(self._fd, _UFFDIO_API, api)
            existing = PAGE_PRESENT | PAGE_SWAPPED
            flags = WP_MATCHING | CHECK_WPASYNC
            self._scanner = Scanner(pagemap, flags, inverted=0, mask=PAGE_WRITTEN, any_of=existing)
            # The kernel has a short cut for exactly this question.
            self._quick_scanner = Scanner(pagemap, flags, inverted=0, mask=PAGE_WRITTEN, any_of=0)
            not_private = PAGE_FILE | PAGE_ZERO
            self._private = Scanner(pagemap, 0, inverted=not_private, mask=not_private, any_of=existing)
            _probe(self)
        except OSError:
            os.close(self._fd)
            raise

    def watch(self, address: int, length: int) -> None:
        """See DirtyPages."""
        # Mapping over a range has taken its registration away; registering twice does no harm.
        kernel.ioctl(self._fd, _UFFDIO_REGISTER, (c_uint64 * 4)(address, length, _REGISTER_MODE_WP, 0))
        self.forget(address, length)

    def written(self, address: int, length: int) -> Written:
        """See DirtyPages."""
        dense = self._dense[0] == address and address + length <= self._dense[1]
        flat = (self._quick_scanner if dense else self._scanner).scan(address, length)
        if not flat:
            return NOTHING
        key = (address, *flat)
        written = self._seen.get(key)
        if written is None:
            written = Written(address, as_regions(flat))
            certain = dense or self._drop_read_pages(address, written)
            if certain and len(flat) < _CACHED_NUMBERS and len(self._seen) < _CACHED_NUMBERS:
                self._seen[key] = written
            if not dense and self._touched * self._dense_share * OS_PAGE_BYTES >= length:
                self._protect(address, length)
                self._dense = (address, address + length)
        return written

    def _protect(self, address: int, length: int) -> None:
        """Have first writes noticed in all of this range, whether its pages exist or not."""
        kernel.ioctl(self._fd, _UFFDIO_WRITEPROTECT, (c_uint64 * 3)(address, length, _WRITEPROTECT_MODE_WP))

    def _drop_read_pages(self, base: int, written: Written) -> bool:
        """Leave out what was only read; False if anything was."""
        known = self._known
        pages = [base + index * OS_PAGE_BYTES for index in written.indices]
        unknown = [page for page in pages if page not in known]
        if not unknown:
            return True
        if self._touched_at != base:
            self._touched_at, self._touched = base, 0
        self._touched += len(unknown)
        if len(written.regions) <= _FEW_REGIONS:
            looked = [self._private.scan(start, length) for start, length in written.regions]
            private = set(addresses([r for flat in looked for r in as_regions(flat)]))
        else:
            private = set(addresses(as_regions(self._private.scan(unknown[0], unknown[-1] + OS_PAGE_BYTES - unknown[0]))))
        known.update(private.intersection(pages))
        kept = [page for page in pages if page in known]
        if len(kept) == len(pages):
            return True
        remaining = Written(base, joined(kept))
        written.regions, written.indices = remaining.regions, remaining.indices
        return False

    def forget(self, address: int, length: int) -> None:
        """See DirtyPages."""
        self._seen.clear()
        _forget(self._known, address, length)
        start, end = self._dense
        if start <= address <= end:  # within it, or grown at its end
            self._protect(address, length)
            self._dense = (start, max(end, address + length))
        else:
            # What was copied there beforehand counts as unwritten.
            self._scanner.scan(address, length)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


class _Compared:
    """Finds private pages and leaves out those with the content that was reported last."""

    def __init__(self) -> None:
        self._digests: dict[int, bytes] = {}

    def _private(self, address: int, length: int) -> list[Region]:
        raise NotImplementedError

    def written(self, address: int, length: int) -> Written:
        """See DirtyPages."""
        changed: list[int] = []
        digests = self._digests
        for page in addresses(self._private(address, length)):
            content = ctypes.string_at(page, OS_PAGE_BYTES)
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if digest != digests.get(page):
                digests[page] = digest
                changed.append(page)
        return Written(address, joined(changed)) if changed else NOTHING

    def forget(self, address: int, length: int) -> None:
        """See DirtyPages."""
        _forget(self._digests, address, length)

    def watch(self, address: int, length: int) -> None:
        """See DirtyPages."""
        self.forget(address, length)
        self.written(address, length)


class PrivatePages(_Compared, _Present):
    """PAGEMAP_SCAN for pages that don't show the mapped file any more."""

    def __init__(self, pagemap: int) -> None:
        """Raises: OSError where the kernel lacks it."""
        _Compared.__init__(self)
        _Present.__init__(self, pagemap)
        not_private = PAGE_FILE | PAGE_ZERO
        existing = PAGE_PRESENT | PAGE_SWAPPED
        self._scanner = Scanner(pagemap, 0, inverted=not_private, mask=not_private, any_of=existing)
        _probe(self)

    def _private(self, address: int, length: int) -> list[Region]:
        return as_regions(self._scanner.scan(address, length))


class PagemapEntries(_Compared):
    """/proc/self/pagemap, one entry per page; never-written memory that was only read is reported, once."""

    def __init__(self, pagemap: int) -> None:
        """Raises: OSError where it can't be read."""
        super().__init__()
        self._pagemap = pagemap
        _probe(self)

    def present(self, address: int, length: int) -> list[Region]:
        """See DirtyPages."""
        return self._entries(address, length, _ENTRY_PRESENT | _ENTRY_SWAPPED, 0)

    def _private(self, address: int, length: int) -> list[Region]:
        return self._entries(address, length, _ENTRY_PRESENT | _ENTRY_SWAPPED, _ENTRY_FILE)

    def _entries(self, address: int, length: int, any_of: int, none_of: int) -> list[Region]:
        first, count = address // OS_PAGE_BYTES, length // OS_PAGE_BYTES
        raw = os.pread(self._pagemap, count * 8, first * 8)
        if len(raw) != count * 8:
            raise OSError("/proc/self/pagemap is shorter than the address space")
        found: list[Region] = []
        for k, entry in enumerate(memoryview(raw).cast("Q")):
            if entry & any_of and not entry & none_of:
                found.append((address + k * OS_PAGE_BYTES, OS_PAGE_BYTES))
        return found


def _forget(pages: set[int] | dict[int, bytes], address: int, length: int) -> None:
    drop = pages.discard if isinstance(pages, set) else lambda page: pages.pop(page, None)
    if length // OS_PAGE_BYTES <= len(pages):
        for page in range(address, address + length, OS_PAGE_BYTES):
            drop(page)
    else:
        for page in [p for p in pages if address <= p < address + length]:
            drop(page)


def _probe(detector: DirtyPages) -> None:
    """Raises OSError unless the detector sees a written page of a private mapping, and only that."""
    probe_file = os.memfd_create("probe", os.MFD_CLOEXEC)
    try:
        os.ftruncate(probe_file, 4 * OS_PAGE_BYTES)
        buffer = kernel.map_anywhere(4 * OS_PAGE_BYTES, kernel.MAP_PRIVATE | kernel.MAP_NORESERVE, probe_file)
        detector.watch(buffer, 4 * OS_PAGE_BYTES)
        ctypes.string_at(buffer, 1)
        ctypes.memset(buffer + 2 * OS_PAGE_BYTES, 1, 1)
        seen = detector.written(buffer, 4 * OS_PAGE_BYTES)
        detector.forget(buffer, 4 * OS_PAGE_BYTES)
        kernel.unmap(buffer, 4 * OS_PAGE_BYTES)
        if seen.regions != [(buffer + 2 * OS_PAGE_BYTES, OS_PAGE_BYTES)]:
            raise OSError(f"{type(detector).__name__} doesn't find written pages here")
    finally:
        os.close(probe_file)


def open_detector() -> DirtyPages:
    """The best way that works here.

    Raises: OSError when none does.
    """
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    for kind in (WriteProtection, PrivatePages):
        try:
            return kind(pagemap)
        except OSError:
            continue
    return PagemapEntries(pagemap)
