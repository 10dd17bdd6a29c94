"""What a machine must offer, what it should offer, and what each lack means.

Plumbing. Everything is tried, nothing is guessed from version numbers. What takes rights away is tried in a forked child, so
call this in a process that has used neither ZeroMQ nor wasmtime.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
import resource
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from configs.estimate import available_bytes
from ic_types.errors import BadInput
from sandbox import kernel
from sandbox.confinement import confine
from sandbox.dirty_pages import DirtyPages, PagemapEntries, PrivatePages, WriteProtection
from subnet.lab.run_dir import home
from subnet.process_tools import make_socket_folder

PYTHONS: Final = ((3, 11), (3, 14))
_LIBRARIES: Final = (
    "wasmtime", "zmq", "msgpack", "cbor2", "structlog", "click", "rich", "cryptography", "setproctitle",
)  # fmt: skip
_WASMTIME: Final = "50"
_RESERVED = 512 << 30
_STACK = 8 << 20
_DESCRIPTORS, _PROCESSES, _MAPPINGS = 4096, 1024, 65_530
_MEMORY = 2 << 30
_PARTS: Final = {
    "resource limits": "a broken-out sandbox could open many descriptors or leave core dumps",
    "no_new_privs": "a broken-out sandbox could run set-uid programs",
    "landlock": "only seccomp keeps a broken-out sandbox from files",
    "network namespace": "only seccomp keeps a broken-out sandbox from the network",
    "seccomp": "a broken-out sandbox could make any system call",
}
_ALWAYS_TRIED: Final = ("resource limits", "no_new_privs", "landlock", "seccomp")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    name: str
    found: str
    lack: str = ""
    """What it means that this is missing; empty if it isn't."""
    fatal: bool = False
    """Without it nothing runs."""


def examine() -> list[Finding]:
    """Everything, in the order in which one would mend it."""
    return [finding for part in (_python, _libraries, _kernel, _pages, _confinement, _limits, _places) for finding in part()]


def _finding(name: str, found: str, fine: bool, lack: str, *, fatal: bool = False) -> Finding:
    return Finding(name, found) if fine else Finding(name, found, lack, fatal)


# --- Python


def _python() -> Iterator[Finding]:
    version, (oldest, newest) = sys.version_info[:2], PYTHONS
    allowed = f"{oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"
    shown = f"{platform.python_implementation()} {platform.python_version()}"
    fine = oldest <= version <= newest and platform.python_implementation() == "CPython"
    yield _finding("Python", shown, fine, f"icsim is made for CPython {allowed}; others may fail anywhere", fatal=True)


def _libraries() -> Iterator[Finding]:
    missing = []
    for name in (*_LIBRARIES, "ic_types.bls"):
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            missing.append(f"{name} ({error})")
    lack = f"icsim can't run without: {', '.join(missing)}; `make setup` installs them into .venv"
    yield _finding("libraries", f"{len(_LIBRARIES) + 1 - len(missing)} of {len(_LIBRARIES) + 1}", not missing, lack, fatal=True)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("wasmtime")
        lack = f"sandboxes are made for wasmtime {_WASMTIME}: another may load no module, or count on other internals"
        yield _finding("wasmtime", version, version.split(".")[0] == _WASMTIME, lack, fatal=True)


# --- kernel


def _kernel() -> Iterator[Finding]:
    machine = platform.machine()
    fine = platform.system() == "Linux" and machine in ("x86_64", "aarch64")
    shown = f"{platform.system()} {platform.release()}, {machine}"
    yield _finding("system", shown, fine, "sandboxes know the system calls of Linux on x86-64 and aarch64 only", fatal=True)
    tried: tuple[tuple[str, Callable[[], None], str], ...] = (
        ("memory files", _try_memfd, "committed memory can't be shared with sandboxes"),
        ("pidfd", lambda: os.close(os.pidfd_open(os.getpid())), "processes can't be ended without risk of ending another"),
        (
            "512 GiB reserved",
            _try_reservation,
            "modules can't be loaded: no overcommitted reservations (vm.overcommit_memory 2, ulimit -v)",
        ),
        ("parent-death signal", lambda: _in_child(lambda: kernel.prctl(1, 9)), "processes would outlive icsim"),
    )
    for name, attempt, lack in tried:
        yield _tried(name, attempt, lack)
    count = _number(Path("/proc/sys/vm/max_map_count"))
    lack = "sandboxes of large fragmented memories may fail to map them: sysctl vm.max_map_count=65530"
    yield _finding("mappings of a process", f"{count:,}" if count else "unknown", count >= _MAPPINGS, lack)


def _tried(name: str, attempt: Callable[[], None], lack: str) -> Finding:
    try:
        attempt()
    except (OSError, AttributeError) as error:
        return Finding(name, str(error), lack, fatal=True)
    return Finding(name, "works")


def _try_memfd() -> None:
    writable = os.memfd_create("icsim-doctor", os.MFD_CLOEXEC)
    try:
        os.close(os.open(f"/proc/self/fd/{writable}", os.O_RDONLY))
    finally:
        os.close(writable)


def _try_reservation() -> None:
    at = kernel.map_anywhere(_RESERVED, kernel.MAP_PRIVATE | kernel.MAP_ANONYMOUS | kernel.MAP_NORESERVE)
    kernel.unmap(at, _RESERVED)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _pages() -> Iterator[Finding]:
    """The three ways to find written pages, the best first."""
    ways: tuple[tuple[str, Callable[[int], DirtyPages], str], ...] = (
        ("userfaultfd WP_ASYNC", WriteProtection, "written pages are found by PAGEMAP_SCAN, slower once a large heap was read"),
        (
            "PAGEMAP_SCAN",
            PrivatePages,
            "without userfaultfd too, every page's entry is read: 22 us per MiB of heap and message",
        ),
        ("/proc/self/pagemap", PagemapEntries, "if the others lack too, written pages can't be found"),
    )
    works = False
    for name, way, lack in ways:
        try:
            _in_child(lambda way=way: way(os.open("/proc/self/pagemap", os.O_RDONLY)))  # type: ignore[misc]
        except OSError as error:
            yield Finding(name, str(error), lack, fatal=not works and way is PagemapEntries)
        else:
            works = True
            yield Finding(name, "works")


def _in_child(attempt: Callable[[], object]) -> None:
    """Do it in a child, which may change itself.

    Raises: OSError when it does there.
    """

    def tell() -> list[str]:
        attempt()
        return []

    lines = _told_by_child(tell)
    if lines:
        raise OSError(lines[0])


def _told_by_child(work: Callable[[], list[str]]) -> list[str]:
    """Lines that the work returns in a child, or its error as the only one."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            try:
                lines = work()
            except (OSError, AttributeError) as error:
                lines = [str(error)]
            os.write(writing, "\n".join(lines).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        lines = told.read().splitlines()
    _, status = os.waitpid(child, 0)
    return lines if not status else [f"the child that tried ended with status {status}"]


def _confinement() -> Iterator[Finding]:
    lacking = dict(line.partition(": ")[::2] for line in _told_by_child(_confined))
    for part in _ALWAYS_TRIED:
        if part not in lacking:
            yield Finding(part, "works")
    for part, why in lacking.items():
        yield Finding(part, why, _PARTS.get(part, "a broken-out sandbox could do this"))


def _confined() -> list[str]:
    """What lacks, and what is possible nevertheless, once all rights are given up."""
    lacking = list(confine())
    attempts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("files", lambda: os.open("/proc/self/status", os.O_RDONLY)),
        ("sockets", socket.socket),
    )
    for name, attempt in attempts:
        try:
            attempt()
        except OSError:
            continue
        lacking.append(f"{name}: a confined process can still use them")
    return lacking


# --- limits and places


def _limits() -> Iterator[Finding]:
    for name, kind, wanted, fatal, lack in (
        (
            "open files (ulimit -Hn)",
            resource.RLIMIT_NOFILE,
            _DESCRIPTORS,
            False,
            "a node holds four for each canister that is active",
        ),
        ("processes (ulimit -u)", resource.RLIMIT_NPROC, _PROCESSES, False, "each active canister of each node is a process"),
        (
            "address space (ulimit -v)",
            resource.RLIMIT_AS,
            None,
            True,
            "memories reserve 512 GiB of addresses each, so none can be made",
        ),
        ("data (ulimit -d)", resource.RLIMIT_DATA, None, False, "large heaps can't grow"),
        (
            "stack (ulimit -s)",
            resource.RLIMIT_STACK,
            _STACK,
            True,
            "a deep recursion of a canister would kill its sandbox instead of trapping",
        ),
        (
            "file size (ulimit -f)",
            resource.RLIMIT_FSIZE,
            None,
            False,
            "memories of canisters are files, which can't grow beyond it",
        ),
    ):
        limit = resource.getrlimit(kind)[0 if kind == resource.RLIMIT_STACK else 1]
        unlimited = limit == resource.RLIM_INFINITY
        fine = unlimited or (wanted is not None and limit >= wanted)
        asked = "unlimited" if wanted is None else f"at least {wanted:,}"
        yield _finding(name, "unlimited" if unlimited else f"{limit:,}", fine, f"{lack}; it should be {asked}", fatal=fatal)


def _places() -> Iterator[Finding]:
    name = f"TMPDIR ({tempfile.gettempdir()})"
    try:
        folder = make_socket_folder()
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(folder / "doctor"))
        for entry in folder.iterdir():
            entry.unlink()
        folder.rmdir()
        yield Finding(name, "short enough, and sockets can be made there")
    except (BadInput, OSError) as error:
        yield Finding(name, str(error), "processes can't reach each other; set TMPDIR to a short local path", fatal=True)
    where = home()
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=where):
            yield Finding(f"home ({where})", "can be written")
    except OSError as error:
        lack = "caches and run directories have no place; set ICSIM_HOME to a folder that you may write"
        yield Finding(f"home ({where})", str(error), lack, fatal=True)
    free = available_bytes()
    lack = "networks of more than a few canisters won't fit; `icsim check TOPOLOGY` estimates what one takes"
    yield _finding("memory available", f"{free / (1 << 30):.1f} GiB", free >= _MEMORY, lack)
    cores = len(os.sched_getaffinity(0))
    yield _finding("processors", str(cores), cores > 1, "nodes and sandboxes take turns, so runs take longer")
