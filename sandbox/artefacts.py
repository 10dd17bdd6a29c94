"""The cache of compiled modules: authenticated files that only compilers write and nodes read.

Plumbing. A compiled module is native code that runs when loaded, so an entry counts only with the keyed hash of the folder's
own key (32 bytes, mode 0600) over its name and all its bytes. Entries appear by rename, complete or not at all; what is
missing, cut short, foreign or altered is reported as `ArtefactUnusable` and compiled again. Sandboxes never see the
folder: they get a sealed copy of the native code as a descriptor.

Entry: hash (32) | length of info (8, big-endian) | ModuleInfo | serialised module.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path
from typing import TypeAlias

import wasmtime

from ic_types import wire
from ic_types.errors import IcsimError, WireError
from sandbox.engine_config import fingerprint, make_engine
from sandbox.module_info import ModuleInfo
from sandbox.wasm.module import ModuleLimits
from sandbox.wasm.prepare import Prepared, prepare
from sandbox.wasm.rules import BrokenRule, Rule

FORMAT = 3
"""Raise it whenever instrumentation or the entry format changes: old entries are then never found."""
DEFAULT_CACHE_BYTES = 2 << 30
Buffer: TypeAlias = bytes | memoryview
_KEY_FILE, _SUFFIX = "key", ".artefact"
_HASH_BYTES = 32


class ArtefactUnusable(IcsimError):
    """The cache has no good entry under this name: compile the module again."""


def artefact_name(wasm: bytes, limits: ModuleLimits) -> str:
    """The name of a module's entry: of the submitted bytes and everything else that the result depends on."""
    figures = (
        limits.max_stable_memory,
        limits.max_wasm32_heap,
        limits.max_wasm64_heap,
        limits.dirty_page_overhead,
        limits.compile_cost_per_operator,
    )
    parts = f"{FORMAT}|{fingerprint()}|{figures}|".encode() + hashlib.sha256(wasm).digest()
    return hashlib.sha256(parts).hexdigest()


def compile_locally(wasm: bytes, limits: ModuleLimits, cache_dir: str | Path) -> tuple[ModuleInfo, str]:
    """Compiles in this process, which must not fork afterwards, unless the cache has it; returns info and artefact name.

    Raises: InvalidWasm.
    """
    name = artefact_name(wasm, limits)
    try:
        return read_info(cache_dir, name), name
    except ArtefactUnusable:
        pass
    prepared = prepare(wasm, limits)
    store(cache_dir, name, prepared.info, native_code(prepared))
    return prepared.info, name


def native_code(prepared: Prepared) -> bytes:
    """The serialised compiled module.

    Raises: InvalidWasm when the engine refuses the instrumented module.
    """
    try:
        return bytes(wasmtime.Module(make_engine(), prepared.code).serialize())
    except wasmtime.WasmtimeError as error:
        raise BrokenRule(Rule.COMPILATION_ERROR, f"Failed to compile the instrumented module: {error}") from error


def store(cache_dir: str | Path, name: str, info: ModuleInfo, code: bytes, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
    """Writes an entry, then removes the least recently used ones beyond `max_bytes`."""
    folder = Path(cache_dir)
    key = _key(folder)
    head = wire.encode(info)
    body = len(head).to_bytes(8, "big") + head
    handle, aside = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_hash(key, name, body, code))
            file.write(body)
            file.write(code)
        os.rename(aside, folder / (name + _SUFFIX))
    except BaseException:
        os.unlink(aside)
        raise
    _trim(folder, max_bytes, keep=name)


def load(cache_dir: str | Path, name: str) -> tuple[ModuleInfo, int]:
    """What the node knows of a module, and a descriptor of its native code: a sealed memory file, open for reading only.

    The caller closes the descriptor.
    Raises: ArtefactUnusable.
    """
    info, code = _read(Path(cache_dir), name)
    return info, sealed(code, f"module-{name[:8]}")


def read_info(cache_dir: str | Path, name: str) -> ModuleInfo:
    """As `load`, without the code, which is authenticated nevertheless.

    Raises: ArtefactUnusable.
    """
    return _read(Path(cache_dir), name)[0]


def exists(cache_dir: str | Path, name: str) -> bool:
    """An entry of this name is there, good or bad; marks it as used."""
    try:
        os.utime(Path(cache_dir) / (name + _SUFFIX))
    except OSError:
        return False
    return True


def sealed(content: Buffer, title: str) -> int:
    """A read-only descriptor of a memory file that nobody can change any more."""
    writable = os.memfd_create(title, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(writable, view) :]
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(writable, fcntl.F_ADD_SEALS, seals)
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)


def _read(folder: Path, name: str) -> tuple[ModuleInfo, memoryview]:
    path = folder / (name + _SUFFIX)
    try:
        raw = path.read_bytes()
        os.utime(path)  # recently used
    except OSError as error:
        raise ArtefactUnusable(f"the cache {folder} has no entry {name}: {error.strerror}") from error
    view = memoryview(raw)
    start = _HASH_BYTES + 8
    # A bad entry is removed, so that who asks for it again makes the compiler write it anew.
    if len(raw) < start or not hmac.compare_digest(raw[:_HASH_BYTES], _hash(_key(folder), name, view[_HASH_BYTES:])):
        path.unlink(missing_ok=True)
        raise ArtefactUnusable(f"the cache entry {path} is damaged or was written with another key")
    end = start + int.from_bytes(raw[_HASH_BYTES:start], "big")
    try:
        return wire.decode(view[start:end], ModuleInfo), view[end:]
    except WireError as error:
        path.unlink(missing_ok=True)
        raise ArtefactUnusable(f"the cache entry {path} is of another version: {error}") from error


def _hash(key: bytes, name: str, *parts: Buffer) -> bytes:
    digest = hashlib.blake2b(key=key, digest_size=_HASH_BYTES)
    digest.update(name.encode())
    for part in parts:
        digest.update(part)
    return digest.digest()


def _key(folder: Path) -> bytes:
    """The folder's key, made by whoever needs it first."""
    path = folder / _KEY_FILE
    for _ in range(2):
        try:
            key = path.read_bytes()
            if len(key) == _HASH_BYTES and path.stat().st_mode & 0o077 == 0:
                return key
            path.unlink(missing_ok=True)  # cut short, or readable by others: no longer a secret
        except FileNotFoundError:
            pass
        folder.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=folder, prefix=".key-")  # mode 0600
        try:
            os.write(handle, secrets.token_bytes(_HASH_BYTES))
            os.close(handle)
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(aside, path)
        finally:
            os.unlink(aside)
    return path.read_bytes()


def _trim(folder: Path, max_bytes: int, keep: str) -> None:
    """Removes least recently used entries until the rest fits; reading an entry touches it."""
    entries = []
    for path in folder.glob("*" + _SUFFIX):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        entries.append((status.st_mtime_ns, path, status.st_size))
    total = sum(size for _, _, size in entries)
    for _, path, size in sorted(entries):
        if total <= max_bytes:
            break
        if path.stem != keep:
            path.unlink(missing_ok=True)
            total -= size
