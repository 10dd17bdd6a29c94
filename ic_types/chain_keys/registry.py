"""Which chain keys a network has, and which subnet signs with them.

Rule module. Not in the spec: which keys there are is left to the implementation; routing to them is the replica's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ic_types import wire
from ic_types.chain_keys.key_id import KeyId
from ic_types.principal import SubnetId


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class ChainKeyRecord:
    """A master key."""

    key_id: str
    """Text form."""
    public_key: bytes
    holders: tuple[SubnetId, ...]
    """Subnets that know the key, so they answer with its public keys."""
    signers: tuple[SubnetId, ...] = ()
    """Those that sign with it, too; the first gets the calls of other subnets."""
    fee: int = 0
    """Cycles for a signature by the first signer."""


class ChainKeys:
    """The keys of a network by name."""

    __slots__ = ("_known",)

    def __init__(self, records: Iterable[ChainKeyRecord] = ()) -> None:
        self._known = {KeyId.parse(record.key_id): record for record in records}

    def held_by(self, subnet: SubnetId, key: KeyId) -> ChainKeyRecord | None:
        """The key, if this subnet holds it."""
        record = self._known.get(key)
        return record if record is not None and subnet in record.holders else None

    def signs(self, subnet: SubnetId, key: KeyId) -> bool:
        """Whether this subnet signs with the key."""
        record = self._known.get(key)
        return record is not None and subnet in record.signers

    def signer(self, key: KeyId) -> SubnetId | None:
        """Where calls that need the secret go."""
        record = self._known.get(key)
        return record.signers[0] if record is not None and record.signers else None

    def holder(self, key: KeyId) -> SubnetId | None:
        """Where calls that need the public key go: a signer, if there is one."""
        record = self._known.get(key)
        return None if record is None else next(iter((*record.signers, *record.holders)), None)

    def signing_fees(self) -> dict[str, int]:
        """What a signature costs, by the text of the key."""
        return {str(key): record.fee for key, record in self._known.items() if record.signers}

    def listed(self, *, signing: bool) -> str:
        """The keys, or those that are signed with, for messages: `[ecdsa:Secp256k1:key_1, ...]`."""
        texts = sorted(str(key) for key, record in self._known.items() if record.signers or not signing)
        return f"[{', '.join(texts)}]"
