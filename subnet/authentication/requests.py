"""Authenticating a request: the sender's key, the chain of delegations, the signature, expiry, targets and permissions.

Rule module; the time is handed in. Spec: interface spec, "Authentication". Texts are the replica's.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types.envelope import CALL, REQUEST_DOMAIN, Envelope, SignedDelegation, read_envelope
from ic_types.errors import CertificationError, EnvelopeError
from ic_types.messages import CallerInfo, Ingress
from ic_types.principal import ANONYMOUS, CanisterId, Principal
from ic_types.units import TimeNs
from subnet.authentication.signatures import signing_canister, verify

DELEGATION_DOMAIN = b"\x1aic-request-auth-delegation"
SENDER_INFO_DOMAIN = b"\x0eic-sender-info"
MAX_DELEGATIONS = 20
MAX_TARGETS = 1000
PERMITTED_DRIFT_NS = 30_000_000_000
"""How much further in the future than the TTL an expiry may be; the replica's figure."""
_NO_KEY = b""


@dataclass(frozen=True, slots=True)
class Permits:
    """What the sender's delegations leave it."""

    targets: tuple[CanisterId, ...] | None
    """Canisters that requests may be sent to; None: all."""

    def check_target(self, canister_id: CanisterId) -> None:
        """Raises: EnvelopeError when requests may not be sent to this canister."""
        if self.targets is not None and canister_id not in self.targets:
            raise EnvelopeError(f"Canister '{canister_id}' is not one of the delegation targets.")


def authenticate(envelope: Envelope, now: int, root_key: bytes = _NO_KEY) -> Permits:
    """Check that the sender sent it; `now` is what expirations of delegations are compared with, `root_key` has 96 bytes.

    Raises: EnvelopeError saying what is wrong.
    """
    if envelope.sender == ANONYMOUS:
        if envelope.public_key is not None or envelope.signature is not None or envelope.delegations:
            raise EnvelopeError("Signature is not allowed for the anonymous user.")
        if envelope.sender_info is not None:
            raise EnvelopeError("Invalid sender info: the anonymous user has no canister that signs for it.")
        return Permits(None)
    if envelope.public_key is None or envelope.signature is None:
        raise EnvelopeError(f"Missing signature from user: {envelope.sender}")
    if Principal.self_authenticating(envelope.public_key) != envelope.sender:
        raise EnvelopeError(f"The user id '{envelope.sender}' does not match the public key '{envelope.public_key.hex()}'")
    key, permits = _follow(envelope, now, root_key)
    problem = verify(key, REQUEST_DOMAIN + envelope.request_id, envelope.signature, root_key)
    if problem is not None:
        raise EnvelopeError(f"Invalid signature: {problem}, for {envelope.sender} and request {envelope.request_id.hex()}")
    _check_sender_info(envelope, root_key)
    if envelope.kind == CALL and any(one.permissions == "queries" for one in envelope.delegations):
        raise EnvelopeError("Invalid delegation: a delegation permits queries only, so calls are not accepted.")
    if envelope.kind != "read_state":
        permits.check_target(envelope.receiver)
    return permits


def check_expiry(expiry: int, now: int, ttl_ns: int) -> None:
    """Refuse an expiry that has passed or is too far in the future.

    Raises: EnvelopeError; agents look for the words `Invalid request expiry: `.
    """
    latest = now + ttl_ns + PERMITTED_DRIFT_NS
    if not now <= expiry <= latest:
        raise EnvelopeError(
            "Invalid request expiry: Specified ingress_expiry not within expected range: "
            f"Minimum allowed expiry: {now}, Maximum allowed expiry: {latest}, Provided expiry: {expiry}"
        )


def open_call(
    raw: bytes, effective_canister_id: CanisterId | None = None, *, now: int = 0, root_key: bytes = _NO_KEY
) -> Ingress:
    """The call in an envelope that its sender has signed; `effective_canister_id` is that of a management call.

    Whether the call has expired is not looked at; see `check_expiry`.

    Raises: EnvelopeError saying what is wrong.
    """
    envelope = read_envelope(raw, CALL)
    authenticate(envelope, now, root_key)
    return Ingress(
        message_id=envelope.request_id, sender=envelope.sender, receiver=envelope.receiver, method=envelope.method,
        arg=envelope.arg, expiry=TimeNs(envelope.expiry), raw_bytes=len(raw), effective_canister_id=effective_canister_id,
        caller_info=caller_info(envelope),
    )  # fmt: skip


def caller_info(envelope: Envelope) -> CallerInfo | None:
    """What a canister learns of the sender of an authenticated request beside its principal."""
    info = envelope.sender_info
    return None if info is None else CallerInfo(info.info, info.signer)


def _follow(envelope: Envelope, now: int, root_key: bytes) -> tuple[bytes, Permits]:
    """The key at the end of the chain of delegations, and what the chain permits."""
    chain = envelope.delegations
    assert envelope.public_key is not None, "checked before"
    if len(chain) > MAX_DELEGATIONS:
        raise EnvelopeError(
            f"Invalid delegation: Chain of delegations is too long: got {len(chain)} delegations, "
            f"but at most {MAX_DELEGATIONS} are allowed."
        )
    keys = [envelope.public_key]
    for one in chain:
        if one.pubkey in keys:
            raise EnvelopeError(
                "Invalid delegation: Chain of delegations contains at least one cycle: "
                f"first repeating public key encountered {one.pubkey.hex()}"
            )
        keys.append(one.pubkey)
    targets: tuple[CanisterId, ...] | None = None
    for key, one in zip(keys, chain, strict=False):
        targets = _narrowed(targets, one)
        if one.permissions not in (None, "queries", "all"):
            raise EnvelopeError(f"Invalid delegation: permissions {one.permissions!r:.40} are unknown.")
        if one.expiration < now:
            raise EnvelopeError(
                f"Invalid delegation expiry: Specified sender delegation has expired: Provided expiry: {one.expiration}, "
                f"Local replica timestamp: {now}"
            )
        problem = verify(key, DELEGATION_DOMAIN + one.digest, one.signature, root_key)
        if problem is not None:
            raise EnvelopeError(f"Invalid delegation: Invalid basic signature: {problem}")
    return keys[-1], Permits(targets)


def _narrowed(targets: tuple[CanisterId, ...] | None, one: SignedDelegation) -> tuple[CanisterId, ...] | None:
    if one.targets is None:
        return targets
    if len(one.targets) > MAX_TARGETS:
        raise EnvelopeError(
            f"Invalid delegation: Number of targets is too big: {len(one.targets)}, but at most {MAX_TARGETS} are allowed."
        )
    return one.targets if targets is None else tuple(target for target in targets if target in one.targets)


def _check_sender_info(envelope: Envelope, root_key: bytes) -> None:
    info, key = envelope.sender_info, envelope.public_key
    if info is None:
        return
    assert key is not None, "checked before"
    try:
        signer = signing_canister(key)
    except CertificationError as error:
        raise EnvelopeError(f"Invalid sender info: {error}") from error
    if signer is None:
        raise EnvelopeError("Invalid sender info: only senders with the key of a canister signature have any.")
    if signer != info.signer:
        raise EnvelopeError(f"Invalid sender info: signer {info.signer} is not canister {Principal(signer)} of the public key.")
    problem = verify(key, SENDER_INFO_DOMAIN + info.info, info.signature, root_key)
    if problem is not None:
        raise EnvelopeError(f"Invalid sender info: {problem}")
