"""Signatures of WebAuthn authenticators: ES256, RS256 and Ed25519 keys in COSE form.

Plumbing (the signature library). Spec: interface spec, "Web Authentication"; RFC 8152 for the keys.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from typing import Any

import cbor2
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ic_types import cbor
from ic_types.errors import EnvelopeError

_KEY_TYPE, _ALGORITHM = 1, 3
_CURVE_OR_MODULUS, _X_OR_EXPONENT, _Y = -1, -2, -3
_OKP, _EC2, _RSA = 1, 2, 3
_EDDSA, _ES256, _RS256 = -8, -7, -257
_P256, _ED25519 = 1, 6
_MAX_KEY_BYTES = 2048
_MAX_RSA_BITS = 8192


def verify(cose_key: bytes, payload: bytes, signature: bytes) -> str | None:
    """None if the authenticator signed this payload as its challenge, otherwise what is wrong.

    Raises: EnvelopeError when the key is none of the three kinds.
    """
    try:
        fields = cbor.decode(signature)
    except cbor.CborError as error:
        return f"WebAuthn signature is malformed: {error}"
    if type(fields) is not dict:
        return "WebAuthn signature is no map"
    data, text, inner = (fields.get(name) for name in ("authenticator_data", "client_data_json", "signature"))
    raw = text.encode() if type(text) is str else text
    if type(data) is not bytes or type(raw) is not bytes or type(inner) is not bytes:
        return "WebAuthn signature lacks authenticator_data, client_data_json or signature"
    problem = _check_challenge(raw, payload)
    if problem is not None:
        return problem
    try:
        _verify_with(_cose_map(cose_key), data + hashlib.sha256(raw).digest(), inner)
    except InvalidSignature:
        return "WebAuthn signature could not be verified"
    return None


def _check_challenge(client_data: bytes, payload: bytes) -> str | None:
    try:
        found = json.loads(client_data)
    except (ValueError, RecursionError):
        return "client_data_json is not JSON"
    if not isinstance(found, dict) or not isinstance(found.get("challenge"), str):
        return "client_data_json has no challenge"
    if found.get("type", "webauthn.get") != "webauthn.get":
        return "client_data_json is not of the type webauthn.get"
    wanted = base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    return None if found["challenge"].rstrip("=") == wanted else "challenge in client_data_json is not the signed payload"


def _cose_map(raw: bytes) -> dict[Any, Any]:
    stream = io.BytesIO(raw)
    try:
        found = cbor2.CBORDecoder(stream).decode() if len(raw) <= _MAX_KEY_BYTES else None
    except (cbor2.CBORDecodeError, ValueError, EOFError, TypeError, RecursionError, OverflowError) as error:
        raise EnvelopeError(f"Invalid public key: malformed COSE key: {error}") from error
    if not isinstance(found, dict) or stream.read(1):
        raise EnvelopeError("Invalid public key: malformed COSE key")
    return found


def _verify_with(key: dict[Any, Any], message: bytes, signature: bytes) -> None:
    """Raises: InvalidSignature; EnvelopeError for a key of another kind."""
    match (key.get(_KEY_TYPE), key.get(_ALGORITHM)):
        case (k, a) if (k, a) == (_EC2, _ES256) and key.get(_CURVE_OR_MODULUS) == _P256:
            _ec_key(key).verify(signature, message, ec.ECDSA(hashes.SHA256()))
        case (k, a) if (k, a) == (_RSA, _RS256):
            _rsa_key(key).verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        case (k, a) if (k, a) == (_OKP, _EDDSA) and key.get(_CURVE_OR_MODULUS) == _ED25519:
            Ed25519PublicKey.from_public_bytes(_blob(key, _X_OR_EXPONENT, 32)).verify(signature, message)
        case _:
            raise EnvelopeError("Invalid public key: COSE key is neither ES256, RS256 nor Ed25519")


def _ec_key(key: dict[Any, Any]) -> ec.EllipticCurvePublicKey:
    point = b"\x04" + _blob(key, _X_OR_EXPONENT, 32) + _blob(key, _Y, 32)
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EnvelopeError("Invalid public key: COSE key is no point of P-256") from error


def _rsa_key(key: dict[Any, Any]) -> rsa.RSAPublicKey:
    modulus = int.from_bytes(_blob(key, _CURVE_OR_MODULUS), "big")
    exponent = int.from_bytes(_blob(key, _X_OR_EXPONENT), "big")
    if modulus.bit_length() > _MAX_RSA_BITS:
        raise EnvelopeError("Invalid public key: RSA key is too large")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EnvelopeError("Invalid public key: COSE key is no RSA key") from error


def _blob(key: dict[Any, Any], label: int, size: int | None = None) -> bytes:
    found = key.get(label)
    if not isinstance(found, bytes) or (size is not None and len(found) != size):
        raise EnvelopeError("Invalid public key: COSE key has a field of the wrong form")
    return found
