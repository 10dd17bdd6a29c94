"""Multiples of points: the short way through the curve's endomorphism gives what additions give."""

from __future__ import annotations

import pytest

from ic_types import bls
from ic_types.bls_backends import ORDER, Backend, load_backend

FACTORS = [1, 2, 15, (1 << 160) - 1, 1 << 160, (1 << 200) + 77, ORDER - 1, ORDER, ORDER + 5, -3, -(1 << 250) - 9]


def backends() -> list[Backend]:
    """Those whose library is installed."""
    found = []
    for name in ("blspy", "arkworks"):
        try:
            found.append(load_backend(name))
        except ImportError:
            continue
    return found


@pytest.mark.parametrize("backend", backends(), ids=lambda backend: backend.name)
def test_multiples_are_those_of_their_parts(backend: Backend) -> None:
    """k P + (a - k) P = a P for factors of every length and sign."""
    point = backend.hash_to_g1(b"a point")
    for factor in FACTORS:
        parts = backend.to_bytes(backend.sum_g1([point, point], [factor, 12_345 - factor]))
        assert parts == backend.to_bytes(backend.sum_g1([point], [12_345])), factor


def test_both_libraries_agree_on_multiples() -> None:
    """The same bytes for the same point and factor."""
    for factor in FACTORS:
        found = {b.to_bytes(b.sum_g1([b.hash_to_g1(b"p"), b.hash_to_g1(b"q")], [factor, 7 * factor])) for b in backends()}
        assert len(found) == 1, factor


@pytest.mark.parametrize(("n", "t"), [(1, 1), (4, 3), (7, 5), (13, 9)])
def test_the_first_holders_combine_without_a_division(n: int, t: int) -> None:
    """Factors of holders 1..t are whole numbers; other sets of holders give the same signature."""
    assert bls._lagrange(tuple(range(1, t + 1)))[1] == 1
    key, shares = bls.deal(b"s" * 32, n, t)
    signed = [(index, bls.sign(share, b"m")) for index, share in enumerate(shares, 1)]
    signature = bls.combine(t, signed)
    assert bls.verify(key, b"m", signature)
    assert bls.combine(t, signed[n - t :]) == signature
