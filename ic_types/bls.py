"""BLS12-381 as the IC uses it: signatures in G1, public keys in G2, thresholds by Shamir.

Plumbing over either of two libraries (`bls_backends`). Spec: interface spec, "Certificate" (ciphersuite
BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_) and "Delegation" (DER form of keys).

Secrets are 32 bytes (big-endian scalar), signatures 48, public keys 96 (compressed points). Nothing here is random: dealings
come from a seed, coefficients of a batch from what is checked.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ic_types.bls_backends import ORDER, Backend, available_backend, load_backend
from ic_types.errors import CertificationError

DER_PREFIX = bytes.fromhex("308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100")
"""What stands before the 96 bytes of a key: OIDs 1.3.6.1.4.1.44668.5.3.1.2.1 and 1.3.6.1.4.1.44668.5.3.2.1."""
STATE_ROOT = "ic-state-root"
_INFINITY = 0xC0
_BATCH_BITS = 128

_backend: Backend = available_backend()


def select_backend(name: str) -> str:
    """Use this backend from now on (tests compare them); gives the name of the one before."""
    global _backend
    before = _backend.name
    _backend = load_backend(name)
    return before


def with_domain(domain: str, message: bytes) -> bytes:
    """The message behind its domain separator: a length byte and the domain. Spec: "Certificate", `domain_sep`."""
    raw = domain.encode()
    return bytes((len(raw),)) + raw + message


def sign(secret: bytes, message: bytes) -> bytes:
    """Signature (48 bytes) of a message; also a share of one when the secret is a share."""
    return _backend.to_bytes(_backend.sum_g1([_backend.hash_to_g1(message)], [int.from_bytes(secret, "big")]))


def public_key(secret: bytes) -> bytes:
    """Public key (96 bytes) of a secret or of a share."""
    return _backend.to_bytes(_backend.sum_g2([_backend.g2_generator()], [int.from_bytes(secret, "big")]))


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is good; points that are malformed, outside the group or zero are not."""
    try:
        point, key_point = _signature_point(signature), _key_point(key)
    except ValueError:
        return False
    return _backend.pairings_agree(point, [(_backend.hash_to_g1(message), key_point)])


def verify_many(items: Sequence[tuple[bytes, bytes, bytes]]) -> bool:
    """Whether all of these (key, message, signature) are good.

    One pairing per distinct message or per distinct key, whichever are fewer, and one more: the equations are added with
    coefficients that hash over all of them, so that wrong ones can't cancel out.
    """
    if len(items) < 2:
        return all(verify(*item) for item in items)
    try:
        points = [_signature_point(signature) for _, _, signature in items]
        keys = [_key_point(key) for key, _, _ in items]
    except ValueError:
        return False
    seed = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for item in items for part in item)).digest()
    factors = [1, *(_coefficient(seed, k, _BATCH_BITS) for k in range(1, len(items)))]
    by_message: dict[bytes, list[int]] = {}
    by_key: dict[bytes, list[int]] = {}
    for k, (key, message, _) in enumerate(items):
        by_message.setdefault(message, []).append(k)
        by_key.setdefault(key, []).append(k)
    hashes = [_backend.hash_to_g1(message) for _, message, _ in items]
    if len(by_message) <= len(by_key):
        pairs = [
            (hashes[g[0]], _backend.sum_g2([keys[k] for k in g], [factors[k] for k in g])) if len(g) > 1
            else (_backend.sum_g1([hashes[g[0]]], [factors[g[0]]]), keys[g[0]])
            for g in by_message.values()
        ]  # fmt: skip
    else:
        pairs = [
            (_backend.sum_g1([hashes[k] for k in g], [factors[k] for k in g]), keys[g[0]]) for g in by_key.values()
        ]  # fmt: skip
    return _backend.pairings_agree(_backend.sum_g1(points, factors), pairs)


def deal(seed: bytes, n: int, t: int) -> tuple[bytes, tuple[bytes, ...]]:
    """Public key and the secret shares of holders 1..n, of which any t can sign."""
    assert 1 <= t <= n, f"{t} of {n} can't be a threshold"
    coefficients = [_coefficient(seed, k, 512) % ORDER for k in range(t)]
    shares = []
    for index in range(1, n + 1):
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * index + coefficient) % ORDER
        shares.append(value.to_bytes(32, "big"))
    return public_key(coefficients[0].to_bytes(32, "big")), tuple(shares)


def combine(t: int, shares: Sequence[tuple[int, bytes]]) -> bytes:
    """The signature that t shares (index, signature) make up; the t lowest indices are used.

    Raises: CertificationError for fewer than t different ones, or one that is no point.
    """
    chosen = sorted(dict(shares).items())[:t]
    if len(chosen) < t:
        raise CertificationError(f"{len(chosen)} signature shares, {t} are needed")
    factors, divisor = _lagrange(tuple(index for index, _ in chosen))
    try:
        # Outside the group or not: whoever verifies the result finds out.
        points = [_backend.g1(share, checked=False) for _, share in chosen]
    except ValueError as error:
        raise CertificationError(f"a signature share is no point: {error}") from error
    total = _backend.sum_g1(points, factors)
    return _backend.to_bytes(total if divisor == 1 else _backend.sum_g1([total], [pow(divisor, -1, ORDER)]))


@dataclass(frozen=True, slots=True)
class Combined:
    """A verified signature and the indices of shares that were found to be wrong on the way."""

    signature: bytes
    wrong: tuple[int, ...] = ()


def combine_and_verify(
    key: bytes,
    message: bytes,
    t: int,
    shares: Sequence[tuple[int, bytes]],
    share_keys: Mapping[int, bytes],
    first: Sequence[tuple[int, bytes]] | None = None,
) -> Combined:
    """Combine t shares and verify once; only if that fails, check them one by one and go on without the wrong ones.

    `first`: those shares that are tried; by default the lowest.

    Raises: CertificationError naming the wrong shares when fewer than t good ones are left.
    """
    wrong: tuple[int, ...] = ()
    try:
        signature = combine(t, shares if first is None else first)
        if verify(key, message, signature):
            return Combined(signature)
    except CertificationError:
        if len(dict(shares)) < t:
            raise
    wrong = tuple(index for index, share in shares if not verify(share_keys.get(index, b""), message, share))
    good = [(index, share) for index, share in shares if index not in wrong]
    if len(good) < t:
        raise CertificationError(f"signature shares {list(wrong)} are wrong; {len(good)} good ones are left, {t} are needed")
    signature = combine(t, good)
    if not verify(key, message, signature):
        raise CertificationError("good signature shares don't combine to a signature under the subnet's key")
    return Combined(signature, wrong)


# --- points, for keys that derive from others


def add_to_public_key(key: bytes, offset: int) -> bytes:
    """The public key of a secret that is larger by `offset`. Raises: ValueError when `key` is none."""
    return _backend.to_bytes(_backend.sum_g2([_key_point(key), _backend.g2_generator()], [1, offset]))


def is_g1_point(raw: bytes) -> bool:
    """Whether these bytes are a point of G1 (zero is one) in its compressed form."""
    try:
        return len(raw) == 48 and _backend.to_bytes(_backend.g1(raw)) == raw
    except ValueError:
        return False


def hash_to_point(message: bytes, domain: bytes) -> bytes:
    """The point of G1 that RFC 9380 gives a message under this domain."""
    return _backend.to_bytes(_backend.hash_to_g1(message, domain))


def multiply_g1(terms: Sequence[tuple[bytes | None, int]]) -> bytes:
    """The sum of multiples of points of G1; None is the generator. Raises: ValueError when one is no point."""
    points = [_backend.g1_generator() if raw is None else _backend.g1(raw) for raw, _ in terms]
    return _backend.to_bytes(_backend.sum_g1(points, [factor for _, factor in terms]))


def to_der(key: bytes) -> bytes:
    """DER form (133 bytes) of a public key."""
    assert len(key) == 96, f"BLS public key of {len(key)} bytes"
    return DER_PREFIX + key


def from_der(der: bytes) -> bytes:
    """Public key (96 bytes) in a DER form. Raises: CertificationError when it is another kind of key."""
    if len(der) != len(DER_PREFIX) + 96 or not der.startswith(DER_PREFIX):
        raise CertificationError("not the DER form of a BLS12-381 public key")
    return der[len(DER_PREFIX) :]


def _signature_point(raw: bytes) -> Any:
    if len(raw) != 48 or raw[0] & _INFINITY == _INFINITY:
        raise ValueError("no signature")
    return _backend.g1(raw)


def _key_point(raw: bytes) -> Any:
    if len(raw) != 96 or raw[0] & _INFINITY == _INFINITY:
        raise ValueError("no public key")
    return _backend.g2(raw)


def _coefficient(seed: bytes, index: int, bits: int) -> int:
    """A number below 2**bits that follows from seed and index."""
    raw = hashlib.sha512(with_domain("icsim-bls", index.to_bytes(4, "big") + seed)).digest()
    return int.from_bytes(raw[: bits // 8], "big") or 1


@lru_cache(1024)
def _lagrange(indices: tuple[int, ...]) -> tuple[list[int], int]:
    """Integer factors and one divisor: the value at 0 is sum(factor * share) / divisor. Small factors cost little."""
    tops = [math.prod(j for j in indices if j != i) for i in indices]
    bottoms = [math.prod(j - i for j in indices if j != i) for i in indices]
    divisor = math.lcm(*bottoms)
    factors = [top * (divisor // bottom) for top, bottom in zip(tops, bottoms, strict=True)]
    common = math.gcd(divisor, *factors)  # for holders 1..t nothing is left to divide by
    return [factor // common for factor in factors], divisor // common
