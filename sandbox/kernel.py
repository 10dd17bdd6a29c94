"""The few system calls that Python's standard library lacks, with checked results.

Plumbing. x86-64 and aarch64 Linux.
"""

from __future__ import annotations

import ctypes
import os
import platform
from ctypes import c_int, c_int64, c_long, c_size_t, c_ulong, c_void_p
from typing import Any, Final

PROT_NONE: Final = 0
PROT_READ_WRITE: Final = 3
MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_NORESERVE: Final = 0x4000
MADV_DONTNEED: Final = 4
SYS_USERFAULTFD: Final = 282 if platform.machine() == "aarch64" else 323

_FALLOC_PUNCH_HOLE_KEEP_SIZE = 3
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MAP_FAILED = (1 << 64) - 1

_libc = ctypes.CDLL(None, use_errno=True)


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = ctypes.CFUNCTYPE(result, *arguments, use_errno=True)((name, _libc))
    return function


_mmap = _function("mmap", c_void_p, c_void_p, c_size_t, c_int, c_int, c_int, c_long)
_munmap = _function("munmap", c_int, c_void_p, c_size_t)
_madvise = _function("madvise", c_int, c_void_p, c_size_t, c_int)
_fallocate = _function("fallocate", c_int, c_int, c_int, c_int64, c_int64)
_ioctl = _function("ioctl", c_int, c_int, c_ulong, c_void_p)
_syscall = _function("syscall", c_long, c_long, c_long, c_long, c_long, c_long)
_mallopt = _function("mallopt", c_int, c_int, c_int)
_malloc_trim = _function("malloc_trim", c_int, c_size_t)
_prctl = _function("prctl", c_int, c_int, c_ulong, c_ulong, c_ulong, c_ulong)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def map_fixed(address: int, length: int, flags: int, fd: int, offset: int) -> None:
    """Map readable and writable memory at this very address, replacing what is there.

    Raises: OSError.
    """
    mapped = _mmap(address, length, PROT_READ_WRITE, flags | MAP_FIXED, fd, offset)
    if mapped != address:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap: {os.strerror(number)}")


def map_anywhere(length: int, flags: int, fd: int = -1, offset: int = 0) -> int:
    """Map readable and writable memory where there is room; returns its address.

    Raises: OSError.
    """
    mapped = _mmap(None, length, PROT_READ_WRITE, flags, fd, offset)
    if mapped is None or mapped == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap: {os.strerror(number)}")
    return int(mapped)


def unmap(address: int, length: int) -> None:
    """Give mapped memory back.

    Raises: OSError.
    """
    _checked(_munmap(address, length), "munmap")


def discard(address: int, length: int) -> None:
    """Drop private pages: what lies under them shows again.

    Raises: OSError.
    """
    _checked(_madvise(address, length, MADV_DONTNEED), "madvise")


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Give the memory of this part of a file back; it reads as zeros, and the file stays as long as it is.

    Raises: OSError.
    """
    _checked(_fallocate(fd, _FALLOC_PUNCH_HOLE_KEEP_SIZE, offset, length), "fallocate")


def ioctl(fd: int, request: int, argument: Any) -> int:
    """An ioctl with a structure.

    Raises: OSError.
    """
    return _checked(_ioctl(fd, request, ctypes.addressof(argument)), "ioctl")


def syscall(number: int, *arguments: int) -> int:
    """A raw system call.

    Raises: OSError.
    """
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return _checked(_syscall(number, *padded), f"system call {number}")


def prctl(option: int, *arguments: int) -> int:
    """Process control.

    Raises: OSError.
    """
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return _checked(_prctl(option, *padded), f"prctl {option}")


def keep_freed_memory(most: int) -> None:
    """Have malloc keep up to `most` freed bytes for later: a fresh mapping costs a page fault per 4 KiB."""
    _mallopt(_M_MMAP_THRESHOLD, most // 2)
    _mallopt(_M_TRIM_THRESHOLD, most)


def return_freed_memory() -> None:
    """Give memory that malloc keeps for later back to the system."""
    _malloc_trim(0)


def iowr(kind: int, number: int, size: int) -> int:
    """The request code of an ioctl that reads and writes a structure of `size` bytes."""
    return 3 << 30 | size << 16 | kind << 8 | number
