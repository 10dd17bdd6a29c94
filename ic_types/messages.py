"""Messages between users and canisters.

Rule module. Spec: abstract behaviour, "Calls", "Requests" and "Messages"; wire forms are elsewhere
(`xnet.encoding` for streams, `ic_types.wire` between processes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ic_types.principal import CanisterId, Principal
from ic_types.reject import Payload
from ic_types.units import CallbackId, Cycles, TimeNs


@dataclass(frozen=True, slots=True)
class CallerInfo:
    """What a canister that signs for a user says about it. Spec: `sender_info`, checked by whoever opened the envelope."""

    data: bytes
    signer: CanisterId


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """A call by a user, authenticated before it entered a batch."""

    message_id: bytes
    """Request id, 32 bytes."""
    sender: Principal
    receiver: CanisterId
    """The management canister is the empty principal."""
    method: str
    arg: bytes
    expiry: TimeNs
    raw_bytes: int
    """Size of the signed envelope in bytes; the induction fee counts it."""
    effective_canister_id: CanisterId | None = None
    """Whom a management call is about; payer of its induction; None if it has none."""
    caller_info: CallerInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call from one canister to another."""

    sender: CanisterId
    receiver: CanisterId
    callback_id: CallbackId
    payment: Cycles
    method: str
    arg: bytes
    deadline_s: int = 0
    """Seconds since 1970 for a bounded-wait call; 0 for guaranteed response."""
    call_tree_depth: int = 0
    call_tree_start: TimeNs = TimeNs(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The answer to a Request."""

    originator: CanisterId
    """Who called and gets this response."""
    respondent: CanisterId
    callback_id: CallbackId
    refund: Cycles
    payload: Payload
    deadline_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Cycles going back without a response (of a shed or expired bounded-wait message)."""

    recipient: CanisterId
    amount: Cycles


CanisterInput: TypeAlias = Ingress | Request | Response
StreamMessage: TypeAlias = Request | Response | Refund
