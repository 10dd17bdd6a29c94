"""Keys on secp256k1: derivation, ECDSA and Schnorr signatures (BIP340, BIP341).

Rule module; points times the generator are the library's. Spec: interface spec, "IC method ecdsa_public_key" (a generalisation
of BIP32: any byte string is an index) and "IC method sign_with_schnorr". Secrets are numbers below ORDER, public keys 33 bytes
(SEC1, compressed), signatures 64 bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from ic_types.chain_keys.key_id import MASTER_CHAIN_CODE, ExtendedKey

FIELD = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_CURVE = ec.SECP256K1()

Point = tuple[int, int]


def public_key(secret: int) -> bytes:
    """Public key of a secret."""
    return _compressed(_times_generator(secret))


def derive(master: bytes, path: Sequence[bytes]) -> tuple[ExtendedKey, int]:
    """The key at the end of the path, and what has to be added to the master secret to get its secret.

    Raises: ValueError when `master` is no public key.
    """
    point, chain_code, offset = _point(master), MASTER_CHAIN_CODE, 0
    for index in path:
        head = _compressed(point)
        while True:
            raw = hmac.digest(chain_code, head + index, "sha512")
            step = int.from_bytes(raw[:32], "big")
            child = _plus_generator(point, step) if step < ORDER else None
            if child is not None:
                break
            head = b"\x01" + raw[32:]  # of probability 2**-127, as SLIP-10 has it
        point, chain_code, offset = child, raw[32:], (offset + step) % ORDER
    return ExtendedKey(_compressed(point), chain_code), offset


def sign_ecdsa(secret: int, digest: bytes, extra: bytes = b"") -> bytes:
    """r and s of a 32-byte digest, with the smaller s; RFC 6979, `extra` is its additional data (section 3.6)."""
    assert len(digest) == 32, f"digest of {len(digest)} bytes"
    z = int.from_bytes(digest, "big") % ORDER
    seed = secret.to_bytes(32, "big") + z.to_bytes(32, "big") + extra
    key, value = bytes(32), b"\x01" * 32
    for mark in (b"\x00", b"\x01"):
        key = hmac.digest(key, value + mark + seed, "sha256")
        value = hmac.digest(key, value, "sha256")
    while True:
        value = hmac.digest(key, value, "sha256")
        nonce = int.from_bytes(value, "big")
        if 0 < nonce < ORDER:
            r = _times_generator(nonce)[0] % ORDER
            s = pow(nonce, -1, ORDER) * (z + r * secret) % ORDER
            if r and s:
                return r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")
        key = hmac.digest(key, value + b"\x00", "sha256")
        value = hmac.digest(key, value, "sha256")


def sign_bip340(secret: int, message: bytes, extra: bytes = bytes(32)) -> bytes:
    """Schnorr signature of a message of any length; `extra` is BIP340's auxiliary random data, 32 bytes."""
    x, y = _times_generator(secret)
    even = secret if y % 2 == 0 else ORDER - secret
    masked = bytes(a ^ b for a, b in zip(even.to_bytes(32, "big"), _tagged("BIP0340/aux", extra), strict=True))
    key = x.to_bytes(32, "big")
    nonce = int.from_bytes(_tagged("BIP0340/nonce", masked + key + message), "big") % ORDER
    assert nonce, "of probability 2**-256"
    r, odd = _times_generator(nonce)
    nonce = nonce if odd % 2 == 0 else ORDER - nonce
    start = r.to_bytes(32, "big")
    challenge = int.from_bytes(_tagged("BIP0340/challenge", start + key + message), "big") % ORDER
    return start + ((nonce + challenge * even) % ORDER).to_bytes(32, "big")


def tweak_bip341(secret: int, merkle_root: bytes) -> int:
    """The secret that signs for the taproot output of an internal key and a script tree (32 bytes, or none).

    Raises: ValueError when there is no such key (of probability 2**-128).
    """
    x, y = _times_generator(secret)
    tweak = int.from_bytes(_tagged("TapTweak", x.to_bytes(32, "big") + merkle_root), "big")
    tweaked = ((secret if y % 2 == 0 else ORDER - secret) + tweak) % ORDER
    if tweak >= ORDER or not tweaked:
        raise ValueError("the taproot tree gives no key")
    return tweaked


def _tagged(tag: str, data: bytes) -> bytes:
    prefix = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(prefix + prefix + data).digest()


def _point(raw: bytes) -> Point:
    numbers = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, raw).public_numbers()
    return numbers.x, numbers.y


def _times_generator(factor: int) -> Point:
    numbers = ec.derive_private_key(factor, _CURVE).public_key().public_numbers()
    return numbers.x, numbers.y


def _compressed(point: Point) -> bytes:
    x, y = point
    return bytes((2 + y % 2,)) + x.to_bytes(32, "big")


def _plus_generator(point: Point, factor: int) -> Point | None:
    """point + factor * generator; None for the point at infinity."""
    if factor == 0:
        return point
    (x1, y1), (x2, y2) = point, _times_generator(factor)
    if x1 == x2:
        if y1 != y2:
            return None
        slope = 3 * x1 * x1 * pow(2 * y1, -1, FIELD)
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, FIELD)
    x = (slope * slope - x1 - x2) % FIELD
    return x, (slope * (x1 - x) - y1) % FIELD
