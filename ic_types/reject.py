"""Reject codes, error codes and the outcomes a call can have.

Rule module. Spec: interface spec, "Reject codes" and "Error codes".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias


class RejectCode(IntEnum):
    """Reject codes of the interface spec."""

    SYS_FATAL = 1
    SYS_TRANSIENT = 2
    DESTINATION_INVALID = 3
    CANISTER_REJECT = 4
    CANISTER_ERROR = 5
    SYS_UNKNOWN = 6


class ErrorCode(IntEnum):
    """Error codes; the first digit is the reject code, the text form is IC0nnn."""

    SUBNET_OVERSUBSCRIBED = 101
    MAX_NUMBER_OF_CANISTERS_REACHED = 102
    CANISTER_QUEUE_FULL = 201
    INGRESS_MESSAGE_TIMEOUT = 202
    CANISTER_QUEUE_NOT_EMPTY = 203
    INGRESS_HISTORY_FULL = 204
    CANISTER_ID_ALREADY_EXISTS = 205
    STOP_CANISTER_REQUEST_TIMEOUT = 206
    CANISTER_OUT_OF_CYCLES = 207
    CERTIFIED_STATE_UNAVAILABLE = 208
    CANISTER_INSTALL_CODE_RATE_LIMITED = 209
    CANISTER_HEAP_DELTA_RATE_LIMITED = 210
    CANISTER_NOT_FOUND = 301
    CANISTER_SNAPSHOT_NOT_FOUND = 305
    INSUFFICIENT_MEMORY_ALLOCATION = 402
    INSUFFICIENT_CYCLES_FOR_CREATE_CANISTER = 403
    SUBNET_NOT_FOUND = 404
    CANISTER_NOT_HOSTED_BY_SUBNET = 405
    CANISTER_REJECTED_MESSAGE = 406
    UNKNOWN_MANAGEMENT_MESSAGE = 407
    INVALID_MANAGEMENT_PAYLOAD = 408
    CANISTER_SNAPSHOT_IMMUTABLE = 409
    INVALID_SUBNET_ADMIN = 410
    CANISTER_TRAPPED = 502
    CANISTER_CALLED_TRAP = 503
    CANISTER_CONTRACT_VIOLATION = 504
    CANISTER_INVALID_WASM = 505
    CANISTER_DID_NOT_REPLY = 506
    CANISTER_OUT_OF_MEMORY = 507
    CANISTER_STOPPED = 508
    CANISTER_STOPPING = 509
    CANISTER_NOT_STOPPED = 510
    CANISTER_STOPPING_CANCELLED = 511
    CANISTER_INVALID_CONTROLLER = 512
    CANISTER_FUNCTION_NOT_FOUND = 513
    CANISTER_NON_EMPTY = 514
    QUERY_CALL_GRAPH_LOOP_DETECTED = 517
    INSUFFICIENT_CYCLES_IN_CALL = 520
    CANISTER_WASM_ENGINE_ERROR = 521
    CANISTER_INSTRUCTION_LIMIT_EXCEEDED = 522
    CANISTER_MEMORY_ACCESS_LIMIT_EXCEEDED = 524
    QUERY_CALL_GRAPH_TOO_DEEP = 525
    QUERY_CALL_GRAPH_TOTAL_INSTRUCTION_LIMIT_EXCEEDED = 526
    COMPOSITE_QUERY_CALLED_IN_REPLICATED_MODE = 527
    QUERY_TIME_LIMIT_EXCEEDED = 528
    QUERY_CALL_GRAPH_INTERNAL = 529
    INSUFFICIENT_CYCLES_IN_COMPUTE_ALLOCATION = 530
    INSUFFICIENT_CYCLES_IN_MEMORY_ALLOCATION = 531
    INSUFFICIENT_CYCLES_IN_MEMORY_GROW = 532
    RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_ALLOCATION = 533
    RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_GROW = 534
    INSUFFICIENT_CYCLES_IN_MESSAGE_MEMORY_GROW = 535
    CANISTER_METHOD_NOT_FOUND = 536
    CANISTER_WASM_MODULE_NOT_FOUND = 537
    CANISTER_ALREADY_INSTALLED = 538
    CANISTER_WASM_MEMORY_LIMIT_EXCEEDED = 539
    RESERVED_CYCLES_LIMIT_IS_TOO_LOW = 540
    CANISTER_INVALID_CONTROLLER_OR_SUBNET_ADMIN = 541
    CANISTER_STATUS_ACCESS_DENIED = 542
    DEADLINE_EXPIRED = 601
    RESPONSE_DROPPED = 602

    @property
    def text(self) -> str:
        """The form in certificates, e.g. `IC0502`."""
        return f"IC{int(self):04d}"

    @property
    def reject_code(self) -> RejectCode:
        """The reject code that this error surfaces as."""
        return RejectCode(int(self) // 100)


@dataclass(frozen=True, slots=True)
class Reply:
    """The canister replied with these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Reject:
    """A call was rejected; `error_code` is None only for rejects that crossed a subnet border."""

    code: RejectCode
    message: str
    error_code: ErrorCode | None = None


Payload: TypeAlias = Reply | Reject


def reject(error: ErrorCode, message: str) -> Reject:
    """The reject that this error surfaces as."""
    return Reject(error.reject_code, message, error)
