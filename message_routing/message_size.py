"""Sizes and digests of queued messages.

Rule module. Sizes follow the replica's memory accounting: struct plus payload; a payload is method name plus argument of a
request, data or reject text of a response. Digests stand for a message in the state hash.
"""

from __future__ import annotations

import hashlib

from configs.limits import MESSAGE_STRUCT_BYTES
from ic_types.messages import Ingress, Request, Response
from ic_types.reject import ErrorCode, Reject, Reply


def payload_bytes(message: Request | Response) -> int:
    """The bytes that limits and transmission fees count."""
    if type(message) is Request:
        return len(message.method.encode()) + len(message.arg)
    assert type(message) is Response
    payload = message.payload
    return len(payload.data) if type(payload) is Reply else len(payload.message.encode())  # type: ignore[union-attr]


def memory_bytes(message: Request | Response) -> int:
    """The bytes that message memory counts; nothing for a note in the place of a best-effort response that won't come."""
    if type(message) is Response and is_compact(message):
        return 0
    return MESSAGE_STRUCT_BYTES + payload_bytes(message)


def is_compact(response: Response) -> bool:
    """The subnet itself put this in the place of a best-effort response: its deadline passed, or it was shed."""
    payload = response.payload
    return type(payload) is Reject and payload.error_code in (ErrorCode.DEADLINE_EXPIRED, ErrorCode.RESPONSE_DROPPED)


def digest(message: Ingress | Request | Response) -> bytes:
    """SHA-256 over every field, each with its length in front."""
    parts: list[bytes]
    if type(message) is Ingress:
        effective = b"\x00" if message.effective_canister_id is None else b"\x01" + message.effective_canister_id
        info = message.caller_info
        signed = b"" if info is None else hashlib.sha256(info.data).digest() + info.signer
        text = f"{message.expiry},{message.raw_bytes}"
        head = [message.message_id, message.sender, message.receiver, message.method.encode(), message.arg]
        parts = [b"ingress", *head, effective, signed, text.encode()]
    elif type(message) is Request:
        numbers = (message.callback_id, message.payment, message.deadline_s, message.call_tree_depth, message.call_tree_start)
        text = ",".join(map(str, numbers))
        parts = [b"request", message.sender, message.receiver, message.method.encode(), message.arg, text.encode()]
    else:
        assert type(message) is Response
        payload = message.payload
        if type(payload) is Reply:
            body = b"\x01" + payload.data
        else:
            assert type(payload) is Reject
            error = 0 if payload.error_code is None else int(payload.error_code)
            body = f"\x00{int(payload.code)},{error},{payload.message}".encode()
        text = f"{message.callback_id},{message.refund},{message.deadline_s}"
        parts = [b"response", message.originator, message.respondent, body, text.encode()]
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()
