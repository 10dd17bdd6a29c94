"""Principals: the ids of canisters, users, subnets and nodes.

Rule module. Spec: interface spec, "Principals" and "Textual representation of principals".
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import TypeAlias

from ic_types.errors import InvalidPrincipal

MAX_BYTES = 29


class Principal(bytes):
    """A principal is its bytes (0 to 29); equality, order and hash are those of the bytes."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Principal:
        if len(raw) > MAX_BYTES:
            raise InvalidPrincipal(f"principal of {len(raw)} bytes; at most {MAX_BYTES} are allowed")
        return super().__new__(cls, raw)

    @classmethod
    def from_text(cls, text: str) -> Principal:
        """Parse the textual form.

        Raises: InvalidPrincipal when it isn't the canonical text of a principal.
        """
        compact = text.replace("-", "").upper()
        try:
            raw = base64.b32decode(compact + "=" * (-len(compact) % 8))
        except ValueError as error:
            raise InvalidPrincipal(f"{text!r} is not base32") from error
        if len(raw) < 4 or len(raw) > MAX_BYTES + 4:
            raise InvalidPrincipal(f"{text!r} has the wrong length for a principal")
        principal = cls(raw[4:])
        if principal.to_text() != text:
            raise InvalidPrincipal(f"{text!r} is not the canonical text; checksum, case or dashes differ")
        return principal

    @classmethod
    def self_authenticating(cls, public_key_der: bytes) -> Principal:
        """The principal of the holder of this DER public key."""
        return cls(hashlib.sha224(public_key_der).digest() + b"\x02")

    @classmethod
    def canister(cls, index: int) -> Principal:
        """The opaque id of the `index`-th canister of the whole network (u64)."""
        return cls(index.to_bytes(8, "big") + b"\x01\x01")

    def canister_index(self) -> int | None:
        """The index inside the network when this is a canister id, otherwise None."""
        if len(self) == 10 and self[8:] == b"\x01\x01":
            return int.from_bytes(self[:8], "big")
        return None

    def to_text(self) -> str:
        """Lower-case base32 of CRC-32 and bytes, in groups of five."""
        raw = zlib.crc32(self).to_bytes(4, "big") + bytes(self)
        text = base64.b32encode(raw).decode().rstrip("=").lower()
        return "-".join(text[i : i + 5] for i in range(0, len(text), 5))

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"Principal({self.to_text()})"


CanisterId: TypeAlias = Principal
SubnetId: TypeAlias = Principal
NodeId: TypeAlias = Principal

MANAGEMENT_CANISTER = Principal(b"")
ANONYMOUS = Principal(b"\x04")
