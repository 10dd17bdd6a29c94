"""Certificates: a part of a subnet's state tree with the signature over its root, and the delegation that vouches for the key.

Rule module. Spec: interface spec, "Certificate", "Delegation" and "Encoding of certificates".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cbor2

from ic_types import bls, cbor, hash_tree
from ic_types.errors import CertificationError
from ic_types.hash_tree import Found, HashTree, LookupResult
from ic_types.leb128 import decode_nat
from ic_types.principal import MAX_BYTES, CanisterId, Principal, SubnetId
from ic_types.units import TimeNs
from subnet.certification.state_tree import CANISTER_RANGES, SUBNET, TIME, Range, StateTree

_FIELDS = {"tree", "signature", "delegation"}


@dataclass(frozen=True, slots=True)
class Delegation:
    """The root subnet's word that a subnet has a key: a certificate of the root subnet, in CBOR."""

    subnet_id: SubnetId
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """A partial state tree and the subnet's signature (48 bytes) over its root."""

    tree: HashTree
    signature: bytes
    delegation: Delegation | None = None
    """None in certificates of the root subnet."""

    def lookup(self, *path: bytes) -> LookupResult:
        """What the certificate says about the value at a path. Spec: "Lookup"."""
        return hash_tree.lookup_path(path, self.tree)

    def time(self) -> TimeNs:
        """When the certified state was current. Raises: CertificationError if it doesn't say."""
        match self.lookup(TIME):
            case Found(value):
                return TimeNs(_nat(value))
        raise CertificationError("certificate has no /time")


def make_certificate(
    state: StateTree, paths: Iterable[tuple[bytes, ...]], signature: bytes, delegation: Delegation | None = None
) -> bytes:
    """CBOR of the certificate for these paths and `/time`; the signature is that over the root of `state` as it is."""
    return encode_certificate(Certificate(state.witness(paths), signature, delegation))


def encode_certificate(certificate: Certificate) -> bytes:
    """CBOR of a certificate, with the self-describing tag."""
    parts = [cbor.SELF_DESCRIBED, b"\xa2" if certificate.delegation is None else b"\xa3"]
    parts += [cbor2.dumps("tree"), hash_tree.encode(certificate.tree)]
    parts += [cbor2.dumps("signature"), cbor2.dumps(certificate.signature)]
    if certificate.delegation is not None:
        parts.append(_encoded_delegation(certificate.delegation))
    return b"".join(parts)


def with_delegation(raw: bytes, delegation: Delegation) -> bytes:
    """A certificate as `encode_certificate` made it without delegation, with one."""
    head = cbor.SELF_DESCRIBED + b"\xa2"
    assert raw.startswith(head), "the certificate has a delegation already"
    return cbor.SELF_DESCRIBED + b"\xa3" + raw[len(head) :] + _encoded_delegation(delegation)


def _encoded_delegation(delegation: Delegation) -> bytes:
    fields = {"subnet_id": bytes(delegation.subnet_id), "certificate": delegation.certificate}
    return cbor2.dumps("delegation") + cbor2.dumps(fields)


def decode_certificate(raw: bytes) -> Certificate:
    """The certificate in these bytes; nothing is verified.

    Raises: CertificationError when they are malformed.
    """
    try:
        fields, tree = _fields(raw)
    except (cbor.CborError, IndexError) as error:
        raise CertificationError(f"malformed certificate: {error}") from error
    signature, delegation = fields.get("signature"), fields.get("delegation")
    if tree is None or type(signature) is not bytes:
        raise CertificationError("certificate lacks its tree or a signature in bytes")
    if delegation is None:
        return Certificate(tree, signature)
    if type(delegation) is not dict or delegation.keys() != {"subnet_id", "certificate"}:
        raise CertificationError("delegation of a certificate must have subnet_id and certificate")
    subnet_id, inner = delegation["subnet_id"], delegation["certificate"]
    if type(subnet_id) is not bytes or len(subnet_id) > MAX_BYTES or type(inner) is not bytes:
        raise CertificationError("delegation of a certificate has a malformed subnet_id or certificate")
    return Certificate(tree, signature, Delegation(Principal(subnet_id), inner))


def verify_certificate(raw: bytes, root_key: bytes, *, canister_id: CanisterId | None = None) -> Certificate:
    """The certificate, if it is signed by the root key (96 bytes) or by a subnet that the root key vouches for.

    With `canister_id`, a delegation must also cover that canister.

    Raises: CertificationError saying what fails.
    Spec: "Certificate", `verify_cert`; "Delegation", `check_delegation`.
    """
    certificate = decode_certificate(raw)
    key = root_key
    if certificate.delegation is not None:
        key = delegated_key(certificate.delegation, root_key, canister_id=canister_id)
    root = hash_tree.reconstruct(certificate.tree)
    if not bls.verify(key, bls.with_domain(bls.STATE_ROOT, root), certificate.signature):
        raise CertificationError(f"signature of the certificate isn't over its root {root.hex()} by the expected subnet")
    return certificate


def delegated_key(delegation: Delegation, root_key: bytes, *, canister_id: CanisterId | None = None) -> bytes:
    """Key (96 bytes) of the subnet that the root subnet delegates to.

    Raises: CertificationError when the delegation doesn't verify, has no key or doesn't cover the canister.
    """
    inner = decode_certificate(delegation.certificate)
    if inner.delegation is not None:
        raise CertificationError("certificate of a delegation has a delegation of its own")
    root = hash_tree.reconstruct(inner.tree)
    if not bls.verify(root_key, bls.with_domain(bls.STATE_ROOT, root), inner.signature):
        raise CertificationError("delegation is not signed by the root subnet")
    subnet = delegation.subnet_id
    match inner.lookup(SUBNET, subnet, b"public_key"):
        case Found(der):
            key = bls.from_der(der)
        case _:
            raise CertificationError(f"delegation has no key of subnet {subnet}")
    if canister_id is not None and not any(first <= canister_id <= last for first, last in certified_ranges(inner, subnet)):
        raise CertificationError(f"delegation to subnet {subnet} doesn't cover canister {canister_id}")
    return key


def certified_ranges(certificate: Certificate, subnet: SubnetId) -> list[Range]:
    """Canister ranges of a subnet that a certificate reveals, in shards or as one.

    Raises: CertificationError when one is malformed.
    """
    found = hash_tree.subtree((CANISTER_RANGES, subnet), certificate.tree)
    shards: list[bytes] = []
    if not isinstance(found, hash_tree.Absent | hash_tree.Unknown):
        shards = [raw for _, raw in hash_tree.leaves(found)]
    if not shards:
        flat = certificate.lookup(SUBNET, subnet, b"canister_ranges")
        shards = [flat.value] if isinstance(flat, Found) else []
    return [one for raw in shards for one in decode_ranges(raw)]


def decode_ranges(raw: bytes) -> list[Range]:
    """The ranges in a leaf. Raises: CertificationError when it is malformed."""
    try:
        rows = cbor.decode(raw)
    except cbor.CborError as error:
        raise CertificationError(f"malformed canister ranges: {error}") from error
    if type(rows) is not list or not all(_is_range(row) for row in rows):
        raise CertificationError("malformed canister ranges: expected pairs of principals")
    return [(Principal(row[0]), Principal(row[1])) for row in rows]  # type: ignore[index, arg-type]


def _is_range(row: object) -> bool:
    return isinstance(row, Sequence) and len(row) == 2 and all(type(end) is bytes and len(end) <= MAX_BYTES for end in row)


def _fields(raw: bytes) -> tuple[dict[str, cbor.Plain], HashTree | None]:
    """The fields of a certificate's map; the tree is read apart, since it is deep and has its own strict reader."""
    at = 3 if raw.startswith(cbor.SELF_DESCRIBED) else 0
    if raw[at] not in (0xA2, 0xA3):
        raise CertificationError("certificate is no map of two or three fields")
    count = raw[at] - 0xA0
    at += 1
    fields: dict[str, cbor.Plain] = {}
    tree: HashTree | None = None
    for _ in range(count):
        key, at = cbor.decode_at(raw, at)
        if not isinstance(key, str) or key not in _FIELDS or key in fields:
            raise CertificationError(f"certificate has a wrong or repeated field {key!r:.60}")
        if key == "tree":
            tree, at = hash_tree.decode_at(raw, at)
            fields[key] = None
        else:
            fields[key], at = cbor.decode_at(raw, at)
    if at != len(raw):
        raise CertificationError(f"{len(raw) - at} bytes after the end of the certificate")
    return fields, tree


def _nat(raw: bytes) -> int:
    try:
        return decode_nat(raw)
    except ValueError as error:
        raise CertificationError(f"malformed number in a certificate: {error}") from error
