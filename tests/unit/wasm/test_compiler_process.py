"""The compiler as a process: replies, shared work, refusals, crashes of a compilation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wasmtime
import zmq

from ic_types import wire
from sandbox import artefacts, compile_child
from sandbox.module_info import CompileDone, CompileFailed, CompileRefused, CompileRequest, GlobalInfo
from sandbox.protocol import Pages
from sandbox.wasm.prepare import prepare
from tests.support.wasm_samples import COUNTER, HEAP_COUNTER, compile_wat

pytestmark = pytest.mark.slow
_LIMITS = (1 << 30, 1 << 30, 1 << 30)
_RUN = "import sys; from sandbox import compiler; compiler.run(sys.argv[1], sys.argv[2])"


class _Client:
    def __init__(self, endpoint: str) -> None:
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def ask(self, *requests: CompileRequest) -> list[CompileDone | CompileRefused | CompileFailed]:
        """Replies in the order of the requests' cookies."""
        for request in requests:
            self.socket.send(wire.encode(request))
        replies = []
        for _ in requests:
            assert self.socket.poll(60_000), "the compiler did not answer"
            replies.append(wire.decode(self.socket.recv(), CompileDone, CompileRefused, CompileFailed))
        return sorted(replies, key=lambda reply: reply.cookie)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache folder."""
    return tmp_path / "cache"


@pytest.fixture
def client(tmp_path: Path, cache: Path) -> Iterator[_Client]:
    """A client of a running compiler."""
    endpoint = f"ipc://{tmp_path}/compiler"
    process = subprocess.Popen([sys.executable, "-c", _RUN, endpoint, str(cache)])
    found = _Client(endpoint)
    yield found
    found.socket.close()
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_compiles_once_and_answers_all_who_ask(client: _Client, cache: Path) -> None:
    """Equal requests get equal answers with their own cookies; one entry is written and loads."""
    wasm = compile_wat(COUNTER)
    replies = client.ask(*(CompileRequest(cookie, wasm, *_LIMITS) for cookie in range(5)))
    again = client.ask(CompileRequest(9, wasm, *_LIMITS))
    assert [reply.cookie for reply in replies + again] == [0, 1, 2, 3, 4, 9]
    names = {reply.artefact for reply in replies + again if isinstance(reply, CompileDone)}
    assert len(names) == 1
    info, handle = artefacts.load(cache, names.pop())
    os.close(handle)
    assert info.updates == ("inc",)
    assert len(list(cache.glob("*.artefact"))) == 1


def test_refusal_names_the_rule_and_the_charge(client: _Client) -> None:
    """A broken module is refused for 6000 instructions per byte, and the compiler goes on."""
    refused, done = client.ask(
        CompileRequest(1, b"\0asm broken", *_LIMITS), CompileRequest(2, compile_wat(HEAP_COUNTER), *_LIMITS)
    )
    assert isinstance(refused, CompileRefused)
    assert "validate" in refused.reason or "decode" in refused.reason
    assert refused.charged_instructions == 6000 * 11
    assert isinstance(done, CompileDone)


def test_removed_entry_is_compiled_again(client: _Client, cache: Path) -> None:
    """An answer remembered for an entry that is gone is not given again."""
    request = CompileRequest(1, compile_wat(COUNTER), *_LIMITS)
    (first,) = client.ask(request)
    for entry in cache.glob("*.artefact"):
        entry.unlink()
    (second,) = client.ask(request)
    assert first == second
    assert len(list(cache.glob("*.artefact"))) == 1


def test_damaged_entry_is_rebuilt(client: _Client, cache: Path) -> None:
    """A node that finds an entry damaged removes it and asks again."""
    request = CompileRequest(1, compile_wat(COUNTER), *_LIMITS)
    (first,) = client.ask(request)
    assert isinstance(first, CompileDone)
    entry = next(cache.glob("*.artefact"))
    raw = bytearray(entry.read_bytes())
    raw[-1] ^= 1
    entry.write_bytes(raw)
    with pytest.raises(artefacts.ArtefactUnusable, match="damaged"):
        artefacts.load(cache, first.artefact)
    client.ask(request)
    info, handle = artefacts.load(cache, first.artefact)
    with os.fdopen(handle, "rb") as file:
        assert wasmtime.Module.deserialize(artefacts.make_engine(), file.read())
    assert info == first.info


def test_unwritable_cache_is_a_failure_not_a_refusal(client: _Client, cache: Path) -> None:
    """What goes wrong locally is told as such, since a refusal would become state."""
    client.ask(CompileRequest(1, compile_wat(COUNTER), *_LIMITS))
    for entry in cache.iterdir():
        entry.unlink()
    cache.rmdir()
    cache.write_bytes(b"")
    (reply,) = client.ask(CompileRequest(2, compile_wat(HEAP_COUNTER), *_LIMITS))
    assert isinstance(reply, CompileFailed)


def _break(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], **bounds: Any) -> CompileFailed:
    """What is answered when the child that compiles does this instead."""
    monkeypatch.setattr(compile_child, "prepare", lambda wasm, limits: act())
    outcome = compile_child.compile_apart(CompileRequest(7, b"", *_LIMITS), **bounds)
    assert isinstance(outcome, CompileFailed)
    assert outcome.cookie == 7
    return outcome


def test_child_that_dies_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper survives and tells how it ended."""
    assert "status 9" in _break(monkeypatch, lambda: signal.raise_signal(signal.SIGKILL)).reason
    assert "status" in _break(monkeypatch, lambda: os._exit(3)).reason
    assert "MemoryError" in _break(monkeypatch, lambda: bytes(1 << 60)).reason


def test_child_has_no_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it looks at a module it can neither open files nor start processes nor signal others."""
    parent = os.getpid()
    for act in (lambda: Path("/etc/passwd").read_bytes(), lambda: os.fork(), lambda: os.kill(parent, 0)):
        assert "PermissionError" in _break(monkeypatch, act).reason


def test_child_has_little_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs, computes for ever or fills the memory is ended."""

    def spin() -> None:
        while True:
            pass

    assert "took longer than 0.5 s" in _break(monkeypatch, spin, seconds=0.5).reason
    assert "took longer than 0.5 s" in _break(monkeypatch, lambda: time.sleep(60), seconds=0.5).reason
    assert "MemoryError" in _break(monkeypatch, lambda: bytearray(400 << 20), memory=300 << 20).reason


def test_child_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of a module must be possible: nodes build the canister's first state from it."""
    wasm = compile_wat(HEAP_COUNTER)
    request = CompileRequest(7, wasm, *_LIMITS)
    honest = prepare(wasm, request)
    lies: list[dict[str, Any]] = [
        {"module_hash": bytes(32)}, {"heap_pages_initial": 1 << 40}, {"heap_pages_max": 1 << 40}, {"compile_instructions": -1},
        {"initial_pages": Pages((1 << 40,), bytes(4096))}, {"initial_pages": Pages((1, 0), bytes(8192))},
        {"initial_pages": Pages((0,), b"short")}, {"globals": (GlobalInfo("g", "i128", 0),)},
        {"globals": (GlobalInfo("g", "i32", 1 << 32),)}, {"globals": (GlobalInfo("g", "i32", -1),)},
    ]  # fmt: skip
    for lie in lies:
        made = replace(honest, info=replace(honest.info, **lie))
        monkeypatch.setattr(compile_child, "prepare", lambda wasm, limits, made=made: made)
        outcome = compile_child.compile_apart(request)
        assert isinstance(outcome, CompileFailed), lie
        assert "nonsense" in outcome.reason
    monkeypatch.setattr(compile_child, "refusal_charge", lambda wasm, limits: os.getpid())
    outcome = compile_child.compile_apart(CompileRequest(7, b"no module", *_LIMITS))
    assert isinstance(outcome, CompileFailed)
