"""A network behind HTTP without HTTP: certificates and answers of queries are really signed, and all of it corruptible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2

from ic_types import bls, cbor, hash_tree
from ic_types.errors import NetworkError
from ic_types.hash_tree import Empty, Fork, HashTree, Labeled, Leaf
from ic_types.identity import Ed25519Identity
from ic_types.leb128 import encode_nat
from ic_types.principal import CanisterId, Principal
from ic_types.request_id import hash_of_map
from subnet.certification.certificate import Certificate, Delegation, encode_certificate

NOW = 1_700_000_000_000_000_000
ROOT_SECRET, APP_SECRET, FORGED_SECRET = (bytes(31) + bytes([one]) for one in (3, 5, 7))
ROOT_KEY = bls.to_der(bls.public_key(ROOT_SECRET))
APP_KEY = bls.to_der(bls.public_key(APP_SECRET))
ROOT, APP = Principal.self_authenticating(ROOT_KEY), Principal.self_authenticating(APP_KEY)
NODE = Ed25519Identity(bytes([9]) * 32)
CANISTER = Principal.canister(1 << 20)
"""The first of subnet APP."""

Content = Mapping[bytes, "bytes | Content"]


def tree_of(content: Content) -> HashTree:
    """A hash tree of nested maps, with nothing pruned."""
    parts: list[HashTree] = [
        Labeled(label, Leaf(value) if isinstance(value, bytes) else tree_of(value)) for label, value in sorted(content.items())
    ]
    while len(parts) > 1:
        parts = [Fork(*parts[at : at + 2]) if at + 1 < len(parts) else parts[at] for at in range(0, len(parts), 2)]
    return parts[0] if parts else Empty()


def certificate(content: Content, secret: bytes, delegation: Delegation | None = None, time: int = NOW) -> bytes:
    """A certificate over this content and a time."""
    tree = tree_of({**content, b"time": encode_nat(time)})
    signature = bls.sign(secret, bls.with_domain(bls.STATE_ROOT, hash_tree.reconstruct(tree)))
    return encode_certificate(Certificate(tree, signature, delegation))


def delegation(first: CanisterId, last: CanisterId) -> Delegation:
    """The root subnet's word for APP and a range of canisters."""
    ranges = cbor.SELF_DESCRIBED + cbor2.dumps([[bytes(first), bytes(last)]])
    content: Content = {
        b"subnet": {bytes(APP): {b"public_key": APP_KEY}},
        b"canister_ranges": {bytes(APP): {bytes(first): ranges}},
    }
    return Delegation(APP, certificate(content, ROOT_SECRET))


@dataclass
class FakeGateway:
    """Answers requests of one agent; what it answers can be changed before it is sent."""

    state: dict[bytes, Any] = field(default_factory=dict)
    """Content of the tree beside `/time` and `/subnet`."""
    outcomes: dict[bytes, bytes] = field(default_factory=dict)
    """What becomes of a call, as fields of its request status."""
    missing: tuple[str, ...] = ()
    """Versions of the interface that it doesn't have."""
    waits: int = 0
    """Answers without an outcome before there is one."""
    secret: bytes = APP_SECRET
    range_end: CanisterId = Principal.canister((2 << 20) - 1)
    time: int = NOW
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Answers that are given whatever is asked, by the last part of the path."""
    busy: int = 0
    """So many requests are put off."""
    breaks: bool = False
    """The connection breaks after a call has arrived."""
    change: Callable[[dict[str, Any]], None] = lambda answer: None
    """Changes the answer of a query after it was signed."""
    signer: Ed25519Identity = NODE
    seen: list[str] = field(default_factory=list)
    """Paths in order."""

    def send(self, _verb: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """In place of HTTP."""
        self.seen.append(path)
        what = path.rpartition("/")[2]
        if self.busy and body is not None:
            self.busy -= 1
            return 503, b"no room"
        if what in self.answers:
            return self.answers[what]
        if path == "/api/v2/status":
            return 200, _map({"root_key": ROOT_KEY})
        if any(f"/{version}/" in path for version in self.missing):
            return 404, b"not found"
        assert body is not None
        content = cbor2.loads(body)["content"]
        if what == "call":
            answer = self._call(hash_of_map(content))
            if self.breaks:
                raise NetworkError("the connection broke")
            return answer
        return (200, self._query(hash_of_map(content))) if what == "query" else (200, self._read(path))

    def _call(self, request_id: bytes) -> tuple[int, bytes]:
        self.state[b"request_status"] = {request_id: {} if self.waits else self.outcomes}
        if self.waits:
            return 202, b""
        return 200, _map({"status": "replied", "certificate": self.certificate()})

    def _query(self, request_id: bytes) -> bytes:
        answer: dict[str, Any] = {"status": "replied", "reply": {"arg": b"DIDL\0\0"}}
        digest = hash_of_map({**answer, "timestamp": NOW, "request_id": request_id})
        signature = self.signer.sign(b"\x0bic-response" + digest)
        answer["signatures"] = [{"timestamp": NOW, "identity": bytes(NODE.principal), "signature": signature}]
        self.change(answer)
        return _map(answer)

    def _read(self, path: str) -> bytes:
        if "/subnet/" in path:
            ranges = cbor.SELF_DESCRIBED + cbor2.dumps([[bytes(CANISTER), bytes(self.range_end)]])
            shards = {bytes(APP): {bytes(CANISTER): ranges}}
            subnets = {bytes(ROOT): {b"type": b"system"}, bytes(APP): {b"type": b"application"}}
            return _map({"certificate": certificate({b"subnet": subnets, b"canister_ranges": shards}, ROOT_SECRET)})
        if self.waits and b"request_status" in self.state:
            self.waits -= 1
            ((request_id, _),) = self.state[b"request_status"].items()
            self.state[b"request_status"] = {request_id: {b"status": b"processing"} if self.waits else self.outcomes}
        return _map({"certificate": self.certificate()})

    def certificate(self) -> bytes:
        """Of the subnet APP."""
        nodes = {bytes(NODE.principal): {b"public_key": NODE.public_key_der}}
        content = {**self.state, b"subnet": {bytes(APP): {b"node": nodes}}}
        return certificate(content, self.secret, delegation(CANISTER, self.range_end), self.time)


def _map(fields: dict[str, Any]) -> bytes:
    return cbor.SELF_DESCRIBED + cbor2.dumps(fields)
