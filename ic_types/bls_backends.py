"""The two libraries that can compute on BLS12-381, behind one interface.

Plumbing: the only module that imports blspy and py_arkworks_bls12381. Points are the library's own objects; both give the same
bytes, which a test checks. Everybody else uses `ic_types.bls`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import zip_longest
from typing import Any, Protocol

ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""Order of the groups; secrets are below it."""
_FIELD = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
"""Of the coordinates."""
_LAMBDA = 0xAC45A4010001A40200000000FFFFFFFF
"""A third root of 1 modulo ORDER; multiplication by it is multiplication of the x coordinate by _BETA."""
_BETA = 0x1A0111EA397FE699EC02408663D4DE85AA0D857D89759AD4897D29650FB85F9B409427EB4F49FFFD8BFD00000000AAAC
_X_BITS = (1 << 381) - 1
_HALF_BITS = 160
"""Factors up to this length aren't worth halving."""
DST = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"


class Backend(Protocol):
    """What a library must offer; points are its own objects."""

    name: str

    def hash_to_g1(self, message: bytes, domain: bytes = DST) -> Any:
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

    def g1_generator(self) -> Any:
        """Generator of G1."""

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
        self.hash_to_g1 = lru_cache(1024)(lambda message, domain=DST: blspy.G1Element.from_message(message, domain))
        self.g2 = lru_cache(1024)(blspy.G2Element.from_bytes)

    def g1(self, raw: bytes, *, checked: bool = True) -> Any:
        """Signature point."""
        return self._g1.from_bytes(raw) if checked else self._g1.from_bytes_unchecked(raw)

    def sum_g1(self, points: Sequence[Any], factors: Sequence[int]) -> Any:
        """Sum of multiples in G1."""
        return _windowed_sum(*self._halved(points, factors), self._g1())

    def _halved(self, points: Sequence[Any], factors: Sequence[int]) -> tuple[list[Any], list[int]]:
        """The same sum with twice the points in place of long factors, for half the doublings."""
        more, halves = list(points), list(factors)
        for k, (point, factor) in enumerate(zip(points, factors, strict=True)):
            if factor.bit_length() > _HALF_BITS:
                high, halves[k] = divmod(factor, _LAMBDA)
                raw = int.from_bytes(bytes(point), "big")
                turned = raw & ~_X_BITS | (raw & _X_BITS) * _BETA % _FIELD
                more.append(self._g1.from_bytes_unchecked(turned.to_bytes(48, "big")))
                halves.append(high)
        return more, halves

    def sum_g2(self, points: Sequence[Any], factors: Sequence[int]) -> Any:
        """Sum of multiples in G2."""
        return _windowed_sum(points, factors, self._g2())

    def to_bytes(self, point: Any) -> bytes:
        """Compressed form."""
        return bytes(point)

    def g1_generator(self) -> Any:
        """Generator of G1."""
        return self._g1.generator()

    def g2_generator(self) -> Any:
        """Generator of G2."""
        return self._generator

    def pairings_agree(self, signature: Any, pairs: Sequence[tuple[Any, Any]]) -> bool:
        """Whether e(signature, generator) is the product over the pairs."""
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
        self.hash_to_g1 = lru_cache(1024)(lambda message, domain=DST: library.G1Point.hash_to_curve(message, domain))
        self.g2 = lru_cache(1024)(library.G2Point.from_compressed_bytes)

    def g1(self, raw: bytes, *, checked: bool = True) -> Any:
        """Signature point."""
        point = self._library.G1Point
        return point.from_compressed_bytes(raw) if checked else point.from_compressed_bytes_unchecked(raw)

    def sum_g1(self, points: Sequence[Any], factors: Sequence[int]) -> Any:
        """Sum of multiples in G1."""
        return self._library.G1Point.multiexp_unchecked(list(points), self._scalars(factors))

    def sum_g2(self, points: Sequence[Any], factors: Sequence[int]) -> Any:
        """Sum of multiples in G2."""
        return self._library.G2Point.multiexp_unchecked(list(points), self._scalars(factors))

    def _scalars(self, factors: Sequence[int]) -> list[Any]:
        return [self._library.Scalar.from_be_bytes((factor % ORDER).to_bytes(32, "big")) for factor in factors]

    def to_bytes(self, point: Any) -> bytes:
        """Compressed form."""
        return bytes(point.to_compressed_bytes())

    def g1_generator(self) -> Any:
        """Generator of G1."""
        return self._library.G1Point()

    def g2_generator(self) -> Any:
        """Generator of G2."""
        return self._generator

    def pairings_agree(self, signature: Any, pairs: Sequence[tuple[Any, Any]]) -> bool:
        """Whether e(signature, generator) is the product over the pairs."""
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


def available_backend() -> Backend:
    """The backend whose library is installed; blspy first, since it verifies a little faster."""
    try:
        return load_backend("blspy")
    except ImportError:
        return load_backend("arkworks")
