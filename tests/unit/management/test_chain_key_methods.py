"""Chain keys as the management canister gives them: public keys, routing, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from ic_types.candid.encoder import encode
from ic_types.candid.types import Record
from ic_types.chain_keys import secp256k1
from ic_types.chain_keys.registry import ChainKeyRecord, ChainKeys
from ic_types.principal import MANAGEMENT_CANISTER, SubnetId
from ic_types.reject import ErrorCode, Reject, RejectCode
from subnet.management.destinations import induction_target, resolve_destination
from subnet.management.methods import METHODS
from tests.support.management_world import ManagedSubnet, encode_args
from tests.support.routing_world import canister_id, ingress, request, subnet_id

ECDSA = {"curve": {"secp256k1": None}, "name": "key_1"}
MASTER = secp256k1.public_key(7)
PUBLIC = ("ecdsa_public_key", "schnorr_public_key", "vetkd_public_key")
SIGNING = ("sign_with_ecdsa", "sign_with_schnorr", "vetkd_derive_key")
BITCOIN = (
    "bitcoin_get_utxos", "bitcoin_get_balance", "bitcoin_send_transaction", "bitcoin_get_current_fee_percentiles",
    "bitcoin_get_block_headers",
)  # fmt: skip


def key(name: str, holders: tuple[SubnetId, ...], signers: tuple[SubnetId, ...] = ()) -> ChainKeyRecord:
    """An ECDSA key."""
    return ChainKeyRecord(key_id=f"ecdsa:Secp256k1:{name}", public_key=MASTER, holders=holders, signers=signers, fee=1)


KEYS = ChainKeys([key("key_1", (subnet_id(0), subnet_id(2)), (subnet_id(2),)), key("backup", (subnet_id(1),))])


def ecdsa_args(name: str = "key_1", **fields: Any) -> Any:
    """Argument of ecdsa_public_key."""
    return {"canister_id": None, "derivation_path": [], "key_id": {**ECDSA, "name": name}, **fields}


def resolved(name: str, method: str = "ecdsa_public_key") -> SubnetId | Reject:
    """Where a call about this key goes."""
    asked = request(canister_id(0, 0), MANAGEMENT_CANISTER, method=method, arg=encode_args(method, ecdsa_args(name)))
    return resolve_destination(ManagedSubnet().routing, KEYS, asked)


@pytest.mark.spec("ic-ecdsa_public_key")
def test_calls_go_to_a_subnet_that_has_the_key() -> None:
    """One that signs, if there is one; unknown keys are refused with the list of those that exist."""
    assert resolved("key_1") == subnet_id(2)
    assert resolved("backup") == subnet_id(1)
    unknown = resolved('ke"y')
    assert isinstance(unknown, Reject)
    assert unknown.code is RejectCode.DESTINATION_INVALID
    assert unknown.message == (
        'Unable to route management canister request ecdsa_public_key: ChainKeyError("Requested unknown threshold key: '
        'ecdsa:Secp256k1:ke\\"y, existing keys: [ecdsa:Secp256k1:backup, ecdsa:Secp256k1:key_1]")'
    )


@pytest.mark.spec("ic-ecdsa_public_key")
def test_public_keys_of_any_canister() -> None:
    """The caller's own by default; all attached cycles come back."""
    subnet = ManagedSubnet(chain_keys=KEYS)
    caller, other = subnet.add_canister().canister_id, canister_id(2, 9)
    mine, refund = subnet.canister_call(caller, "ecdsa_public_key", ecdsa_args(), cycles=77)
    assert refund == 77
    expected = secp256k1.derive(MASTER, [bytes(caller)])[0]
    assert mine == {"public_key": expected.public_key, "chain_code": expected.chain_code}
    theirs, _ = subnet.canister_call(caller, "ecdsa_public_key", ecdsa_args(canister_id=other, derivation_path=[b"", b"a"]))
    assert theirs["public_key"] == secp256k1.derive(MASTER, [bytes(other), b"", b"a"])[0].public_key


@pytest.mark.spec("ic-ecdsa_public_key")
@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (ecdsa_args("backup"), ErrorCode.CANISTER_REJECTED_MESSAGE, "does not hold threshold key ecdsa:Secp256k1:backup."),
        (ecdsa_args(derivation_path=[b""] * 256), ErrorCode.INVALID_MANAGEMENT_PAYLOAD, "exceeds maximum allowed 255"),
    ],
)
def test_public_keys_are_refused(args: Any, code: ErrorCode, text: str) -> None:
    """Keys of other subnets, paths that are too long; 255 indices are allowed."""
    subnet = ManagedSubnet(chain_keys=KEYS)
    caller = subnet.add_canister().canister_id
    why, refund = subnet.canister_call(caller, "ecdsa_public_key", args, cycles=5)
    assert isinstance(why, Reject)
    assert (why.error_code, refund) == (code, 5)
    assert text in why.message
    assert "public_key" in subnet.canister_call(caller, "ecdsa_public_key", ecdsa_args(derivation_path=[b""] * 255))[0]


@pytest.mark.spec("ic-sign_with_ecdsa")
def test_keys_that_are_only_held_sign_nothing() -> None:
    """They can't be routed to; a subnet that is asked all the same refuses, and everything comes back."""
    asked = request(
        canister_id(0, 0), MANAGEMENT_CANISTER, method="sign_with_ecdsa", arg=encode_args("sign_with_ecdsa", signed("backup"))
    )
    nowhere = resolve_destination(ManagedSubnet().routing, KEYS, asked)
    assert isinstance(nowhere, Reject)
    why = "Requested unknown or disabled threshold key: ecdsa:Secp256k1:backup, existing enabled keys: [ecdsa:Secp256k1:key_1]"
    assert nowhere.message == f'Unable to route management canister request sign_with_ecdsa: ChainKeyError("{why}")'
    subnet = ManagedSubnet(chain_keys=KEYS)
    caller = subnet.add_canister().canister_id
    refused, refund = subnet.canister_call(caller, "sign_with_ecdsa", signed("key_1"), cycles=10**12)
    assert isinstance(refused, Reject)
    assert refused.message.endswith("sign_with_ecdsa request failed: unknown or disabled threshold key ecdsa:Secp256k1:key_1.")
    assert refund == 10**12


def signed(name: str) -> Any:
    """Argument of sign_with_ecdsa."""
    return {"message_hash": bytes(32), "derivation_path": [], "key_id": {**ECDSA, "name": name}}


@pytest.mark.parametrize("method", [*PUBLIC, *SIGNING, *BITCOIN, "http_request"])
def test_users_may_not_call(method: str) -> None:
    """Refused at induction, whatever the argument."""
    why = induction_target(ingress(1, MANAGEMENT_CANISTER, method=method))
    assert isinstance(why, Reject)
    assert why.error_code is ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE


@pytest.mark.spec("ic-bitcoin_get_balance")
@pytest.mark.spec("ic-bitcoin_get_utxos")
@pytest.mark.spec("ic-bitcoin_send_transaction")
@pytest.mark.spec("ic-bitcoin_get_current_fee_percentiles")
@pytest.mark.spec("ic-bitcoin_get_block_headers")
@pytest.mark.parametrize("method", BITCOIN)
def test_bitcoin_is_not_simulated(method: str) -> None:
    """Canisters of the own subnet are told so, and get their cycles back; malformed arguments are told apart."""
    subnet = ManagedSubnet()
    caller = subnet.add_canister().canister_id
    fields = {"network": {"testnet": None}, "address": "a", "transaction": b"", "start_height": 0}
    kind = METHODS[method].argument
    assert isinstance(kind, Record)
    taken = {field.key: fields[field.key] for field in kind.fields if field.key in fields}
    why, refund = subnet.canister_call(caller, method, taken, cycles=9)
    assert isinstance(why, Reject)
    assert (why.error_code, refund) == (ErrorCode.CANISTER_REJECTED_MESSAGE, 9)
    assert "not simulated" in why.message
    asked = request(caller, MANAGEMENT_CANISTER, method=method, arg=encode((), ()))
    assert resolve_destination(subnet.routing, KEYS, asked) == subnet_id(0)
    assert METHODS[method].canisters
