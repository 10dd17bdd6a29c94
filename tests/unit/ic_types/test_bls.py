"""BLS: both libraries agree, thresholds combine, wrong points and shares are found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types import bls
from ic_types.bls_backends import ORDER, load_backend
from ic_types.errors import CertificationError
from ic_types.principal import Principal

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "bls.json").read_text())
BACKENDS = ["blspy", "arkworks"]
MESSAGE = bls.with_domain(bls.STATE_ROOT, bytes(32))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test under each library that is installed."""
    pytest.importorskip({"blspy": "blspy", "arkworks": "py_arkworks_bls12381"}[request.param])
    before = bls.select_backend(request.param)
    yield request.param
    bls.select_backend(before)


def test_domain_separator() -> None:
    """A length byte and the domain stand before the message."""
    assert bls.with_domain("ic-state-root", b"x") == b"\x0dic-state-rootx"


@settings(deadline=None, max_examples=10)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=80), st.lists(st.integers(-(2**64), ORDER - 1), max_size=3))
def test_both_libraries_give_the_same_bytes(seed: bytes, message: bytes, factors: list[int]) -> None:
    """Signatures, keys, dealings and sums are byte for byte equal."""
    pytest.importorskip("blspy")
    one, other = (load_backend(name) for name in BACKENDS)
    before, found = bls.select_backend("blspy"), []
    try:
        for name in BACKENDS:
            bls.select_backend(name)
            key, shares = bls.deal(seed, 3, 2)
            signed = [(k + 1, bls.sign(share, message)) for k, share in enumerate(shares)]
            found.append((key, shares, bls.public_key(shares[0]), signed, bls.combine(2, signed), bls.combine(2, signed[1:])))
    finally:
        bls.select_backend(before)
    assert found[0] == found[1]
    sums = [b.to_bytes(b.sum_g1([b.hash_to_g1(bytes([k])) for k in range(len(factors))], factors)) for b in (one, other)]
    if factors:
        assert sums[0] == sums[1]


def test_any_t_shares_give_the_one_signature(backend: str) -> None:
    """Every subset of t shares combines to the same bytes, which verify under the dealt key."""
    key, shares = bls.deal(b"seed", 4, 3)
    signed = [(k + 1, bls.sign(share, MESSAGE)) for k, share in enumerate(shares)]
    signatures = {bls.combine(3, chosen) for chosen in combinations(signed, 3)}
    assert len(signatures) == 1
    assert bls.verify(key, MESSAGE, signatures.pop())


def test_verification_refuses_what_is_wrong(backend: str) -> None:
    """Another message, key or signature, a malformed or zero point: all are refused without an exception."""
    secret, other = (k.to_bytes(32, "big") for k in (5, 6))
    key, signature = bls.public_key(secret), bls.sign(secret, b"m")
    assert bls.verify(key, b"m", signature)
    zero_key, zero_signature = b"\xc0" + bytes(95), b"\xc0" + bytes(47)
    wrong = [
        (key, b"n", signature), (bls.public_key(other), b"m", signature), (key, b"m", bls.sign(other, b"m")),
        (key, b"m", b""), (key, b"m", signature[:-1]), (key, b"m", bytes(48)), (key, b"m", b"\xff" * 48),
        (b"", b"m", signature), (bytes(96), b"m", signature), (zero_key, b"m", zero_signature), (key, b"m", zero_signature),
    ]  # fmt: skip
    for item in wrong:
        assert not bls.verify(*item)
        assert not bls.verify_many([(key, b"m", signature), item])


def test_points_outside_the_group_are_refused(backend: str) -> None:
    """A point on the curve but of another order is no signature."""
    raw = bytes.fromhex(VECTORS["g1_outside_group"])
    assert not bls.verify(bls.public_key(bytes(31) + b"\x05"), b"m", raw)


def test_random_bytes_are_no_points(backend: str) -> None:
    """Whatever stands in a signature, share or key, the answer is no and never another exception."""
    good_key, good = bls.public_key(bytes(31) + b"\x05"), bls.sign(bytes(31) + b"\x05", b"m")

    @settings(deadline=None, max_examples=100)
    @given(
        st.binary(min_size=48, max_size=48), st.binary(min_size=96, max_size=96), st.sampled_from([0x80, 0xA0, 0xC0, 0xE0, 0])
    )
    def refused(raw: bytes, raw_key: bytes, flags: int) -> None:
        raw, raw_key = bytes([raw[0] & 0x1F | flags]) + raw[1:], bytes([raw_key[0] & 0x1F | flags]) + raw_key[1:]
        assert not bls.verify(good_key, b"m", raw)
        assert not bls.verify(raw_key, b"m", good)
        with pytest.raises(CertificationError):
            bls.combine_and_verify(good_key, b"m", 2, [(1, good), (2, raw)], {1: good_key, 2: raw_key})

    refused()


@pytest.mark.parametrize("shape", ["one message", "one key", "all different"])
def test_batches_find_the_wrong_one(backend: str, shape: str) -> None:
    """A batch is good when all are, whatever they share; swapping two signatures is noticed."""
    items = []
    for k in range(1, 4):
        secret = (1 if shape == "one key" else k).to_bytes(32, "big")
        message = b"m" if shape == "one message" else bytes([k])
        items.append((bls.public_key(secret), message, bls.sign(secret, message)))
    assert bls.verify_many(items)
    swapped = [(*items[0][:2], items[1][2]), (*items[1][:2], items[0][2]), items[2]]
    assert not bls.verify_many(swapped)
    assert bls.verify_many([])


def test_wrong_shares_are_named_and_left_out() -> None:
    """The combined signature stands if t good shares remain, and the wrong ones are named."""
    key, shares = bls.deal(b"seed", 4, 3)
    keys = {k + 1: bls.public_key(share) for k, share in enumerate(shares)}
    signed = [(k + 1, bls.sign(share, MESSAGE)) for k, share in enumerate(shares)]
    good = bls.combine_and_verify(key, MESSAGE, 3, signed, keys)
    assert good.wrong == ()
    for bad in (bls.sign(shares[0], b"other"), bytes(48), b"short"):
        mended = bls.combine_and_verify(key, MESSAGE, 3, [signed[0], (2, bad), *signed[2:]], keys)
        assert mended == bls.Combined(good.signature, (2,))
    with pytest.raises(CertificationError, match=r"\[1, 2\] are wrong; 2 good ones"):
        bls.combine_and_verify(key, MESSAGE, 3, [(1, signed[1][1]), (2, signed[0][1]), *signed[2:]], keys)
    with pytest.raises(CertificationError, match="2 signature shares, 3 are needed"):
        bls.combine_and_verify(key, MESSAGE, 3, signed[:2], keys)


def test_der_form_of_keys() -> None:
    """The DER form is a fixed prefix and the key; others are refused."""
    der = bytes.fromhex(VECTORS["mainnet_root_key_der"])
    key = bls.from_der(der)
    assert bls.to_der(key) == der
    assert Principal.self_authenticating(der).to_text() == VECTORS["mainnet_root_subnet"]
    for wrong in (der[:-1], der + b"\x00", b"\x31" + der[1:], b""):
        with pytest.raises(CertificationError, match="DER"):
            bls.from_der(wrong)
