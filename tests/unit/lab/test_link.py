"""The line over a control socket: whose identity is the first, what isn't certified yet, where canisters are made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cbor2
import pytest

from configs.loader import LOCAL, load_topology
from ic_types import bls
from ic_types.errors import CertificationError, NetworkError
from ic_types.identity import AnonymousIdentity, Ed25519Identity
from ic_types.principal import Principal
from subnet.lab.link import ControlLink, facts_of
from tests.support.fake_gateway import APP_SECRET, CANISTER, FORGED_SECRET, ROOT_SECRET, certificate

NOBODY = AnonymousIdentity()
FIRST = Ed25519Identity(bytes(32))


def link_to(canisters: tuple[str, ...] = (), identities: tuple[str, ...] = (), read: bytes = b"") -> ControlLink:
    """A line to a network of two subnets that answers every read with these bytes."""
    subnets = [
        SimpleNamespace(subnet_id="nns", subnet_type="system", public_key=bls.public_key(ROOT_SECRET), range_start="first"),
        SimpleNamespace(
            subnet_id="app", subnet_type="application", public_key=bls.public_key(APP_SECRET), range_start=CANISTER
        ),
    ]
    description = SimpleNamespace(
        registry=SimpleNamespace(subnets=subnets, root="nns"),
        canisters=[SimpleNamespace(name=name, canister_id=CANISTER) for name in canisters],
        identities=identities,
    )
    caller: Any = SimpleNamespace(
        description=description,
        identity=lambda name: FIRST,
        subnet_of=lambda canister_id: subnets[1],
        client=SimpleNamespace(inspect=lambda *_: cbor2.dumps(read)),
    )
    return ControlLink(caller, "net")


def test_a_bare_topology_has_no_first_identity() -> None:
    """Whoever deploys on it brings their own; names that it has are found all the same."""
    assert link_to(identities=("user",)).topology_identity(None) is None
    assert link_to(identities=("user",)).topology_identity("user") is FIRST
    assert link_to(identities=("alice",)).topology_identity(None) is FIRST
    assert link_to(canisters=("ledger",), identities=("user",)).topology_identity(None) is FIRST
    assert link_to(identities=("alice",)).topology_identity("bob") is None


def test_certificates_are_verified_without_a_delegation_too() -> None:
    """The registry names the subnet's key; another key's certificate, or none at all, is no answer."""
    content = {b"canister": {bytes(CANISTER): {b"controllers": cbor2.dumps([b"\x04"]), b"module_hash": b"h"}}}
    facts = facts_of(link_to(read=certificate(content, APP_SECRET)), NOBODY, CANISTER)
    assert facts is not None
    assert (facts.controllers, facts.module_hash) == ((Principal(b"\x04"),), b"h")
    with pytest.raises(CertificationError, match="isn't over its root"):
        facts_of(link_to(read=certificate(content, FORGED_SECRET)), NOBODY, CANISTER)
    with pytest.raises(NetworkError, match="has certified no round yet; `icsim advance` makes one"):
        facts_of(link_to(), NOBODY, CANISTER)


def test_the_network_without_a_topology() -> None:
    """A system and an application subnet of one node; canisters are made on the latter."""
    topology = load_topology(LOCAL)
    assert [(one.name, one.kind.value, one.nodes) for one in topology.subnets] == [
        ("nns", "system", 1),
        ("app", "application", 1),
    ]
    assert link_to().place(None) == CANISTER
