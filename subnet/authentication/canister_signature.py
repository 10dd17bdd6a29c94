"""Signatures of canisters: a certificate of the canister's certified data, and a tree below it that holds the signature.

Rule module. Spec: interface spec, "Canister signatures".
"""

from __future__ import annotations

import hashlib

from ic_types import cbor, hash_tree
from ic_types.errors import CertificationError
from ic_types.hash_tree import Found, HashTree
from ic_types.principal import MAX_BYTES, Principal
from subnet.certification.certificate import decode_certificate, verify_certificate
from subnet.certification.state_tree import CANISTER, SUBNET

_REFUSED_TYPE = b"cloud_engine"


def split_key(bits: bytes) -> tuple[Principal, bytes]:
    """Canister and seed in the bits of a public key. Raises: CertificationError when they are malformed."""
    size = bits[0] if bits else MAX_BYTES + 1
    if size > MAX_BYTES or len(bits) < 1 + size:
        raise CertificationError("malformed public key")
    return Principal(bits[1 : 1 + size]), bits[1 + size :]


def verify(bits: bytes, payload: bytes, signature: bytes, root_key: bytes) -> None:
    """Check a signature over a payload; `bits` are those of the public key, `root_key` 96 bytes.

    Raises: CertificationError saying what is wrong.
    """
    canister_id, seed = split_key(bits)
    raw, tree = _decode(signature)
    certificate = verify_certificate(raw, root_key, canister_id=canister_id)
    if certificate.delegation is not None:
        inner = decode_certificate(certificate.delegation.certificate)
        match inner.lookup(SUBNET, certificate.delegation.subnet_id, b"type"):
            case Found(kind) if kind != _REFUSED_TYPE:
                pass
            case _:
                raise CertificationError("the delegation doesn't say that the subnet is of a type whose canisters may sign")
    match certificate.lookup(CANISTER, canister_id, b"certified_data"):
        case Found(data) if data == hash_tree.reconstruct(tree):
            pass
        case _:
            raise CertificationError(f"the tree is not what canister {canister_id} has certified")
    path = (b"sig", hashlib.sha256(seed).digest(), hashlib.sha256(payload).digest())
    if hash_tree.lookup_path(path, tree) != Found(b""):
        raise CertificationError("the signature is not in the tree")


def _decode(signature: bytes) -> tuple[bytes, HashTree]:
    """Certificate and tree. The tree is read apart, since it has its own strict reader."""
    try:
        at = 3 if signature.startswith(cbor.SELF_DESCRIBED) else 0
        if signature[at] != 0xA2:
            raise CertificationError("malformed signature: no map of two fields")
        at += 1
        certificate: cbor.Plain = None
        tree: HashTree | None = None
        for _ in range(2):
            key, at = cbor.decode_at(signature, at)
            if key == "certificate":
                certificate, at = cbor.decode_at(signature, at)
            elif key == "tree":
                tree, at = hash_tree.decode_at(signature, at)
    except (cbor.CborError, IndexError) as error:
        raise CertificationError(f"malformed signature: {error}") from error
    if at != len(signature) or type(certificate) is not bytes or tree is None:
        raise CertificationError("malformed signature: certificate or tree is missing")
    return certificate, tree
