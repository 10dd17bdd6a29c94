"""BLS12-381 as the IC uses it: signatures in G1, public keys in G2, thresholds by Shamir.

Plumbing: the only module that knows blspy and py_arkworks_bls12381; either will do and both give the same bytes. Spec:
interface spec, "Certificate" (ciphersuite BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_) and "Delegation" (DER form of keys).

Secrets are 32 bytes (big-endian scalar), signatures 48, public keys 96 (compressed points). Nothing here is random: dealings
come from a seed, coefficients of a batch from what is checked.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import zip_longest
from typing import Any, Protocol

from ic_types.errors import CertificationError

ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""Order of the groups; secrets are below it."""
DST = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
DER_PREFIX = bytes.fromhex("308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100")
"""What stands before the 96 bytes of a key: OIDs 1.3.6.1.4.1.44668.5.3.1.2.1 and 1.3.6.1.4.1.44668.5.3.2.1."""
STATE_ROOT = "ic-state-root"
_INFINITY = 0xC0
_BATCH_BITS = 128


class Backend(Protocol):
    """What a library must offer; points are its own objects."""

    name: str

    def hash_to_g1(self, message: bytes) -> Any:
        """The point of a message, cached."""

    def g1(self, raw: bytes, *, checked: bool = True) -> Any:
        """Signature point; `checked` also tests that it is in the group. Raises: ValueError."""

    def g2(self, raw: bytes) -> Any:
        """Public key point, tested and cached. Raises: ValueError."""

    def sum_g1(self, points: Sequence[Any], factors: Sequence[int]) -> Any:
        """Sum of multiples; factors may be negative."""

    def sum_g2(self, points: Sequence[Any], factors: Sequence[int]) -> Any:
        """Sum of multiples in G2."""

    def to_bytes(self, point: Any) -> bytes:
        """Compressed form."""

    def g2_generator(self) -> Any:
        """Generator of G2."""

    def pairings_agree(self, signature: Any, pairs: Sequence[tuple[Any, Any]]) -> bool:
        """Whether e(signature, generator) is the product of e(a, b) over the pairs."""


class BlspyBackend:
    """blspy has no multiplication of points by scalars, so that is done by additions in windows of 4 bits."""

    name = "blspy"

    def __init__(self) -> None:
        import blspy

        self._g1, self._g2 = blspy.G1Element, blspy.G2Element
        self._generator = blspy.G2Element.generator()
        self.hash_to_g1 = lru_cache(1024)(lambda message: blspy.G1Element.from_message(message, DST))
        self.g2 = lru_cache(1024)(blspy.G2Element.from_bytes)

    def g1(self, raw: bytes, *, checked: bool = True) -> Any:
        return self._g1.from_bytes(raw) if checked else self._g1.from_bytes_unchecked(raw)

    def sum_g1(self, points: Sequence[Any], factors: Sequence[int]) -> Any:
        return _windowed_sum(points, factors, self._g1())

    def sum_g2(self, points: Sequence[Any], factors: Sequence[int]) -> Any:
        return _windowed_sum(points, factors, self._g2())

    def to_bytes(self, point: Any) -> bytes:
        return bytes(point)

    def g2_generator(self) -> Any:
        return self._generator

    def pairings_agree(self, signature: Any, pairs: Sequence[tuple[Any, Any]]) -> bool:
        # Not from GTElement.unity(), which in blspy 2.0.3 is no neutral element.
        product = pairs[0][0].pair(pairs[0][1])
        for a, b in pairs[1:]:
            product = product * a.pair(b)
        return bool(signature.pair(self._generator) == product)


class ArkworksBackend:
    """py_arkworks_bls12381 has all of it."""

    name = "arkworks"

    def __init__(self) -> None:
        import py_arkworks_bls12381 as library

        self._library = library
        self._generator = library.G2Point()
        self.hash_to_g1 = lru_cache(1024)(lambda message: library.G1Point.hash_to_curve(message, DST))
        self.g2 = lru_cache(1024)(library.G2Point.from_compressed_bytes)

    def g1(self, raw: bytes, *, checked: bool = True) -> Any:
        point = self._library.G1Point
        return point.from_compressed_bytes(raw) if checked else point.from_compressed_bytes_unchecked(raw)

    def sum_g1(self, points: Sequence[Any], factors: Sequence[int]) -> Any:
        return self._library.G1Point.multiexp_unchecked(list(points), self._scalars(factors))

    def sum_g2(self, points: Sequence[Any], factors: Sequence[int]) -> Any:
        return self._library.G2Point.multiexp_unchecked(list(points), self._scalars(factors))

    def _scalars(self, factors: Sequence[int]) -> list[Any]:
        return [self._library.Scalar.from_be_bytes((factor % ORDER).to_bytes(32, "big")) for factor in factors]

    def to_bytes(self, point: Any) -> bytes:
        return bytes(point.to_compressed_bytes())

    def g2_generator(self) -> Any:
        return self._generator

    def pairings_agree(self, signature: Any, pairs: Sequence[tuple[Any, Any]]) -> bool:
        left = [-signature, *(a for a, _ in pairs)]
        return bool(self._library.GT.pairing_check(left, [self._generator, *(b for _, b in pairs)]))


def _windowed_sum(points: Sequence[Any], factors: Sequence[int], zero: Any) -> Any:
    """Straus: the doublings are shared by all points."""
    columns: list[list[Any]] = []
    for point, factor in zip(points, factors, strict=True):
        digits = [int(digit, 16) for digit in reversed(f"{abs(factor):x}")]
        multiples = [zero, point if factor >= 0 else point.negate()]
        for _ in range(max(digits) - 1):
            multiples.append(multiples[-1] + multiples[1])
        columns.append([multiples[digit] if digit else None for digit in digits])
    total = zero
    for row in reversed(list(zip_longest(*columns))):
        if total is not zero:
            total = total + total
            total = total + total
            total = total + total
            total = total + total
        for multiple in row:
            if multiple is not None:
                total = total + multiple
    return total


_BACKENDS: dict[str, Callable[[], Backend]] = {"blspy": BlspyBackend, "arkworks": ArkworksBackend}


@cache
def load_backend(name: str) -> Backend:
    """The backend of this name. Raises: ImportError when its library isn't installed."""
    return _BACKENDS[name]()


def _available() -> Backend:
    try:
        return load_backend("blspy")
    except ImportError:
        return load_backend("arkworks")


_backend: Backend = _available()


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
    key: bytes, message: bytes, t: int, shares: Sequence[tuple[int, bytes]], share_keys: Mapping[int, bytes]
) -> Combined:
    """Combine t shares and verify once; only if that fails, check them one by one and go on without the wrong ones.

    Raises: CertificationError naming the wrong shares when fewer than t good ones are left.
    """
    wrong: tuple[int, ...] = ()
    try:
        signature = combine(t, shares)
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
    return [top * (divisor // bottom) for top, bottom in zip(tops, bottoms, strict=True)], divisor
