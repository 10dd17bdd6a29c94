"""Signatures under every scheme: what is signed verifies, whatever is changed doesn't, odd keys are named as such."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ic_types import bls, hash_tree
from ic_types.errors import EnvelopeError
from ic_types.hash_tree import Labeled, Leaf
from ic_types.identity import EcdsaIdentity
from ic_types.principal import Principal
from ic_types.units import TimeNs
from subnet.authentication.der import CANISTER_OID, COSE_OID, wrap_bits, wrapped_bits
from subnet.authentication.signatures import signing_canister, verify
from subnet.certification.certificate import make_certificate
from subnet.certification.delegation import delegate
from subnet.certification.state_tree import StateTree

PAYLOAD = b"\x0aic-request" + bytes(range(32))
SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
ROOT_KEY, (ROOT_SECRET,) = bls.deal(b"root", 1, 1)
APP_KEY, (APP_SECRET,) = bls.deal(b"app", 1, 1)
APP = Principal.self_authenticating(bls.to_der(APP_KEY))
SIGNER, SEED = Principal.canister(1 << 20), b"seed"

Signer = tuple[bytes, Callable[[bytes], bytes]]


def ed25519() -> Signer:
    """A plain Ed25519 key."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return key.public_key().public_bytes(*SPKI), key.sign


def ecdsa(curve: ec.EllipticCurve) -> Signer:
    """A plain ECDSA key."""
    identity = EcdsaIdentity(ec.derive_private_key(7, curve))
    return identity.public_key_der, identity.sign


def web(cose: dict[int, Any], sign: Callable[[bytes], bytes], **client: Any) -> Signer:
    """An authenticator with a key in COSE form."""

    def wrapped(payload: bytes) -> bytes:
        challenge = base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
        data = json.dumps({"type": "webauthn.get", "challenge": challenge, "origin": "http://localhost", **client})
        message = b"authenticator data" + hashlib.sha256(data.encode()).digest()
        fields = {"authenticator_data": b"authenticator data", "client_data_json": data, "signature": sign(message)}
        return b"\xd9\xd9\xf7" + cbor2.dumps(fields)

    return wrap_bits(COSE_OID, cbor2.dumps(cose)), wrapped


def web_es256(**client: Any) -> Signer:
    """P-256 with a DER signature."""
    key = ec.derive_private_key(9, ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
    return web(cose, lambda message: key.sign(message, ec.ECDSA(hashes.SHA256())), **client)


def web_rs256() -> Signer:
    """RSA with PKCS 1 padding."""
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.public_key().public_numbers()
    cose = {1: 3, 3: -257, -1: numbers.n.to_bytes(256, "big"), -2: numbers.e.to_bytes(3, "big")}
    return web(cose, lambda message: key.sign(message, padding.PKCS1v15(), hashes.SHA256()))


def web_ed25519() -> Signer:
    """Ed25519 in COSE form."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return web({1: 1, 3: -8, -1: 6, -2: key.public_key().public_bytes_raw()}, key.sign)


def canister(kind: str = "application", *, covered: bool = True, secret: bytes = APP_SECRET) -> Signer:
    """A canister of a subnet that the root delegates to."""

    def sign(payload: bytes) -> bytes:
        path = (b"sig", hashlib.sha256(SEED).digest(), hashlib.sha256(payload).digest())
        tree: Any = Leaf(b"")
        for label in reversed(path):
            tree = Labeled(label, tree)
        state, root = StateTree(), StateTree()
        for one in (state, root):
            one.set_time(TimeNs(1))
        state.set_canister(SIGNER, controllers=[], module_hash=bytes(32), certified_data=hash_tree.reconstruct(tree))
        first = SIGNER if covered else Principal.canister(5 << 20)
        root.set_subnet(APP, public_key=APP_KEY, subnet_type=kind, ranges=[(first, Principal.canister(6 << 20))])
        sign_root = bls.sign(ROOT_SECRET, bls.with_domain(bls.STATE_ROOT, root.root()))
        delegation = delegate(root, sign_root, APP, canister_id=SIGNER)
        signature = bls.sign(secret, bls.with_domain(bls.STATE_ROOT, state.root()))
        raw = make_certificate(state, [(b"canister", bytes(SIGNER), b"certified_data")], signature, delegation)
        return (
            b"\xd9\xd9\xf7\xa2" + cbor2.dumps("certificate") + cbor2.dumps(raw) + cbor2.dumps("tree") + hash_tree.encode(tree)
        )

    return wrap_bits(CANISTER_OID, bytes((len(SIGNER),)) + SIGNER + SEED), sign


SCHEMES: dict[str, Callable[[], Signer]] = {
    "Ed25519": ed25519,
    "P-256": lambda: ecdsa(ec.SECP256R1()),
    "secp256k1": lambda: ecdsa(ec.SECP256K1()),
    "WebAuthn ES256": web_es256,
    "WebAuthn RS256": web_rs256,
    "WebAuthn Ed25519": web_ed25519,
    "canister": canister,
}


@pytest.mark.spec("ecdsa")
@pytest.mark.spec("webauthn")
@pytest.mark.spec("canister-signatures")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_good_signatures_verify_and_changed_ones_do_not(scheme: str) -> None:
    """Over another payload, or with any flipped bit of a sample, nothing verifies."""
    key, sign = SCHEMES[scheme]()
    signature = sign(PAYLOAD)
    assert verify(key, PAYLOAD, signature, ROOT_KEY) is None
    assert verify(key, PAYLOAD[:-1] + b"x", signature, ROOT_KEY)
    assert verify(key, PAYLOAD, b"", ROOT_KEY)
    assert verify(key, PAYLOAD, signature + b"\0", ROOT_KEY)
    for at in range(0, len(signature), 1 + len(signature) // 40):
        flipped = bytearray(signature)
        flipped[at] ^= 1
        assert verify(key, PAYLOAD, bytes(flipped), ROOT_KEY), f"byte {at}"


@pytest.mark.spec("ecdsa")
def test_ecdsa_signatures_are_64_bytes() -> None:
    """The DER form, which one client once sent, is refused, saying how many bytes are expected."""
    private = ec.derive_private_key(7, ec.SECP256K1())
    der = private.sign(PAYLOAD, ec.ECDSA(hashes.SHA256()))
    key = private.public_key().public_bytes(*SPKI)
    assert "expected 64" in (verify(key, PAYLOAD, der, ROOT_KEY) or "")
    r, s = decode_dss_signature(der)
    assert verify(key, PAYLOAD, r.to_bytes(32, "big") + s.to_bytes(32, "big"), ROOT_KEY) is None


@pytest.mark.spec("webauthn")
def test_webauthn_challenge_is_the_payload() -> None:
    """Another challenge, another type or no JSON is refused although the authenticator signed it."""
    for client, words in (({"challenge": "AAAA"}, "challenge"), ({"type": "webauthn.create"}, "webauthn.get")):
        key, sign = web_es256(**client)
        assert words in (verify(key, PAYLOAD, sign(PAYLOAD), ROOT_KEY) or "")
    key, _ = web_es256()
    broken = cbor2.dumps({"authenticator_data": b"", "client_data_json": "{", "signature": b""})
    assert "not JSON" in (verify(key, PAYLOAD, broken, ROOT_KEY) or "")


@pytest.mark.spec("canister-signatures")
@pytest.mark.parametrize(
    ("signer", "words"),
    [
        (canister("cloud_engine"), "whose canisters may sign"),
        (canister(covered=False), "doesn't cover"),
        (canister(secret=ROOT_SECRET), "signature of the certificate"),
    ],
)
def test_canister_signatures_of_others_are_refused(signer: Signer, words: str) -> None:
    """Of a subnet whose canisters may not sign, that doesn't host the canister, or that another key has signed."""
    key, sign = signer
    assert words in (verify(key, PAYLOAD, sign(PAYLOAD), ROOT_KEY) or "")


@pytest.mark.spec("canister-signatures")
def test_canister_signature_needs_the_right_root_and_tree() -> None:
    """Another root key, another seed, or a tree that the canister hasn't certified."""
    key, sign = canister()
    signature = sign(PAYLOAD)
    assert "not signed by the root subnet" in (verify(key, PAYLOAD, signature, APP_KEY) or "")
    other = wrap_bits(CANISTER_OID, bytes((len(SIGNER),)) + SIGNER + b"other seed")
    assert "not in the tree" in (verify(other, PAYLOAD, signature, ROOT_KEY) or "")
    forged = signature[: signature.rindex(b"dtree") + 5] + hash_tree.encode(Leaf(b""))
    assert "not what canister" in (verify(key, PAYLOAD, forged, ROOT_KEY) or "")
    assert signing_canister(key) == SIGNER
    assert signing_canister(ed25519()[0]) is None


@pytest.mark.parametrize(
    "key",
    ids=lambda key: f"{len(key)} bytes",
    argvalues=[
        b"",
        b"\x30",
        ed25519()[0] + b"\0",
        ed25519()[0][:-1],
        rsa.generate_private_key(65537, 2048).public_key().public_bytes(*SPKI),
        ecdsa(ec.SECP256R1())[0][:-64] + bytes(64),
        ec.derive_private_key(7, ec.SECP384R1()).public_key().public_bytes(*SPKI),
        wrap_bits(COSE_OID, b""),
        wrap_bits(COSE_OID, b"\xff"),
        wrap_bits(COSE_OID, cbor2.dumps({1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)})),
        wrap_bits(COSE_OID, cbor2.dumps({1: 2, 3: -47, -1: 8, -2: bytes(32), -3: bytes(32)})),
        wrap_bits(COSE_OID, cbor2.dumps({1: 3, 3: -257, -1: b"\xff" * 1600, -2: b"\x03"})),
    ],
)
def test_odd_keys_are_refused(key: bytes) -> None:
    """Plain RSA, other curves, points off the curve, malformed forms: an error, never a crash."""
    signature = cbor2.dumps({"authenticator_data": b"", "client_data_json": client_data(), "signature": b"x"})
    with pytest.raises(EnvelopeError, match="Invalid public key"):
        assert verify(key, PAYLOAD, signature if COSE_OID in key else bytes(64), ROOT_KEY)


def client_data() -> str:
    """With the right challenge."""
    return json.dumps({"challenge": base64.urlsafe_b64encode(PAYLOAD).rstrip(b"=").decode()})


@pytest.mark.parametrize("size", [0, 1, 100, 109, 110, 200, 300, 70_000])
def test_der_of_any_length(size: int) -> None:
    """Lengths in one and in several bytes; anything appended makes it another thing."""
    bits = bytes(size)
    der = wrap_bits(COSE_OID, bits)
    assert wrapped_bits(der, COSE_OID) == bits
    assert wrapped_bits(der + b"\0", COSE_OID) is None
    assert wrapped_bits(der, CANISTER_OID) is None
