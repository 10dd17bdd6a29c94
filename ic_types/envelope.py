"""Envelopes of requests: build them, and read those of strangers. Whether the signatures are right is checked elsewhere.

Rule module. Spec: interface spec, "Request: Call", "Request: Query call", "Request: Read state", "Authentication" and "CBOR
encoding of requests and responses". Null counts as absent, since clients send it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cbor2

from ic_types import cbor
from ic_types.errors import EnvelopeError
from ic_types.identity import AnonymousIdentity, Identity
from ic_types.principal import MAX_BYTES, CanisterId, Principal
from ic_types.request_id import hash_of_map
from ic_types.units import TimeNs

REQUEST_DOMAIN = b"\x0aic-request"
MAX_NONCE_BYTES = 32
CALL, QUERY, READ_STATE = "call", "query", "read_state"
_COMMON = ("request_type", "sender", "ingress_expiry")
_OF_CALLS = ("canister_id", "method_name", "arg")
_CALL_CONTENT = frozenset((*_COMMON, *_OF_CALLS, "nonce", "sender_info"))
_READ_CONTENT = frozenset((*_COMMON, "paths", "nonce"))
_ENVELOPE = frozenset(("content", "sender_pubkey", "sender_sig", "sender_delegation"))
_DELEGATION = frozenset(("pubkey", "expiration", "targets", "permissions"))

T = TypeVar("T", bytes, str, int)
Fields = dict[str, cbor.Plain]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDelegation:
    """One key lets another one sign for it."""

    pubkey: bytes
    expiration: int
    targets: tuple[Principal, ...] | None
    permissions: str | None
    digest: bytes
    """Representation-independent hash of the map that is signed."""
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderInfo:
    """What a canister that signs for the sender says about it."""

    info: bytes
    signer: Principal
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A request as it came: well-formed, but not authenticated."""

    kind: str
    """call, query or read_state."""
    request_id: bytes
    sender: Principal
    expiry: int
    receiver: CanisterId = Principal(b"")
    method: str = ""
    arg: bytes = b""
    paths: tuple[tuple[bytes, ...], ...] = ()
    sender_info: SenderInfo | None = None
    public_key: bytes | None = None
    signature: bytes | None = None
    delegations: tuple[SignedDelegation, ...] = ()
    raw_bytes: int = 0


def build_call(
    identity: Identity, *, canister_id: CanisterId, method: str, arg: bytes, expiry: TimeNs, nonce: bytes | None = None
) -> bytes:
    """The signed envelope of a call, ready to be sent."""
    content = {"request_type": CALL, "canister_id": bytes(canister_id), "method_name": method, "arg": arg}
    return build_envelope(identity, content, expiry, nonce)


def build_query(
    identity: Identity, *, canister_id: CanisterId, method: str, arg: bytes, expiry: TimeNs, nonce: bytes | None = None
) -> bytes:
    """The signed envelope of a query, ready to be sent."""
    content = {"request_type": QUERY, "canister_id": bytes(canister_id), "method_name": method, "arg": arg}
    return build_envelope(identity, content, expiry, nonce)


def build_read_state(identity: Identity, paths: Sequence[Sequence[bytes]], *, expiry: TimeNs) -> bytes:
    """The signed envelope of a request to read these paths of the state."""
    return build_envelope(identity, {"request_type": READ_STATE, "paths": [list(path) for path in paths]}, expiry)


def build_envelope(identity: Identity, content: dict[str, Any], expiry: TimeNs, nonce: bytes | None = None) -> bytes:
    """Any request of an identity, signed."""
    content = {**content, "sender": bytes(identity.principal), "ingress_expiry": expiry}
    if nonce is not None:
        content["nonce"] = nonce
    envelope: dict[str, object] = {"content": content}
    if not isinstance(identity, AnonymousIdentity):
        envelope["sender_pubkey"] = identity.public_key_der
        envelope["sender_sig"] = identity.sign(REQUEST_DOMAIN + hash_of_map(content))
    return cbor.SELF_DESCRIBED + cbor2.dumps(envelope)


def read_envelope(raw: bytes, kind: str) -> Envelope:
    """The request in an envelope, which has to be of this kind.

    Raises: EnvelopeError saying what is wrong.
    """
    try:
        envelope = cbor.decode(raw)
    except cbor.CborError as error:
        raise EnvelopeError(f"Malformed request: envelope is malformed: {error}") from error
    if type(envelope) is not dict or type(content := envelope.get("content")) is not dict:
        raise EnvelopeError("Malformed request: envelope is malformed: it must be a map with a map `content`")
    _refuse_unknown(envelope.keys() - _ENVELOPE, "envelope")
    content = {name: value for name, value in content.items() if value is not None}
    if _field(content, "request_type", str) != kind:
        raise EnvelopeError(
            f"Malformed request: request_type is {content['request_type']!r:.40}; only {kind!r} is allowed here"
        )
    _refuse_unknown(content.keys() - (_READ_CONTENT if kind == READ_STATE else _CALL_CONTENT), "content")
    nonce = content.get("nonce", b"")
    if type(nonce) is not bytes or len(nonce) > MAX_NONCE_BYTES:
        size = f"{len(nonce)} bytes" if type(nonce) is bytes else f"a {type(nonce).__name__}"
        raise EnvelopeError(f"Nonce in request is too big: got {size}, but at most {MAX_NONCE_BYTES} bytes are allowed.")
    sender, expiry = _principal(content, "sender"), _nat64(content, "ingress_expiry")
    if kind == READ_STATE:
        target: dict[str, Any] = {"paths": _paths(content)}
    else:
        target = {
            "receiver": _principal(content, "canister_id"),
            "method": _field(content, "method_name", str),
            "arg": _field(content, "arg", bytes),
            "sender_info": _sender_info(content),
        }
    return Envelope(
        kind=kind,
        request_id=_request_id(content),
        sender=sender,
        expiry=expiry,
        public_key=_optional(envelope, "sender_pubkey"),
        signature=_optional(envelope, "sender_sig"),
        delegations=_delegations(envelope),
        raw_bytes=len(raw),
        **target,
    )


def _request_id(content: Fields) -> bytes:
    try:
        return hash_of_map(content)
    except TypeError as error:
        raise EnvelopeError(f"Malformed request: {error}") from error


def _sender_info(content: Fields) -> SenderInfo | None:
    found = content.get("sender_info")
    if found is None:
        return None
    if type(found) is not dict or found.keys() != {"info", "signer", "sig"}:
        raise EnvelopeError("Malformed request: sender_info must be a map of info, signer and sig")
    return SenderInfo(
        info=_field(found, "info", bytes), signer=_principal(found, "signer"), signature=_field(found, "sig", bytes)
    )


def _paths(content: Fields) -> tuple[tuple[bytes, ...], ...]:
    paths = content.get("paths")
    if type(paths) is not list or not all(type(path) is list and all(type(one) is bytes for one in path) for path in paths):
        raise EnvelopeError("Malformed request: paths must be a list of lists of blobs")
    return tuple(tuple(path) for path in paths)  # type: ignore[arg-type]


def _delegations(envelope: Fields) -> tuple[SignedDelegation, ...]:
    found = envelope.get("sender_delegation")
    if found is None:
        return ()
    if type(found) is not list:
        raise EnvelopeError("Malformed request: sender_delegation must be a list")
    return tuple(_delegation(one) for one in found)


def _delegation(found: cbor.Plain) -> SignedDelegation:
    if type(found) is not dict or found.keys() != {"delegation", "signature"} or type(inner := found["delegation"]) is not dict:
        raise EnvelopeError("Malformed request: a delegation must be a map of the map `delegation` and `signature`")
    inner = {name: value for name, value in inner.items() if value is not None}
    _refuse_unknown(inner.keys() - _DELEGATION, "delegation")
    targets = inner.get("targets")
    if targets is not None and not _are_principals(targets):
        raise EnvelopeError("Malformed request: targets of a delegation must be a list of principals")
    permissions = inner.get("permissions")
    if permissions is not None and type(permissions) is not str:
        raise EnvelopeError("Malformed request: permissions of a delegation must be text")
    return SignedDelegation(
        pubkey=_field(inner, "pubkey", bytes),
        expiration=_nat64(inner, "expiration"),
        targets=None if targets is None else tuple(Principal(one) for one in targets),  # type: ignore[arg-type, union-attr]
        permissions=permissions,
        digest=_request_id(inner),
        signature=_field(found, "signature", bytes),
    )


def _are_principals(found: cbor.Plain) -> bool:
    return type(found) is list and all(type(one) is bytes and len(one) <= MAX_BYTES for one in found)


def _optional(envelope: Fields, name: str) -> bytes | None:
    value = envelope.get(name)
    if value is not None and type(value) is not bytes:
        raise EnvelopeError(f"Malformed request: {name} is a {type(value).__name__}; a blob is needed")
    return value


def _refuse_unknown(names: set[str], where: str) -> None:
    if names:
        raise EnvelopeError(f"Malformed request: {where} has the unknown field {min(names)[:40]!r}")


def _field(content: Fields, name: str, kind: type[T]) -> T:
    value = content.get(name)
    if type(value) is not kind:
        found = "is missing" if value is None else f"is a {type(value).__name__}"
        raise EnvelopeError(f"Malformed request: content field {name} {found}; a {kind.__name__} is needed")
    return value


def _nat64(content: Fields, name: str) -> int:
    value = _field(content, name, int)
    if not 0 <= value < 1 << 64:
        raise EnvelopeError(f"Malformed request: {name} {str(value)[:40]} is not a 64-bit natural number")
    return value


def _principal(content: Fields, name: str) -> Principal:
    value = _field(content, name, bytes)
    if len(value) > MAX_BYTES:
        raise EnvelopeError(f"Malformed request: {name} has {len(value)} bytes; a principal has at most {MAX_BYTES}")
    return Principal(value)
