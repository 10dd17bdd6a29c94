"""What the System API sees of the running message: the spec's ExecutionState without the Wasm part.

Rule module. Spec: "The execution state". One object serves all messages of a sandbox, one after the other (`begin`).

A message that isn't the first of its batch starts without its ExecutionContext, since that depends on what the node makes of
the earlier ones. The first function that needs it asks for it (`need_context`), which commits the earlier messages.
"""

from __future__ import annotations

from typing import Protocol

from ic_types.reject import ErrorCode
from ic_types.units import WASM_PAGE_BYTES
from sandbox.protocol import (
    Environment,
    ExecutionContext,
    ExecutionInput,
    OutgoingCall,
    RejectMessage,
    ReplyData,
)
from sandbox.slices import Slices
from sandbox.system_api.availability import CQ, NRQ, context_of
from sandbox.system_api.pending_call import PendingCall
from sandbox.system_api.traps import CanisterTrap, contract_violation

_LOG_RECORD_OVERHEAD = 40


class Port(Protocol):
    """How a running message reaches the rest of its process."""

    def settle(self) -> ExecutionContext:
        """Have the node commit the earlier messages; returns this one's context."""

    def pause(self, slice_instructions: int, instructions: int) -> None:
        """Report the end of a slice and wait for the next."""

    def read_counter(self) -> int:
        """The module's instruction counter."""

    def heap_grown(self, old_bytes: int, new_bytes: int) -> None:
        """The heap is larger now."""


class MessageState:
    """The running message: its input, its effects so far, and the memory that it works on."""

    __slots__ = (
        "accepted",
        "arg",
        "balance",
        "calls",
        "certified_data",
        "context",
        "cycles_accepted",
        "cycles_available",
        "cycles_burned",
        "cycles_reserved",
        "environment",
        "global_timer",
        "grown_bytes",
        "guaranteed_bytes",
        "heap",
        "heap_bytes",
        "input",
        "lines_dropped",
        "log_used",
        "logs",
        "max_reply",
        "message_bytes",
        "mode",
        "pending",
        "port",
        "replied",
        "reply_data",
        "response",
        "slices",
        "slots_used",
        "stable_pages",
        "wasm64",
    )  # fmt: skip

    def __init__(self, environment: Environment, port: Port, *, wasm64: bool) -> None:
        self.environment, self.port, self.wasm64 = environment, port, wasm64
        self.heap = memoryview(b"")
        """The whole reserved range of the heap; only `heap_bytes` of it may be touched."""
        self.heap_bytes = 0
        self.stable_pages = 0
        self.slices = Slices()

    def begin(self, message: ExecutionInput, context: ExecutionContext | None) -> int:
        """Take up a message; returns what its instruction counter starts at."""
        self.input, self.arg = message, message.arg
        self.mode = mode = context_of(message)
        self.response: ReplyData | RejectMessage | None = None
        self.replied = message.already_responded or not message.may_reply
        self.reply_data = bytearray()
        self.calls: list[OutgoingCall] = []
        self.pending: PendingCall | None = None
        self.slots_used: dict[bytes, int] = {}
        self.cycles_accepted = self.cycles_burned = self.cycles_reserved = self.grown_bytes = self.log_used = 0
        self.message_bytes = self.guaranteed_bytes = 0
        self.certified_data: bytes | None = None
        self.global_timer: int | None = None
        self.accepted = False
        self.logs: list[bytes] = []
        self.lines_dropped = 0
        limits = self.environment.limits
        self.max_reply = limits.max_query_reply if mode & (NRQ | CQ) else limits.max_payload
        self.context = context
        if context is not None:
            self._enter(context)
        return self.slices.start(message.instruction_limit, message.slice_limit)

    def _enter(self, context: ExecutionContext) -> None:
        self.balance = context.balance
        self.cycles_available = 0 if self.replied else context.cycles_available

    def need_context(self) -> ExecutionContext:
        """The context of this message, after committing the earlier ones if it must be asked for."""
        if self.context is None:
            self.context = self.port.settle()
            self._enter(self.context)
        return self.context

    # --- cycles

    def threshold(self, extra_bytes: int = 0, extra_message_bytes: int = 0) -> int:
        """Cycles below which the canister would be frozen, with so much more memory and message memory than it has now."""
        context = self.need_context()
        return self.environment.fees.freezing_threshold(
            memory_usage=max(context.memory_allocation, context.memory_usage + self.grown_bytes + extra_bytes),
            message_memory=context.message_memory + self.message_bytes + extra_message_bytes,
            compute_allocation=context.compute_allocation,
            freezing_threshold_s=context.freezing_threshold_s,
            reserved_balance=context.reserved_balance + self.cycles_reserved,
        )

    def liquid_balance(self) -> int:
        """Cycles that may be spent: balance above the freezing threshold."""
        threshold = self.threshold()
        return max(self.balance - threshold, 0)

    def available_cycles(self) -> int:
        """Cycles of the call that can still be accepted."""
        if self.replied:
            return 0
        self.need_context()
        return self.cycles_available

    # --- memory

    def copy_to_canister(self, name: str, what: str, dst: int, offset: int, size: int, data: bytes) -> None:
        """data[offset..offset+size] to the heap at dst.

        Raises: CanisterTrap when either range is out of bounds.
        """
        if dst + size > self.heap_bytes:
            raise out_of_bounds(f"ic0.{name} heap", dst, size, self.heap_bytes)
        if offset + size > len(data):
            raise out_of_bounds(f"ic0.{name} {what}", offset, size, len(data))
        self.heap[dst : dst + size] = data[offset : offset + size]

    def copy_from_canister(self, name: str, src: int, size: int) -> bytes:
        """The heap's bytes at src.

        Raises: CanisterTrap when the range is out of bounds.
        """
        if src + size > self.heap_bytes:
            raise out_of_bounds(name, src, size, self.heap_bytes)
        return bytes(self.heap[src : src + size])

    def copy_cycles_to_canister(self, name: str, dst: int, amount: int) -> None:
        """A 128-bit amount, little-endian, to the heap at dst."""
        if dst + 16 > self.heap_bytes:
            raise contract_violation(
                f"ic0_{name} failed because dst + size is out of bounds. Found dst = {dst} and size = 16 while must be <= "
                f"{self.heap_bytes}"
            )
        self.heap[dst : dst + 16] = amount.to_bytes(16, "little")

    def heap_grew(self, old_pages: int, extra_pages: int) -> None:
        """The module's memory.grow succeeded."""
        old = old_pages * WASM_PAGE_BYTES
        self.heap_bytes = old + extra_pages * WASM_PAGE_BYTES
        self.port.heap_grown(old, self.heap_bytes)

    # --- log

    def log(self, content: bytes) -> None:
        """Append a record, trimmed so that it fits; the oldest records of this message make room."""
        capacity = self.environment.log_bytes
        if capacity <= _LOG_RECORD_OVERHEAD:
            return
        content = content[: capacity - _LOG_RECORD_OVERHEAD]
        size = _LOG_RECORD_OVERHEAD + len(content)
        while self.log_used + size > capacity:
            self.log_used -= _LOG_RECORD_OVERHEAD + len(self.logs.pop(0))
            self.lines_dropped += 1
        self.logs.append(content)
        self.log_used += size

    def log_trap(self, trap: CanisterTrap) -> None:
        """What the log says of a failed message."""
        if trap.code in _LOGGED:
            self.log(f"[TRAP]: {trap.log}".encode())


_LOGGED = frozenset((ErrorCode.CANISTER_TRAPPED, ErrorCode.CANISTER_CALLED_TRAP, ErrorCode.CANISTER_CONTRACT_VIOLATION))


def out_of_bounds(what: str, start: int, size: int, limit: int) -> CanisterTrap:
    """A range given by the canister doesn't lie inside what it points into."""
    return contract_violation(f"{what}: src={start} + length={size} exceeds the slice size={limit}")
