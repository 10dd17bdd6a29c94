"""Error codes and texts of failed messages, as users and callers see them.

Rule module. Spec: interface spec, "Error codes"; the texts are the replica's, without its links to documentation.
"""

from __future__ import annotations

from ic_types.principal import CanisterId
from ic_types.reject import ErrorCode, Reject, RejectCode, reject
from sandbox.system_api.traps import reserved_cycles_limit, wasm_memory_limit

MAX_TEXT_BYTES = 8 << 10
"""Longest reject message and error description."""

NO_RESPONSE = Reject(RejectCode.CANISTER_ERROR, "No response", ErrorCode.CANISTER_DID_NOT_REPLY)
"""What a caller canister learns when no message is left that could respond."""


def shorten(text: str) -> str:
    """The text, with its middle left out when it is too long."""
    raw = text.encode()
    if len(raw) <= MAX_TEXT_BYTES:
        return text
    half = (MAX_TEXT_BYTES - 3) // 2
    return raw[:half].decode(errors="ignore") + "..." + raw[-half:].decode(errors="ignore")


def canister_error(canister_id: CanisterId, code: int, description: str) -> Reject:
    """An error of the canister's own making; a code that is no error code counts as an engine error."""
    try:
        error = ErrorCode(code)
    except ValueError:
        error = ErrorCode.CANISTER_WASM_ENGINE_ERROR
    return reject(error, shorten(f"Error from Canister {canister_id}: {description}"))


def with_cleanup_error(error: Reject, description: str) -> Reject:
    """The callback's error when its cleanup failed too; code and first text are the callback's."""
    return Reject(error.code, shorten(f"{error.message}\n\ncall_on_cleanup also failed:\n\n{description}"), error.error_code)


def did_not_reply(canister_id: CanisterId) -> Reject:
    """What a user learns when no message is left that could respond."""
    return canister_error(canister_id, ErrorCode.CANISTER_DID_NOT_REPLY, "Canister did not reply to the call")


def method_not_found(canister_id: CanisterId, kind: str, method: str) -> Reject:
    """IC0536."""
    text = f"Canister has no {kind} method '{method}'.\nCheck that the method being called is exported by the target canister."
    return canister_error(canister_id, ErrorCode.CANISTER_METHOD_NOT_FOUND, text)


def no_module(canister_id: CanisterId) -> Reject:
    """IC0537."""
    text = (
        "Attempted to execute a message, but the canister contains no Wasm module.\n"
        "Please install code to this canister before calling it."
    )
    return canister_error(canister_id, ErrorCode.CANISTER_WASM_MODULE_NOT_FOUND, text)


def not_running(canister_id: CanisterId, *, stopped: bool) -> Reject:
    """IC0508 or IC0509."""
    code = ErrorCode.CANISTER_STOPPED if stopped else ErrorCode.CANISTER_STOPPING
    return reject(code, f"Canister {canister_id} is not running")


def too_few_cycles(canister_id: CanisterId, attached: int, minimum: int) -> Reject:
    """A call by another canister that brings less than the callee asks for. Not in the spec: code and text."""
    text = f"Canister {canister_id} asks for at least {minimum:_} cycles per call, but only {attached:_} were attached"
    return reject(ErrorCode.INSUFFICIENT_CYCLES_IN_CALL, text)


def over_memory_limit(canister_id: CanisterId, limit: int, heap_bytes: int) -> Reject:
    """IC0539."""
    trap = wasm_memory_limit(limit, heap_bytes)
    return canister_error(canister_id, trap.code, trap.message)


def over_reserved_limit(canister_id: CanisterId, grown: int, reserved: int, limit: int) -> Reject:
    """IC0532."""
    trap = reserved_cycles_limit(grown, reserved, limit)
    return canister_error(canister_id, trap.code, trap.message)


def composite_query_in_replicated_mode() -> Reject:
    """IC0527."""
    return reject(ErrorCode.COMPOSITE_QUERY_CALLED_IN_REPLICATED_MODE, "Composite query cannot be called in replicated mode")


def uninstalled() -> Reject:
    """What callers of open calls learn when the code goes away."""
    return Reject(RejectCode.CANISTER_REJECT, "Canister has been uninstalled.", ErrorCode.CANISTER_REJECTED_MESSAGE)


def for_caller(outcome: Reject) -> Reject:
    """The reject of an execution as a calling canister sees it: errors carry their code in front, rejects by a canister don't.

    Errors of the management canister and of routing are told without it, as in the replica.
    """
    if outcome.error_code is None or outcome.error_code is ErrorCode.CANISTER_REJECTED_MESSAGE or outcome is NO_RESPONSE:
        return outcome
    return Reject(outcome.code, f"{outcome.error_code.text}: {outcome.message}", outcome.error_code)
