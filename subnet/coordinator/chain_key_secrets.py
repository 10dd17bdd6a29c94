"""Master keys for canisters' signatures: dealt from the identity seed.

Rule module. A key has one secret, whichever subnets hold it, as in the real system where subnets share it. The simulation deals
it whole: only the coordinator ever knows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from configs.topology import key_seed
from ic_types.chain_keys import ed25519, secp256k1, vetkd
from ic_types.chain_keys.key_id import KeyId, KeyKind
from ic_types.chain_keys.registry import ChainKeyRecord
from subnet.coordinator.network_plan import SubnetPlan
from subnet.protocol import SubnetRecord

_CURVES = {
    KeyKind.ECDSA_SECP256K1: secp256k1,
    KeyKind.SCHNORR_BIP340: secp256k1,
    KeyKind.SCHNORR_ED25519: ed25519,
    KeyKind.VETKD_BLS12_381_G2: vetkd,
}


def master_secret(identity_seed: int, key: KeyId) -> int:
    """The secret of a master key."""
    wide = hashlib.sha512(key_seed(identity_seed, f"chain key {key}")).digest()
    order: int = _CURVES[key.kind].ORDER
    return int.from_bytes(wide, "big") % (order - 1) + 1


def deal_chain_keys(
    identity_seed: int, plans: Sequence[SubnetPlan], records: Sequence[SubnetRecord]
) -> tuple[ChainKeyRecord, ...]:
    """The keys of all subnets; plans and records in topology order."""
    signers: dict[str, list[int]] = {}
    holders: dict[str, list[int]] = {}
    for place, subnet in enumerate(plans):
        for text in subnet.chain_keys:
            signers.setdefault(text, []).append(place)
        for text in dict.fromkeys((*subnet.chain_keys, *subnet.held_chain_keys)):
            holders.setdefault(text, []).append(place)
    made = []
    for text in sorted(holders):
        key, signing = KeyId.parse(text), signers.get(text, [])
        fees = plans[signing[0]].fees if signing else None
        made.append(
            ChainKeyRecord(
                key_id=text,
                public_key=_CURVES[key.kind].public_key(master_secret(identity_seed, key)),
                holders=tuple(records[place].subnet_id for place in holders[text]),
                signers=tuple(records[place].subnet_id for place in signing),
                fee=0 if fees is None else fees.scale(fees.signature),
            )
        )
    return tuple(made)
