"""Keys that people keep: made, imported from what other tools write, exported for them, chosen."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ic_types.envelope import REQUEST_DOMAIN, build_call
from ic_types.errors import BadInput
from ic_types.identity import Ed25519Identity
from ic_types.principal import ANONYMOUS, MANAGEMENT_CANISTER, Principal
from ic_types.request_id import hash_of_map
from ic_types.units import TimeNs
from subnet.lab.identity_store import KINDS, IdentityStore

# PKCS #8 of version 2 with the public key, as `dfx` once wrote it, for the secret of thirty-two bytes 7.
_SECRET = bytes([7]) * 32
_PUBLIC = Ed25519PrivateKey.from_private_bytes(_SECRET).public_key().public_bytes_raw()
VERSION_2 = bytes.fromhex("3053020101300506032b657004220420") + _SECRET + bytes.fromhex("a123032100") + _PUBLIC


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    """An empty store."""
    return IdentityStore(tmp_path)


def pem_of(der: bytes, label: str = "PRIVATE KEY") -> bytes:
    """A PEM file."""
    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n".encode()


def pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey, form: str, password: bytes | None = None
) -> bytes:
    """What openssl would write."""
    hidden = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), hidden)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_kept_and_exported(store: IdentityStore, tmp_path: Path, kind: str) -> None:
    """It reads back as the same principal, here and elsewhere, and nobody else may read the file."""
    made = store.new("alice", kind)
    assert (made.kind, made.name) == (kind, "alice")
    assert store.get("alice").identity.principal == made.identity.principal
    other = IdentityStore(tmp_path / "other")
    assert other.add("bob", store.export("alice"), "a file").identity.principal == made.identity.principal
    assert (store.folder / "alice.pem").stat().st_mode & 0o777 == 0o600
    key = made.identity.public_key_der
    assert key is not None
    assert Principal.self_authenticating(key) == made.identity.principal
    label = b"PRIVATE KEY" if kind == "ed25519" else b"EC PRIVATE KEY"
    assert store.export("alice").startswith(b"-----BEGIN " + label + b"-----\n")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_curves_sign_requests(store: IdentityStore, kind: str) -> None:
    """The signature in an envelope is r and s over the request id, and verifies with the library."""
    import cbor2

    identity = store.new("alice", kind).identity
    raw = build_call(identity, canister_id=MANAGEMENT_CANISTER, method="m", arg=b"", expiry=TimeNs(5))
    envelope = cbor2.loads(raw)
    signature = envelope["sender_sig"]
    assert len(signature) == 64
    key = serialization.load_der_public_key(envelope["sender_pubkey"])
    assert isinstance(key, ec.EllipticCurvePublicKey)
    numbers = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    key.verify(numbers, REQUEST_DOMAIN + hash_of_map(envelope["content"]), ec.ECDSA(hashes.SHA256()))


def test_keys_of_other_tools_are_read(store: IdentityStore) -> None:
    """SEC 1 and PKCS #8, with curve parameters in front, encrypted, and Ed25519 in the two versions of PKCS #8."""
    curve = ec.generate_private_key(ec.SECP256K1())
    parameters = pem_of(bytes.fromhex("06052b8104000a"), "EC PARAMETERS")
    files = {
        "sec1": pem(curve, "TraditionalOpenSSL"),
        "openssl": parameters + pem(curve, "TraditionalOpenSSL"),
        "pkcs8": pem(curve, "PKCS8"),
    }
    principals = {store.add(name, raw, name).identity.principal for name, raw in files.items()}
    principals.add(store.add("hidden", pem(curve, "PKCS8", b"secret"), "file", b"secret").identity.principal)
    assert len(principals) == 1
    plain = Ed25519PrivateKey.from_private_bytes(_SECRET)
    expected = Ed25519Identity(_SECRET).principal
    assert store.add("v1", pem(plain, "PKCS8"), "file").identity.principal == expected
    assert store.add("v2", pem_of(VERSION_2), "file").identity.principal == expected


def test_other_files_are_refused(store: IdentityStore) -> None:
    """Each with what is wrong, and nothing is kept."""
    curve = ec.generate_private_key(ec.SECP256K1())
    hidden = pem(curve, "PKCS8", b"secret")
    cases: list[tuple[bytes, bytes | None, str]] = [
        (b"hello", None, "x.pem is no PEM file"),
        (pem(rsa.generate_private_key(65537, 2048), "PKCS8"), None, "x.pem holds a RSAPrivateKey; allowed are keys of ed25519"),
        (pem(ec.generate_private_key(ec.SECP384R1()), "PKCS8"), None, "keys on the curve secp384r1 can't sign requests"),
        (hidden, None, "it is encrypted, give its password"),
        (hidden, b"wrong", "holds no key that can be read: the password is wrong"),
        (pem(curve, "PKCS8"), b"secret", "it is not encrypted, but a password was given"),
        (pem_of(b"\x30\x03\x02\x01\x01"), None, "holds no key that can be read"),
        (b"-----BEGIN PRIVATE KEY-----\n!!\n", None, "holds no key that can be read"),
    ]
    for raw, password, message in cases:
        with pytest.raises(BadInput) as caught:
            store.add("alice", raw, "x.pem", password)
        assert message in str(caught.value)
    assert store.names() == []


def test_one_identity_is_chosen(store: IdentityStore) -> None:
    """`default` is made when a command needs one and there is none; after that it is what `use` said."""
    made, new = store.default()
    assert (made.name, new, made.chosen) == ("default", True, True)
    assert store.default() == (made, False) or store.default()[0].identity.principal == made.identity.principal
    store.new("alice")
    store.use("alice")
    assert store.default()[0].name == "alice"
    store.use("anonymous")
    assert store.default()[0].identity.principal == ANONYMOUS
    assert [one.name for one in store.all()] == ["alice", "default", "anonymous"]
    (store.folder / "chosen.json").write_text("nonsense")
    assert store.default()[0].name == "default"


def test_wrong_names_are_refused(store: IdentityStore) -> None:
    """Taken ones, reserved ones, those that lead elsewhere, and those that nobody has."""
    store.new("alice")
    for name, message in (
        ("alice", "there is an identity 'alice' already"),
        ("anonymous", "can't be the name of an identity"),
        ("../x", "can't be the name of an identity"),
        ("", "can't be the name of an identity"),
    ):
        with pytest.raises(BadInput, match=message):
            store.new(name)
    with pytest.raises(BadInput, match="there is no identity 'bob'; there are: alice, anonymous; `icsim identity new bob`"):
        store.get("bob")
    with pytest.raises(BadInput, match="the anonymous identity has no key"):
        store.export("anonymous")
