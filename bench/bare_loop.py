"""The floor that a sandbox is measured against: one process, one canister, no rules.

Forks a child that runs `canister_update inc` of a tiny canister for each message: unchecked host calls, the written page found by
PAGEMAP_SCAN, hashed, copied to the memfd and discarded. The parent sends batches over ZeroMQ. Prints messages/s per batch size.
Needs: wasmtime, pyzmq, msgpack; Linux 6.7 or newer. Run: python bare_loop.py
"""

import ctypes
import fcntl
import gc
import hashlib
import os
import tempfile
import time
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_size_t,
    c_uint64,
    c_void_p,
    cast,
    create_string_buffer,
    memmove,
    sizeof,
    string_at,
)

import msgpack
import wasmtime
import zmq
from wasmtime import FuncType, Linker, Module, Store, ValType, _bindings, _ffi

WAT = """(module
 (import "ic0" "msg_arg_data_size" (func $size (result i32)))
 (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
 (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
 (import "ic0" "msg_reply" (func $reply))
 (memory (export "memory") 256)
 (func (export "canister_update inc")
   (call $copy (i32.const 64) (i32.const 0) (call $size))
   (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.load (i32.const 64))))
   (call $append (i32.const 8192) (i32.const 8)) (call $reply)))"""
HOST = CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_size_t)
MAP_PRIVATE_FIXED, PROT_READ_WRITE, MADV_DONTNEED, PAGE = 0x12, 3, 4, 4096
FILE, PRESENT, SWAPPED = 4, 8, 16


class ScanArgs(Structure):
    _fields_ = [
        (n, c_uint64)
        for n in (
            "size",
            "flags",
            "start",
            "end",
            "walk_end",
            "vec",
            "vec_len",
            "max_pages",
            "category_inverted",
            "category_mask",
            "category_anyof_mask",
            "return_mask",
        )
    ]


class Region(Structure):
    _fields_ = [(n, c_uint64) for n in ("start", "end", "categories")]


PAGEMAP_SCAN = (3 << 30) | (sizeof(ScanArgs) << 16) | (ord("f") << 8) | 16


class BareSandbox:
    def __init__(self) -> None:
        self.arg, self.out, self.reply, self.base, self.keep = b"", bytearray(), b"", 0, []
        engine = wasmtime.Engine()
        self.store, linker = Store(engine), Linker(engine)
        for name, params, results, function in (
            ("msg_arg_data_size", 0, 1, self.arg_size),
            ("msg_arg_data_copy", 3, 0, self.arg_copy),
            ("msg_reply_data_append", 2, 0, self.append),
            ("msg_reply", 0, 0, self.finish),
        ):
            self.define(linker, name, params, results, function)
        exports = linker.instantiate(self.store, Module(engine, WAT)).exports(self.store)
        self.entry, memory = exports["canister_update inc"], exports["memory"]
        self.base, self.size = cast(memory.data_ptr(self.store), c_void_p).value, memory.data_len(self.store)
        self.fd = os.memfd_create("canister")
        os.ftruncate(self.fd, self.size)
        self.libc = ctypes.CDLL(None)
        self.libc.mmap.restype = c_void_p
        self.libc.mmap.argtypes = [c_void_p, c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        self.libc.madvise.argtypes = [c_void_p, c_size_t, ctypes.c_int]
        assert self.libc.mmap(self.base, self.size, PROT_READ_WRITE, MAP_PRIVATE_FIXED, self.fd, 0) == self.base
        self.pagemap, self.regions = os.open("/proc/self/pagemap", os.O_RDONLY), (Region * 4096)()
        self.scan = ScanArgs(
            size=sizeof(ScanArgs),
            start=self.base,
            end=self.base + self.size,
            vec=ctypes.addressof(self.regions),
            vec_len=4096,
            category_inverted=FILE,
            category_mask=FILE,
            category_anyof_mask=PRESENT | SWAPPED,
            return_mask=PRESENT,
        )

    def define(self, linker, name, params, results, function) -> None:
        kind = FuncType([ValType.i32()] * params, [ValType.i32()] * results)
        callback = HOST(function)
        unchecked = cast(callback, _bindings.wasmtime_func_unchecked_callback_t)
        self.keep += [callback, unchecked]
        error = _ffi.dll.wasmtime_linker_define_func_unchecked(
            linker.ptr(),
            create_string_buffer(b"ic0"),
            3,
            create_string_buffer(name.encode()),
            len(name),
            kind.ptr(),
            unchecked,
            None,
            cast(None, CFUNCTYPE(None, c_void_p)),
        )
        assert not error

    def arg_size(self, _env, _caller, slots, _n):
        c_uint64.from_address(slots).value = len(self.arg)
        return 0

    def arg_copy(self, _env, _caller, slots, _n):
        a = (c_uint64 * 6).from_address(slots)
        offset, size = a[2] & 0xFFFFFFFF, a[4] & 0xFFFFFFFF
        memmove(self.base + (a[0] & 0xFFFFFFFF), self.arg[offset : offset + size], size)
        return 0

    def append(self, _env, _caller, slots, _n):
        a = (c_uint64 * 4).from_address(slots)
        self.out += string_at(self.base + (a[0] & 0xFFFFFFFF), a[2] & 0xFFFFFFFF)
        return 0

    def finish(self, _env, _caller, _slots, _n):
        self.reply = bytes(self.out)
        return 0

    def run(self, arg: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
        """Execute one message and commit its pages: (reply, [(page number, SHA-256)])."""
        self.arg, self.out = arg, bytearray()
        self.entry(self.store)
        hashes = []
        for k in range(fcntl.ioctl(self.pagemap, PAGEMAP_SCAN, self.scan)):
            start, size = self.regions[k].start, self.regions[k].end - self.regions[k].start
            data = string_at(start, size)
            os.pwrite(self.fd, data, start - self.base)
            hashes += [
                ((start - self.base + p) // PAGE, hashlib.sha256(data[p : p + PAGE]).digest()) for p in range(0, size, PAGE)
            ]
            self.libc.madvise(start, size, MADV_DONTNEED)
        return self.reply, hashes


def main() -> None:
    address = f"ipc://{tempfile.mkdtemp()}/floor"
    began = time.perf_counter()
    if os.fork() == 0:  # before wasmtime or ZeroMQ is used in the parent
        socket = zmq.Context().socket(zmq.DEALER)
        socket.connect(address)
        sandbox = BareSandbox()
        gc.disable()
        while batch := msgpack.unpackb(socket.recv()):
            socket.send(msgpack.packb([sandbox.run(arg) for arg in batch]))
        os._exit(0)
    socket = zmq.Context().socket(zmq.DEALER)
    socket.bind(address)
    arg = (5).to_bytes(8, "little")
    socket.send(msgpack.packb([arg]))
    socket.recv()
    print(f"fork to first message {(time.perf_counter() - began) * 1e3:.1f} ms")
    for size in (1, 10, 100):
        message, rounds = msgpack.packb([arg] * size), 6000 // size
        began = time.perf_counter()
        for _ in range(rounds):
            socket.send(message)
            msgpack.unpackb(socket.recv())
        print(f"batch {size:3}: {rounds * size / (time.perf_counter() - began):8.0f} messages/s")
    socket.send(msgpack.packb([]))


if __name__ == "__main__":
    main()
