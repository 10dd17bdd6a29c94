"""A person at a network: who they are, which canisters they mean, and how those are spoken to.

Plumbing. Names of canisters are the project's, then the topology's. A canister's service is the one in its own public metadata,
then that of a service file, else unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from configs.argument import CallPlace, Names
from configs.topology import ANONYMOUS_NAME
from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.candid.did import DidFile
from ic_types.candid.encoder import encode
from ic_types.errors import BadInput, InvalidPrincipal, NetworkError
from ic_types.identity import AnonymousIdentity, Identity
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal
from subnet.lab.calls import MANAGEMENT_NAMES, Target
from subnet.lab.canister_names import CanisterNames
from subnet.lab.identity_store import IdentityStore
from subnet.lab.interface import Interface
from subnet.lab.link import CanisterFacts, Link, facts_of
from subnet.lab.management_service import management_interface

SELF = "self"
"""What stands for the acting identity in placeholders and controllers."""


class Session:
    """One identity on one network."""

    def __init__(
        self,
        link: Link,
        store: IdentityStore,
        names: CanisterNames,
        who: str | None = None,
        *,
        services: Callable[[str], DidFile | None] = lambda _: None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`who` is the name of an identity; `services` finds the service file of a canister by its name.

        Raises: BadInput when there is no such identity.
        """
        self.link = link
        self.store = store
        self.canister_names = names
        self._services = services
        self.who, self.identity = self._find_identity(who, notify)
        self.management = management_interface()

    def _find_identity(self, who: str | None, notify: Callable[[str], None]) -> tuple[str, Identity]:
        if who is None:
            if self.store.chosen is None and (first := self.link.topology_identity(None)) is not None:
                return SELF, first
            found, new = self.store.default()
            if new:
                notify(f"made the identity {found.name!r} ({found.identity.principal}); `icsim identity` shows and changes it")
            return found.name, found.identity
        return who, self.identity_named(who)

    # --- names

    def identity_named(self, name: str) -> Identity:
        """An identity of the topology, or else one that is kept.

        Raises: BadInput when there is none.
        """
        if name == ANONYMOUS_NAME:
            return AnonymousIdentity()
        return self.link.topology_identity(name) or self.store.get(name).identity

    def canister_id(self, which: str) -> CanisterId:
        """A canister by name or id.

        Raises: BadInput when there is none.
        """
        if which in MANAGEMENT_NAMES:
            return MANAGEMENT_CANISTER
        found = self.canister_names.get(which) or self.link.canisters.get(which)
        if found is not None:
            return found
        try:
            return Principal.from_text(which)
        except InvalidPrincipal:
            known = list(dict.fromkeys((*self.canister_names.all(), *self.link.canisters)))
            listed = (", ".join(known[:20]) or "none") + (f", ... ({len(known)} in all)" if len(known) > 20 else "")
            raise BadInput(
                f"{which!r} is neither a canister's name nor an id on {self.link.where}; canisters: {listed}"
            ) from None

    def existing(self, which: str) -> tuple[CanisterId, CanisterFacts]:
        """A canister that exists, and what is certified about it.

        Raises: BadInput when it doesn't exist.
        """
        canister_id = self.canister_id(which)
        if canister_id == MANAGEMENT_CANISTER:
            raise BadInput("the management canister is no canister that could be managed; `icsim canister call` calls it")
        facts = facts_of(self.link, self.identity, canister_id)
        if facts is None:
            shown = f"canister {which}" + (f" ({canister_id})" if which != canister_id.to_text() else "")
            raise BadInput(f"{shown} doesn't exist on {self.link.where} (any more)")
        return canister_id, facts

    def name_of(self, canister_id: CanisterId) -> str:
        """Its name, or else its id."""
        return self.canister_names.name_of(canister_id) or canister_id.to_text()

    @property
    def names(self) -> Names:
        """How placeholders in arguments find principals."""
        return Names(canister=self.canister_id, identity=self._principal_named)

    def _principal_named(self, name: str) -> Principal:
        return (self.identity if name in (self.who, SELF) else self.identity_named(name)).principal

    def place_of(self, canister_id: CanisterId) -> CallPlace:
        """What `{caller}` and `{target}` stand for."""
        return CallPlace(caller=SELF, target=canister_id.to_text())

    # --- calls

    def target(self, which: str, did: DidFile | None = None) -> Target:
        """A canister and its service; `did` comes before everything else."""
        canister_id = self.canister_id(which)
        if canister_id == MANAGEMENT_CANISTER:
            return Target("management", canister_id, self.management)
        if did is not None:
            return Target(which, canister_id, Interface(did, which))
        own = self._own_interface(which, canister_id)
        if not own.is_known and (did := self._services(which) or self.link.service(which)) is not None:
            own = Interface(did, which)
        return Target(which, canister_id, own)

    def _own_interface(self, which: str, canister_id: CanisterId) -> Interface:
        try:
            raw = self.link.read(self.identity, canister_id, (b"metadata", b"candid:service"))
        except NetworkError:  # a private section, or nothing is certified yet
            raw = None
        return Interface.parse("" if raw is None else raw.decode("utf-8", "replace"), which)

    def manage(self, method: str, argument: dict[str, Any], about: CanisterId) -> Any:
        """Call the management canister; gives its answer as a value.

        Raises: CallRejected; NetworkError; CandidError when the answer is of another type.
        """
        function = self._management_function(method)
        raw = self.link.call(self.identity, MANAGEMENT_CANISTER, method, encode(function.args, [argument]), about)
        return self._value(method, raw)

    def ask_management(self, method: str, argument: dict[str, Any], about: CanisterId) -> Any:
        """The same as a query."""
        function = self._management_function(method)
        raw = self.link.query(self.identity, MANAGEMENT_CANISTER, method, encode(function.args, [argument]), about)
        return self._value(method, raw)

    def _management_function(self, method: str) -> Any:
        function = self.management.function(method)
        assert function is not None, "the management canister's service is known"
        return function

    def _value(self, method: str, raw: bytes) -> Any:
        results = self._management_function(method).results
        return decode(raw, [lenient(results[0])])[0] if results else None


@lru_cache(maxsize=64)
def lenient(kind: t.Type) -> t.Type:
    """A type in which records may lack fields, since the network may be older or newer than we are; they read as None."""
    match kind:
        case t.Record(fields):
            return t.Record(tuple(t.Field(f.id, f.name, _optional(lenient(f.type))) for f in fields))
        case t.Variant(fields):
            return t.Variant(tuple(t.Field(f.id, f.name, lenient(f.type)) for f in fields))
        case t.Opt(inner) | t.Vec(inner):
            return type(kind)(lenient(inner))
    return kind


def _optional(kind: t.Type) -> t.Type:
    return kind if t.nullable(kind) else t.Opt(kind)
