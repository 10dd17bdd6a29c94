"""Identities: who signs calls, and the keys of nodes; derived from a seed, so that runs repeat.

Plumbing (the signature library). Spec: interface spec, "Ed25519 and ECDSA signatures" and "Special forms of Principals".
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ic_types.principal import ANONYMOUS, Principal

ED25519_DER_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key, RFC 8410."""
ECDSA_CURVES = ("secp256k1", "secp256r1")


class Ed25519Identity:
    """A key pair and the principal that its public key authenticates."""

    __slots__ = ("_private", "principal", "public_key_der")

    def __init__(self, secret: bytes) -> None:
        """From the 32 secret bytes of RFC 8032."""
        self._private = Ed25519PrivateKey.from_private_bytes(secret)
        self.public_key_der = ED25519_DER_PREFIX + self._private.public_key().public_bytes_raw()
        self.principal = Principal.self_authenticating(self.public_key_der)

    @classmethod
    def derive(cls, seed: bytes, name: str) -> Ed25519Identity:
        """The identity called `name` in a network with this seed; other names and seeds give unrelated ones."""
        label = name.encode()
        return cls(hashlib.sha256(b"\x0eicsim-identity" + len(label).to_bytes(4, "big") + label + seed).digest())

    def secret(self) -> bytes:
        """The 32 secret bytes of RFC 8032."""
        return self._private.private_bytes_raw()

    def sign(self, payload: bytes) -> bytes:
        """Signature, 64 bytes, over a payload that has its domain separator."""
        return self._private.sign(payload)


class EcdsaIdentity:
    """A key pair on secp256k1 or P-256, which tools for the IC call `prime256v1`."""

    __slots__ = ("_private", "principal", "public_key_der")

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        """Raises: ValueError for a key on another curve, of which the IC accepts no signatures."""
        if private.curve.name not in ECDSA_CURVES:
            raise ValueError(f"keys on the curve {private.curve.name} can't sign requests; {' and '.join(ECDSA_CURVES)} can")
        self._private = private
        self.public_key_der = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.principal = Principal.self_authenticating(self.public_key_der)

    def sign(self, payload: bytes) -> bytes:
        """Signature, 64 bytes: r and s, over a payload that has its domain separator."""
        r, s = decode_dss_signature(self._private.sign(payload, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class AnonymousIdentity:
    """Nobody in particular; doesn't sign."""

    __slots__ = ()
    principal = ANONYMOUS
    public_key_der = None


Identity = Ed25519Identity | EcdsaIdentity | AnonymousIdentity
