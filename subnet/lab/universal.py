"""The universal canister's language: small programs, sent as argument, that make System API calls.

Rule module. An `Int` or `Blob` is an expression (code that leaves one value on the canister's stack), a `Program` is a list of
statements. The numbers are those of `run` in examples/canisters/universal/universal.c.

    Program().reply(caller().concat(b"!"))                     # answers with the caller's principal and "!"
    Program().call(other, "update", Program().reply(b"hi"),    # calls `other`, answers with what it answers
                   on_reply=Program().reply(argument()))
"""

from __future__ import annotations

from subnet.lab.universal_expressions import (
    Blob,
    BlobLike,
    Int,
    IntLike,
    argument,
    blob,
    caller,
    canister_status,
    canister_version,
    certificate,
    certificate_present,
    cost_call,
    cost_create_canister,
    cycles_accept,
    cycles_available,
    cycles_balance,
    cycles_burn,
    cycles_refunded,
    deadline,
    env_var_count,
    env_var_value,
    get_global,
    in_replicated_execution,
    integer,
    is_controller,
    liquid_balance,
    memory_grow,
    memory_size,
    method_name,
    page_byte,
    peek,
    performance_counter,
    reject_code,
    reject_message,
    root_key,
    scratch_address,
    self_id,
    set_timer,
    stable_grow,
    stable_read,
    stable_size,
    subnet_self,
    time,
    wide,
)

__all__ = [
    "Blob",
    "BlobLike",
    "Int",
    "IntLike",
    "Program",
    "argument",
    "blob",
    "caller",
    "canister_status",
    "canister_version",
    "certificate",
    "certificate_present",
    "cost_call",
    "cost_create_canister",
    "cycles_accept",
    "cycles_available",
    "cycles_balance",
    "cycles_burn",
    "cycles_refunded",
    "deadline",
    "env_var_count",
    "env_var_value",
    "get_global",
    "in_replicated_execution",
    "integer",
    "is_controller",
    "liquid_balance",
    "memory_grow",
    "memory_size",
    "method_name",
    "page_byte",
    "peek",
    "performance_counter",
    "reject_code",
    "reject_message",
    "root_key",
    "scratch_address",
    "self_id",
    "set_timer",
    "stable_grow",
    "stable_read",
    "stable_size",
    "subnet_self",
    "time",
    "wide",
]


class Program:
    """A list of statements; every method returns a longer program, the receiver stays as it was."""

    __slots__ = ("code",)

    def __init__(self, code: bytes = b"") -> None:
        self.code = code

    def __bytes__(self) -> bytes:
        return self.code

    def __add__(self, other: Program) -> Program:
        return Program(self.code + other.code)

    def _then(self, *parts: bytes) -> Program:
        return Program(self.code + b"".join(parts))

    def append(self, data: BlobLike) -> Program:
        """ic0.msg_reply_data_append."""
        return self._then(blob(data).code, b"\x04")

    def send_reply(self) -> Program:
        """ic0.msg_reply."""
        return self._then(b"\x05")

    def reply(self, data: BlobLike = b"") -> Program:
        """Append and reply."""
        return self.append(data).send_reply()

    def reply_int(self, value: IntLike) -> Program:
        """Reply with eight bytes."""
        return self.reply(integer(value).to_blob())

    def reject(self, message: BlobLike) -> Program:
        """ic0.msg_reject."""
        return self._then(blob(message).code, b"\x07")

    def trap(self, message: BlobLike) -> Program:
        """ic0.trap."""
        return self._then(blob(message).code, b"\x0e")

    def unreachable(self) -> Program:
        """The Wasm instruction."""
        return self._then(b"\x52")

    def print(self, message: BlobLike) -> Program:
        """ic0.debug_print."""
        return self._then(blob(message).code, b"\x0d")

    def print_out_of_bounds(self) -> Program:
        """ic0.debug_print of bytes outside the heap."""
        return self._then(b"\x44")

    def drop(self, value: Int | Blob) -> Program:
        """Evaluate for its effect alone."""
        return self._then(value.code, b"\x01")

    def set_global(self, data: BlobLike) -> Program:
        """Keep bytes across messages."""
        return self._then(blob(data).code, b"\x0f")

    def stable_write(self, offset: IntLike, data: BlobLike) -> Program:
        """ic0.stable64_write."""
        return self._then(integer(offset).code, blob(data).code, b"\x15")

    def set_page_byte(self, page: IntLike, value: IntLike) -> Program:
        """Write the first byte of one of the 64 scratch pages: dirties it if the byte differs."""
        return self._then(integer(page).code, integer(value).code, b"\x40")

    def poke(self, address: IntLike, data: BlobLike) -> Program:
        """Write to the heap."""
        return self._then(integer(address).code, blob(data).code, b"\x43")

    def burn_loop(self, times: IntLike) -> Program:
        """Spend instructions (about 7 an iteration)."""
        return self._then(integer(times).code, b"\x3f")

    def certified_data(self, data: BlobLike) -> Program:
        """ic0.certified_data_set."""
        return self._then(blob(data).code, b"\x34")

    def accept(self) -> Program:
        """ic0.accept_message."""
        return self._then(b"\x3b")

    def on_heartbeat(self, program: Program) -> Program:
        """Run this at every heartbeat (build `universal_heartbeat` only)."""
        return self._then(blob(program).code, b"\x37")

    def on_timer(self, program: Program) -> Program:
        """Run this when the global timer expires."""
        return self._then(blob(program).code, b"\x38")

    def on_inspect(self, program: Program) -> Program:
        """Run this as inspect_message (accepts everything otherwise)."""
        return self._then(blob(program).code, b"\x39")

    def on_pre_upgrade(self, program: Program) -> Program:
        """Run this as pre_upgrade."""
        return self._then(blob(program).code, b"\x3a")

    def on_low_wasm_memory(self, program: Program) -> Program:
        """Run this as on_low_wasm_memory."""
        return self._then(blob(program).code, b"\x4a")

    def if_(self, condition: Int, then: Program, otherwise: Program | None = None) -> Program:
        """Branch on non-zero."""
        rest = (otherwise or Program()).code
        skip = b"\x1f" + len(rest).to_bytes(4, "little")
        taken = then.code + skip
        return self._then(condition.code, b"\x1d", len(taken).to_bytes(4, "little"), taken, rest)

    def while_(self, condition: Int, body: Program) -> Program:
        """Repeat while non-zero."""
        turn = len(condition.code) + 5 + len(body.code) + 5
        back = b"\x1e" + turn.to_bytes(4, "little")
        inside = body.code + back
        return self._then(condition.code, b"\x1d", len(inside).to_bytes(4, "little"), inside)

    def call(
        self,
        callee: BlobLike,
        method: BlobLike,
        arg: BlobLike = b"",
        *,
        on_reply: Program | None = None,
        on_reject: Program | None = None,
        on_cleanup: Program | None = None,
        cycles: int = 0,
        timeout_s: int | None = None,
        if_not_performed: Program | None = None,
    ) -> Program:
        """Call a canister; by default answer with its reply, or reject with its reject message.

        `if_not_performed` runs when call_perform returns an error; it traps by default.
        """
        reply = on_reply if on_reply is not None else Program().reply(argument())
        rejected = on_reject if on_reject is not None else Program().reject(reject_message())
        failed = if_not_performed if if_not_performed is not None else Program().trap("call_perform failed")
        started = self._then(blob(callee).code, blob(method).code, blob(reply).code, blob(rejected).code, b"\x21")
        with_data = started._then(blob(arg).code, b"\x22")
        if cycles:
            with_data = with_data._then(wide(cycles), b"\x23")
        if on_cleanup is not None:
            with_data = with_data._then(blob(on_cleanup).code, b"\x24")
        if timeout_s is not None:
            with_data = with_data._then(integer(timeout_s).code, b"\x25")
        return with_data.if_(Int(b"\x26"), failed)
