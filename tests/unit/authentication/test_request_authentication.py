"""Who sent a request: chains of delegations, what they allow, and sender info."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from ic_types import bls
from ic_types.envelope import CALL, QUERY, READ_STATE, Envelope, read_envelope
from ic_types.errors import EnvelopeError
from ic_types.messages import CallerInfo
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.request_id import hash_of_map
from subnet.authentication.requests import authenticate, caller_info
from tests.support.raw_http import Key, delegation, envelope
from tests.unit.authentication.test_signature_schemes import ROOT_KEY, SIGNER, Signer, canister

pytestmark = pytest.mark.spec("authentication")
ALICE, BOB, CAROL = Key(b"a" * 32), Key(b"b" * 32), Key(b"c" * 32)
HERE, THERE = Principal.canister(1), Principal.canister(2)
NOW = 10**18
LATER = NOW + 1


def request(kind: str = CALL, receiver: Principal = HERE, **fields: Any) -> dict[str, Any]:
    """Content of a request of Alice's."""
    common = {"request_type": kind, "sender": ALICE.principal, "ingress_expiry": NOW}
    target = {"paths": []} if kind == READ_STATE else {"canister_id": bytes(receiver), "method_name": "m", "arg": b""}
    return {**common, **target, **fields}


def opened(content: dict[str, Any], chain: list[Any] | None = None, signer: Key | None = None) -> Envelope:
    """As it arrives."""
    return read_envelope(envelope(content, ALICE, chain, signer), content["request_type"])


@pytest.mark.spec("envelope-authentication", condition=(4, 5))
def test_chain_of_twenty() -> None:
    """As many as are allowed; the last key signs the request."""
    chain, signer = [], ALICE
    for _ in range(20):
        following = Key()
        chain.append(delegation(signer, following, LATER))
        signer = following
    assert authenticate(opened(request(), chain, signer), NOW).targets is None
    with pytest.raises(EnvelopeError, match="Invalid signature"):
        authenticate(opened(request(), chain, ALICE), NOW)
    with pytest.raises(EnvelopeError, match="Invalid delegation"):
        authenticate(opened(request(), chain[1:], signer), NOW)


@pytest.mark.spec("envelope-authentication", condition=7)
def test_targets_of_all_delegations_count() -> None:
    """A request goes to what every delegation allows; the management canister is listed as the empty principal."""
    first = delegation(ALICE, BOB, LATER, targets=[bytes(HERE), bytes(THERE), b""])
    second = delegation(BOB, CAROL, LATER, targets=[bytes(THERE), b"", bytes(Principal.canister(3))])
    for receiver in (THERE, MANAGEMENT_CANISTER):
        permits = authenticate(opened(request(receiver=receiver), [first, second], CAROL), NOW)
        assert permits.targets == (THERE, MANAGEMENT_CANISTER)
    with pytest.raises(EnvelopeError, match=f"Canister '{HERE}' is not one of the delegation targets"):
        authenticate(opened(request(), [first, second], CAROL), NOW)
    assert authenticate(opened(request(READ_STATE), [first, second], CAROL), NOW).targets == (THERE, MANAGEMENT_CANISTER)


def test_a_target_may_be_named_often() -> None:
    """A thousand entries are allowed, whether or not they differ."""
    chain = [delegation(ALICE, BOB, LATER, targets=[bytes(HERE)] * 1000)]
    assert authenticate(opened(request(), chain, BOB), NOW).targets
    chain = [delegation(ALICE, BOB, LATER, targets=[bytes(HERE)] * 1001)]
    with pytest.raises(EnvelopeError, match="1001, but at most 1000"):
        authenticate(opened(request(), chain, BOB), NOW)


@pytest.mark.spec("envelope-authentication", condition=6)
@pytest.mark.parametrize(("expiration", "good"), [(NOW, True), (NOW - 1, False), (2**64 - 1, True)])
def test_delegations_expire(expiration: int, good: bool) -> None:
    """Strictly before now is too late."""
    sent = opened(request(), [delegation(ALICE, BOB, expiration)], BOB)
    if good:
        authenticate(sent, NOW)
    else:
        with pytest.raises(EnvelopeError, match="Invalid delegation expiry: "):
            authenticate(sent, NOW)


@pytest.mark.spec("envelope-authentication", condition=8)
def test_queries_only_anywhere_in_the_chain() -> None:
    """Calls are refused then, queries and reads are not; a later delegation can't lift it; other words are invalid."""
    chain = [delegation(ALICE, BOB, LATER, permissions="queries"), delegation(BOB, CAROL, LATER, permissions="all")]
    for kind in (QUERY, READ_STATE):
        authenticate(opened(request(kind), chain, CAROL), NOW)
    with pytest.raises(EnvelopeError, match="queries only"):
        authenticate(opened(request(), chain, CAROL), NOW)
    odd = [delegation(ALICE, BOB, LATER, permissions="")]
    for kind in (CALL, QUERY, READ_STATE):
        with pytest.raises(EnvelopeError, match="permissions '' are unknown"):
            authenticate(opened(request(kind), odd, BOB), NOW)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sender_delegation": 1}, "must be a list"),
        ({"sender_delegation": [1]}, "a delegation must be"),
        ({"sender_delegation": [{"delegation": {}, "signature": b""}]}, "pubkey is missing"),
        ({"sender_delegation": [{"delegation": {"pubkey": b"", "expiration": 1, "x": 1}, "signature": b""}]}, "unknown field"),
        ({"sender_delegation": [{"delegation": {"pubkey": b"", "expiration": 1, "targets": 1}, "signature": b""}]}, "targets"),
        ({"sender_delegation": [{"delegation": {"pubkey": b"", "expiration": -1}, "signature": b""}]}, "64-bit"),
        ({"sender_sig": "text"}, "a blob is needed"),
    ],
)
def test_malformed_delegations(change: dict[str, Any], words: str) -> None:
    """Each is named."""
    raw = cbor2.dumps({"content": request(), "sender_pubkey": ALICE.der, "sender_sig": bytes(64), **change})
    with pytest.raises(EnvelopeError, match=words):
        read_envelope(raw, CALL)


def from_canister(signer: Signer, info: dict[str, Any] | None = None) -> Envelope:
    """A call that a canister signs for its user."""
    key, sign = signer
    content = request(sender=bytes(Principal.self_authenticating(key)))
    if info is not None:
        content["sender_info"] = info
    raw = {"content": content, "sender_pubkey": key, "sender_sig": sign(b"\x0aic-request" + hash_of_map(content))}
    return read_envelope(cbor2.dumps(raw), CALL)


@pytest.mark.spec("envelope-authentication", condition=9)
@pytest.mark.spec("initiating-canister-calls", condition=5)
def test_canisters_sign_for_their_users() -> None:
    """With and without what they say about the user; who else says it isn't believed."""
    signer = canister()
    good = {"info": b"name: Alice", "signer": bytes(SIGNER), "sig": signer[1](b"\x0eic-sender-info" + b"name: Alice")}
    authenticate(from_canister(signer), NOW, ROOT_KEY)
    authenticate(from_canister(signer, good), NOW, ROOT_KEY)
    assert caller_info(from_canister(signer)) is None
    assert caller_info(from_canister(signer, good)) == CallerInfo(b"name: Alice", SIGNER)
    for change, words in (
        ({"signer": bytes(HERE)}, "is not canister"),
        ({"info": b"name: Bob"}, "not in the tree"),
        ({"sig": b""}, "malformed signature"),
    ):
        with pytest.raises(EnvelopeError, match=f"Invalid sender info: .*{words}"):
            authenticate(from_canister(signer, {**good, **change}), NOW, ROOT_KEY)
    with pytest.raises(EnvelopeError, match="key of a canister signature"):
        authenticate(opened(request(sender_info=good)), NOW, ROOT_KEY)
    with pytest.raises(EnvelopeError, match="canister signature"):
        authenticate(from_canister(signer), NOW, bls.deal(b"another", 1, 1)[0])
