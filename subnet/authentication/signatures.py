"""Signatures of users under all schemes: which scheme a public key belongs to, and whether a signature is its.

Plumbing (the signature library). Spec: interface spec, "Signatures". Keys are DER; ECDSA signatures are r and s, 32 bytes each.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ic_types.errors import CertificationError, EnvelopeError
from ic_types.identity import ED25519_DER_PREFIX
from subnet.authentication import canister_signature, webauthn
from subnet.authentication.der import CANISTER_OID, COSE_OID, wrapped_bits

_CURVES: dict[bytes, ec.EllipticCurve] = {
    bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200"): ec.SECP256R1(),
    bytes.fromhex("3056301006072a8648ce3d020106052b8104000a034200"): ec.SECP256K1(),
}
"""What stands before an uncompressed point of 65 bytes, RFC 5480."""
_KEPT = 4096


def verify(public_key: bytes, payload: bytes, signature: bytes, root_key: bytes) -> str | None:
    """None if the signature is this key's over the payload (with its domain separator), otherwise what is wrong.

    `root_key`: 96 bytes, for signatures of canisters.

    Raises: EnvelopeError when the key is of no scheme that users may have.
    """
    if public_key.startswith(ED25519_DER_PREFIX) and len(public_key) == len(ED25519_DER_PREFIX) + 32:
        return _verify_ed25519(public_key, payload, signature)
    for prefix, curve in _CURVES.items():
        if public_key.startswith(prefix) and len(public_key) == len(prefix) + 65:
            return _verify_ecdsa(public_key[len(prefix) :], curve, payload, signature)
    bits = wrapped_bits(public_key, COSE_OID)
    if bits is not None:
        return webauthn.verify(bits, payload, signature)
    bits = wrapped_bits(public_key, CANISTER_OID)
    if bits is not None:
        return _verify_canister_signature(bits, payload, signature, root_key)
    raise EnvelopeError(f"Invalid public key: no scheme that is supported: {public_key[:60].hex()}")


def signing_canister(public_key: bytes) -> bytes | None:
    """The canister whose signatures belong to this key; None if it is a key of another kind."""
    bits = wrapped_bits(public_key, CANISTER_OID)
    return None if bits is None else canister_signature.split_key(bits)[0]


def _verify_ed25519(public_key: bytes, payload: bytes, signature: bytes) -> str | None:
    try:
        Ed25519PublicKey.from_public_bytes(public_key[len(ED25519_DER_PREFIX) :]).verify(signature, payload)
    except InvalidSignature:
        return "Ed25519 signature could not be verified"
    return None


def _verify_ecdsa(point: bytes, curve: ec.EllipticCurve, payload: bytes, signature: bytes) -> str | None:
    if len(signature) != 64:
        return f"{curve.name} signature of {len(signature)} bytes, expected 64"
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EnvelopeError(f"Invalid public key: no point of {curve.name}") from error
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), payload, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return f"{curve.name} signature could not be verified"
    return None


@lru_cache(_KEPT)
def _verify_canister_signature(bits: bytes, payload: bytes, signature: bytes, root_key: bytes) -> str | None:
    """Kept, since a session's requests all come with the same delegation, and pairings take long."""
    try:
        canister_signature.verify(bits, payload, signature, root_key)
    except CertificationError as error:
        return f"canister signature: {error}"
    return None
