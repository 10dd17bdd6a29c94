"""Verifiably encrypted derived keys on BLS12-381.

Rule module over `ic_types.bls_backends`. Spec: interface spec, "IC method vetkd_public_key" and "IC method vetkd_derive_key":
a derived key is a BLS signature in G1 (ciphersuite with message augmentation), encrypted under a transport key. How the keys of
canisters and contexts follow from the master key is the replica's. Secrets are numbers below ORDER, public keys 96 bytes.
"""

from __future__ import annotations

import hashlib

from ic_types import bls
from ic_types.bls_backends import ORDER as ORDER

TRANSPORT_KEY_BYTES = 48
_AUGMENTED = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_AUG_"
_CANISTER = b"ic-vetkd-bls12-381-g2-canister-id"
_CONTEXT = b"ic-vetkd-bls12-381-g2-context"


def public_key(secret: int) -> bytes:
    """Public key of a secret."""
    return bls.public_key(secret.to_bytes(32, "big"))


def derive(master: bytes, canister_id: bytes, context: bytes) -> tuple[bytes, int]:
    """Public key of a canister's context, and what has to be added to the master secret to get its secret.

    An empty context stands for the canister's own key, from which those of its contexts can be derived by anyone.
    """
    offset = hash_to_scalar(_CANISTER, master, canister_id)
    key = bls.add_to_public_key(master, offset)
    if context:
        step = hash_to_scalar(_CONTEXT, key, context)
        key, offset = bls.add_to_public_key(key, step), (offset + step) % ORDER
    return key, offset


def is_transport_key(raw: bytes) -> bool:
    """Whether these bytes are the compressed form of a point of G1."""
    return bls.is_g1_point(raw)


def encrypted_key(secret: int, derived: bytes, key_input: bytes, transport_key: bytes, blinding: int) -> bytes:
    """E1, E2, E3: the derived key for an input under the transport key; `secret` and `derived` as from `derive`.

    Raises: ValueError when the transport key is none.
    """
    one = bls.multiply_g1([(None, blinding)])
    two = bls.public_key(blinding.to_bytes(32, "big"))
    hashed = bls.hash_to_point(derived + key_input, _AUGMENTED)
    three = bls.multiply_g1([(transport_key, blinding), (hashed, secret)])
    return one + two + three


def hash_to_scalar(domain: bytes, *parts: bytes) -> int:
    """RFC 9380's hash_to_field into the scalars, of the parts with their lengths."""
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return int.from_bytes(_expand(message, domain, 48), "big") % ORDER


def _expand(message: bytes, domain: bytes, length: int) -> bytes:
    """RFC 9380, expand_message_xmd with SHA-256."""
    tail = domain + bytes((len(domain),))
    first = hashlib.sha256(bytes(64) + message + length.to_bytes(2, "big") + b"\x00" + tail).digest()
    block, out = bytes(32), b""
    for number in range(1, -(-length // 32) + 1):
        mixed = bytes(a ^ b for a, b in zip(first, block, strict=True))
        block = hashlib.sha256(mixed + bytes((number,)) + tail).digest()
        out += block
    return out[:length]
