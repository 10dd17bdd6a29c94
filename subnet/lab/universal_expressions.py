"""Expressions of the universal canister's language: code that leaves one integer or blob on its stack.

Rule module. The numbers are those of `run` in examples/canisters/universal/universal.c; statements are in `universal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import SupportsBytes, TypeAlias


@dataclass(frozen=True, slots=True)
class Int:
    """An expression of 64 bits."""

    code: bytes

    def __add__(self, other: IntLike) -> Int:
        return Int(self.code + integer(other).code + b"\x16")

    def __sub__(self, other: IntLike) -> Int:
        return Int(self.code + integer(other).code + b"\x17")

    def __mul__(self, other: IntLike) -> Int:
        return Int(self.code + integer(other).code + b"\x18")

    def equals(self, other: IntLike) -> Int:
        """1 if equal, else 0."""
        return Int(self.code + integer(other).code + b"\x19")

    def less_than(self, other: IntLike) -> Int:
        """1 if less (signed), else 0."""
        return Int(self.code + integer(other).code + b"\x1a")

    def to_blob(self) -> Blob:
        """Eight bytes, little-endian."""
        return Blob(self.code + b"\x0b")


@dataclass(frozen=True, slots=True)
class Blob:
    """An expression of bytes."""

    code: bytes

    def concat(self, other: BlobLike) -> Blob:
        """These bytes, then those."""
        return Blob(self.code + blob(other).code + b"\x1b")

    def size(self) -> Int:
        """Number of bytes."""
        return Int(self.code + b"\x1c")

    def to_int(self) -> Int:
        """The first eight bytes, little-endian."""
        return Int(self.code + b"\x0c")

    def slice(self, start: IntLike, size: IntLike) -> Blob:
        """`size` bytes from `start`; traps outside."""
        return Blob(self.code + integer(start).code + integer(size).code + b"\x4c")

    def repeat(self, times: IntLike) -> Blob:
        """These bytes so many times."""
        return Blob(self.code + integer(times).code + b"\x4d")


IntLike: TypeAlias = Int | int
BlobLike: TypeAlias = Blob | bytes | str | SupportsBytes


def integer(value: IntLike) -> Int:
    """A constant, or the expression itself."""
    if isinstance(value, Int):
        return value
    return Int(b"\x02" + (value & (2**64 - 1)).to_bytes(8, "little"))


def blob(value: BlobLike) -> Blob:
    """A constant, a program as data, or the expression itself."""
    if isinstance(value, Blob):
        return value
    raw = value.encode() if isinstance(value, str) else bytes(value)
    return Blob(b"\x03" + len(raw).to_bytes(4, "little") + raw)


def wide(cycles: int) -> bytes:
    """Code that pushes the high and the low half of 128 bits."""
    return integer(cycles >> 64).code + integer(cycles & (2**64 - 1)).code


def self_id() -> Blob:
    """ic0.canister_self."""
    return Blob(b"\x06")


def caller() -> Blob:
    """ic0.msg_caller."""
    return Blob(b"\x08")


def reject_message() -> Blob:
    """ic0.msg_reject_msg."""
    return Blob(b"\x09")


def reject_code() -> Int:
    """ic0.msg_reject_code."""
    return Int(b"\x0a")


def get_global() -> Blob:
    """The bytes kept by `set_global`."""
    return Blob(b"\x10")


def argument() -> Blob:
    """ic0.msg_arg_data: in a callback the reply; in an entry point the program itself."""
    return Blob(b"\x20")


def method_name() -> Blob:
    """ic0.msg_method_name (inspect_message)."""
    return Blob(b"\x3c")


def subnet_self() -> Blob:
    """ic0.subnet_self."""
    return Blob(b"\x45")


def root_key() -> Blob:
    """ic0.root_key."""
    return Blob(b"\x46")


def stable_size() -> Int:
    """ic0.stable64_size, Wasm pages."""
    return Int(b"\x12")


def stable_grow(pages: IntLike) -> Int:
    """ic0.stable64_grow: old size or -1."""
    return Int(integer(pages).code + b"\x13")


def stable_read(offset: IntLike, size: IntLike) -> Blob:
    """ic0.stable64_read."""
    return Blob(integer(offset).code + integer(size).code + b"\x14")


def cycles_available() -> Blob:
    """ic0.msg_cycles_available128, 16 bytes little-endian."""
    return Blob(b"\x27")


def cycles_refunded() -> Blob:
    """ic0.msg_cycles_refunded128, 16 bytes little-endian."""
    return Blob(b"\x28")


def cycles_accept(most: int) -> Blob:
    """ic0.msg_cycles_accept128: accepted amount, 16 bytes little-endian."""
    return Blob(wide(most) + b"\x29")


def cycles_balance() -> Blob:
    """ic0.canister_cycle_balance128, 16 bytes little-endian."""
    return Blob(b"\x2a")


def liquid_balance() -> Blob:
    """ic0.canister_liquid_cycle_balance128, 16 bytes little-endian."""
    return Blob(b"\x47")


def cycles_burn(amount: int) -> Blob:
    """ic0.cycles_burn128: burned amount, 16 bytes little-endian."""
    return Blob(wide(amount) + b"\x2b")


def time() -> Int:
    """ic0.time, ns."""
    return Int(b"\x2c")


def set_timer(at_ns: IntLike) -> Int:
    """ic0.global_timer_set: previous value."""
    return Int(integer(at_ns).code + b"\x2d")


def performance_counter(kind: IntLike = 0) -> Int:
    """ic0.performance_counter."""
    return Int(integer(kind).code + b"\x2e")


def canister_version() -> Int:
    """ic0.canister_version."""
    return Int(b"\x2f")


def canister_status() -> Int:
    """ic0.canister_status: 1 running, 2 stopping, 3 stopped."""
    return Int(b"\x30")


def is_controller(principal: BlobLike) -> Int:
    """ic0.is_controller."""
    return Int(blob(principal).code + b"\x31")


def in_replicated_execution() -> Int:
    """ic0.in_replicated_execution."""
    return Int(b"\x32")


def deadline() -> Int:
    """ic0.msg_deadline, ns."""
    return Int(b"\x33")


def certificate_present() -> Int:
    """ic0.data_certificate_present."""
    return Int(b"\x35")


def certificate() -> Blob:
    """ic0.data_certificate."""
    return Blob(b"\x36")


def memory_size() -> Int:
    """memory.size, Wasm pages."""
    return Int(b"\x3d")


def memory_grow(pages: IntLike) -> Int:
    """memory.grow: old size or -1."""
    return Int(integer(pages).code + b"\x3e")


def page_byte(page: IntLike) -> Int:
    """First byte of one of the 64 scratch pages."""
    return Int(integer(page).code + b"\x41")


def scratch_address() -> Int:
    """Heap address of the scratch pages, within one OS page of their start."""
    return Int(b"\x4b")


def peek(address: IntLike, size: IntLike) -> Blob:
    """Bytes of the heap."""
    return Blob(integer(address).code + integer(size).code + b"\x42")


def cost_call(method_size: IntLike, payload_size: IntLike) -> Blob:
    """ic0.cost_call, 16 bytes little-endian."""
    return Blob(integer(method_size).code + integer(payload_size).code + b"\x48")


def cost_create_canister() -> Blob:
    """ic0.cost_create_canister, 16 bytes little-endian."""
    return Blob(b"\x49")


def env_var_count() -> Int:
    """ic0.env_var_count."""
    return Int(b"\x4e")


def env_var_value(name: BlobLike) -> Blob:
    """ic0.env_var_value."""
    return Blob(blob(name).code + b"\x51")
