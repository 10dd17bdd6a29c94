"""Candid types of the methods of threshold signatures and vetKD.

Rule module. Spec: `ic.did`.
"""

from __future__ import annotations

from ic_types.candid.types import Record, Type, blob, null, opt, principal, record, text, variant, vec


def _record(**fields: Type) -> Record:
    return record(fields)


_ECDSA_KEY = _record(curve=variant({"secp256k1": null}), name=text)
_SCHNORR_KEY = _record(algorithm=variant({"bip340secp256k1": null, "ed25519": null}), name=text)
_VETKD_KEY = _record(curve=variant({"bls12_381_g2": null}), name=text)
_AUX = variant({"bip341": _record(merkle_root_hash=blob)})

ECDSA_PUBLIC_KEY = _record(canister_id=opt(principal), derivation_path=vec(blob), key_id=_ECDSA_KEY)
SCHNORR_PUBLIC_KEY = _record(canister_id=opt(principal), derivation_path=vec(blob), key_id=_SCHNORR_KEY)
VETKD_PUBLIC_KEY = _record(canister_id=opt(principal), context=blob, key_id=_VETKD_KEY)
EXTENDED_KEY_RESULT = _record(public_key=blob, chain_code=blob)
PUBLIC_KEY_RESULT = _record(public_key=blob)

SIGN_WITH_ECDSA = _record(message_hash=blob, derivation_path=vec(blob), key_id=_ECDSA_KEY)
SIGN_WITH_SCHNORR = _record(message=blob, derivation_path=vec(blob), key_id=_SCHNORR_KEY, aux=opt(_AUX))
VETKD_DERIVE_KEY = _record(input=blob, context=blob, transport_public_key=blob, key_id=_VETKD_KEY)
SIGNATURE_RESULT = _record(signature=blob)
ENCRYPTED_KEY_RESULT = _record(encrypted_key=blob)
