"""Looking at page tables: runs of pages, and PAGEMAP_SCAN to find those of a kind.

Plumbing. Linux 6.7 or newer; without the ioctl every scan fails with OSError.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import Structure, c_uint64

from ic_types.units import OS_PAGE_BYTES
from sandbox import kernel

PAGE_WRITTEN, PAGE_FILE, PAGE_PRESENT, PAGE_SWAPPED, PAGE_ZERO = 2, 4, 8, 16, 32
"""Kinds of pages: not write-protected, showing a file, there, swapped out, the kernel's page of zeros."""
WP_MATCHING, CHECK_WPASYNC = 1, 2
"""Write-protect what is found; fail unless the range is registered for that."""
_REGIONS = 4096
_FOUND = (c_uint64 * (3 * _REGIONS))()
"""What the kernel found last, for all scanners: made before the fork, so that a sandbox pays for the pages that get filled."""

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


def addresses(regions: list[Region]) -> Iterator[int]:
    """Address of each page of these runs."""
    for start, length in regions:
        yield from range(start, start + length, OS_PAGE_BYTES)


def joined(pages: list[int]) -> list[Region]:
    """Runs of ascending page addresses."""
    found: list[Region] = []
    for page in pages:
        if found and found[-1][0] + found[-1][1] == page:
            found[-1] = (found[-1][0], found[-1][1] + OS_PAGE_BYTES)
        else:
            found.append((page, OS_PAGE_BYTES))
    return found


def as_regions(flat: list[int]) -> list[Region]:
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


_SCAN_FIELDS = (
    *("size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages"),
    *("category_inverted", "category_mask", "category_anyof_mask", "return_mask"),
)


class _ScanArguments(Structure):
    _fields_ = [(name, c_uint64) for name in _SCAN_FIELDS]


PAGEMAP_SCAN = kernel.iowr(ord("f"), 16, ctypes.sizeof(_ScanArguments))


class Scanner:
    """PAGEMAP_SCAN with fixed conditions."""

    def __init__(self, pagemap: int, flags: int, *, inverted: int, mask: int, any_of: int) -> None:
        self._pagemap = pagemap
        self._arguments = _ScanArguments(
            size=ctypes.sizeof(_ScanArguments),
            flags=flags,
            vec=ctypes.addressof(_FOUND),
            vec_len=_REGIONS,
            category_inverted=inverted,
            category_mask=mask,
            category_anyof_mask=any_of,
            return_mask=PAGE_PRESENT & any_of or mask,
        )

    def scan(self, address: int, length: int) -> list[int]:
        """Flat list of start, end and an unspecified number for each run."""
        arguments, end = self._arguments, address + length
        arguments.start, arguments.end = address, end
        count = kernel.ioctl(self._pagemap, PAGEMAP_SCAN, arguments)
        found: list[int] = _FOUND[: 3 * count]
        while count == _REGIONS and arguments.walk_end < end:
            arguments.start = arguments.walk_end
            count = kernel.ioctl(self._pagemap, PAGEMAP_SCAN, arguments)
            found += _FOUND[: 3 * count]
        return found
