"""A client of the HTTP interface from the specification alone: nothing of ours but the pairing is in it."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ic_types import bls

TAG = b"\xd9\xd9\xf7"
ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")
MINUTE = 60 * 10**9


def sha256(*parts: bytes) -> bytes:
    """Digest of the parts in a row."""
    return hashlib.sha256(b"".join(parts)).digest()


def leb128(number: int) -> bytes:
    """Shortest unsigned form."""
    out = bytearray()
    while True:
        out.append(number & 127 | (128 if number > 127 else 0))
        number >>= 7
        if not number:
            return bytes(out)


def from_leb128(raw: bytes) -> int:
    """The number."""
    return sum((byte & 127) << 7 * k for k, byte in enumerate(raw))


def hash_of(value: Any) -> bytes:
    """Representation-independent hash of a value."""
    if isinstance(value, dict):
        return sha256(*sorted(sha256(key.encode()) + hash_of(item) for key, item in value.items()))
    if isinstance(value, list):
        return sha256(*map(hash_of, value))
    if isinstance(value, int):
        return sha256(leb128(value))
    return sha256(value.encode() if isinstance(value, str) else value)


class Key:
    """An Ed25519 user."""

    def __init__(self, seed: bytes | None = None) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(seed or os.urandom(32))
        self.der = ED25519_PREFIX + self.private.public_key().public_bytes_raw()
        self.principal = hashlib.sha224(self.der).digest() + b"\x02"

    def sign(self, domain: str, payload: bytes) -> bytes:
        """Over the payload with its domain separator."""
        return self.private.sign(bytes((len(domain),)) + domain.encode() + payload)


def delegation(signer: Key, to: Key, expiration: int, **more: Any) -> dict[str, Any]:
    """A signed delegation."""
    inner = {"pubkey": to.der, "expiration": expiration, **more}
    return {"delegation": inner, "signature": signer.sign("ic-request-auth-delegation", hash_of(inner))}


def envelope(
    content: dict[str, Any], key: Key | None = None, chain: list[Any] | None = None, signer: Key | None = None
) -> bytes:
    """A signed or anonymous request; a chain of delegations ends at the signer."""
    whole: dict[str, Any] = {"content": content}
    if key is not None:
        whole |= {"sender_pubkey": key.der, "sender_sig": (signer or key).sign("ic-request", hash_of(content))}
    if chain is not None:
        whole["sender_delegation"] = chain
    return TAG + cbor2.dumps(whole)


@dataclass(slots=True)
class Answer:
    """Of the server."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def text(self) -> str:
        """Of an error."""
        return self.body.decode("utf-8", "replace")

    @property
    def cbor(self) -> dict[str, Any]:
        """Of an answer that has a body in CBOR, which is tagged."""
        assert self.status == 200, f"{self.status}: {self.text[:300]}"
        assert self.body.startswith(TAG), "answers are tagged"
        assert self.headers["content-type"] == "application/cbor"
        found: dict[str, Any] = cbor2.loads(self.body[3:])
        return found


@dataclass(slots=True)
class RawClient:
    """One keep-alive connection."""

    url: str
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One exchange."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body, sent)
        response = self.connection.getresponse()
        return Answer(response.status, response.read(), {name.lower(): value for name, value in response.getheaders()})

    def post(self, path: str, body: bytes, content_type: str = "application/cbor") -> Answer:
        """A request in CBOR."""
        return self.request("POST", path, body, Content_Type=content_type)


def content(kind: str, sender: bytes = b"\x04", **fields: Any) -> dict[str, Any]:
    """Content of a request that expires in four minutes."""
    return {"request_type": kind, "sender": sender, "ingress_expiry": time.time_ns() + 4 * MINUTE, **fields}


# --- certificates


def root_of(tree: Any) -> bytes:
    """Digest of a hash tree as decoded from CBOR."""

    def domain(name: str) -> bytes:
        return bytes((len(name),)) + name.encode()

    match tree:
        case [0]:
            return sha256(domain("ic-hashtree-empty"))
        case [1, left, right]:
            return sha256(domain("ic-hashtree-fork"), root_of(left), root_of(right))
        case [2, label, below]:
            return sha256(domain("ic-hashtree-labeled"), label, root_of(below))
        case [3, value]:
            return sha256(domain("ic-hashtree-leaf"), value)
        case [4, digest]:
            return bytes(digest)
    raise AssertionError(f"no hash tree: {tree}")


def row_of(tree: Any) -> list[Any]:
    """The trees beside each other."""
    if tree[0] == 0:
        return []
    return row_of(tree[1]) + row_of(tree[2]) if tree[0] == 1 else [tree]


def look(tree: Any, *path: bytes) -> bytes | str:
    """The value at a path, or absent, unknown or error."""
    if not path:
        return {0: "absent", 3: tree[-1], 4: "unknown"}.get(tree[0], "error")  # type: ignore[no-any-return]
    row = row_of(tree)
    for one in row:
        if one[0] == 2 and one[1] == path[0]:
            return look(one[2], *path[1:])
    if not row or row[0][0] == 3:
        return "absent"
    for before, after in zip([None, *row], [*row, None], strict=True):
        smaller = before is None or (before[0] == 2 and before[1] < path[0])
        larger = after is None or (after[0] == 2 and after[1] > path[0])
        if smaller and larger:
            return "absent"
    return "unknown"


def labels(tree: Any, *path: bytes) -> list[bytes]:
    """Labels that are revealed below a path."""
    for label in path:
        found = [one[2] for one in row_of(tree) if one[0] == 2 and one[1] == label]
        if not found:
            return []
        tree = found[0]
    return [one[1] for one in row_of(tree) if one[0] == 2]


def untagged(raw: bytes) -> dict[str, Any]:
    """A tagged map."""
    assert raw.startswith(TAG), "certificates are tagged"
    found: dict[str, Any] = cbor2.loads(raw[len(TAG) :])
    return found


def verified(raw: bytes, root_key_der: bytes) -> dict[str, Any]:
    """A certificate that is good under the root key, with its delegation decoded."""
    certificate = untagged(raw)
    key = root_key_der
    if "delegation" in certificate:
        inner = untagged(certificate["delegation"]["certificate"])
        assert "delegation" not in inner
        check_signature(inner, root_key_der)
        found = look(inner["tree"], b"subnet", certificate["delegation"]["subnet_id"], b"public_key")
        assert isinstance(found, bytes), found
        key, certificate["inner"] = found, inner
    check_signature(certificate, key)
    return certificate


def check_signature(certificate: dict[str, Any], key_der: bytes) -> None:
    """Raises: AssertionError when it isn't the key's."""
    payload = b"\x0dic-state-root" + root_of(certificate["tree"])
    assert len(key_der) == 133
    assert bls.verify(key_der[37:], payload, certificate["signature"]), "the signature is wrong"


def check_node_signature(answer: dict[str, Any], request: dict[str, Any], node_key_der: bytes) -> None:
    """Raises: when the query's answer isn't signed by the node with this key."""
    (one,) = answer["signatures"]
    fields = {name: value for name, value in answer.items() if name != "signatures"}
    fields |= {"timestamp": one["timestamp"], "request_id": hash_of(request)}
    assert len(node_key_der) == 44
    key = Ed25519PublicKey.from_public_bytes(node_key_der[12:])
    key.verify(one["signature"], b"\x0bic-response" + hash_of(fields))
