"""The DER form of keys whose length varies: SubjectPublicKeyInfo of an OID without parameters.

Rule module. Spec: interface spec, "Signatures"; RFC 5280. Only the one canonical form is understood.
"""

from __future__ import annotations

COSE_OID = bytes.fromhex("060a2b0601040183b8430101")
"""1.3.6.1.4.1.56387.1.1: a key in COSE form, of WebAuthn."""
CANISTER_OID = bytes.fromhex("060a2b0601040183b8430102")
"""1.3.6.1.4.1.56387.1.2: signatures of a canister."""
_BITS, _SEQUENCE = 0x03, 0x30


def wrap_bits(oid: bytes, bits: bytes) -> bytes:
    """SubjectPublicKeyInfo of these key bits."""
    algorithm = bytes((_SEQUENCE,)) + _length(len(oid)) + oid
    body = algorithm + bytes((_BITS,)) + _length(len(bits) + 1) + b"\0" + bits
    return bytes((_SEQUENCE,)) + _length(len(body)) + body


def wrapped_bits(der: bytes, oid: bytes) -> bytes | None:
    """The key bits in a SubjectPublicKeyInfo of this OID; None if it is anything else."""
    head = bytes((_SEQUENCE,)) + _length(len(oid)) + oid + bytes((_BITS,))
    at = der.find(head, 0, 8 + len(head))
    if at < 0:
        return None
    for start in range(at + len(head) + 2, min(at + len(head) + 6, len(der) + 1)):
        bits = der[start:]
        if wrap_bits(oid, bits) == der:
            return bits
    return None


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes((size,))
    raw = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(raw),)) + raw
