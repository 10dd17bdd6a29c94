"""The cache of compiled modules: authentication, atomic writes, eviction, sealed descriptors."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path

import pytest
import wasmtime

from configs.limits import SubnetLimits
from ic_types.errors import InvalidWasm
from sandbox import artefacts
from sandbox.artefacts import ArtefactUnusable, artefact_name, compile_locally, load, store
from sandbox.engine_config import make_engine
from sandbox.module_info import ModuleInfo
from tests.support.wasm_samples import COUNTER, HEAP_COUNTER, compile_wat

LIMITS = SubnetLimits()
INFO = ModuleInfo(module_hash=bytes(32), wasm64=False)


def _content(handle: int) -> bytes:
    with os.fdopen(handle, "rb") as file:
        return file.read()


def test_compiled_module_loads_and_runs(tmp_path: Path) -> None:
    """The descriptor's bytes are what the engine takes."""
    info, name = compile_locally(compile_wat(COUNTER), LIMITS, tmp_path)
    loaded, handle = load(tmp_path, name)
    module = wasmtime.Module.deserialize_file(make_engine(), f"/proc/self/fd/{handle}")
    os.close(handle)
    assert loaded == info
    assert "canister_update inc" in [one.name for one in module.exports]


def test_second_compilation_is_a_look_into_the_cache(tmp_path: Path) -> None:
    """The entry isn't written again."""
    wasm = compile_wat(COUNTER)
    first = compile_locally(wasm, LIMITS, tmp_path)
    (entry,) = tmp_path.glob("*.artefact")
    inode = entry.stat().st_ino
    assert compile_locally(wasm, LIMITS, tmp_path) == first
    assert entry.stat().st_ino == inode


def test_names_depend_on_module_and_limits() -> None:
    """Whatever changes the instrumented module changes the name."""
    wasm = compile_wat(COUNTER)
    names = {
        artefact_name(wasm, LIMITS),
        artefact_name(compile_wat(HEAP_COUNTER), LIMITS),
        artefact_name(wasm, SubnetLimits(max_stable_memory=1 << 30)),
        artefact_name(wasm, SubnetLimits(max_wasm32_heap=1 << 30)),
        artefact_name(wasm, SubnetLimits(max_wasm64_heap=1 << 30)),
        artefact_name(wasm, SubnetLimits(dirty_page_overhead=0)),
        artefact_name(wasm, SubnetLimits(compile_cost_per_operator=1)),
    }
    assert len(names) == 7
    assert artefact_name(wasm, SubnetLimits(scheduler_cores=1)) in names


def test_refused_modules_leave_nothing(tmp_path: Path) -> None:
    """No entry, no file aside."""
    with pytest.raises(InvalidWasm):
        compile_locally(b"\0asm", LIMITS, tmp_path)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "key"])


@pytest.mark.parametrize("position", [0, 31, 32, 39, 40, 60, -1])
def test_any_changed_byte_is_noticed(tmp_path: Path, position: int) -> None:
    """In the hash, the lengths, the info or the code; the entry is removed so that it is made again."""
    store(tmp_path, "name", INFO, b"native code")
    path = tmp_path / "name.artefact"
    raw = bytearray(path.read_bytes())
    raw[position] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(ArtefactUnusable, match="damaged or was written with another key"):
        load(tmp_path, "name")
    assert not path.exists()


@pytest.mark.parametrize("size", [0, 10, 39, 40, 60])
def test_truncated_entries(tmp_path: Path, size: int) -> None:
    """Any length below the full one."""
    store(tmp_path, "name", INFO, b"native code")
    path = tmp_path / "name.artefact"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ArtefactUnusable):
        load(tmp_path, "name")


def test_entry_under_another_name_or_of_another_folder(tmp_path: Path) -> None:
    """The hash covers the name, and each folder has its own key."""
    one, other = tmp_path / "one", tmp_path / "other"
    store(one, "a", INFO, b"code a")
    store(other, "a", INFO, b"code a")
    (one / "b.artefact").write_bytes((one / "a.artefact").read_bytes())
    with pytest.raises(ArtefactUnusable):
        load(one, "b")
    (other / "a.artefact").write_bytes((one / "a.artefact").read_bytes())
    with pytest.raises(ArtefactUnusable):
        load(other, "a")
    _, handle = load(one, "a")
    assert _content(handle) == b"code a"


def test_missing_entry(tmp_path: Path) -> None:
    """Told by folder and name."""
    with pytest.raises(ArtefactUnusable, match="no entry nothing"):
        load(tmp_path, "nothing")


def test_key_is_secret_and_replaced_when_it_is_not(tmp_path: Path) -> None:
    """Mode 0600; a key that others could read is thrown away with all it signed."""
    store(tmp_path, "a", INFO, b"code")
    key = tmp_path / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    key.chmod(0o644)
    with pytest.raises(ArtefactUnusable):
        load(tmp_path, "a")
    store(tmp_path, "a", INFO, b"code")
    assert key.read_bytes() != before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    os.close(load(tmp_path, "a")[1])


def test_descriptor_is_sealed(tmp_path: Path) -> None:
    """Not writable, not even through a fresh opening, not to be mapped for writing."""
    store(tmp_path, "a", INFO, b"x" * 5000)
    _, handle = load(tmp_path, "a")
    for step in (
        lambda: os.write(handle, b"y"),
        lambda: os.ftruncate(handle, 1),
        lambda: mmap.mmap(handle, 5000, mmap.MAP_SHARED, mmap.PROT_WRITE),
        lambda: os.write(os.open(f"/proc/self/fd/{handle}", os.O_WRONLY), b"y"),
    ):
        with pytest.raises(OSError) as caught:
            step()
        assert caught.value.errno in (errno.EBADF, errno.EINVAL, errno.EPERM, errno.EACCES)
    assert _content(handle) == b"x" * 5000


def test_least_recently_used_entries_go(tmp_path: Path) -> None:
    """Reading counts as use; the entry just written stays whatever its size."""
    for k, name in enumerate("abc"):
        store(tmp_path, name, INFO, bytes(1000))
        os.utime(tmp_path / f"{name}.artefact", ns=(k, k))
    os.close(load(tmp_path, "a")[1])
    size = (tmp_path / "a.artefact").stat().st_size
    store(tmp_path, "d", INFO, bytes(1000), max_bytes=3 * size)
    assert sorted(path.stem for path in tmp_path.glob("*.artefact")) == ["a", "c", "d"]
    store(tmp_path, "e", INFO, bytes(10_000), max_bytes=size)
    assert [path.stem for path in tmp_path.glob("*.artefact")] == ["e"]


def test_failed_write_leaves_the_old_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be renamed is removed again."""
    store(tmp_path, "a", INFO, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(artefacts.os, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        store(tmp_path, "a", INFO, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.artefact", "key"]
    assert _content(load(tmp_path, "a")[1]) == b"old"
