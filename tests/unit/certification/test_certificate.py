"""Certificates: mainnet's verify, ours verify, and what was tampered with doesn't."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types import bls, cbor, hash_tree
from ic_types.errors import CertificationError
from ic_types.hash_tree import Absent, Found, NoValue, Unknown
from ic_types.leb128 import encode_nat
from ic_types.principal import Principal
from ic_types.units import TimeNs
from subnet.certification.certificate import (
    Certificate,
    Delegation,
    certified_ranges,
    decode_certificate,
    decode_ranges,
    encode_certificate,
    make_certificate,
    verify_certificate,
)
from subnet.certification.delegation import delegate
from subnet.certification.state_tree import StateTree, encode_ranges

VECTOR_DIR = Path(__file__).parents[2] / "vectors"
VECTORS: dict[str, Any] = json.loads((VECTOR_DIR / "certificates.json").read_text())
MAINNET_KEY = bls.from_der(bytes.fromhex(json.loads((VECTOR_DIR / "bls.json").read_text())["mainnet_root_key_der"]))
ROOT_SECRET, APP_SECRET, OTHER_SECRET = (bytes([k]) * 32 for k in (1, 2, 3))
APP, OTHER = Principal(b"app"), Principal(b"other")
FIRST, LAST = Principal.canister(100), Principal.canister(199)
REQUEST = b"r" * 32


@cache
def key(secret: bytes) -> bytes:
    """Public key of a subnet with one node."""
    return bls.public_key(secret)


def certify(tree: StateTree, secret: bytes) -> bytes:
    """The subnet's signature over its tree as it is."""
    return bls.sign(secret, bls.with_domain(bls.STATE_ROOT, tree.root()))


def root_tree(ranges: int = 1) -> StateTree:
    """The root subnet's tree with two other subnets."""
    tree = StateTree()
    tree.set_time(TimeNs(5))
    many = [(Principal.canister(100 * k), Principal.canister(100 * k + 99)) for k in range(1, ranges + 1)]
    tree.set_subnet(APP, public_key=key(APP_SECRET), subnet_type="application", ranges=many)
    tree.set_subnet(OTHER, public_key=key(OTHER_SECRET), subnet_type="application", ranges=())
    return tree


def app_tree() -> StateTree:
    """An application subnet's tree with a replied request."""
    tree = StateTree()
    tree.set_time(TimeNs(7))
    tree.set_request_status(REQUEST, "replied", reply=b"DIDL")
    tree.set_request_status(b"s" * 32, "processing")
    return tree


def app_certificate(**changes: Any) -> Certificate:
    """A good certificate of the application subnet with some of its parts replaced."""
    root, app = root_tree(), app_tree()
    delegation = delegate(root, certify(root, ROOT_SECRET), APP)
    raw = make_certificate(app, [(b"request_status", REQUEST)], certify(app, APP_SECRET), delegation)
    return replace(decode_certificate(raw), **changes)


@pytest.mark.parametrize("name", ["mainnet_flat_ranges", "mainnet_sharded_ranges"])
@pytest.mark.spec("certification")
def test_certificates_of_mainnet_verify(name: str) -> None:
    """Real certificates with either form of ranges verify under the real root key and encode back to the same bytes."""
    raw = bytes.fromhex(VECTORS[name]["certificate"])
    first, last = (Principal.from_text(text) for text in VECTORS["mainnet_range"])
    certificate = verify_certificate(raw, MAINNET_KEY, canister_id=first)
    assert certificate.time() == VECTORS[name]["time"]
    assert certificate.delegation is not None
    assert certificate.delegation.subnet_id.to_text() == VECTORS["mainnet_subnet"]
    assert (first, last) in certified_ranges(
        decode_certificate(certificate.delegation.certificate), certificate.delegation.subnet_id
    )
    assert encode_certificate(certificate) == raw
    with pytest.raises(CertificationError, match="doesn't cover canister"):
        verify_certificate(raw, MAINNET_KEY, canister_id=Principal.canister(1))
    with pytest.raises(CertificationError, match="not signed by the root"):
        verify_certificate(raw, key(ROOT_SECRET))


def test_certificate_of_a_subnet_verifies_through_its_delegation() -> None:
    """The answer to a call: status and time are there, the rest is pruned or provably absent."""
    raw = encode_certificate(app_certificate())
    certificate = verify_certificate(raw, key(ROOT_SECRET), canister_id=FIRST)
    assert certificate.time() == 7
    assert certificate.lookup(b"request_status", REQUEST, b"reply") == Found(b"DIDL")
    assert certificate.lookup(b"request_status", REQUEST, b"reject_code") == Absent()
    assert certificate.lookup(b"request_status", b"s" * 32, b"status") == Unknown()
    assert certificate.lookup(b"request_status") == NoValue()


def test_certificate_of_the_root_subnet_needs_no_delegation() -> None:
    """The root subnet signs with the root key itself."""
    root = root_tree()
    raw = make_certificate(root, [(b"subnet", APP, b"type")], certify(root, ROOT_SECRET))
    assert verify_certificate(raw, key(ROOT_SECRET)).lookup(b"subnet", APP, b"type") == Found(b"application")


def test_absence_of_a_request_is_proven() -> None:
    """Asking for a request that isn't there reveals its neighbours' labels, and nothing of their content."""
    app = app_tree()
    raw = make_certificate(app, [(b"request_status", b"rr" + bytes(30), b"status")], certify(app, APP_SECRET))
    certificate = verify_certificate(raw, key(APP_SECRET))
    assert certificate.lookup(b"request_status", b"rr" + bytes(30), b"status") == Absent()
    assert certificate.lookup(b"request_status", REQUEST, b"status") == Unknown()


@pytest.mark.parametrize("ranges", [1, 5, 6, 23])
def test_delegation_reveals_one_shard(ranges: int) -> None:
    """The shard shown is the one that covers the canister, and it suffices to verify."""
    root, app = root_tree(ranges), app_tree()
    for canister in (FIRST, Principal.canister(100 * ranges + 99)):
        delegation = delegate(root, certify(root, ROOT_SECRET), APP, canister_id=canister)
        raw = make_certificate(app, [], certify(app, APP_SECRET), delegation)
        verify_certificate(raw, key(ROOT_SECRET), canister_id=canister)
        inner = decode_certificate(delegation.certificate)
        shown = hash_tree.subtree((b"canister_ranges", APP), inner.tree)
        assert not isinstance(shown, Absent | Unknown)
        assert len(list(hash_tree.leaves(shown))) == 1
        assert inner.lookup(b"subnet", APP, b"canister_ranges") == Unknown()


def test_signature_of_another_subnet_is_refused() -> None:
    """A certificate signed by a subnet other than the one delegated to."""
    with pytest.raises(CertificationError, match="signature of the certificate"):
        verify_certificate(encode_certificate(app_certificate(signature=certify(app_tree(), OTHER_SECRET))), key(ROOT_SECRET))


def test_signature_over_an_older_tree_is_refused() -> None:
    """A witness of today under yesterday's signature."""
    app = app_tree()
    old = certify(app, APP_SECRET)
    app.set_time(TimeNs(8))
    with pytest.raises(CertificationError, match="signature of the certificate"):
        verify_certificate(make_certificate(app, [], old), key(APP_SECRET))


def test_delegation_for_another_subnet_is_refused() -> None:
    """The root's word for one subnet is no word for another."""
    good = app_certificate()
    assert good.delegation is not None
    swapped = replace(good, delegation=Delegation(OTHER, good.delegation.certificate))
    with pytest.raises(CertificationError, match="delegation has no key"):
        verify_certificate(encode_certificate(swapped), key(ROOT_SECRET))


def test_delegation_by_a_non_root_subnet_is_refused() -> None:
    """Only the root subnet delegates."""
    root = root_tree()
    forged = app_certificate(delegation=delegate(root, certify(root, OTHER_SECRET), APP))
    with pytest.raises(CertificationError, match="not signed by the root"):
        verify_certificate(encode_certificate(forged), key(ROOT_SECRET))


def test_delegations_do_not_chain() -> None:
    """The certificate of a delegation must come from the root itself."""
    nested = app_certificate(delegation=Delegation(APP, encode_certificate(app_certificate())))
    with pytest.raises(CertificationError, match="delegation of its own"):
        verify_certificate(encode_certificate(nested), key(ROOT_SECRET))


def test_delegation_is_scoped() -> None:
    """Canisters outside the ranges aren't the subnet's to certify for; the ends of a range belong to it."""
    raw = encode_certificate(app_certificate())
    for inside in (FIRST, LAST):
        verify_certificate(raw, key(ROOT_SECRET), canister_id=inside)
    for outside in (Principal.canister(99), Principal.canister(200)):
        with pytest.raises(CertificationError, match="doesn't cover"):
            verify_certificate(raw, key(ROOT_SECRET), canister_id=outside)


def fields(**changes: Any) -> bytes:
    """CBOR of a certificate with some fields replaced, made by the library."""
    whole = {"tree": [0], "signature": bytes(48), **changes}
    return cbor.SELF_DESCRIBED + cbor2.dumps({name: value for name, value in whole.items() if value is not ...})


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "malformed"),
        (b"\xd9\xd9\xf7", "malformed"),
        (b"\xa2", "malformed"),
        (fields(signature="text"), "signature in bytes"),
        (fields(tree=...), "no map of two or three"),
        (fields(tree=..., delegation=None), "lacks its tree"),
        (fields(extra=1), "wrong or repeated field"),
        (b"\xa2\x69signature\x40\x69signature\x40", "wrong or repeated field"),
        (fields() + b"\x00", "1 bytes after"),
        (fields(tree=[5]), "no hash tree node"),
        (fields(delegation=1), "subnet_id and certificate"),
        (fields(delegation={"subnet_id": b""}), "subnet_id and certificate"),
        (fields(delegation={"subnet_id": bytes(30), "certificate": b""}), "malformed subnet_id"),
        (fields(delegation={"subnet_id": b"", "certificate": "x"}), "malformed subnet_id"),
    ],
)
@pytest.mark.spec("certification-encoding")
def test_malformed_certificates_are_refused(raw: bytes, reason: str) -> None:
    """Strange bytes are an error that says what is wrong."""
    with pytest.raises(CertificationError, match=reason):
        decode_certificate(raw)


@pytest.mark.parametrize("raw", [b"", b"\x01", cbor2.dumps([1]), cbor2.dumps([[b"a"]]), cbor2.dumps([[b"a", bytes(30)]])])
def test_malformed_ranges_are_refused(raw: bytes) -> None:
    """Ranges are pairs of principals, nothing else."""
    with pytest.raises(CertificationError, match="malformed canister ranges"):
        decode_ranges(raw)


def test_ranges_round_trip() -> None:
    """What is encoded is decoded."""
    assert decode_ranges(encode_ranges([(FIRST, LAST)])) == [(FIRST, LAST)]


@pytest.mark.spec("state-tree-time")
def test_time_must_be_there_and_a_number() -> None:
    """A certificate without a readable time can't be judged for freshness."""
    for tree in (hash_tree.Empty(), hash_tree.Labeled(b"time", hash_tree.Leaf(b"\x80"))):
        with pytest.raises(CertificationError, match=r"time|number"):
            Certificate(tree, b"").time()
    assert Certificate(hash_tree.Labeled(b"time", hash_tree.Leaf(encode_nat(9))), b"").time() == 9


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 5000), st.integers(1, 255))
def test_flipped_bytes_never_verify(position: int, flip: int) -> None:
    """No certificate with one changed byte says anything else under the root key."""
    raw = bytearray(bytes.fromhex(VECTORS["mainnet_sharded_ranges"]["certificate"]))
    raw[position % len(raw)] ^= flip
    with pytest.raises(CertificationError):
        verify_certificate(bytes(raw), MAINNET_KEY, canister_id=Principal.from_text(VECTORS["mainnet_range"][0]))
