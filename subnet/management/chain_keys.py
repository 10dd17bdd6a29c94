"""Chain keys: which key a call is about, where it goes, and public keys.

Rule module. Spec: interface spec, "IC method ecdsa_public_key", "IC method schnorr_public_key", "IC method vetkd_public_key".
Signing is `signatures`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ic_types.candid.values import Value
from ic_types.chain_keys import ed25519, secp256k1, vetkd
from ic_types.chain_keys.key_id import ExtendedKey, KeyId, KeyKind
from ic_types.chain_keys.registry import ChainKeyRecord, ChainKeys
from ic_types.principal import Principal, SubnetId
from ic_types.reject import Reject, RejectCode
from subnet.management import errors
from subnet.management.answers import reply
from subnet.management.chain_key_types import EXTENDED_KEY_RESULT, PUBLIC_KEY_RESULT
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext

MAX_PATH_LENGTH = 255
_SCHEMES = {"bip340secp256k1": KeyKind.SCHNORR_BIP340, "ed25519": KeyKind.SCHNORR_ED25519}


def key_of(args: Value) -> KeyId:
    """The key that a decoded argument names."""
    named = args["key_id"]
    if "algorithm" in named:
        return KeyId(_SCHEMES[next(iter(named["algorithm"]))], named["name"])
    ecdsa = next(iter(named["curve"])) == "secp256k1"
    return KeyId(KeyKind.ECDSA_SECP256K1 if ecdsa else KeyKind.VETKD_BLS12_381_G2, named["name"])


def route(keys: ChainKeys, method: str, key: KeyId, *, signing: bool) -> SubnetId | Reject:
    """The subnet that answers a call about this key."""
    found = keys.signer(key) if signing else keys.holder(key)
    if found is not None:
        return found
    if signing:
        why = f"Requested unknown or disabled threshold key: {key}, existing enabled keys: {keys.listed(signing=True)}"
    else:
        why = f"Requested unknown threshold key: {key}, existing keys: {keys.listed(signing=False)}"
    quoted = why.replace("\\", "\\\\").replace('"', '\\"')
    text = f'Unable to route management canister request {method}: ChainKeyError("{quoted}")'
    return Reject(RejectCode.DESTINATION_INVALID, text)


def held(ctx: SubnetContext, key: KeyId) -> ChainKeyRecord:
    """The key, held by this subnet.

    Raises: ManagementError (IC0406).
    """
    record = ctx.chain_keys.held_by(ctx.own_subnet, key)
    if record is None:
        raise errors.key_not_held(ctx.own_subnet, key)
    return record


def extended_public_key(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Public key and chain code of a canister's derivation path, for ECDSA and Schnorr."""
    key = key_of(args)
    record, path = held(ctx, key), checked_path(args["derivation_path"])
    found, _ = derive(key.kind, record.public_key, args["canister_id"] or call.caller, path)
    result = {"public_key": found.public_key, "chain_code": found.chain_code}
    return ManagementOutcome(payload=reply(EXTENDED_KEY_RESULT, result), refund=call.payment)


def vetkd_public_key(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Verification key of a canister's context."""
    record = held(ctx, key_of(args))
    found, _ = vetkd.derive(record.public_key, bytes(args["canister_id"] or call.caller), args["context"])
    return ManagementOutcome(payload=reply(PUBLIC_KEY_RESULT, {"public_key": found}), refund=call.payment)


def derive(kind: KeyKind, master: bytes, canister: Principal, path: Sequence[bytes]) -> tuple[ExtendedKey, int]:
    """Key of a canister's path and its distance from the master secret; the canister's id is the first index."""
    full = (bytes(canister), *path)
    return ed25519.derive(master, full) if kind is KeyKind.SCHNORR_ED25519 else secp256k1.derive(master, full)


def checked_path(path: Sequence[bytes]) -> Sequence[bytes]:
    """A derivation path that isn't too long.

    Raises: ManagementError (IC0408).
    """
    if len(path) > MAX_PATH_LENGTH:
        text = f"Error decoding candid: Deserialize error: The number of elements exceeds maximum allowed {MAX_PATH_LENGTH}"
        raise errors.invalid_payload(text)
    return path
