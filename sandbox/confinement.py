"""Rights that a sandbox gives up once its canister is loaded.

Plumbing. Nothing here needs privileges. Each part is put on as far as the kernel offers it; what is missing is told to the
node, which decides. Not for Wasm (it has no rights anyway) but for the case that somebody breaks out of it.

* seccomp: a list of allowed system calls for all threads; everything else fails with EPERM. Threads, sockets and files that are
  there already go on working, descriptors still arrive over the Unix socket.
  ZeroMQ's threads may be only starting, and abort the process if they can't look at their scheduling: that stays allowed.
* Landlock: no file can be opened and no process outside be signalled, even by a system call that the list forgot.
* Resource limits: no core dumps, no new processes, few descriptors. None counts address space, of which memories reserve much.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from ctypes import Structure, c_uint16, c_uint64, c_void_p
from typing import Final

from sandbox import kernel
from sandbox.dirty_pages import IOCTLS

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, _SECCOMP_FILTER_FLAG_LOG = 1, 1, 2
_ALLOW, _EPERM, _KILL = 0x7FFF0000, 0x00050001, 0x80000000
_LOAD_WORD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_ARGUMENTS = 0, 4, 16
_X32_BIT = 0x40000000
_MAX_DESCRIPTORS_MORE = 32

_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_VERSION_FLAG = 1
_FILE_RIGHTS: Final = ((1, 1 << 13), (2, 1 << 14), (3, 1 << 15), (5, 1 << 16))
"""From which ABI on how many rights exist: all bits below."""

_NUMBERS: Final = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
        "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "pwrite64": 18, "readv": 19,
        "writev": 20, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39,
        "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "getsockopt": 55, "exit": 60,
        "ftruncate": 77, "gettimeofday": 96, "getrusage": 98, "sigaltstack": 131, "gettid": 186, "futex": 202,
        "epoll_wait": 232, "epoll_ctl": 233, "exit_group": 231, "restart_syscall": 219, "clock_gettime": 228,
        "clock_nanosleep": 230, "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "epoll_pwait": 281,
        "getrandom": 318, "membarrier": 324, "rseq": 334, "epoll_pwait2": 441,
        "sched_getparam": 143, "sched_setscheduler": 144, "sched_getscheduler": 145,
        "ioctl": 16, "tgkill": 234, "seccomp": 317,
    },
    "aarch64": {
        "read": 63, "write": 64, "close": 57, "lseek": 62, "mmap": 222, "mprotect": 226, "munmap": 215, "brk": 214,
        "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "pread64": 67, "pwrite64": 68, "readv": 65,
        "writev": 66, "sched_yield": 124, "mremap": 216, "madvise": 233, "nanosleep": 101, "getpid": 172, "sendto": 206,
        "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "shutdown": 210, "getsockopt": 209, "exit": 93, "ftruncate": 46,
        "gettimeofday": 169, "getrusage": 165, "sigaltstack": 132, "gettid": 178, "futex": 98, "epoll_ctl": 21,
        "exit_group": 94, "restart_syscall": 128, "clock_gettime": 113, "clock_nanosleep": 115, "pselect6": 72, "ppoll": 73,
        "set_robust_list": 99, "epoll_pwait": 22, "getrandom": 278, "membarrier": 283, "rseq": 293, "epoll_pwait2": 441,
        "sched_setscheduler": 119, "sched_getscheduler": 120, "sched_getparam": 121,
        "ioctl": 29, "tgkill": 131, "seccomp": 277,
    },
}  # fmt: skip
_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CONDITIONAL: Final = ("ioctl", "tgkill", "seccomp")


class _FilterProgram(Structure):
    _fields_ = [("length", c_uint16), ("filter", c_void_p)]


class _LandlockRules(Structure):
    _fields_ = [("files", c_uint64), ("network", c_uint64), ("scoped", c_uint64)]


def confine() -> tuple[str, ...]:
    """Give up every right that running loaded canisters doesn't need; returns the parts that this kernel doesn't offer."""
    lacking = []
    for part, put_on in (
        ("resource limits", _limit),
        ("no_new_privs", _renounce),
        ("landlock", _landlock),
        ("seccomp", _filter),
    ):
        try:
            put_on()
        except (OSError, ValueError, KeyError) as error:
            lacking.append(f"{part}: {error}")
    return tuple(lacking)


def close_other_descriptors(keep: int) -> None:
    """Close what was inherited, but standard input, output and error, and `keep`."""
    os.closerange(3, keep)
    os.closerange(keep + 1, max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], keep + 2))


def _limit() -> None:
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: highest + 1 + _MAX_DESCRIPTORS_MORE,
    }
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _renounce() -> None:
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _landlock() -> None:
    version = kernel.syscall(_LANDLOCK_CREATE, 0, 0, _LANDLOCK_VERSION_FLAG)
    files = max(bits for abi, bits in _FILE_RIGHTS if abi <= version) - 1
    rules = _LandlockRules(files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    fd = kernel.syscall(_LANDLOCK_CREATE, ctypes.addressof(rules), size, 0)
    try:
        kernel.syscall(_LANDLOCK_RESTRICT, fd, 0)
    finally:
        os.close(fd)


def _filter() -> None:
    machine = platform.machine()
    numbers = _NUMBERS[machine]
    code = _program(numbers, _ARCHITECTURES[machine], os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _FilterProgram(len(code) // 8, ctypes.addressof(buffer))
    failed = kernel.syscall(
        numbers["seccomp"],
        _SECCOMP_SET_MODE_FILTER,
        _SECCOMP_FILTER_FLAG_TSYNC | _SECCOMP_FILTER_FLAG_LOG,
        ctypes.addressof(program),
    )
    if failed:
        raise OSError(f"thread {failed} can't be filtered")


def _program(numbers: dict[str, int], architecture: int, pid: int) -> bytes:
    """The filter: another architecture kills, an allowed call passes, anything else fails with EPERM."""
    steps = [
        _step(_LOAD_WORD, _OFFSET_ARCHITECTURE),
        _step(_JUMP_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD_WORD, _OFFSET_NUMBER),
        _step(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1),
        _step(_RETURN, _EPERM),
    ]
    for name, number in numbers.items():
        if name not in _CONDITIONAL:
            steps += [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    steps += _only(numbers["ioctl"], 1, IOCTLS) + _only(numbers["tgkill"], 0, (pid,))
    return b"".join([*steps, _step(_RETURN, _EPERM)])


def _only(number: int, argument: int, values: tuple[int, ...]) -> list[bytes]:
    """This system call, if the low half of an argument is one of these values."""
    tests = [s for value in values for s in (_step(_JUMP_EQUAL, value, 0, 1), _step(_RETURN, _ALLOW))]
    inner = [_step(_LOAD_WORD, _OFFSET_ARGUMENTS + 8 * argument), *tests, _step(_RETURN, _EPERM)]
    return [_step(_JUMP_EQUAL, number, 0, len(inner)), *inner]


def _step(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)
