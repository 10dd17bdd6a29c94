"""Why a message fails inside the sandbox, as error code and text of the replica.

Rule module. A System API function raises a `CanisterTrap`; the engine turns Wasm's own traps into one. Texts leave out the
"Error from Canister <id>: " that the node puts before them.
"""

from __future__ import annotations

from typing import Final

from ic_types.reject import ErrorCode

_DOCUMENTATION = "See documentation: https://internetcomputer.org/docs/current/references/execution-errors#"
_TOOLCHAIN = (
    "If you are running this canister in a test environment (e.g., dfx), make sure the test environment is up to date. "
    "Otherwise, this is likely an error with the compiler/CDK toolchain being used to build the canister. Please report the "
    "error to IC devs on the forum: https://forum.dfinity.org and include which language/CDK was used to create the canister."
)
_HANDLE_FAILURES = "Consider gracefully handling failures from this canister or altering the canister to handle exceptions."


class CanisterTrap(Exception):
    """The message fails with this error; `log` is what the canister's log says."""

    def __init__(self, code: ErrorCode, text: str, help_text: str = "", log: str | None = None) -> None:
        super().__init__(text)
        self.code, self.text, self.help_text = code, text, help_text
        self.log = text if log is None else log

    @property
    def message(self) -> str:
        """Text and advice, as in the reject message."""
        return f"{self.text}.\n{self.help_text}" if self.help_text else self.text


class AbortExecution(BaseException):
    """The node gave up the running message: unwinds the Wasm stack."""


def _advice(suggestion: str, anchor: str) -> str:
    return f"{suggestion} {_DOCUMENTATION}{anchor}"


def wasm_trap(reason: str) -> CanisterTrap:
    """A Wasm instruction, or a function that behaves like one, trapped."""
    return CanisterTrap(
        ErrorCode.CANISTER_TRAPPED, f"Canister trapped: {reason}", _advice(_HANDLE_FAILURES, "trapped"), log=reason
    )


def called_trap(message: str) -> CanisterTrap:
    """The canister called `ic0.trap`."""
    text = f"Canister called `ic0.trap` with message: '{message}'"
    advice = _advice(_HANDLE_FAILURES, "trapped-explicitly")
    return CanisterTrap(ErrorCode.CANISTER_CALLED_TRAP, text, advice, log=message or "(no message)")


def contract_violation(what: str, *, toolchain: bool = True) -> CanisterTrap:
    """The canister used the System API against its rules."""
    text = f"Canister violated contract: {what}"
    return CanisterTrap(ErrorCode.CANISTER_CONTRACT_VIOLATION, text, _TOOLCHAIN if toolchain else "")


def invalid_principal() -> CanisterTrap:
    """Bytes that the canister gave are no principal."""
    return CanisterTrap(ErrorCode.CANISTER_CONTRACT_VIOLATION, "Canister provided invalid principal id", _TOOLCHAIN)


def function_not_found(index: int) -> CanisterTrap:
    """A callback's index is not in the function table."""
    text = f"Canister requested to invoke a non-existent Wasm function {index} from table 0"
    return CanisterTrap(ErrorCode.CANISTER_FUNCTION_NOT_FOUND, text, _TOOLCHAIN)


def method_not_found(kind: str, name: str) -> CanisterTrap:
    """The module doesn't export this method."""
    advice = _advice("Check that the method being called is exported by the target canister.", "method-not-found")
    return CanisterTrap(ErrorCode.CANISTER_METHOD_NOT_FOUND, f"Canister has no {kind} method '{name}'.", advice)


def instruction_limit(limit: int) -> CanisterTrap:
    """The message used all its instructions."""
    text = f"Canister exceeded the limit of {limit} instructions for single message execution."
    suggestion = "Try optimizing this method to consume fewer instructions or split the work across multiple messages."
    return CanisterTrap(ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED, text, _advice(suggestion, "instruction-limit-exceeded"))


def slice_overrun(instructions: int, limit: int) -> CanisterTrap:
    """One operation took more than a whole slice beyond the slice's end."""
    text = (
        f"Canister attempted to perform a large memory operation that used {instructions} instructions and exceeded the slice "
        f"limit {limit}."
    )
    suggestion = "Try breaking up large copies within the canister code into smaller chunks."
    return CanisterTrap(ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED, text, _advice(suggestion, "slice-overrun"))


def out_of_memory() -> CanisterTrap:
    """A quota forbids the memory growth."""
    suggestion = (
        "Check the canister's memory usage against its allocation and the system wide limits to determine why more memory "
        "cannot be allocated."
    )
    advice = _advice(suggestion, "out-of-memory")
    return CanisterTrap(ErrorCode.CANISTER_OUT_OF_MEMORY, "Canister cannot grow its memory usage.", advice)


def memory_access_limit(what: str) -> CanisterTrap:
    """Too many stable pages written or read in one message."""
    text = f"Canister exceeded memory access limits: {what}"
    suggestion = (
        "Try optimizing the use of stable memory so that individual messages don't need to access as much stable memory."
    )
    advice = _advice(suggestion, "memory-access-limit-exceeded")
    return CanisterTrap(ErrorCode.CANISTER_MEMORY_ACCESS_LIMIT_EXCEEDED, text, advice)


def memory_grow_cycles(grown: int, missing: int | None) -> CanisterTrap:
    """Growing would freeze the canister; `missing` is told only to a controller."""
    more = "" if missing is None else f" At least {missing:_} additional cycles are required."
    text = f"Canister cannot grow memory by {grown} bytes due to insufficient cycles.{more}"
    advice = _advice("Try topping up the canister.", "insufficient-cycles-in-memory-grow")
    return CanisterTrap(ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW, text, advice)


def reserved_cycles_limit(grown: int, reserved: int, limit: int) -> CanisterTrap:
    """Growing would set more cycles aside than the canister's own limit allows."""
    text = (
        f"Canister cannot grow memory by {grown} bytes due to its reserved cycles limit. "
        f"The current limit ({limit:_}) would be exceeded by {reserved - limit:_}."
    )
    suggestion = "Try increasing this canister's reserved cycles limit or moving it to a subnet with lower memory usage."
    advice = _advice(suggestion, "reserved-cycles-limit-exceeded-in-memory-grow")
    return CanisterTrap(ErrorCode.RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_GROW, text, advice)


def wasm_memory_limit(limit: int, peak: int) -> CanisterTrap:
    """The heap would pass the canister's own limit."""
    text = (
        f"Canister exceeded its current Wasm memory limit of {limit} bytes. The peak Wasm memory usage was {peak} bytes. "
        "If the canister reaches 4GiB, then it may stop functioning and may become unrecoverable. Please reach out to the "
        "canister owner to investigate the reason for the increased memory usage. It might be necessary to move data from the "
        "Wasm memory to the stable memory. If such high Wasm memory usage is expected and safe, then the developer can "
        "increase the Wasm memory limit in the canister settings."
    )
    suggestion = (
        "Try checking the canister for a possible memory leak or modifying it to use more stable memory instead of Wasm memory."
    )
    return CanisterTrap(ErrorCode.CANISTER_WASM_MEMORY_LIMIT_EXCEEDED, text, _advice(suggestion, "wasm-memory-limit-exceeded"))


def out_of_cycles(canister: str) -> CanisterTrap:
    """More cycles attached to a call than can be spared."""
    return CanisterTrap(ErrorCode.CANISTER_CONTRACT_VIOLATION, f"Canister {canister} is out of cycles")


def engine_failure(what: str) -> CanisterTrap:
    """Wasmtime itself failed."""
    return CanisterTrap(ErrorCode.CANISTER_WASM_ENGINE_ERROR, f"Canister encountered a Wasm engine error: {what}")


SIXTY_FOUR_BIT_CYCLES: Final = "cycles amount exceeds 64-bit representation"
HEAP_OUT_OF_BOUNDS: Final = "heap out of bounds"
STABLE_OUT_OF_BOUNDS: Final = "stable memory out of bounds"
STABLE_TOO_BIG: Final = "32 bit stable memory api used on a memory larger than 4GB"
