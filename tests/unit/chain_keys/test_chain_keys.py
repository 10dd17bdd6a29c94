"""Key derivation against mainnet's keys, signatures against libraries of others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import py_arkworks_bls12381 as ark
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types import bls
from ic_types.chain_keys import ed25519 as ed
from ic_types.chain_keys import secp256k1, vetkd
from ic_types.chain_keys.key_id import KeyId, KeyKind
from ic_types.principal import Principal

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "chain_keys.json").read_text())
CANISTER = bytes(Principal.from_text(VECTORS["canister"]))
paths = st.lists(st.binary(max_size=40), max_size=4)
messages = st.binary(max_size=100)
secrets = st.integers(1, 2**252)


@pytest.fixture(params=["blspy", "arkworks"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each library for BLS12-381 that is installed."""
    try:
        before = bls.select_backend(request.param)
    except ImportError:
        pytest.skip(f"{request.param} has no wheel for this Python")
    yield request.param
    bls.select_backend(before)


def full_path(vector: Any) -> list[bytes]:
    """The caller's id stands before the path of the call."""
    return [CANISTER, *map(bytes.fromhex, vector["path"])]


@pytest.mark.parametrize("vector", VECTORS["secp256k1"])
def test_secp256k1_keys_are_those_that_mainnet_derives(vector: Any) -> None:
    """From mainnet's master keys the keys that mainnet gave a canister follow."""
    assert secp256k1.derive(bytes.fromhex(vector["master"]), full_path(vector))[0].public_key.hex() == vector["key"]


@pytest.mark.parametrize("vector", VECTORS["ed25519"])
def test_ed25519_keys_are_those_that_mainnet_derives(vector: Any) -> None:
    """From mainnet's master keys the keys that mainnet gave a canister follow."""
    assert ed.derive(bytes.fromhex(vector["master"]), full_path(vector))[0].public_key.hex() == vector["key"]


def test_vetkd_keys_are_the_published_ones(backend: str) -> None:
    """Canister key and context key follow from the master key, and the second from the first."""
    vector = VECTORS["vetkd"]
    master = bytes.fromhex(vector["master"])
    assert vetkd.derive(master, b"test-canister-id", b"")[0].hex() == vector["canister_key"]
    assert vetkd.derive(master, b"test-canister-id", b"test-context")[0].hex() == vector["context_key"]


@settings(deadline=None, max_examples=30)
@given(secrets, paths)
def test_derived_secrets_belong_to_derived_keys(secret: int, path: list[bytes]) -> None:
    """The offset added to the master secret gives the secret of the derived public key; paths matter, with their borders."""
    for curve in (secp256k1, ed):
        key, offset = curve.derive(curve.public_key(secret), path)
        assert curve.public_key((secret + offset) % curve.ORDER) == key.public_key
        if path:
            assert curve.derive(curve.public_key(secret), [*path[:-1], path[-1] + b"\x00"])[0] != key


@settings(deadline=None, max_examples=30)
@given(secrets, st.binary(min_size=32, max_size=32), st.binary(max_size=32))
def test_ecdsa_signatures_verify(secret: int, digest: bytes, extra: bytes) -> None:
    """`cryptography` accepts them; s is the smaller one; other extra data give another signature."""
    signature = secp256k1.sign_ecdsa(secret, digest, extra)
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), secp256k1.public_key(secret))
    key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    assert s <= secp256k1.ORDER // 2
    assert secp256k1.sign_ecdsa(secret, digest, extra + b"!") != signature


def test_signatures_are_those_of_the_standards() -> None:
    """RFC 6979 without extra data, and BIP340 with its auxiliary data, give the published signatures."""
    rfc, bip = VECTORS["rfc6979"], VECTORS["bip340"]
    assert secp256k1.sign_ecdsa(int(rfc["secret"], 16), hashlib.sha256(b"abc").digest()).hex() == rfc["signature"]
    made = secp256k1.sign_bip340(int(bip["secret"], 16), bytes.fromhex(bip["message"]), bytes.fromhex(bip["aux"]))
    assert made.hex() == bip["signature"]


@settings(deadline=None, max_examples=30)
@given(secrets, messages, st.one_of(st.just(b""), st.binary(min_size=32, max_size=32)))
def test_schnorr_signatures_verify(secret: int, message: bytes, root: bytes) -> None:
    """`coincurve` accepts BIP340 signatures of digests, for the key itself and for the taproot output key."""
    coincurve = pytest.importorskip("coincurve", reason="coincurve has no wheel for this Python")
    digest = hashlib.sha256(message).digest()
    key = coincurve.PublicKeyXOnly(secp256k1.public_key(secret)[1:])
    assert key.verify(secp256k1.sign_bip340(secret, digest), digest)
    tag = hashlib.sha256(b"TapTweak").digest()
    key.tweak_add(hashlib.sha256(tag + tag + secp256k1.public_key(secret)[1:] + root).digest())
    assert key.verify(secp256k1.sign_bip340(secp256k1.tweak_bip341(secret, root), digest), digest)


@settings(deadline=None, max_examples=30)
@given(secrets, messages)
def test_ed25519_signatures_verify(secret: int, message: bytes) -> None:
    """`cryptography` accepts them, and no other message under them."""
    key = ed25519.Ed25519PublicKey.from_public_bytes(ed.public_key(secret))
    signature = ed.sign(secret, message)
    key.verify(signature, message)
    with pytest.raises(InvalidSignature):
        key.verify(signature, message + b"!")
    assert ed.sign(secret, message, b"again") != signature


def test_encrypted_keys_decrypt_by_the_equations(backend: str) -> None:
    """The specification's pairing equations hold, computed by another library: for the encrypted key and the decrypted one."""
    secret, transport, blinding = 7**80 % vetkd.ORDER, 11**70 % vetkd.ORDER, 13**60 % vetkd.ORDER
    derived, offset = vetkd.derive(vetkd.public_key(secret), CANISTER, b"context")
    transport_key = bytes((ark.G1Point() * scalar(transport)).to_compressed_bytes())
    raw = vetkd.encrypted_key((secret + offset) % vetkd.ORDER, derived, b"input", transport_key, blinding)
    check_vetkd(raw, derived, b"input", transport)
    with pytest.raises(AssertionError):
        check_vetkd(raw, derived, b"other input", transport)


def check_vetkd(raw: bytes, derived: bytes, key_input: bytes, transport: int) -> bytes:
    """Interface spec, "IC method vetkd_derive_key": verify and decrypt; gives the derived key."""
    one, three = (ark.G1Point.from_compressed_bytes(part) for part in (raw[:48], raw[144:]))
    two, public = ark.G2Point.from_compressed_bytes(raw[48:144]), ark.G2Point.from_compressed_bytes(derived)
    g1, g2 = ark.G1Point(), ark.G2Point()
    hashed = ark.G1Point.hash_to_curve(derived + key_input, b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_AUG_")
    pair = ark.GT.pairing
    assert pair(one, g2) == pair(g1, two)
    assert pair(three, g2) == pair(g1 * scalar(transport), two) * pair(hashed, public)
    key = three - one * scalar(transport)
    assert pair(key, g2) == pair(hashed, public)
    return bytes(key.to_compressed_bytes())


def scalar(value: int) -> Any:
    """Of the other library."""
    return ark.Scalar.from_be_bytes(value.to_bytes(32, "big"))


def test_transport_keys_are_points_of_the_group(backend: str) -> None:
    """Points of the curve outside the group, other lengths and garbage are none; zero is one, as in the replica."""
    outside = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "bls.json").read_text())["g1_outside_group"]
    assert vetkd.is_transport_key(bls.multiply_g1([(None, 5)]))
    assert vetkd.is_transport_key(b"\xc0" + bytes(47))
    for wrong in (b"", bytes(48), b"\xff" * 48, bytes.fromhex(outside), bls.multiply_g1([(None, 5)]) + b"\x00"):
        assert not vetkd.is_transport_key(wrong)


def test_key_ids_have_a_text() -> None:
    """As in the replica's errors; read back whatever the case of the algorithm."""
    key = KeyId(KeyKind.ECDSA_SECP256K1, "key_1")
    assert str(key) == "ecdsa:Secp256k1:key_1"
    assert KeyId.parse("ecdsa:secp256k1:key_1") == key
    for wrong in ("key_1", "ecdsa:p256:key_1", "schnorr:Ed25519:"):
        with pytest.raises(ValueError, match="is no chain key"):
            KeyId.parse(wrong)
