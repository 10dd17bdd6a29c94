"""Keys on the Ed25519 curve: derivation and signatures.

Rule module; points are the library's. Spec: interface spec, "Ed25519 hierarchical key derivation": additive, so secrets are
numbers below ORDER and never clamped. Public keys have 32 bytes, signatures 64 as RFC 8032 has them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from nacl.bindings import crypto_core_ed25519_add, crypto_scalarmult_ed25519_base_noclamp

from ic_types.chain_keys.key_id import MASTER_CHAIN_CODE, ExtendedKey

ORDER = 2**252 + 27742317777372353535851937790883648493
_IDENTITY = (1).to_bytes(32, "little")
_INFO = b"Ed25519"


def public_key(secret: int) -> bytes:
    """Public key of a secret."""
    return crypto_scalarmult_ed25519_base_noclamp((secret % ORDER).to_bytes(32, "little")) if secret % ORDER else _IDENTITY


def derive(master: bytes, path: Sequence[bytes]) -> tuple[ExtendedKey, int]:
    """The key at the end of the path, and what has to be added to the master secret to get its secret."""
    key, chain_code, offset = master, MASTER_CHAIN_CODE, 0
    for index in path:
        material = _hkdf_sha512(chain_code, key + index, _INFO, 96)
        step = int.from_bytes(material[:64], "big") % ORDER
        key, chain_code, offset = crypto_core_ed25519_add(key, public_key(step)), material[64:], (offset + step) % ORDER
    return ExtendedKey(key, chain_code), offset


def sign(secret: int, message: bytes, extra: bytes = b"") -> bytes:
    """Signature of a message; another one for another `extra`."""
    key = public_key(secret)
    prefix = hashlib.sha512(b"icsim-ed25519-nonce" + secret.to_bytes(32, "little") + extra).digest()
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % ORDER
    assert nonce, "of probability 2**-252"
    start = public_key(nonce)
    challenge = int.from_bytes(hashlib.sha512(start + key + message).digest(), "little") % ORDER
    return start + ((nonce + challenge * secret) % ORDER).to_bytes(32, "little")


def _hkdf_sha512(salt: bytes, material: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869."""
    key, block, out = hmac.digest(salt, material, "sha512"), b"", b""
    for number in range(1, -(-length // 64) + 1):
        block = hmac.digest(key, block + info + bytes((number,)), "sha512")
        out += block
    return out[:length]
