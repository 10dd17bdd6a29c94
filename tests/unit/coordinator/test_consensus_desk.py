"""When requests of nodes are answered, how much fits into a batch, and what a restart changes (nothing)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.candid.decoder import decode
from ic_types.chain_keys import secp256k1
from ic_types.chain_keys.key_id import KeyId, KeyKind
from ic_types.chain_keys.registry import ChainKeys
from ic_types.consensus_calls import ConsensusAnswer, OutcallRequest, SignatureRequest
from ic_types.principal import Principal
from subnet.coordinator.chain_key_secrets import master_secret
from subnet.coordinator.consensus_desk import MAX_ANSWER_BYTES, MAX_ANSWERS, SIGNING_ROUNDS, ConsensusDesk
from subnet.coordinator.genesis import make_genesis
from subnet.coordinator.signer import sign
from subnet.management.chain_key_types import SIGNATURE_RESULT
from subnet.protocol import Batch, RoundResult
from tests.support.plans import small_plan

CALLER = Principal.canister(7)
KEY = "ecdsa:Secp256k1:key_1"
WANTED = SignatureRequest(call_id=0, key_id=KEY, caller=CALLER, path=(), message=bytes(32), nonce=b"n" * 32)


def outcall(call_id: int, timeout: int = 60) -> OutcallRequest:
    """A request for a page."""
    return OutcallRequest(call_id=call_id, caller=CALLER, url="https://a/", method="GET", timeout_ns=timeout)


def told(height: int, *, signatures: Any = (), outcalls: Any = ()) -> RoundResult:
    """The result of a round with these requests."""
    return RoundResult(
        height=height, state_hash=b"", root_hash=b"", certification_share=b"", tape_share=b"", heads=(), outcomes=(),
        signature_requests=tuple(signatures), outcall_requests=tuple(outcalls), has_work=False, next_due_ns=0, stats={},
        stage_ns={},
    )  # fmt: skip


@pytest.mark.spec("ic-sign_with_ecdsa")
def test_signatures_take_their_rounds() -> None:
    """They are there in the batch two heights later, not before, and once."""
    desk = ConsensusDesk(5, 2)
    desk.asked(1, told(10, signatures=[WANTED]))
    assert not desk.is_quiet
    assert [desk.take(1, height, 0) for height in range(11, 10 + SIGNING_ROUNDS)] == [()] * (SIGNING_ROUNDS - 1)
    assert desk.take(0, 10 + SIGNING_ROUNDS, 0) == ()
    (answer,) = desk.take(1, 10 + SIGNING_ROUNDS, 0)
    assert answer == sign(5, WANTED)
    assert desk.take(1, 99, 0) == ()
    assert desk.is_quiet


@pytest.mark.spec("ic-http_request")
def test_outcalls_wait_for_an_answer_or_their_time() -> None:
    """Quietly; the first answer counts, and one that comes too late is passed over."""
    desk = ConsensusDesk(5, 1)
    desk.asked(0, told(1, outcalls=[outcall(0, 60), outcall(1, 61), outcall(2, 200)]))
    assert desk.is_quiet
    desk.answer(0, ConsensusAnswer(call_id=2, reply=b"page"))
    assert not desk.is_quiet
    assert [one.call_id for one in desk.take(0, 2, 60)] == [2]
    assert desk.take(0, 3, 60) == ()
    late = desk.take(0, 4, 61)
    assert late == (ConsensusAnswer(call_id=0, reject_code=2, reject_message="Canister http request timed out"),)
    desk.answer(0, ConsensusAnswer(call_id=0, reply=b"late"))
    assert desk.take(0, 5, 61) == ()


def test_a_batch_has_room_for_so_many_answers() -> None:
    """By number and by bytes; the rest is in the next one; a single large answer always fits."""
    desk = ConsensusDesk(5, 1)
    desk.asked(0, told(1, outcalls=[outcall(k) for k in range(MAX_ANSWERS + 1)]))
    for k in range(MAX_ANSWERS + 1):
        desk.answer(0, ConsensusAnswer(call_id=k))
    assert [len(desk.take(0, height, 0)) for height in (2, 3)] == [MAX_ANSWERS, 1]
    desk.asked(0, told(4, outcalls=[outcall(k) for k in range(3)]))
    for k, size in enumerate((MAX_ANSWER_BYTES, 1, 1)):
        desk.answer(0, ConsensusAnswer(call_id=k, reply=bytes(size + (k == 0))))
    assert [[one.call_id for one in desk.take(0, height, 0)] for height in (5, 6)] == [[0], [1, 2]]


def test_recorded_batches_close_what_they_answer() -> None:
    """A continued run asks nobody again for what the journal has."""
    desk = ConsensusDesk(5, 1)
    desk.asked(0, told(1, signatures=[WANTED], outcalls=[outcall(1)]))
    answers = (ConsensusAnswer(call_id=0), ConsensusAnswer(call_id=1))
    desk.follow(0, Batch(height=3, time_ns=0, randomness=b"", answers=answers))
    assert desk.take(0, 9, 10**9) == ()
    assert not desk.desks[0].outcalls


def test_signatures_follow_from_request_and_seed() -> None:
    """The same again and again; another one for another nonce, caller, path or seed."""
    again = replace(WANTED)
    assert sign(5, WANTED) == sign(5, again)
    others = [
        sign(5, replace(WANTED, nonce=b"m" * 32)),
        sign(5, replace(WANTED, caller=Principal.canister(8))),
        sign(5, replace(WANTED, path=(b"",))),
        sign(6, WANTED),
    ]
    signatures = {decode(one.reply, [SIGNATURE_RESULT])[0]["signature"] for one in [sign(5, WANTED), *others]}
    assert len(signatures) == 5


def test_keys_are_dealt_to_holders_and_signers() -> None:
    """One secret per key, whoever holds it; the first signer names the price; held keys sign nothing."""
    plan = small_plan(1, 4, 13)
    large = replace(plan.subnets[2], chain_keys=(KEY,), fees=CyclesCostSchedule(subnet_size=26))
    middle = replace(plan.subnets[1], held_chain_keys=(KEY, "vetkd:Bls12_381_G2:backup"))
    genesis = make_genesis(replace(plan, subnets=(plan.subnets[0], middle, large)))
    ecdsa, backup = genesis.registry.chain_keys
    nns, app, signer = (record.subnet_id for record in genesis.subnets)
    secret = master_secret(plan.identity_seed, KeyId(KeyKind.ECDSA_SECP256K1, "key_1"))
    assert ecdsa.public_key == secp256k1.public_key(secret)
    assert (ecdsa.holders, ecdsa.signers, ecdsa.fee) == ((app, signer), (signer,), 20_000_000_000)
    assert (backup.holders, backup.signers, backup.fee) == ((app,), (), 0)
    keys = ChainKeys(genesis.registry.chain_keys)
    key, held = KeyId.parse(KEY), KeyId.parse(backup.key_id)
    assert (keys.signer(key), keys.holder(key), keys.signer(held), keys.holder(held)) == (signer, signer, None, app)
    assert keys.signing_fees() == {KEY: 20_000_000_000}
    assert keys.held_by(nns, key) is None
    assert keys.signs(app, key) is False
