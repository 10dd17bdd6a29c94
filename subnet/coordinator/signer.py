"""Signatures with chain keys and encrypted derived keys, as the nodes of a subnet would make them together.

Rule module. Spec: interface spec, "IC method sign_with_ecdsa", "IC method sign_with_schnorr", "IC method vetkd_derive_key". The
result follows from request and secret alone, so a continued run makes the same (decision 7).
"""

from __future__ import annotations

import hashlib

from ic_types.candid.encoder import encode
from ic_types.chain_keys import ed25519, secp256k1, vetkd
from ic_types.chain_keys.key_id import KeyId, KeyKind
from ic_types.consensus_calls import ConsensusAnswer, SignatureRequest
from ic_types.reject import RejectCode
from subnet.coordinator.chain_key_secrets import master_secret
from subnet.management.chain_key_types import ENCRYPTED_KEY_RESULT, SIGNATURE_RESULT


def sign(identity_seed: int, request: SignatureRequest) -> ConsensusAnswer:
    """The answer to a request that a node has checked."""
    key = KeyId.parse(request.key_id)
    master = master_secret(identity_seed, key)
    if key.kind is KeyKind.VETKD_BLS12_381_G2:
        reply = encode((ENCRYPTED_KEY_RESULT,), ({"encrypted_key": _derived_key(master, request)},))
        return ConsensusAnswer(call_id=request.call_id, reply=reply)
    try:
        signature = _signature(key.kind, master, request)
    except ValueError:
        text = f"Invalid inputs for BIP341 signature with key {key}"
        return ConsensusAnswer(call_id=request.call_id, reject_code=int(RejectCode.CANISTER_REJECT), reject_message=text)
    return ConsensusAnswer(call_id=request.call_id, reply=encode((SIGNATURE_RESULT,), ({"signature": signature},)))


def _signature(kind: KeyKind, master: int, request: SignatureRequest) -> bytes:
    path = (bytes(request.caller), *request.path)
    if kind is KeyKind.SCHNORR_ED25519:
        _, offset = ed25519.derive(ed25519.public_key(master), path)
        return ed25519.sign((master + offset) % ed25519.ORDER, request.message, request.nonce)
    _, offset = secp256k1.derive(secp256k1.public_key(master), path)
    secret = (master + offset) % secp256k1.ORDER
    if kind is KeyKind.ECDSA_SECP256K1:
        return secp256k1.sign_ecdsa(secret, request.message, request.nonce)
    if request.merkle_root is not None:
        secret = secp256k1.tweak_bip341(secret, request.merkle_root)
    return secp256k1.sign_bip340(secret, request.message, request.nonce)


def _derived_key(master: int, request: SignatureRequest) -> bytes:
    public, offset = vetkd.derive(vetkd.public_key(master), bytes(request.caller), request.path[0])
    wide = hashlib.sha512(b"icsim-vetkd-blinding" + master.to_bytes(32, "big") + request.nonce).digest()
    blinding = int.from_bytes(wide, "big") % (vetkd.ORDER - 1) + 1
    secret = (master + offset) % vetkd.ORDER
    return vetkd.encrypted_key(secret, public, request.message, request.transport_key, blinding)
