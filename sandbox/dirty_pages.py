"""Which pages of the heap were written since they were last asked about.

Plumbing. Three ways, the best that works is taken: userfaultfd with asynchronous write protection and PAGEMAP_SCAN (Linux
6.7, finds exactly the written pages), PAGEMAP_SCAN for private pages, and /proc/self/pagemap. The latter two can't tell an
old private page from a newly written one, so they compare digests of what they reported before.

An answer may name pages whose content is unchanged (the node compares contents); it never leaves out a changed one.
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

_REGIONS = 4096
_UFFD_USER_MODE_ONLY = 1
_UFFD_API, _FEATURE_WP_UNPOPULATED, _FEATURE_WP_ASYNC = 0xAA, 1 << 13, 1 << 15
_REGISTER_MODE_WP, _WRITEPROTECT_MODE_WP = 2, 1
_PAGE_WRITTEN, _PAGE_FILE, _PAGE_PRESENT, _PAGE_SWAPPED, _PAGE_ZERO = 2, 4, 8, 16, 32
_SCAN_WP_MATCHING, _SCAN_CHECK_WPASYNC = 1, 2
_ENTRY_PRESENT, _ENTRY_SWAPPED, _ENTRY_FILE = 1 << 63, 1 << 62, 1 << 61


class DirtyPages(Protocol):
    """A way to find written pages."""

    def watch(self, address: int, length: int) -> None:
        """This range has just been mapped, or grown: its pages count as unwritten from now on."""

    def written(self, address: int, length: int) -> list[Region]:
        """Runs written since the last call, ascending; they count as unwritten afterwards."""

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
_UFFDIO_WRITEPROTECT = kernel.iowr(_UFFD_API, 0x06, 24)


class _Scanner:
    """PAGEMAP_SCAN with fixed conditions."""

    def __init__(self, pagemap: int, flags: int, inverted: int, mask: int, any_of: int) -> None:
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
            return_mask=_PAGE_WRITTEN if mask & _PAGE_WRITTEN else _PAGE_PRESENT,
        )

    def scan(self, address: int, length: int) -> list[Region]:
        arguments, regions, end = self._arguments, self._regions, address + length
        arguments.start, arguments.end = address, end
        found: list[Region] = []
        while True:
            count = kernel.ioctl(self._pagemap, _PAGEMAP_SCAN, arguments)
            for k in range(0, 3 * count, 3):
                start = regions[k]
                found.append((start, regions[k + 1] - start))
            if count < _REGIONS or arguments.walk_end >= end:
                return found
            arguments.start = arguments.walk_end


class _Present:
    """PAGEMAP_SCAN for pages that exist."""

    def __init__(self, pagemap: int) -> None:
        self._existing = _Scanner(pagemap, 0, inverted=0, mask=0, any_of=_PAGE_PRESENT | _PAGE_SWAPPED)

    def present(self, address: int, length: int) -> list[Region]:
        return self._existing.scan(address, length)


class WriteProtection(_Present):
    """Userfaultfd: the kernel marks the first write to a protected page without stopping the writer."""

    def __init__(self, pagemap: int) -> None:
        """Raises: OSError where the kernel lacks it."""
        super().__init__(pagemap)
        self._fd = kernel.syscall(kernel.SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK | _UFFD_USER_MODE_ONLY)
        try:
            api = (c_uint64 * 3)(_UFFD_API, _FEATURE_WP_UNPOPULATED | _FEATURE_WP_ASYNC, 0)
            kernel.ioctl(self._fd, _UFFDIO_API, api)
            flags = _SCAN_WP_MATCHING | _SCAN_CHECK_WPASYNC
            self._scanner = _Scanner(pagemap, flags, inverted=0, mask=_PAGE_WRITTEN, any_of=0)
            _probe(self)
        except OSError:
            os.close(self._fd)
            raise

    def watch(self, address: int, length: int) -> None:
        # Mapping over a range has taken its registration away; registering twice does no harm.
        kernel.ioctl(self._fd, _UFFDIO_REGISTER, (c_uint64 * 4)(address, length, _REGISTER_MODE_WP, 0))
        kernel.ioctl(self._fd, _UFFDIO_WRITEPROTECT, (c_uint64 * 3)(address, length, _WRITEPROTECT_MODE_WP))

    def written(self, address: int, length: int) -> list[Region]:
        return self._scanner.scan(address, length)

    def forget(self, address: int, length: int) -> None:
        # Discarded anonymous pages lose their mark, and would count as written.
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

    def watch(self, address: int, length: int) -> None:
        self.forget(address, length)

    def written(self, address: int, length: int) -> list[Region]:
        found: list[Region] = []
        digests = self._digests
        for page in _pages(self._private(address, length)):
            content = ctypes.string_at(page, OS_PAGE_BYTES)
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if digest == digests.get(page):
                continue
            digests[page] = digest
            if found and found[-1][0] + found[-1][1] == page:
                found[-1] = (found[-1][0], found[-1][1] + OS_PAGE_BYTES)
            else:
                found.append((page, OS_PAGE_BYTES))
        return found

    def forget(self, address: int, length: int) -> None:
        end = address + length
        if length // OS_PAGE_BYTES <= len(self._digests):
            for page in range(address, end, OS_PAGE_BYTES):
                self._digests.pop(page, None)
        else:
            for page in [p for p in self._digests if address <= p < end]:
                del self._digests[page]


class PrivatePages(_Compared, _Present):
    """PAGEMAP_SCAN for pages that don't show the mapped file any more."""

    def __init__(self, pagemap: int) -> None:
        """Raises: OSError where the kernel lacks it."""
        _Compared.__init__(self)
        _Present.__init__(self, pagemap)
        inverted = _PAGE_FILE | _PAGE_ZERO
        self._scanner = _Scanner(
            pagemap, 0, inverted=inverted, mask=_PAGE_FILE | _PAGE_ZERO, any_of=_PAGE_PRESENT | _PAGE_SWAPPED
        )
        _probe(self)

    def _private(self, address: int, length: int) -> list[Region]:
        return self._scanner.scan(address, length)


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


def _pages(regions: list[Region]) -> Iterator[int]:
    for start, length in regions:
        yield from range(start, start + length, OS_PAGE_BYTES)


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
        if seen != [(buffer + 2 * OS_PAGE_BYTES, OS_PAGE_BYTES)]:
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
