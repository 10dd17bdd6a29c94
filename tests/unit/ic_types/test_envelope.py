"""Envelopes of calls: what is built can be opened, and whatever is wrong is refused with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types import cbor, leb128
from ic_types.envelope import build_call
from ic_types.errors import EnvelopeError
from ic_types.identity import AnonymousIdentity, Ed25519Identity
from ic_types.principal import ANONYMOUS, MANAGEMENT_CANISTER, Principal
from ic_types.request_id import hash_of_map
from ic_types.units import TimeNs
from subnet.authentication.requests import check_expiry, open_call

pytestmark = pytest.mark.spec("envelope-authentication")

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "requests.json").read_text())
ALICE = Ed25519Identity.derive(b"seed", "alice")
BOB = Ed25519Identity.derive(b"seed", "bob")
CANISTER = Principal.canister(7)
EXPIRY = TimeNs(1_685_570_400_000_000_000)


def call(**changes: Any) -> bytes:
    """A good envelope of Alice's with some fields of the envelope or content changed (and not signed again)."""
    envelope = cbor2.loads(build_call(ALICE, canister_id=CANISTER, method="m", arg=b"DIDL\0\0", expiry=EXPIRY))
    envelope = {**envelope, "content": dict(envelope["content"])}
    for name, value in changes.items():
        place = envelope if (name.startswith("sender_") and name != "sender_info") or name == "extra" else envelope["content"]
        if value is ...:
            del place[name]
        else:
            place[name] = value
    return cbor2.dumps(envelope)


@pytest.mark.spec("request-id")
def test_request_id_of_the_spec() -> None:
    """The spec's example of a request id."""
    content = {
        "request_type": "call", "sender": b"\x04", "ingress_expiry": 1685570400000000000,
        "canister_id": bytes.fromhex("00000000000004D2"), "method_name": "hello", "arg": b"DIDL\x00\xfd*",
    }  # fmt: skip
    assert hash_of_map(content).hex() == VECTORS["request_id"]


@pytest.mark.spec("hash-of-map")
def test_hashes_of_nested_values() -> None:
    """Arrays and maps are hashed by their parts; floats, bools and None have no hash."""
    assert hash_of_map({"a": [b"x", "y", {"b": 1}]}) != hash_of_map({"a": [b"x", "y", {"b": 2}]})
    assert hash_of_map({"a": 1, "b": 2}) == hash_of_map({"b": 2, "a": 1})
    for value in (1.0, True, None):
        with pytest.raises(TypeError, match="no representation-independent hash"):
            hash_of_map({"a": value})  # type: ignore[dict-item]


@pytest.mark.parametrize(("raw", "text"), VECTORS["principals"])
def test_principals_of_the_spec(raw: str, text: str) -> None:
    """Known principals in both forms."""
    assert Principal(bytes.fromhex(raw)).to_text() == text
    assert Principal.from_text(text) == bytes.fromhex(raw)


@pytest.mark.parametrize(("kind", "value", "raw"), VECTORS["leb128"])
def test_leb128_of_the_spec(kind: str, value: int, raw: str) -> None:
    """The spec's examples of LEB128."""
    assert (leb128.encode_nat if kind == "nat" else leb128.encode_int)(value).hex() == raw


@given(st.integers(0, 2**130))
def test_leb128_round_trip(value: int) -> None:
    """Numbers survive, longer forms are refused."""
    raw = leb128.encode_nat(value)
    assert leb128.decode_nat(raw) == value
    with pytest.raises(ValueError, match="LEB128"):
        leb128.decode_nat(raw[:-1] + bytes((raw[-1] | 128, 0)))


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=50), st.text(max_size=10), st.none() | st.binary(max_size=32), st.booleans())
def test_built_envelopes_open(arg: bytes, method: str, nonce: bytes | None, anonymous: bool) -> None:
    """What was put in comes out, authenticated."""
    identity = AnonymousIdentity() if anonymous else ALICE
    raw = build_call(identity, canister_id=CANISTER, method=method, arg=arg, expiry=EXPIRY, nonce=nonce)
    ingress = open_call(raw)
    assert (ingress.sender, ingress.receiver, ingress.method, ingress.arg) == (identity.principal, CANISTER, method, arg)
    assert (ingress.expiry, ingress.raw_bytes, ingress.effective_canister_id) == (EXPIRY, len(raw), None)
    assert len(ingress.message_id) == 32


def test_management_calls_carry_their_effective_canister() -> None:
    """The URL's canister id travels along."""
    raw = build_call(ALICE, canister_id=MANAGEMENT_CANISTER, method="start_canister", arg=b"", expiry=EXPIRY)
    assert open_call(raw, CANISTER).effective_canister_id == CANISTER


def test_request_id_ignores_the_form_of_the_envelope() -> None:
    """Without a tag, in other order, with nulls and of indefinite length it is the same call."""
    raw = build_call(AnonymousIdentity(), canister_id=CANISTER, method="m", arg=b"", expiry=EXPIRY)
    plain = cbor2.loads(raw)
    content = dict(reversed(list(plain["content"].items())))
    body = b"".join(cbor2.dumps(key) + cbor2.dumps(value) for key, value in content.items())
    nulls = cbor2.dumps("sender_sig") + b"\xf6" + cbor2.dumps("sender_pubkey") + b"\xf6"
    other = b"\xbf" + cbor2.dumps("content") + b"\xbf" + body + b"\xff" + nulls + b"\xff"
    assert open_call(other).message_id == open_call(raw).message_id


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"arg": b"other"}, "Invalid signature"),
        ({"ingress_expiry": EXPIRY + 1}, "Invalid signature"),
        ({"sender_sig": bytes(64)}, "Invalid signature"),
        ({"sender_sig": b"short"}, "Invalid signature"),
        ({"sender_sig": ...}, "Missing signature"),
        ({"sender_pubkey": None}, "Missing signature"),
        ({"sender_pubkey": BOB.public_key_der}, "does not match the public key"),
        ({"sender": bytes(BOB.principal)}, "does not match the public key"),
        ({"sender": bytes(ANONYMOUS)}, "not allowed for the anonymous"),
        ({"sender": ...}, "sender is missing"),
        ({"sender": bytes(30)}, "30 bytes"),
        ({"canister_id": "text"}, "canister_id is a str"),
        ({"method_name": b"m"}, "method_name is a bytes"),
        ({"arg": ...}, "arg is missing"),
        ({"request_type": "query"}, "only 'call'"),
        ({"ingress_expiry": True}, "ingress_expiry is a bool"),
        ({"ingress_expiry": -1}, "64-bit natural"),
        ({"ingress_expiry": 2**64}, "64-bit natural"),
        ({"nonce": bytes(33)}, "Nonce in request is too big"),
        ({"sender_info": {"info": b""}}, "sender_info must be"),
        ({"sender_info": {"info": b"", "signer": b"", "sig": b""}}, "Invalid signature"),
        ({"sender_delegation": [{}]}, "a delegation must be"),
        ({"extra": 1}, "unknown field 'extra'"),
        ({"surprise": 1}, "unknown field 'surprise'"),
    ],
)
@pytest.mark.spec("envelope-authentication", condition=(1, 2, 3, 4))
@pytest.mark.spec("api-request-submission", condition=(1, 2))
def test_wrong_envelopes_are_refused(changes: dict[str, Any], reason: str) -> None:
    """Each wrong field is refused, and the message says which."""
    assert open_call(call()).sender == ALICE.principal
    with pytest.raises(EnvelopeError, match=reason):
        open_call(call(**changes))


def test_other_schemes_are_refused_clearly() -> None:
    """A key of another scheme is named as such, once it authenticates the sender."""
    key = b"\x30\x59" + bytes(89)
    with pytest.raises(EnvelopeError, match="no scheme that is supported"):
        open_call(call(sender_pubkey=key, sender=bytes(Principal.self_authenticating(key))))


@pytest.mark.spec("api-request-submission", condition=4)
def test_expiry_window() -> None:
    """From now to the TTL and half a minute of drift; agents look for the words of the message."""
    now, ttl = 10**18, 300 * 10**9
    for good in (now, now + ttl + 30 * 10**9):
        check_expiry(TimeNs(good), TimeNs(now), ttl)
    for bad in (now - 1, now + ttl + 30 * 10**9 + 1):
        with pytest.raises(EnvelopeError, match="Invalid request expiry: "):
            check_expiry(TimeNs(bad), TimeNs(now), ttl)


def test_identities_follow_from_seed_and_name() -> None:
    """The same seed and name give the same key, others another."""
    assert Ed25519Identity.derive(b"seed", "alice").principal == ALICE.principal
    assert len({ALICE.principal, BOB.principal, Ed25519Identity.derive(b"other", "alice").principal}) == 3
    assert ALICE.principal[-1] == 2
    assert len(ALICE.public_key_der) == 44


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "too early"),
        ("a1", "too early"),
        ("5903e8aa", "too early"),
        ("a0a0", "1 bytes after the end"),
        ("a2616101616102", "'a' twice"),
        ("bf616101616102ff", "'a' twice"),
        ("a10101", "no text"),
        ("a16161fb3ff0000000000000", "float or simple"),
        ("f7", "float or simple"),
        ("c100", "tag 1"),
        ("a16161d9d9f7a0", "tag 55799"),
        ("c201", "bignum"),
        ("1c", "malformed CBOR head"),
        ("ff", "float or simple"),
        ("1f", "malformed CBOR head"),
        ("5f6161ff", "another kind"),
        ("5f5f4161ffff", "another kind"),
        ("61ff", "UTF-8"),
        ("81" * 100, "nested deeper"),
        ("9f" * 100, "nested deeper"),
        ("9bffffffffffffffff", "too early"),
    ],
)
def test_strange_cbor_is_refused(raw: str, reason: str) -> None:
    """Duplicates, floats, foreign tags, rests and bombs are errors that say so."""
    with pytest.raises(cbor.CborError, match=reason):
        cbor.decode(bytes.fromhex(raw))


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**80) | st.binary(max_size=300) | st.text(max_size=30),
    lambda v: st.lists(v, max_size=30) | st.dictionaries(st.text(max_size=5), v, max_size=30),
    max_leaves=40,
)


@settings(deadline=None, max_examples=100)
@given(plain)
def test_reader_agrees_with_the_library(value: Any) -> None:
    """What the library writes, our reader reads."""
    assert cbor.decode(cbor.SELF_DESCRIBED + cbor2.dumps(value)) == value


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40))
def test_reader_never_fails_otherwise(raw: bytes) -> None:
    """Any bytes give a value or a CborError."""
    try:
        cbor.decode(raw)
    except cbor.CborError:
        return


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_flipped_bytes_never_pass(position: int, flip: int) -> None:
    """No envelope with one changed byte opens as another call."""
    raw = bytearray(build_call(ALICE, canister_id=CANISTER, method="m", arg=b"argument", expiry=EXPIRY))
    genuine = open_call(bytes(raw))
    raw[position % len(raw)] ^= flip
    try:
        assert open_call(bytes(raw)).message_id == genuine.message_id
    except EnvelopeError:
        return
