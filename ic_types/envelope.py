"""Signed envelopes of calls: build, read, verify.

Rule module. Spec: interface spec, "Request: Call", "Authentication" and "CBOR encoding of requests and responses". Senders are
anonymous or hold an Ed25519 key; other schemes, delegations and `sender_info` are refused until the HTTP interface
brings them. Verification doesn't look at the clock, so that it can be done once and kept; `check_expiry` does.
"""

from __future__ import annotations

from typing import TypeVar

import cbor2

from ic_types import cbor
from ic_types.errors import EnvelopeError
from ic_types.identity import AnonymousIdentity, Identity, verify_ed25519
from ic_types.messages import Ingress
from ic_types.principal import ANONYMOUS, MAX_BYTES, CanisterId, Principal
from ic_types.request_id import hash_of_map
from ic_types.units import TimeNs

REQUEST_DOMAIN = b"\x0aic-request"
MAX_NONCE_BYTES = 32
PERMITTED_DRIFT_NS = 30_000_000_000
"""How much further in the future than the TTL an expiry may be; the replica's figure."""
_REQUIRED = ("request_type", "canister_id", "method_name", "arg", "sender", "ingress_expiry")
_CONTENT = frozenset((*_REQUIRED, "nonce", "sender_info"))
_ENVELOPE = frozenset(("content", "sender_pubkey", "sender_sig", "sender_delegation"))

T = TypeVar("T", bytes, str, int)


def build_call(
    identity: Identity, *, canister_id: CanisterId, method: str, arg: bytes, expiry: TimeNs, nonce: bytes | None = None
) -> bytes:
    """The signed envelope of a call, ready to be sent."""
    content: dict[str, bytes | str | int] = {
        "request_type": "call",
        "canister_id": bytes(canister_id),
        "method_name": method,
        "arg": arg,
        "sender": bytes(identity.principal),
        "ingress_expiry": expiry,
    }
    if nonce is not None:
        content["nonce"] = nonce
    envelope: dict[str, object] = {"content": content}
    if not isinstance(identity, AnonymousIdentity):
        envelope["sender_pubkey"] = identity.public_key_der
        envelope["sender_sig"] = identity.sign(REQUEST_DOMAIN + hash_of_map(content))
    return cbor.SELF_DESCRIBED + cbor2.dumps(envelope)


def open_call(raw: bytes, effective_canister_id: CanisterId | None = None) -> Ingress:
    """The call in an envelope whose form and signature are right; `effective_canister_id` is that of a management call.

    Raises: EnvelopeError saying what is wrong.
    """
    try:
        envelope = cbor.decode(raw)
    except cbor.CborError as error:
        raise EnvelopeError(f"envelope is malformed: {error}") from error
    if type(envelope) is not dict or type(content := envelope.get("content")) is not dict:
        raise EnvelopeError("envelope is malformed: it must be a map with a map `content`")
    _refuse_unknown(envelope.keys() - _ENVELOPE, "envelope")
    _refuse_unknown(content.keys() - _CONTENT, "content")
    if _field(content, "request_type", str) != "call":
        raise EnvelopeError(f"request_type is {content['request_type']!r}; only 'call' is allowed here")
    if content.get("sender_info") is not None:
        raise EnvelopeError("sender_info is not supported yet")
    nonce = content.get("nonce")
    if nonce is None:
        content.pop("nonce", None)
    elif type(nonce) is not bytes or len(nonce) > MAX_NONCE_BYTES:
        raise EnvelopeError(f"Nonce in request is too big or no blob; at most {MAX_NONCE_BYTES} bytes are allowed")
    expiry = _field(content, "ingress_expiry", int)
    if not 0 <= expiry < 1 << 64:
        raise EnvelopeError(f"ingress_expiry {expiry} is not a 64-bit natural number")
    sender, receiver = _principal(content, "sender"), _principal(content, "canister_id")
    method, arg = _field(content, "method_name", str), _field(content, "arg", bytes)
    message_id = hash_of_map(content)  # type: ignore[arg-type]  # all values are blobs, texts and numbers by now
    _authenticate(envelope, sender, message_id)
    return Ingress(
        message_id=message_id, sender=sender, receiver=receiver, method=method, arg=arg,
        expiry=TimeNs(expiry), raw_bytes=len(raw), effective_canister_id=effective_canister_id,
    )  # fmt: skip


def check_expiry(expiry: TimeNs, now: TimeNs, ttl_ns: int) -> None:
    """Refuse an expiry that has passed or is too far in the future.

    Raises: EnvelopeError; agents look for the words `Invalid request expiry: `.
    """
    latest = now + ttl_ns + PERMITTED_DRIFT_NS
    if not now <= expiry <= latest:
        raise EnvelopeError(
            "Invalid request expiry: Specified ingress_expiry not within expected range: "
            f"Minimum allowed expiry: {now}, Maximum allowed expiry: {latest}, Provided expiry: {expiry}"
        )


def _authenticate(envelope: dict[str, cbor.Plain], sender: Principal, message_id: bytes) -> None:
    """Spec: "Authentication". A null field counts as absent, since clients send those."""
    key, signature = envelope.get("sender_pubkey"), envelope.get("sender_sig")
    if envelope.get("sender_delegation") not in (None, []):
        raise EnvelopeError("Invalid delegation: sender_delegation is not supported yet")
    if sender == ANONYMOUS:
        if key is not None or signature is not None:
            raise EnvelopeError("Signature is not allowed for the anonymous user.")
        return
    if type(key) is not bytes or type(signature) is not bytes:
        raise EnvelopeError(f"Missing signature from user: {sender} has to give blobs sender_pubkey and sender_sig")
    if Principal.self_authenticating(key) != sender:
        raise EnvelopeError(f"The user id '{sender}' does not match the public key '{key.hex()}'")
    if not verify_ed25519(key, REQUEST_DOMAIN + message_id, signature):
        raise EnvelopeError(f"Invalid signature: it is not that of {sender} over request {message_id.hex()}")


def _refuse_unknown(names: set[str], where: str) -> None:
    if names:
        raise EnvelopeError(f"{where} has the unknown field {min(names)[:40]!r}")


def _field(content: dict[str, cbor.Plain], name: str, kind: type[T]) -> T:
    value = content.get(name)
    if type(value) is not kind:
        found = "is missing" if value is None else f"is a {type(value).__name__}"
        raise EnvelopeError(f"content field {name} {found}; a {kind.__name__} is needed")
    return value


def _principal(content: dict[str, cbor.Plain], name: str) -> Principal:
    value = _field(content, name, bytes)
    if len(value) > MAX_BYTES:
        raise EnvelopeError(f"{name} has {len(value)} bytes; a principal has at most {MAX_BYTES}")
    return Principal(value)
