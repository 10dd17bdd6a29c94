"""One compilation in a child that has no rights, little time and little memory, and that may die trying.

Plumbing. What comes back is looked at before it is believed: a module that takes the compiler over can spoil its own artefact,
which runs in a sandbox anyway, but not the node that reads what is known of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import signal
import socket
import struct
import time
from typing import Final

from ic_types import wire
from ic_types.errors import InvalidWasm, SandboxFailure, WireError
from ic_types.units import WASM_PAGE_BYTES
from sandbox import artefacts, kernel
from sandbox.answer_check import check_pages
from sandbox.confinement import close_other_descriptors, confine
from sandbox.module_info import CompileFailed, CompileRefused, CompileRequest, ModuleInfo
from sandbox.wasm.prepare import prepare, refusal_charge

MAX_SECONDS: Final = 300.0
"""Of the machine's time, and of the processor's. The largest module that the rules allow takes a tenth of it."""
MAX_MEMORY: Final = 8 << 30
"""Bytes of writable memory."""
_BITS: Final = {"i32": 32, "f32": 32, "i64": 64, "f64": 64, "v128": 128}
_PR_SET_PDEATHSIG = 1
_REPLY = b"reply"
_LENGTH = struct.Struct(">Q")
_LONGEST = 1 << 30
"""Bytes of a message between compiler, helper and child."""


def compile_apart(
    request: CompileRequest, seconds: float = MAX_SECONDS, memory: int = MAX_MEMORY
) -> tuple[ModuleInfo, bytes] | CompileRefused | CompileFailed:
    """Info and native code, worked out by a confined child."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        try:
            ours.close()
            die_with_parent()
            close_other_descriptors(theirs.fileno())
            _bound(seconds, memory)
            confine()
            _answer(theirs, request)
        finally:
            os._exit(0)
    theirs.close()
    deadline = time.monotonic() + seconds
    try:
        kind, body = receive(ours, deadline), receive(ours, deadline)
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return CompileFailed(request.cookie, f"compilation took longer than {seconds:g} s")
    finally:
        ours.close()
    _, status = os.waitpid(child, 0)
    if kind is None or body is None:
        return CompileFailed(request.cookie, f"compilation ended with status {status}")
    try:
        if kind == _REPLY:
            refusal: CompileRefused | CompileFailed = wire.decode(body, CompileRefused, CompileFailed)
            if isinstance(refusal, CompileRefused) and refusal.charged_instructions != refusal_charge(request.wasm, request):
                raise SandboxFailure("impossible charge of a refused module")
            return refusal
        info: ModuleInfo = wire.decode(kind, ModuleInfo)
        _check(info, request)
    except (WireError, SandboxFailure) as error:
        return CompileFailed(request.cookie, f"compilation answered nonsense: {error}")
    return info, body


def _bound(seconds: float, memory: int) -> None:
    """Limits that end the child, were it taken over: nothing here reserves address space."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:
        file.write(b"1000")
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _check(info: ModuleInfo, request: CompileRequest) -> None:
    """What a node builds a canister's first state from is at least possible.

    Raises: SandboxFailure.
    """
    most = max(request.max_wasm64_heap if info.wasm64 else request.max_wasm32_heap, 0) // WASM_PAGE_BYTES
    check_pages("heap", info.initial_pages, info.heap_pages_initial)
    fits = 0 <= info.heap_pages_initial <= info.heap_pages_max <= most and info.compile_instructions >= 0
    fits = fits and all(one.kind in _BITS and 0 <= one.initial < 1 << _BITS[one.kind] for one in info.globals)
    shown = info.exported_globals
    fits = fits and all(-1 <= one.place < len(info.globals) and 0 <= one.initial < 1 << _BITS.get(one.kind, 0) for one in shown)
    if not fits or info.module_hash != hashlib.sha256(request.wasm).digest():
        raise SandboxFailure("impossible figures of a module")


def _answer(line: socket.socket, request: CompileRequest) -> None:
    """Sends (info, native code), or (`_REPLY`, a reply)."""
    try:
        prepared = prepare(request.wasm, request)
        code = artefacts.native_code(prepared)
    except InvalidWasm as error:
        refused = CompileRefused(request.cookie, str(error), refusal_charge(request.wasm, request))
        first, second = _REPLY, wire.encode(refused)
    except Exception as error:
        first, second = _REPLY, wire.encode(CompileFailed(request.cookie, f"{type(error).__name__}: {error}"))
    else:
        first, second = wire.encode(prepared.info), code
    send(line, first)
    send(line, second)


def die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends."""
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def send(line: socket.socket, body: bytes) -> None:
    """A message of any length below 1 GiB."""
    line.sendall(_LENGTH.pack(len(body)))
    line.sendall(body)


def receive(line: socket.socket, deadline: float | None = None) -> bytes | None:
    """The next message, None when the other side is gone.

    Raises: TimeoutError when it isn't there by the deadline (monotonic seconds).
    """
    head = _exactly(line, _LENGTH.size, deadline)
    if head is None or (count := _LENGTH.unpack(head)[0]) > _LONGEST:
        return None
    return _exactly(line, count, deadline)


def _exactly(line: socket.socket, count: int, deadline: float | None) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        if deadline is not None:
            line.settimeout(max(deadline - time.monotonic(), 0.001))
        part = line.recv(min(count - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)
