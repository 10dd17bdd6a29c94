"""A network behind a URL: calls, queries and certified reads over the interface that all IC clients speak.

Plumbing. Spec: interface spec, "HTTPS interface". Every certificate is verified, and so is
the signature of the node that answers a query.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ic_types import bls, hash_tree
from ic_types.candid.did import DidFile
from ic_types.envelope import build_envelope, read_envelope
from ic_types.errors import BadInput, CertificationError, InvalidPrincipal, NetworkError
from ic_types.identity import ED25519_DER_PREFIX, AnonymousIdentity, Identity
from ic_types.leb128 import decode_nat
from ic_types.principal import CanisterId, Principal, SubnetId
from ic_types.request_id import hash_of_map
from ic_types.units import TimeNs
from subnet.certification.certificate import Certificate, certified_ranges, verify_certificate
from subnet.lab.calls import CallRejected
from subnet.lab.http_wire import HttpWire, Unreachable, shown
from subnet.lab.link import CANISTER, Path, value_in

MAINNET_HOSTS = ("ic0.app", "icp0.io", "icp-api.io", "internetcomputer.org")
MAINNET_ROOT_KEY = bytes.fromhex(
    "308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100814c0e6ec71fab583b08bd81373c255c3c371b2e84863c98a4f1"
    "e08b74235d14fb5d9c0cd546d9685f913a0c0b2cc5341583bf4b4392e467db96d65b9bb4cb717112f8472e0d5a4d14505ffd7484b01291091c5f87b9888346"
    "3f98091a0baaae"
)
"""Known beforehand, so that nobody on the way can pass off another network; other networks say theirs themselves."""
EXPIRY_NS = 240_000_000_000
STALE_NS = 300_000_000_000
"""Certificates and signatures that are older by the wall clock are refused."""
ANSWER_S = 300.0
"""How long an update call may take."""
LOST_S = 20.0
"""How long to look for a call that may not have arrived."""
_POLL_S = (0.1, 1.0)
_REQUEST_STATUS = b"request_status"


class HttpAgent:
    """One network; satisfies `subnet.lab.link.Link`."""

    def __init__(self, url: str, root_key: bytes | None = None, *, clock: Callable[[], int] = time.time_ns) -> None:
        """Asks the network for its root key when that isn't given and the URL isn't mainnet's.

        Raises: BadInput when the URL is none; NetworkError when nobody answers there.
        """
        self._wire = HttpWire(url)
        self.where = self._wire.where
        self.canisters: Mapping[str, CanisterId] = {}
        self._clock = clock
        is_mainnet = any(self._wire.host == one or self._wire.host.endswith(f".{one}") for one in MAINNET_HOSTS)
        self.root_key = root_key or (MAINNET_ROOT_KEY if is_mainnet else self._asked_root_key())
        self._key = bls.from_der(self.root_key)
        self._node_keys: dict[SubnetId, dict[bytes, bytes]] = {}

    # --- what `Link` asks for

    def call(self, identity: Identity, canister_id: CanisterId, method: str, arg: bytes, effective: CanisterId) -> bytes:
        """See `Link`."""
        request_id, body = self._signed(identity, "call", _about(canister_id, method, arg), nonce=os.urandom(16))
        what = f"call of {method}"
        try:
            status, raw = self._wire.asked(("v4", "v3", "v2"), f"canister/{effective}/call", body)
        except Unreachable:
            raise
        except NetworkError as error:
            return self._polled_after(error, identity, effective, request_id, what)
        if status == 200:
            answer = self._wire.map(raw, "call")
            if "reject_code" in answer:
                raise _rejected(answer, what)
            if answer.get("status") == "replied" and isinstance(certificate := answer.get("certificate"), bytes):
                outcome = self._outcome(self._verified(certificate, effective), request_id, what)
                if outcome is not None:
                    return outcome
        elif status != 202:
            raise NetworkError(f"{what} is refused by {self.where} with HTTP status {status}: {shown(raw)}")
        return self._polled(identity, effective, request_id, what, ANSWER_S)

    def query(self, identity: Identity, canister_id: CanisterId, method: str, arg: bytes, effective: CanisterId) -> bytes:
        """See `Link`."""
        request_id, body = self._signed(identity, "query", _about(canister_id, method, arg), nonce=os.urandom(16))
        what = f"query {method}"
        status, raw = self._wire.asked(("v3", "v2"), f"canister/{effective}/query", body)
        if status != 200:
            raise NetworkError(f"{what} is refused by {self.where} with HTTP status {status}: {shown(raw)}")
        answer = self._wire.map(raw, "query")
        self._check_signatures(answer, request_id, effective)
        if answer.get("status") == "rejected":
            raise _rejected(answer, what)
        reply = answer.get("reply")
        if not isinstance(reply, dict) or not isinstance(found := reply.get("arg"), bytes):
            raise NetworkError(f"{self.where} answers a query with neither a reply nor a reject")
        return found

    def read(self, identity: Identity, canister_id: CanisterId, path: Path) -> bytes | None:
        """See `Link`."""
        whole = (CANISTER, bytes(canister_id), *path)
        return value_in(self._read_state(identity, canister_id, whole), whole)

    def place(self, subnet: str | None) -> CanisterId:
        """See `Link`."""
        root = Principal.self_authenticating(self.root_key)
        wanted = root if subnet is None else _subnet_id(subnet)
        if subnet is None:
            found = hash_tree.subtree((b"subnet",), self._read_subnet(root, (b"subnet",)).tree)
            if not isinstance(found, hash_tree.Absent | hash_tree.Unknown):
                types = {path[0]: value for path, value in hash_tree.leaves(found) if path[1:] == (b"type",)}
                wanted = Principal(min((one for one in types if types[one] != b"system"), default=root))
        ranges = certified_ranges(self._read_subnet(wanted, (b"canister_ranges", bytes(wanted))), wanted)
        if not ranges:
            raise BadInput(f"{self.where} says of no canister that it is on subnet {wanted}")
        return ranges[0][0]

    def subnet_of(self, canister_id: CanisterId) -> str:
        """See `Link`."""
        delegation = self._read_state(AnonymousIdentity(), canister_id, (b"time",)).delegation
        return (Principal.self_authenticating(self.root_key) if delegation is None else delegation.subnet_id).to_text()

    def topology_identity(self, name: str | None) -> Identity | None:
        """Networks behind a URL keep their topology to themselves."""
        return None

    def service(self, name: str) -> DidFile | None:
        """Networks behind a URL keep their topology to themselves."""
        return None

    # --- answers

    def _polled(self, identity: Identity, effective: CanisterId, request_id: bytes, what: str, seconds: float) -> bytes:
        deadline, pause = time.monotonic() + seconds, _POLL_S[0]
        while time.monotonic() < deadline:
            certificate = self._read_state(identity, effective, (_REQUEST_STATUS, request_id))
            outcome = self._outcome(certificate, request_id, what)
            if outcome is not None:
                return outcome
            time.sleep(pause)
            pause = min(pause * 1.4, _POLL_S[1])
        raise NetworkError(f"{what} is not answered after {seconds:.0f} s; its request id is {request_id.hex()}")

    def _polled_after(
        self, lost: NetworkError, identity: Identity, effective: CanisterId, request_id: bytes, what: str
    ) -> bytes:
        """The answer of a call whose connection broke: it may have arrived all the same."""
        try:
            return self._polled(identity, effective, request_id, what, LOST_S)
        except NetworkError:
            raise NetworkError(f"{lost}; whether {what} was made isn't known, its request id is {request_id.hex()}") from None

    def _outcome(self, certificate: Certificate, request_id: bytes, what: str) -> bytes | None:
        """The reply, or None while there is no outcome."""

        def field(name: bytes) -> bytes | None:
            return value_in(certificate, (_REQUEST_STATUS, request_id, name))

        status = field(b"status")
        if status == b"replied":
            reply = field(b"reply")
            if reply is None:
                raise CertificationError(f"the certificate says that {what} was replied to, but not how")
            return reply
        if status == b"rejected":
            code = field(b"reject_code")
            message, error_code = (field(name) or b"" for name in (b"reject_message", b"error_code"))
            shown = message.decode("utf-8", "replace")
            raise CallRejected(decode_nat(code or b"\0"), shown, error_code.decode("utf-8", "replace"), what=what)
        if status == b"done":
            raise NetworkError(f"{what} was answered, but the network keeps the answer no more")
        return None

    def _check_signatures(self, answer: dict[str, Any], request_id: bytes, effective: CanisterId) -> None:
        """Spec: "Request: Query call", `verify_response`."""
        names = ("reply",) if answer.get("status") == "replied" else ("reject_code", "reject_message", "error_code")
        fields = {name: answer[name] for name in ("status", *names) if name in answer}
        signatures = answer.get("signatures")
        if not isinstance(signatures, list) or not signatures:
            raise CertificationError(f"{self.where} answers a query without a node's signature")
        keys = self._keys_of_nodes(effective)
        for one in signatures:
            if not isinstance(one, dict) or not isinstance(stamp := one.get("timestamp"), int):
                raise CertificationError("a node's signature is malformed")
            key, signature = keys.get(bytes(one.get("identity", b""))), one.get("signature")
            if key is None or not isinstance(signature, bytes):
                raise CertificationError("a query is signed by a node that isn't of the canister's subnet")
            self._check_age(stamp, "a query's signature")
            digest = hash_of_map({**fields, "timestamp": stamp, "request_id": request_id})
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signature, b"\x0bic-response" + digest)
            except InvalidSignature:
                raise CertificationError("a node's signature isn't over the answer of the query") from None

    def _keys_of_nodes(self, effective: CanisterId) -> dict[bytes, bytes]:
        certificate = self._read_state(AnonymousIdentity(), effective, (b"subnet",))
        delegation = certificate.delegation
        subnet = Principal.self_authenticating(self.root_key) if delegation is None else delegation.subnet_id
        if subnet not in self._node_keys:
            found = hash_tree.subtree((b"subnet", bytes(subnet), b"node"), certificate.tree)
            if isinstance(found, hash_tree.Absent | hash_tree.Unknown):
                raise CertificationError(f"{self.where} doesn't say which nodes subnet {subnet} has")
            self._node_keys[subnet] = {
                path[0]: der.removeprefix(ED25519_DER_PREFIX)
                for path, der in hash_tree.leaves(found)
                if path[1:] == (b"public_key",) and len(der) == len(ED25519_DER_PREFIX) + 32
            }
        return self._node_keys[subnet]

    # --- certificates

    def _read_state(self, identity: Identity, canister_id: CanisterId, path: Path) -> Certificate:
        return self._read(identity, f"canister/{canister_id}", path, canister_id)

    def _read_subnet(self, subnet: SubnetId, path: Path) -> Certificate:
        return self._read(AnonymousIdentity(), f"subnet/{subnet}", path, None)

    def _read(self, identity: Identity, whose: str, path: Path, canister_id: CanisterId | None) -> Certificate:
        _, body = self._signed(identity, "read_state", {"paths": [list(path)]})
        status, raw = self._wire.asked(("v3", "v2"), f"{whose}/read_state", body)
        if status != 200:
            raise NetworkError(f"{self.where} refuses to show a part of its state with HTTP status {status}: {shown(raw)}")
        found = self._wire.map(raw, "read_state").get("certificate")
        if not isinstance(found, bytes):
            raise NetworkError(f"{self.where} answers read_state without a certificate")
        return self._verified(found, canister_id)

    def _verified(self, raw: bytes, canister_id: CanisterId | None) -> Certificate:
        certificate = verify_certificate(raw, self._key, canister_id=canister_id or None)
        self._check_age(certificate.time(), "the certificate")
        return certificate

    def _check_age(self, then: int, what: str) -> None:
        age = self._clock() - then
        if abs(age) > STALE_NS:
            raise CertificationError(
                f"{what} of {self.where} is {abs(age) / 1e9:,.0f} s {'old' if age > 0 else 'ahead'}; at most "
                f"{STALE_NS / 1e9:.0f} are allowed (networks in virtual time are reached by --network NAME)"
            )

    # --- the wire

    def _signed(
        self, identity: Identity, kind: str, content: dict[str, Any], nonce: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """Request id and envelope."""
        expiry = TimeNs(self._clock() + EXPIRY_NS)
        body = build_envelope(identity, {"request_type": kind, **content}, expiry, nonce)
        return read_envelope(body, kind).request_id, body

    def _asked_root_key(self) -> bytes:
        status, raw = self._wire.send("GET", "/api/v2/status", None)
        found = self._wire.map(raw, "status").get("root_key") if status == 200 else None
        if not isinstance(found, bytes):
            raise NetworkError(f"{self.where} is no network: /api/v2/status answers with HTTP status {status} and no root key")
        return found


def _about(canister_id: CanisterId, method: str, arg: bytes) -> dict[str, Any]:
    return {"canister_id": bytes(canister_id), "method_name": method, "arg": arg}


def _rejected(answer: dict[str, Any], what: str) -> CallRejected:
    code, message, error_code = (answer.get(name) for name in ("reject_code", "reject_message", "error_code"))
    return CallRejected(code if isinstance(code, int) else 0, str(message), str(error_code or ""), what=what)


def _subnet_id(text: str) -> SubnetId:
    try:
        return Principal.from_text(text)
    except InvalidPrincipal as error:
        raise BadInput(f"--subnet {text!r}: networks behind a URL know subnets by their ids only; {error}") from None
