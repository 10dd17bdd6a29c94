"""What a sandbox could do once somebody has broken out of Wasm: run in place of the honest code, after confinement.

An attempt is made before a message is run, and the sandbox goes on honestly; a lie changes the bytes that leave the sandbox.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ic_types import wire
from ic_types.reject import ErrorCode
from sandbox import kernel
from sandbox.main import SocketTransport
from sandbox.protocol import (
    Closure,
    Finished,
    OutgoingCall,
    Pages,
    Paused,
    RejectMessage,
    ReplyData,
    Stop,
    Trapped,
)
from sandbox.requests import Executed, ResetDone
from sandbox.runner import Runner

MIB = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


class Hostile:
    """What acts know of the world: filled in before confinement."""

    folder: str = ""
    parent: int = 0
    node: int = 0
    victim: int = 0
    unix: int = 0
    artefact: int = 0
    heap: int = 0
    buffer: int = 0
    report: memoryview
    transport: SocketTransport


def _call(number: int, *arguments: int) -> None:
    kernel.syscall(number, *arguments)


def _ptrace(request: int, pid: int) -> None:
    if _libc.ptrace(request, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def _read_process(pid: int) -> None:
    buffer = ctypes.create_string_buffer(64)
    vector = struct.pack("=QQ", ctypes.addressof(buffer), 64)
    held = ctypes.create_string_buffer(vector, len(vector))
    at = ctypes.addressof(held)
    if _libc.process_vm_readv(pid, ctypes.c_void_p(at), 1, ctypes.c_void_p(at), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")


def _map_for_writing(fd: int) -> None:
    # Python's own would duplicate the descriptor, which is refused before it comes to this.
    _libc.mmap.restype = ctypes.c_ssize_t
    if _libc.mmap(None, ctypes.c_size_t(4096), 3, kernel.MAP_SHARED, fd, ctypes.c_long(0)) == -1:
        raise OSError(ctypes.get_errno(), "mmap")


def _raise_limit() -> None:
    wanted = struct.pack("=QQ", 100_000, 100_000)
    held = ctypes.create_string_buffer(wanted, len(wanted))
    if _libc.prlimit(0, 7, ctypes.byref(held), None) < 0:
        raise OSError(ctypes.get_errno(), "prlimit")


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
        one.connect(path)


ATTEMPTS: dict[str, Callable[[], object]] = {
    "open_file": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "create_file": lambda: os.open(f"{Hostile.folder}/mine", os.O_CREAT | os.O_WRONLY),
    "remove_file": lambda: os.unlink(f"{Hostile.folder}/report"),
    "list_folder": lambda: os.listdir("/"),
    "open_own_memory": lambda: os.open("/proc/self/mem", os.O_RDWR),
    "reopen_memory": lambda: os.open(f"/proc/self/fd/{Hostile.heap}", os.O_RDWR),
    "write_memory": lambda: os.pwrite(Hostile.heap, b"evil", 0),
    "map_memory": lambda: _map_for_writing(Hostile.heap),
    "cut_memory": lambda: os.ftruncate(Hostile.heap, 0),
    "write_code": lambda: os.pwrite(Hostile.artefact, b"evil", 0),
    "new_memory_file": lambda: os.memfd_create("evil"),
    "internet_socket": lambda: socket.socket(socket.AF_INET),
    "unix_socket": lambda: socket.socket(socket.AF_UNIX),
    "netlink_socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "socket_pair": socket.socketpair,
    "connect_launcher": lambda: _connect(f"{Hostile.folder}/zygote"),
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "ptrace_parent": lambda: _ptrace(16, os.getppid() or Hostile.parent),
    "ptrace_other": lambda: _ptrace(16, Hostile.victim),
    "ptrace_me": lambda: _ptrace(0, 0),
    "signal_parent": lambda: os.kill(Hostile.parent, signal.SIGKILL),
    "signal_node": lambda: os.kill(Hostile.node, 0),
    "signal_other": lambda: os.kill(Hostile.victim, signal.SIGKILL),
    "signal_group": lambda: os.kill(0, 0),
    "pidfd": lambda: os.pidfd_open(Hostile.victim),
    "open_other_memory": lambda: os.open(f"/proc/{Hostile.victim}/mem", os.O_RDONLY),
    "open_node_memory": lambda: os.open(f"/proc/{Hostile.node}/mem", os.O_RDONLY),
    "read_other_memory": lambda: _read_process(Hostile.victim),
    "read_node_memory": lambda: _read_process(Hostile.node),
    "lower_limits": lambda: os.nice(-5),
    "raise_limits": _raise_limit,
    "become_root": lambda: os.setuid(0),
    "change_root": lambda: os.chroot("/"),
    "new_namespace": lambda: _call(272, 0x10000000),
    "userfaultfd": lambda: _call(kernel.SYS_USERFAULTFD, 0),
    "set_owner": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid()),
    "terminal_input": lambda: fcntl.ioctl(0, 0x5412, b"x"),
}
"""By name: what must fail with an OSError."""


def _edit(**fields: Any) -> Callable[[Executed], Executed]:
    return lambda reply: replace(reply, answers=(replace(reply.answers[0], **fields), *reply.answers[1:]))


def _call_to(**fields: Any) -> tuple[OutgoingCall, ...]:
    given = {
        "callee": bytes(10), "method": "x", "arg": b"", "cycles": 0, "on_reply": Closure(0, 0), "on_reject": Closure(0, 0),
        **fields,
    }  # fmt: skip
    return (OutgoingCall(**given),)


_TRAP = Trapped(instructions=1, slice_instructions=1, error_code=int(ErrorCode.CANISTER_TRAPPED), message="")
LIES: dict[str, Callable[[Executed], Executed]] = {
    "wrong_cookie": lambda reply: replace(reply, cookie=reply.cookie + 1),
    "old_cookie": lambda reply: replace(reply, cookie=0),
    "too_many_instructions": _edit(instructions=1 << 50),
    "negative_instructions": _edit(instructions=-1),
    "wrong_sum": _edit(slice_instructions=1),
    "huge_heap": _edit(heap_pages=1 << 20),
    "shrunk_heap": _edit(heap_pages=0),
    "huge_stable": _edit(stable_pages=1 << 40),
    "page_outside": _edit(heap=Pages((1 << 30,), bytes(4096))),
    "negative_page": _edit(heap=Pages((-1,), bytes(4096))),
    "pages_twice": _edit(heap=Pages((1, 1), bytes(8192))),
    "short_content": _edit(heap=Pages((1,), b"short")),
    "buffer_outside": _edit(heap=Pages((1,), b"", (1 << 40) + (1 << 30))),
    "buffer_beyond": _edit(heap=Pages((1,), b"", 1 << 41)),
    "buffer_before": _edit(heap=Pages((1,), b"", -4096)),
    "both_contents": _edit(heap=Pages((1,), bytes(4096), 0)),
    "all_pages": _edit(heap=Pages(tuple(range(1 << 20)), b"", 0)),
    "no_globals": _edit(globals=()),
    "wide_global": _edit(globals=(1 << 64,)),
    "stolen_cycles": _edit(cycles_accepted=1),
    "negative_cycles": _edit(cycles_burned=-1),
    "burnt_too_much": _edit(cycles_burned=1 << 100),
    "too_long_reply": _edit(response=ReplyData(bytes(3 * MIB))),
    "too_long_reject": _edit(response=RejectMessage("x" * 3 * MIB)),
    "too_long_certified_data": _edit(certified_data=bytes(33)),
    "too_late_timer": _edit(global_timer=1 << 70),
    "accepted": _edit(accepted=True),
    "too_many_calls": _edit(calls=_call_to() * 501),
    "call_with_cycles": _edit(calls=_call_to(cycles=1 << 100)),
    "call_to_nobody": _edit(calls=_call_to(callee=bytes(30))),
    "call_with_long_name": _edit(calls=_call_to(method="x" * 30_000)),
    "odd_callback": _edit(calls=_call_to(on_reply=Closure(-1, 0))),
    "too_many_logs": _edit(logs=(b"x" * 4096,) * 520),
    "unknown_error": lambda reply: replace(reply, answers=(replace(_TRAP, error_code=999),), stop=Stop.TRAPPED),
    "error_of_the_node": lambda reply: replace(reply, answers=(replace(_TRAP, error_code=501),), stop=Stop.TRAPPED),
    "pause_without_end": lambda reply: replace(
        reply, answers=(Paused(slice_instructions=0, instructions=0),), stop=Stop.PAUSED
    ),
    "trap_amid": lambda reply: replace(reply, answers=(_TRAP, *reply.answers), stop=Stop.END),
    "too_many_answers": lambda reply: replace(reply, answers=reply.answers * 200),
    "no_answers": lambda reply: replace(reply, answers=()),
    "settled_again": lambda reply: replace(reply, answers=(), stop=Stop.SETTLE),
}
"""By name: replies that no honest sandbox gives, made of an honest one."""

WITHIN_BOUNDS: dict[str, Callable[[Executed], Executed]] = {
    "one_instruction_more": lambda reply: _edit(
        instructions=reply.answers[0].instructions + 1, slice_instructions=reply.answers[0].slice_instructions + 1
    )(reply),
    "another_reply": _edit(response=ReplyData(b"lie")),
    "another_page": _edit(heap=Pages((3,), b"lie!" * 1024)),
    "another_global": _edit(globals=(77,)),
}
"""By name: lies that only other nodes can tell."""


def tell(text: str) -> None:
    """Append a line to the report, which is shared memory."""
    used = int.from_bytes(Hostile.report[:4], "little")
    line = text.encode() + b"\n"
    Hostile.report[4 + used : 4 + used + len(line)] = line
    Hostile.report[:4] = (used + len(line)).to_bytes(4, "little")


def _attempt(name: str) -> None:
    try:
        ATTEMPTS[name]()
    except OSError as error:
        tell(f"{name}: {errno.errorcode.get(error.errno or 0, '?')}")
    else:
        tell(f"{name}: worked")


def _raw(*messages: bytes) -> None:
    for message in messages:
        Hostile.transport._channel.send(message)


def _take_memory() -> None:
    held = []
    for _ in range(2048 // 16):  # enough to be noticed, not enough to harm whoever runs these tests
        block = mmap.mmap(-1, 16 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.write(b"x" * 16 * MIB)
        held.append(block)
    tell("take_memory: not noticed")
    _spin()


def _fill_buffer() -> None:
    at = 0
    while at < 2048 * MIB:
        at += os.pwrite(Hostile.buffer, b"x" * 16 * MIB, at)
    tell("fill_buffer: not noticed")
    _spin()


def _spin() -> None:
    while True:
        pass


def _zmq_frame(size: int) -> None:
    # The header of a frame that announces this many bytes, past ZeroMQ's back.
    for fd in range(3, 64):
        try:
            with socket.socket(fileno=os.dup(fd)) as one:
                if one.family == socket.AF_UNIX and fd != Hostile.unix:
                    one.send(b"\x02" + size.to_bytes(8, "big") + b"x")
        except OSError:
            continue
    _spin()


ACTS: dict[str, Callable[[], object]] = {
    "garbage": lambda: _raw(b"\xc1garbage"),
    "nothing": lambda: _raw(b""),
    "two_frames": lambda: Hostile.transport._channel.send_multipart([b"a", b"b"]),
    "nested": lambda: _raw(b"\x91" * 100_000),
    "long_array": lambda: _raw(b"\xdd\xff\xff\xff\xff"),
    "request": lambda: _raw(wire.encode(ResetDone(1)).replace(b"ResetDone", b"Close\0\0\0\0")),
    "other_version": lambda: _raw(b"\x93\x63" + wire.encode(ResetDone(1))[2:]),
    "unasked": lambda: _raw(wire.encode(ResetDone(1))),
    "flood": lambda: _raw(*[wire.encode(ResetDone(1))] * 100_000),
    "oversized": lambda: Hostile.transport._channel.send(bytearray((1 << 30) + 1), copy=False),
    "huge_frame": lambda: _zmq_frame(1 << 62),
    "die": lambda: os._exit(7),
    "kill_itself": lambda: signal.raise_signal(signal.SIGKILL),
    "crash": lambda: ctypes.string_at(1),
    "raise": lambda: 1 // 0,
    "close_line": lambda: os.close(Hostile.unix),
    "shut_line": lambda: _libc.shutdown(Hostile.unix, 2),
    "talk_on_line": lambda: os.write(Hostile.unix, b"x"),
    "spin": _spin,
    "take_memory": _take_memory,
    "fill_buffer": _fill_buffer,
}
"""By name: what is done when a message is to be run, besides or instead of running it."""


def corrupt(behaviour: str) -> None:
    """Patch this process, which is about to become a sandbox."""
    run, send, descriptors = Runner.run, SocketTransport.send, SocketTransport.descriptors

    def hostile_descriptors(self: SocketTransport) -> tuple[int, int, int, int]:
        found = descriptors(self)
        Hostile.artefact, Hostile.heap, Hostile.buffer = found[0], found[1], found[3]
        Hostile.transport = self
        return found

    def hostile_run(self: Runner, message: Any, context: Any) -> Any:
        if behaviour == "everything":
            for name in ATTEMPTS:
                _attempt(name)
        elif behaviour in ACTS:
            ACTS[behaviour]()
        return run(self, message, context)

    def hostile_send(self: SocketTransport, reply: Any) -> None:
        lie = LIES.get(behaviour) or WITHIN_BOUNDS.get(behaviour)
        if lie is not None and isinstance(reply, Executed) and reply.answers and isinstance(reply.answers[0], Finished):
            reply = lie(reply)
        send(self, reply)

    SocketTransport.descriptors = hostile_descriptors  # type: ignore[method-assign]
    Runner.run = hostile_run  # type: ignore[method-assign]
    SocketTransport.send = hostile_send  # type: ignore[method-assign]
