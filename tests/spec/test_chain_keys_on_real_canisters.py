"""Signatures and encrypted keys for canisters: of the subnet that has the key, of another subnet, and of the root subnet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import py_arkworks_bls12381 as ark
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.candid.encoder import encode
from ic_types.candid.types import Record, nat, record
from scheduler.cycles_account import BurnCause
from subnet.management.methods import METHODS
from tests.support.consensus_world import Answer, ConsensusWorld, consensus_world
from tests.unit.chain_keys.test_chain_keys import check_vetkd, scalar

pytestmark = pytest.mark.slow
FEE = CyclesCostSchedule().scale(CyclesCostSchedule().signature)
KEYS = {
    "ecdsa": {"curve": {"secp256k1": None}, "name": "key_1"},
    "bip340": {"algorithm": {"bip340secp256k1": None}, "name": "key_1"},
    "ed25519": {"algorithm": {"ed25519": None}, "name": "key_1"},
    "vetkd": {"curve": {"bls12_381_g2": None}, "name": "key_1"},
}
HASH = hashlib.sha256(b"message").digest()
PATH = [b"", b"\x00\x00\x00\x01", b"a path"]
TRANSPORT = 0x1234567890ABCDEF
TRANSPORT_KEY = bytes((ark.G1Point() * scalar(TRANSPORT)).to_compressed_bytes())
PAYING = ("signer", "app")
"""Subnets whose canisters pay for signatures: that with the keys, and another."""
SIGNING: dict[str, Any] = {
    "sign_with_ecdsa": {"message_hash": HASH, "derivation_path": PATH, "key_id": KEYS["ecdsa"]},
    "sign_with_schnorr": {"message": b"message", "derivation_path": PATH, "key_id": KEYS["ed25519"], "aux": None},
    "vetkd_derive_key": {
        "input": b"input", "context": b"context", "transport_public_key": TRANSPORT_KEY, "key_id": KEYS["vetkd"],
    },
}  # fmt: skip
PUBLIC: dict[str, Any] = {
    "ecdsa_public_key": {"canister_id": None, "derivation_path": PATH, "key_id": KEYS["ecdsa"]},
    "schnorr_public_key": {"canister_id": None, "derivation_path": PATH, "key_id": KEYS["ed25519"]},
    "vetkd_public_key": {"canister_id": None, "context": b"context", "key_id": KEYS["vetkd"]},
}


@pytest.fixture(scope="module")
def world() -> Iterator[ConsensusWorld]:
    """The subnets; a queue of two signatures per key."""
    with consensus_world(limits=SubnetLimits(max_open_signatures=2)) as made:
        yield made


def signed(world: ConsensusWorld, subnet: str, method: str, **changes: Any) -> Answer:
    """A signature for twice its price."""
    return world.ask(subnet, method, {**SIGNING[method], **changes}, cycles=2 * FEE)


@pytest.mark.spec("ic-sign_with_ecdsa")
@pytest.mark.spec("ic-ecdsa_public_key")
@pytest.mark.parametrize("subnet", PAYING)
def test_ecdsa_signatures_verify_under_the_callers_key(world: ConsensusWorld, subnet: str) -> None:
    """By `cryptography`; the fee is kept, the rest comes back; another request gets another signature."""
    key = world.ask(subnet, "ecdsa_public_key", PUBLIC["ecdsa_public_key"], cycles=5)
    assert (len(key.value["chain_code"]), key.refund) == (32, 5)
    answer = signed(world, subnet, "sign_with_ecdsa")
    r, s = (int.from_bytes(half, "big") for half in (answer.value["signature"][:32], answer.value["signature"][32:]))
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), key.value["public_key"])
    public.verify(utils.encode_dss_signature(r, s), HASH, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    assert answer.refund == FEE
    assert signed(world, subnet, "sign_with_ecdsa").value != answer.value


@pytest.mark.spec("ic-sign_with_schnorr")
@pytest.mark.spec("ic-schnorr_public_key")
@pytest.mark.parametrize("root", [None, b"", hashlib.sha256(b"tree").digest()])
def test_bip340_signatures_verify_under_the_callers_key(world: ConsensusWorld, root: bytes | None) -> None:
    """By `coincurve`; with `bip341` under the taproot output key."""
    coincurve = pytest.importorskip("coincurve", reason="coincurve has no wheel for this Python")
    asked = {**PUBLIC["schnorr_public_key"], "key_id": KEYS["bip340"]}
    x_only = world.ask("app", "schnorr_public_key", asked).value["public_key"][1:]
    aux = None if root is None else {"bip341": {"merkle_root_hash": root}}
    answer = signed(world, "app", "sign_with_schnorr", message=HASH, key_id=KEYS["bip340"], aux=aux)
    public = coincurve.PublicKeyXOnly(x_only)
    if root is not None:
        tag = hashlib.sha256(b"TapTweak").digest()
        public.tweak_add(hashlib.sha256(tag + tag + x_only + root).digest())
    assert public.verify(answer.value["signature"], HASH)


@pytest.mark.spec("ic-sign_with_schnorr")
@pytest.mark.spec("ic-schnorr_public_key")
@pytest.mark.parametrize("subnet", PAYING)
def test_ed25519_signatures_verify_under_the_callers_key(world: ConsensusWorld, subnet: str) -> None:
    """By `cryptography`, for messages of any length."""
    key = world.ask(subnet, "schnorr_public_key", PUBLIC["schnorr_public_key"]).value["public_key"]
    for message in (b"", b"m" * 10_000):
        answer = signed(world, subnet, "sign_with_schnorr", message=message)
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(answer.value["signature"], message)
        assert answer.refund == FEE


@pytest.mark.spec("ic-vetkd_derive_key")
@pytest.mark.spec("ic-vetkd_public_key")
@pytest.mark.parametrize("subnet", PAYING)
def test_encrypted_keys_decrypt_under_the_callers_key(world: ConsensusWorld, subnet: str) -> None:
    """To the same key each time, though encrypted anew; the pairing equations are another library's."""
    public = world.ask(subnet, "vetkd_public_key", PUBLIC["vetkd_public_key"]).value["public_key"]
    first, second = (signed(world, subnet, "vetkd_derive_key") for _ in range(2))
    assert first.value != second.value
    assert first.refund == FEE
    keys = {check_vetkd(one.value["encrypted_key"], public, b"input", TRANSPORT) for one in (first, second)}
    assert len(keys) == 1


@pytest.mark.spec("ic-sign_with_ecdsa")
@pytest.mark.spec("ic-sign_with_schnorr")
@pytest.mark.spec("ic-vetkd_derive_key")
@pytest.mark.parametrize("method", sorted(SIGNING))
def test_fees(world: ConsensusWorld, method: str) -> None:
    """Exactly the fee is enough and counted as burned; a cycle less is refused and comes back; the root subnet pays nothing."""
    state = world.world["signer"].replica.state
    before = state.tally.burned.get(BurnCause.SIGNATURES, 0)
    exact = world.ask("app", method, SIGNING[method], cycles=FEE)
    assert (exact.code, exact.refund) == (0, 0)
    assert state.tally.burned[BurnCause.SIGNATURES] - before == FEE
    short = world.ask("app", method, SIGNING[method], cycles=FEE - 1)
    assert short.rejected == (4, f"{method} request sent with {FEE - 1:_} cycles, but {FEE:_} cycles are required.")
    assert short.refund == FEE - 1
    free = world.ask("root", method, SIGNING[method], cycles=7)
    assert (free.code, free.refund) == (0, 7)


@pytest.mark.spec("ic-ecdsa_public_key")
@pytest.mark.spec("ic-sign_with_ecdsa")
@pytest.mark.spec("ic-schnorr_public_key")
@pytest.mark.spec("ic-sign_with_schnorr")
@pytest.mark.spec("ic-vetkd_public_key")
@pytest.mark.spec("ic-vetkd_derive_key")
@pytest.mark.parametrize("method", sorted({**SIGNING, **PUBLIC}))
def test_unknown_keys(world: ConsensusWorld, method: str) -> None:
    """Refused where the caller is, with the keys that exist."""
    args = {**SIGNING, **PUBLIC}[method]
    known = "[ecdsa:Secp256k1:key_1, schnorr:Bip340Secp256k1:key_1, schnorr:Ed25519:key_1, vetkd:Bls12_381_G2:key_1]"
    kind = {"ecdsa": "ecdsa:Secp256k1", "schnorr": "schnorr:Ed25519", "vetkd": "vetkd:Bls12_381_G2"}
    text = next(text for word, text in kind.items() if word in method)
    wrong = world.ask("app", method, {**args, "key_id": {**args["key_id"], "name": "key_2"}}, cycles=FEE)
    asked, listed = ("unknown or disabled", "existing enabled") if method in SIGNING else ("unknown", "existing")
    why = f"Requested {asked} threshold key: {text}:key_2, {listed} keys: {known}"
    assert wrong.rejected == (3, f'Unable to route management canister request {method}: ChainKeyError("{why}")')
    assert wrong.refund == FEE


@pytest.mark.spec("ic-sign_with_ecdsa")
@pytest.mark.spec("ic-sign_with_schnorr")
@pytest.mark.spec("ic-vetkd_derive_key")
@pytest.mark.parametrize(
    ("method", "changes", "code", "text"),
    [
        ("sign_with_ecdsa", {"message_hash": HASH[1:]}, 4, "message_hash has 31 bytes"),
        ("sign_with_ecdsa", {"derivation_path": [b""] * 256}, 4, "The number of elements exceeds maximum allowed 255"),
        ("sign_with_schnorr", {"derivation_path": [b""] * 256}, 4, "The number of elements exceeds maximum allowed 255"),
        (
            "sign_with_schnorr",
            {"aux": {"bip341": {"merkle_root_hash": b""}}},
            4,
            "Schnorr algorithm Ed25519 does not support aux input",
        ),
        (
            "sign_with_schnorr",
            {"key_id": KEYS["bip340"], "aux": {"bip341": {"merkle_root_hash": b"short"}}},
            4,
            "Invalid aux field for Bip340Secp256k1",
        ),
        ("vetkd_derive_key", {"transport_public_key": bytes(48)}, 4, "The provided transport public key is invalid."),
        ("vetkd_derive_key", {"transport_public_key": TRANSPORT_KEY[1:]}, 4, "transport_public_key has 47 bytes"),
    ],
)
def test_wrong_arguments(world: ConsensusWorld, method: str, changes: Any, code: int, text: str) -> None:
    """Refused with all cycles back."""
    answer = signed(world, "app", method, **changes)
    assert answer.code == code
    assert text in answer.text
    assert answer.refund == 2 * FEE


@pytest.mark.spec("ic-ecdsa_public_key")
@pytest.mark.spec("ic-sign_with_ecdsa")
@pytest.mark.spec("ic-schnorr_public_key")
@pytest.mark.spec("ic-sign_with_schnorr")
@pytest.mark.spec("ic-vetkd_public_key")
@pytest.mark.spec("ic-vetkd_derive_key")
@pytest.mark.parametrize("method", sorted({**SIGNING, **PUBLIC}))
@pytest.mark.parametrize("raw", [b"", b"garbage", encode((), ())])
def test_malformed_arguments(world: ConsensusWorld, method: str, raw: bytes) -> None:
    """Garbage and missing arguments can't be routed."""
    answer = world.ask("app", method, raw=raw, cycles=9)
    assert (answer.code, answer.refund) == (3, 9)
    assert answer.text.startswith(f"Unable to route management canister request {method}: ")


@pytest.mark.spec("ic-ecdsa_public_key")
@pytest.mark.spec("ic-sign_with_ecdsa")
@pytest.mark.spec("ic-schnorr_public_key")
@pytest.mark.spec("ic-sign_with_schnorr")
@pytest.mark.spec("ic-vetkd_public_key")
@pytest.mark.spec("ic-vetkd_derive_key")
@pytest.mark.parametrize("subnet", PAYING)
@pytest.mark.parametrize("method", sorted({**SIGNING, **PUBLIC}))
def test_superfluous_fields_are_passed_over(world: ConsensusWorld, subnet: str, method: str) -> None:
    """As Candid has it: fields that the method doesn't know, and further arguments."""
    known = METHODS[method].argument
    assert isinstance(known, Record)
    wider = record({**{field.key: field.type for field in known.fields}, "unknown": nat})
    raw = encode((wider, nat), ({**{**SIGNING, **PUBLIC}[method], "unknown": 5}, 7))
    answer = world.ask(subnet, method, raw=raw, cycles=FEE)
    assert (answer.code, answer.refund) == (0, 0 if method in SIGNING else FEE)
    if method in PUBLIC:
        assert answer.value == world.ask(subnet, method, PUBLIC[method]).value


@pytest.mark.spec("ic-sign_with_ecdsa")
def test_the_queue_of_a_key_is_bounded(world: ConsensusWorld) -> None:
    """The third of three calls in one round is refused with its cycles; other keys have queues of their own."""
    subnet = world.world["signer"]
    messages = [
        subnet.ingress(world.callers["signer"], "update", bytes(world.program(method, SIGNING[method], cycles=FEE)))
        for method in ("sign_with_ecdsa",) * 3 + ("sign_with_schnorr",)
    ]
    world.world.round({"signer": messages})
    while any(message.message_id not in world.world.outcomes for message in messages):
        world.world.round()
    answers = [world.world.outcomes[message.message_id].reply for message in messages]
    refused = [one for one in answers if b"is full" in one]
    assert len(refused) == 1
    assert refused[0].endswith(b"sign_with_ecdsa request failed: request queue for key ecdsa:Secp256k1:key_1 is full.")
    assert int.from_bytes(refused[0][:16], "little") == FEE
