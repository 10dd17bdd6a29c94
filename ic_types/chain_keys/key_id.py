"""Names of chain keys.

Rule module. Spec: interface spec, `key_id` in the methods of threshold signatures and vetKD; the text form is the replica's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class KeyKind(Enum):
    """Scheme and algorithm."""

    ECDSA_SECP256K1 = "ecdsa:Secp256k1"
    SCHNORR_BIP340 = "schnorr:Bip340Secp256k1"
    SCHNORR_ED25519 = "schnorr:Ed25519"
    VETKD_BLS12_381_G2 = "vetkd:Bls12_381_G2"

    @property
    def algorithm(self) -> str:
        """The part after the scheme, as in `Invalid aux field for Bip340Secp256k1`."""
        return self.value.partition(":")[2]


@dataclass(frozen=True, slots=True, order=True)
class KeyId:
    """A key; its text is e.g. `ecdsa:Secp256k1:key_1`."""

    kind: KeyKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> KeyId:
        """The key of a text. Raises: ValueError when it has another form or names no algorithm of ours."""
        scheme, _, rest = text.partition(":")
        algorithm, _, name = rest.partition(":")
        kind = next((kind for kind in KeyKind if kind.value.lower() == f"{scheme}:{algorithm}".lower()), None)
        if kind is None or not name:
            known = ", ".join(f"{kind.value}:NAME" for kind in KeyKind)
            raise ValueError(f"{text!r} is no chain key; keys have the form {known}")
        return cls(kind, name)


@dataclass(frozen=True, slots=True)
class ExtendedKey:
    """A public key and the chain code with which its children derive."""

    public_key: bytes
    chain_code: bytes
    """32 bytes; zero for a master key."""


MASTER_CHAIN_CODE = bytes(32)
