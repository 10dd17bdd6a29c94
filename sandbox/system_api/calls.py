"""Calls to other canisters, built step by step.

Rule module. Spec: System imports, `call_*`; canister interface, "Inter-canister method calls".
"""

from __future__ import annotations

from typing import Final

from configs.limits import request_memory
from ic_types.principal import MAX_BYTES
from sandbox.protocol import Closure, OutgoingCall
from sandbox.system_api.message_state import MessageState
from sandbox.system_api.pending_call import PendingCall
from sandbox.system_api.traps import contract_violation, invalid_principal, out_of_cycles

SYS_TRANSIENT: Final = 2
"""What `call_perform` returns when the call can't be made now."""
MAX_METHOD_NAME: Final = 20_000


def call_new(
    s: MessageState,
    callee_src: int,
    callee_size: int,
    name_src: int,
    name_size: int,
    reply_fun: int,
    reply_env: int,
    reject_fun: int,
    reject_env: int,
) -> None:
    """Start a call, dropping one that was not performed.

    Raises: CanisterTrap when a range is out of bounds, the name too long or the callee no principal.
    """
    _discard(s)
    if name_size > MAX_METHOD_NAME:
        raise contract_violation(
            f"Size of method_name {name_size} exceeds the allowed limit {MAX_METHOD_NAME}", toolchain=False
        )
    method = s.copy_from_canister("ic0.call_new method_name", name_src, name_size).decode("utf-8", "replace")
    callee = s.copy_from_canister("ic0.call_new callee_src", callee_src, callee_size)
    if callee_size > MAX_BYTES:
        raise invalid_principal()
    s.pending = PendingCall(callee, method, Closure(reply_fun, reply_env), Closure(reject_fun, reject_env))


def call_on_cleanup(s: MessageState, fun: int, env: int) -> None:
    """Name the callback that runs when the reply or reject callback traps."""
    call = _pending(s, "call_on_cleanup")
    if call.on_cleanup is not None:
        raise contract_violation("ic0.call_on_cleanup can be called at most once between `ic0.call_new` and `ic0.call_perform`")
    call.on_cleanup = Closure(fun, env)


def call_data_append(s: MessageState, src: int, size: int) -> None:
    """Add to the argument.

    Raises: CanisterTrap when no call is built, the call gets too large or the range is out of bounds.
    """
    call = _pending(s, "call_data_append")
    limits = s.environment.limits
    total = call.payload_bytes() + size
    if total > limits.max_local_payload:
        raise contract_violation(
            f"RequestInPrep: size of message {total} exceeded the allowed limit local-subnet {limits.max_local_payload} "
            f"remote-subnet {limits.max_payload}",
            toolchain=False,
        )
    call.arg += s.copy_from_canister("ic0.call_data_append", src, size)


def call_with_best_effort_response(s: MessageState, timeout_s: int) -> None:
    """Wait at most this long for the response."""
    call = _pending(s, "call_with_best_effort_response")
    if call.timeout_s is not None:
        raise contract_violation("ic0_call_with_best_effort_response failed because a timeout is already set.")
    call.timeout_s = min(timeout_s, s.environment.limits.best_effort_timeout_max_s)


def call_cycles_add(s: MessageState, amount: int) -> None:
    """Move cycles from the balance to the call (64-bit amount)."""
    _add_cycles(s, "call_cycles_add", amount)


def call_cycles_add128(s: MessageState, high: int, low: int) -> None:
    """Move cycles from the balance to the call."""
    _add_cycles(s, "call_cycles_add128", high << 64 | low)


def call_perform(s: MessageState) -> int:
    """Queue the call: 0, or 2 when cycles, message memory, room in the queue or callbacks don't suffice.

    A call that isn't made is dropped and its cycles go back. Spec: `system_cannot_do_this_call_now`.

    Raises: CanisterTrap when no call is built.
    """
    call = _pending(s, "call_perform")
    context = s.need_context()
    limits, fees = s.environment.limits, s.environment.fees
    cost = fees.call(call.payload_bytes(), limits.instructions_per_message, limits.max_payload, wasm64=s.wasm64)
    used, best_effort = s.slots_used.get(call.callee, 0), call.timeout_s is not None
    memory = request_memory(call.payload_bytes(), best_effort=best_effort)
    guaranteed = 0 if best_effort else memory
    if (
        s.balance - s.threshold(extra_message_bytes=memory) < cost
        or s.guaranteed_bytes + guaranteed > context.message_memory_available
        or used >= _slots(s, call.callee)
        or len(s.calls) >= context.callbacks_available
    ):  # fmt: skip
        _discard(s)
        return SYS_TRANSIENT
    s.balance -= cost
    s.message_bytes += memory
    s.guaranteed_bytes += guaranteed
    s.slots_used[call.callee] = used + 1
    s.calls.append(
        OutgoingCall(
            callee=call.callee,
            method=call.method,
            arg=bytes(call.arg),
            cycles=call.cycles,
            on_reply=call.on_reply,
            on_reject=call.on_reject,
            on_cleanup=call.on_cleanup,
            timeout_s=call.timeout_s,
        )
    )
    s.pending = None
    return 0


def _slots(s: MessageState, callee: bytes) -> int:
    for peer, free in s.need_context().output_slots:
        if peer == callee:
            return free
    return s.environment.limits.queue_capacity


def _add_cycles(s: MessageState, name: str, amount: int) -> None:
    call = _pending(s, name)
    if s.liquid_balance() < amount:
        raise out_of_cycles(f"{s.environment.canister_id}")
    s.balance -= amount
    call.cycles += amount


def _pending(s: MessageState, name: str) -> PendingCall:
    if s.pending is None:
        raise contract_violation(f"ic0.{name} called when no call is under construction.")
    return s.pending


def _discard(s: MessageState) -> None:
    if s.pending is not None:
        if s.pending.cycles:
            s.balance += s.pending.cycles
        s.pending = None


FUNCTIONS: Final = (
    call_new, call_on_cleanup, call_data_append, call_with_best_effort_response, call_cycles_add, call_cycles_add128,
    call_perform,
)  # fmt: skip
