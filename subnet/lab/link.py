"""How commands speak to a network: the same few questions over its control socket or over HTTP.

Plumbing. What a canister is like is read from certificates, which are verified with the network's root key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from configs.topology_reader import DEFAULT_IDENTITY
from ic_types import bls, cbor, hash_tree
from ic_types.candid.did import DidFile
from ic_types.errors import CertificationError, NetworkError
from ic_types.hash_tree import Found
from ic_types.identity import Identity
from ic_types.principal import CanisterId, Principal
from subnet.certification.certificate import Certificate, decode_certificate, verify_certificate
from subnet.lab.calls import DEFAULT_ROUNDS, Caller, reply_of

CANISTER = b"canister"
Path = tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanisterFacts:
    """What certificates say about a canister."""

    module_hash: bytes | None
    """None when it is empty."""
    controllers: tuple[Principal, ...]


class Link(Protocol):
    """A network."""

    where: str
    """What messages call it."""
    root_key: bytes
    """Of the whole network, in DER."""
    canisters: Mapping[str, CanisterId]
    """The canisters of the network's topology by name; empty when that isn't known."""

    def call(self, identity: Identity, canister_id: CanisterId, method: str, arg: bytes, effective: CanisterId) -> bytes:
        """The reply to an update call; `effective` is the canister that a management call is about.

        Raises: CallRejected; NetworkError without an answer.
        """
        ...

    def query(self, identity: Identity, canister_id: CanisterId, method: str, arg: bytes, effective: CanisterId) -> bytes:
        """The reply to a query.

        Raises: CallRejected; NetworkError without an answer.
        """
        ...

    def read(self, identity: Identity, canister_id: CanisterId, path: Path) -> bytes | None:
        """The certified value at a path below `/canister/<id>`; None when there provably is none.

        Raises: CertificationError when the certificate doesn't verify; NetworkError when it may not be read.
        """
        ...

    def place(self, subnet: str | None) -> CanisterId:
        """An id in the range of a subnet, by its name or id; by default of the first application subnet.

        Raises: BadInput when there is no such subnet.
        """
        ...

    def subnet_of(self, canister_id: CanisterId) -> str:
        """Name or id of the subnet that a canister is on; empty when that isn't known."""
        ...

    def topology_identity(self, name: str | None) -> Identity | None:
        """An identity of the network's topology, None when there is none of this name; without a name the first.

        A topology that says nothing of identities and canisters has no first one: whoever uses it brings their own.
        """
        ...

    def service(self, name: str) -> DidFile | None:
        """The service file that the network's topology gives a canister."""
        ...


def fingerprint(link: Link) -> str:
    """What tells networks apart in files; networks of one topology and seed have one root key, hence one fingerprint."""
    return hashlib.sha256(link.root_key).hexdigest()[:16]


def facts_of(link: Link, identity: Identity, canister_id: CanisterId) -> CanisterFacts | None:
    """What is certified about a canister; None when it doesn't exist.

    Raises: CertificationError; NetworkError.
    """
    raw = link.read(identity, canister_id, (b"controllers",))
    if raw is None:
        return None
    try:
        controllers = cbor.decode(raw)
    except cbor.CborError as error:
        raise CertificationError(f"controllers of {canister_id} are malformed: {error}") from None
    if not isinstance(controllers, list) or not all(isinstance(one, bytes) for one in controllers):
        raise CertificationError(f"controllers of {canister_id} are no list of principals")
    return CanisterFacts(
        module_hash=link.read(identity, canister_id, (b"module_hash",)),
        controllers=tuple(Principal(bytes(one)) for one in controllers if isinstance(one, bytes)),
    )


def value_in(certificate: Certificate, path: Path) -> bytes | None:
    """The value at a path, or None when it provably has none.

    Raises: CertificationError when the certificate doesn't say.
    """
    match certificate.lookup(*path):
        case Found(value):
            return value
        case hash_tree.Absent():
            return None
    shown = "/".join(label.decode("utf-8", "backslashreplace") for label in path)
    raise CertificationError(f"the certificate doesn't say what is at /{shown}")


class ControlLink:
    """Over the control socket of a network on this machine; calls make the rounds that they need."""

    def __init__(self, caller: Caller, where: str) -> None:
        self.caller = caller
        self.where = where
        registry = caller.description.registry
        root = next(one for one in registry.subnets if one.subnet_id == registry.root)
        self.root_key = bls.to_der(root.public_key)
        self.canisters: Mapping[str, CanisterId] = {one.name: one.canister_id for one in caller.description.canisters}

    def call(
        self,
        identity: Identity,
        canister_id: CanisterId,
        method: str,
        arg: bytes,
        effective: CanisterId,
        rounds: int = DEFAULT_ROUNDS,
    ) -> bytes:
        """See `Link`; the answer has to come within so many rounds."""
        message_id = self.caller.submit(identity, canister_id, method, arg, effective)
        return reply_of(self.caller.wait([message_id], rounds)[0], method, rounds)

    def query(self, identity: Identity, canister_id: CanisterId, method: str, arg: bytes, effective: CanisterId) -> bytes:
        """See `Link`."""
        return self.caller.query(identity, canister_id, method, arg)

    def read(self, identity: Identity, canister_id: CanisterId, path: Path) -> bytes | None:
        """See `Link`; nothing is hidden from the owner of the machine."""
        import cbor2

        subnet = self.caller.subnet_of(canister_id)
        whole = (CANISTER, bytes(canister_id), *path)
        found = cbor2.loads(self.caller.client.inspect(subnet.subnet_id, "read_state", whole))
        if not isinstance(found, bytes) or not found:
            raise NetworkError("the network has certified no round yet; `icsim advance` makes one")
        # The registry names every subnet's key, so the root subnet needn't have vouched for it yet.
        key = subnet.public_key if decode_certificate(found).delegation is None else bls.from_der(self.root_key)
        return value_in(verify_certificate(found, key, canister_id=canister_id), whole)

    def place(self, subnet: str | None) -> CanisterId:
        """See `Link`."""
        records = self.caller.description.registry.subnets
        if subnet is not None:
            return self.caller.subnet(subnet).range_start
        return next((one for one in records if one.subnet_type != "system"), records[0]).range_start

    def subnet_of(self, canister_id: CanisterId) -> str:
        """See `Link`."""
        return self.caller.subnet_of(canister_id).name

    def topology_identity(self, name: str | None) -> Identity | None:
        """See `Link`."""
        known = self.caller.description.identities
        if name is None:
            is_bare = not self.canisters and known in ((), (DEFAULT_IDENTITY,))
            return None if is_bare else self.caller.identity(None)
        return self.caller.identity(name) if name in known else None

    def service(self, name: str) -> DidFile | None:
        """See `Link`."""
        return self.caller.about.service(name)
