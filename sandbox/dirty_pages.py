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
from collections.abc import Iterator
from ctypes import Structure, c_uint64
from typing import Protocol

from ic_types.units import OS_PAGE_BYTES
from sandbox import kernel

Region = tuple[int, int]
"""Address and length in bytes of a run of pages."""


class Written:
    """Pages written between two looks."""

    __slots__ = ("indices", "regions")

    def __init__(self, base: int, regions: list[Region]) -> None:
        self.regions = regions
        self.indices = tuple(page for start, length in regions for page in _numbers(start - base, length))
        """Ascending page numbers, counted from the start of the memory."""


def _numbers(offset: int, length: int) -> range:
    return range(offset // OS_PAGE_BYTES, (offset + length) // OS_PAGE_BYTES)


NOTHING = Written(0, [])

_REGIONS = 4096
_CACHED_NUMBERS, _FEW_REGIONS = 256, 16
_UFFD_USER_MODE_ONLY = 1
_UFFD_API, _FEATURE_WP_UNPOPULATED, _FEATURE_WP_ASYNC = 0xAA, 1 << 13, 1 << 15
_REGISTER_MODE_WP = 2
_PAGE_WRITTEN, _PAGE_FILE, _PAGE_PRESENT, _PAGE_SWAPPED, _PAGE_ZERO = 2, 4, 8, 16, 32
_SCAN_WP_MATCHING, _SCAN_CHECK_WPASYNC = 1, 2
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


_SCAN_FIELDS = (
    *("size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages"),
    *("category_inverted", "category_mask", "category_anyof_mask", "return_mask"),
)


class _ScanArguments(Structure):
    _fields_ = [(name, c_uint64) for name in _SCAN_FIELDS]


_PAGEMAP_SCAN = kernel.iowr(ord("f"), 16, ctypes.sizeof(_ScanArguments))
_UFFDIO_API = kernel.iowr(_UFFD_API, 0x3F, 24)
_UFFDIO_REGISTER = kernel.iowr(_UFFD_API, 0x00, 32)
IOCTLS = (_PAGEMAP_SCAN, _UFFDIO_REGISTER)
"""What a confined process still has to ask of its descriptors."""


class _Scanner:
    """PAGEMAP_SCAN with fixed conditions."""

    def __init__(self, pagemap: int, flags: int, *, inverted: int, mask: int, any_of: int) -> None:
        self._pagemap = pagemap
        self._regions = (c_uint64 * (3 * _REGIONS))()
        self._arguments = _ScanArguments(
            size=ctypes.sizeof(_ScanArguments),
            flags=flags,
            vec=ctypes.addressof(self._regions),
            vec_len=_REGIONS,
            category_inverted=inverted,
            category_mask=mask,
            category_anyof_mask=any_of,
            return_mask=_PAGE_PRESENT & any_of or mask,
        )

    def scan(self, address: int, length: int) -> list[int]:
        """Flat list of start, end and an unspecified number for each run."""
        arguments, end = self._arguments, address + length
        arguments.start, arguments.end = address, end
        count = kernel.ioctl(self._pagemap, _PAGEMAP_SCAN, arguments)
        found: list[int] = self._regions[: 3 * count]
        while count == _REGIONS and arguments.walk_end < end:
            arguments.start = arguments.walk_end
            count = kernel.ioctl(self._pagemap, _PAGEMAP_SCAN, arguments)
            found += self._regions[: 3 * count]
        return found


def _as_regions(flat: list[int]) -> list[Region]:
    """Runs that touch are joined: the kernel splits by kind of page."""
    found: list[Region] = []
    end = -1
    for k in range(0, len(flat), 3):
        start, upto = flat[k], flat[k + 1]
        if start == end:
            found[-1] = (found[-1][0], upto - found[-1][0])
        else:
            found.append((start, upto - start))
        end = upto
    return found


class _Present:
    """PAGEMAP_SCAN for pages that exist."""

    def __init__(self, pagemap: int) -> None:
        self._existing = _Scanner(pagemap, 0, inverted=0, mask=0, any_of=_PAGE_PRESENT | _PAGE_SWAPPED)

    def present(self, address: int, length: int) -> list[Region]:
        return _as_regions(self._existing.scan(address, length))


class WriteProtection(_Present):
    """Userfaultfd: the kernel marks the first write to a protected page without stopping the writer.

    Pages become protected when they are first found. A page that was only read since it was mapped is found too, and then left
    out because it still shows the file, or the kernel's page of zeros.
    """

    def __init__(self, pagemap: int) -> None:
        """Raises: OSError where the kernel lacks it."""
        super().__init__(pagemap)
        self._fd = kernel.syscall(kernel.SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK | _UFFD_USER_MODE_ONLY)
        self._known: set[int] = set()
        """Addresses of private pages that were reported before."""
        self._seen: dict[tuple[int, ...], Written] = {}
        """What the same result of the kernel meant before: messages tend to write the same pages."""
        try:
            api = (c_uint64 * 3)(_UFFD_API, _FEATURE_WP_UNPOPULATED | _FEATURE_WP_ASYNC, 0)
            kernel.ioctl(self._fd, _UFFDIO_API, api)
            existing = _PAGE_PRESENT | _PAGE_SWAPPED
            flags = _SCAN_WP_MATCHING | _SCAN_CHECK_WPASYNC
            self._scanner = _Scanner(pagemap, flags, inverted=0, mask=_PAGE_WRITTEN, any_of=existing)
            not_private = _PAGE_FILE | _PAGE_ZERO
            self._private = _Scanner(pagemap, 0, inverted=not_private, mask=not_private, any_of=existing)
            _probe(self)
        except OSError:
            os.close(self._fd)
            raise

    def watch(self, address: int, length: int) -> None:
        # Mapping over a range has taken its registration away; registering twice does no harm.
        kernel.ioctl(self._fd, _UFFDIO_REGISTER, (c_uint64 * 4)(address, length, _REGISTER_MODE_WP, 0))
        self.forget(address, length)

    def written(self, address: int, length: int) -> Written:
        flat = self._scanner.scan(address, length)
        if not flat:
            return NOTHING
        key = (address, *flat)
        written = self._seen.get(key)
        if written is None:
            written = Written(address, _as_regions(flat))
            if self._drop_read_pages(address, written) and len(flat) < _CACHED_NUMBERS and len(self._seen) < _CACHED_NUMBERS:
                self._seen[key] = written
        return written

    def _drop_read_pages(self, base: int, written: Written) -> bool:
        """Leave out what was only read; False if anything was."""
        known = self._known
        pages = [base + index * OS_PAGE_BYTES for index in written.indices]
        unknown = [page for page in pages if page not in known]
        if not unknown:
            return True
        if len(written.regions) <= _FEW_REGIONS:
            looked = [self._private.scan(start, length) for start, length in written.regions]
            private = set(_addresses([r for flat in looked for r in _as_regions(flat)]))
        else:
            private = set(_addresses(_as_regions(self._private.scan(unknown[0], unknown[-1] + OS_PAGE_BYTES - unknown[0]))))
        known.update(private.intersection(pages))
        kept = [page for page in pages if page in known]
        if len(kept) == len(pages):
            return True
        remaining = Written(base, _joined(kept))
        written.regions, written.indices = remaining.regions, remaining.indices
        return False

    def forget(self, address: int, length: int) -> None:
        self._seen.clear()
        _forget(self._known, address, length)
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
        changed: list[int] = []
        digests = self._digests
        for page in _addresses(self._private(address, length)):
            content = ctypes.string_at(page, OS_PAGE_BYTES)
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if digest != digests.get(page):
                digests[page] = digest
                changed.append(page)
        return Written(address, _joined(changed)) if changed else NOTHING

    def forget(self, address: int, length: int) -> None:
        _forget(self._digests, address, length)

    def watch(self, address: int, length: int) -> None:
        self.forget(address, length)
        self.written(address, length)


class PrivatePages(_Compared, _Present):
    """PAGEMAP_SCAN for pages that don't show the mapped file any more."""

    def __init__(self, pagemap: int) -> None:
        """Raises: OSError where the kernel lacks it."""
        _Compared.__init__(self)
        _Present.__init__(self, pagemap)
        not_private = _PAGE_FILE | _PAGE_ZERO
        existing = _PAGE_PRESENT | _PAGE_SWAPPED
        self._scanner = _Scanner(pagemap, 0, inverted=not_private, mask=not_private, any_of=existing)
        _probe(self)

    def _private(self, address: int, length: int) -> list[Region]:
        return _as_regions(self._scanner.scan(address, length))


class PagemapEntries(_Compared):
    """/proc/self/pagemap, one entry per page; never-written memory that was only read is reported, once."""

    def __init__(self, pagemap: int) -> None:
        """Raises: OSError where it can't be read."""
        super().__init__()
        self._pagemap = pagemap
        _probe(self)

    def present(self, address: int, length: int) -> list[Region]:
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


def _addresses(regions: list[Region]) -> Iterator[int]:
    for start, length in regions:
        yield from range(start, start + length, OS_PAGE_BYTES)


def _joined(pages: list[int]) -> list[Region]:
    found: list[Region] = []
    for page in pages:
        if found and found[-1][0] + found[-1][1] == page:
            found[-1] = (found[-1][0], found[-1][1] + OS_PAGE_BYTES)
        else:
            found.append((page, OS_PAGE_BYTES))
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
