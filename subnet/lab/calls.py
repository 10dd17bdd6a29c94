"""Calls to canisters of a running network: names to principals, signing, sending, waiting, answers.

Plumbing, over the control socket. The CLI, the Python API and tests all call through here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cbor2

from configs.argument import CallPlace, Names
from configs.topology import ANONYMOUS_NAME
from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.envelope import build_call
from ic_types.errors import BadInput, CandidError, IcsimError, InvalidPrincipal, NetworkError
from ic_types.identity import Identity
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal, SubnetId
from ic_types.units import TimeNs
from subnet.control import ControlClient
from subnet.control_protocol import Advanced, RequestStatus
from subnet.identities import identity_named
from subnet.lab.interface import Interface
from subnet.lab.run_dir import RunFile
from subnet.protocol import SubnetRecord

DEFAULT_ROUNDS = 500
"""A call that isn't answered within so many rounds is given up, as its canister may never answer."""
Who: TypeAlias = "str | Identity | None"
"""The name of an identity, a key pair, or None for the topology's first identity."""
MANAGEMENT_NAMES = ("management", "aaaaa-aa")


class CallRejected(IcsimError):
    """A call or query was rejected.

    `code` is the reject code of the interface spec (1 to 6), `error_code` the replica's finer one, such as IC0503.
    """

    def __init__(self, code: int, message: str, error_code: str = "", *, what: str = "call") -> None:
        shown = f" ({error_code})" if error_code and error_code not in message else ""
        super().__init__(f"{what} rejected with code {code}{shown}: {message}")
        self.code = code
        self.message = message
        self.error_code = error_code
        self.what = what

    def about(self, whom: str) -> CallRejected:
        """The same, with whom it was about."""
        return CallRejected(self.code, self.message, self.error_code, what=f"{whom}: {self.what}")


@dataclass(frozen=True, slots=True)
class Target:
    """A canister that can be called."""

    name: str
    canister_id: CanisterId
    interface: Interface


class Caller:
    """Calls over one connection; knows the network's names and its time."""

    def __init__(self, client: ControlClient, about: RunFile, nonces: Callable[[], bytes] | None = None) -> None:
        self.client = client
        self.description = client.describe()
        self.about = about
        self.now_ns = client.status().time_ns
        """Network time as far as this connection knows; others may advance it further."""
        self._nonces = nonces or (lambda: os.urandom(16))
        self._ids = {one.name: one.canister_id for one in self.description.canisters}
        self._known = {one.canister_id: one.name for one in self.description.canisters}
        self._targets: dict[CanisterId, Target] = {}
        self.moved: dict[CanisterId, SubnetId] = dict(self.description.moved)
        """Hosts of canisters that were renamed."""

    # --- names

    @property
    def names(self) -> Names:
        """How placeholders in arguments find principals."""
        return Names(canister=self.canister_id, identity=lambda name: self.identity(name).principal)

    def identity(self, who: Who) -> Identity:
        """An identity by its name; None is the topology's first.

        Raises: BadInput naming the identities there are.
        """
        if who is not None and not isinstance(who, str):
            return who
        known = self.description.identities
        name = who if who is not None else (known[0] if known else ANONYMOUS_NAME)
        if name not in known and name != ANONYMOUS_NAME:
            listed = ", ".join(known[:12]) + (f", ... ({len(known)} in all)" if len(known) > 12 else "")
            raise BadInput(f"there is no identity {name!r}; the topology has: {listed}; and there is {ANONYMOUS_NAME}")
        return identity_named(self.description.identity_seed, name)

    def canister_id(self, which: str | CanisterId) -> CanisterId:
        """A canister's id from its name or its id as text.

        Raises: BadInput naming the canisters there are.
        """
        if isinstance(which, Principal):
            return which
        if which in self._ids:
            return self._ids[which]
        if which in MANAGEMENT_NAMES:
            return MANAGEMENT_CANISTER
        try:
            return Principal.from_text(which)
        except InvalidPrincipal:
            listed = ", ".join(list(self._ids)[:20]) or "none"
            more = f", ... ({len(self._ids)} in all)" if len(self._ids) > 20 else ""
            raise BadInput(f"{which!r} is neither a canister's name nor an id; canisters: {listed}{more}") from None

    def subnet(self, which: str) -> SubnetRecord:
        """A subnet by name or id.

        Raises: BadInput naming the subnets there are.
        """
        for record in self.description.registry.subnets:
            if which in (record.name, record.subnet_id.to_text()):
                return record
        listed = ", ".join(record.name for record in self.description.registry.subnets)
        raise BadInput(f"there is no subnet {which!r}; subnets: {listed}")

    def subnet_of(self, canister_id: CanisterId) -> SubnetRecord:
        """The subnet whose range a canister id is in.

        Raises: BadInput when there is none.
        """
        index = canister_id.canister_index()
        if canister_id in self.moved:
            return self.subnet(self.moved[canister_id].to_text())
        for record in self.description.registry.subnets:
            first, last = record.range_start.canister_index(), record.range_end.canister_index()
            if index is not None and first is not None and last is not None and first <= index <= last:
                return record
        raise BadInput(f"canister {canister_id} is in no subnet's range; `icsim status` lists the canisters")

    def target(self, which: str | CanisterId) -> Target:
        """A canister with its service: the topology's service file, or the one embedded in its module."""
        canister_id = self.canister_id(which)
        found = self._targets.get(canister_id)
        if found is None:
            found = self._targets[canister_id] = self._find_target(canister_id)
        return found

    def remember_target(self, target: Target) -> None:
        """Its code has changed, and with it its service."""
        self._targets[target.canister_id] = target

    def _find_target(self, canister_id: CanisterId) -> Target:
        name = self._known.get(canister_id, canister_id.to_text())
        if canister_id == MANAGEMENT_CANISTER:
            from subnet.lab.management_service import management_interface

            return Target("management", canister_id, management_interface())
        did = self.about.service(name)
        if did is not None:
            return Target(name, canister_id, Interface(did, name))
        row = next((row for row in self.canister_rows(self.subnet_of(canister_id)) if row["id"] == canister_id), None)
        return Target(name, canister_id, Interface.parse(row["candid"] if row else "", name))

    def canister_rows(self, subnet: SubnetRecord) -> list[dict[str, Any]]:
        """What a node of a subnet tells of its canisters; ids and controllers as principals."""
        rows = cbor2.loads(self.client.inspect(subnet.subnet_id, "canisters"))
        return [
            {**row, "id": Principal(row["id"]), "controllers": tuple(Principal(one) for one in row["controllers"])}
            for row in rows
        ]

    # --- calls

    def encode_text(self, target: Target, method: str, text: str, caller: str = "") -> bytes:
        """Candid text as an argument; placeholders such as `{identity:alice}` and `{canister:ledger}` are filled in.

        Raises: BadInput when it doesn't fit.
        """
        place = CallPlace(caller=caller or self.description.identities[0], target=target.canister_id.to_text())
        return target.interface.encode_text(method, text, self.names, place)

    def submit(
        self, identity: Identity, canister_id: CanisterId, method: str, arg: bytes, effective: CanisterId | None = None
    ) -> bytes:
        """Send a signed call; gives its message id. It arrives with the next round.

        Raises: CallRejected when the subnet doesn't accept it; BadInput when it is malformed.
        """
        if canister_id == MANAGEMENT_CANISTER and effective is None:
            effective = named_canister(arg)
        envelope = build_call(
            identity,
            canister_id=canister_id,
            method=method,
            arg=arg,
            expiry=TimeNs(self.current_ns() + self.description.ingress_ttl_ns),
            nonce=self._nonces(),
        )
        result = self.client.submit(envelope, effective_canister_id=effective)[0]
        if result.problem:
            raise BadInput(f"call of {method} is refused: {result.problem}")
        refusal = result.refusal
        if refusal is not None:
            code, text = refusal.reject_code, refusal.reject_message
            raise CallRejected(code, text, refusal.error_code, what=f"call of {method}")
        return result.message_id

    def current_ns(self) -> int:
        """Network time now, from which expiries are counted."""
        return max(time.time_ns(), self.now_ns) if self.description.live else self.now_ns

    def advanced(self, found: Advanced) -> Advanced:
        """Take note of how far the network is."""
        self.now_ns = found.time_ns
        return found

    def wait(self, message_ids: Sequence[bytes], rounds: int = DEFAULT_ROUNDS) -> list[RequestStatus]:
        """Make rounds until all are answered, or so many have passed; what became of them."""
        self.advanced(self.client.advance(until_answered=tuple(message_ids), rounds=rounds))
        return list(self.client.requests(*message_ids))

    def query(self, identity: Identity, canister_id: CanisterId, method: str, arg: bytes, node_index: int = 0) -> bytes:
        """The answer of a query on the last certified height; of the management canister, about a canister or the root subnet.

        Raises: CallRejected; BadInput for an unknown canister id.
        """
        effective = None
        if canister_id == MANAGEMENT_CANISTER:
            effective = named_canister(arg) or self.description.registry.root
        reply = self.client.query(identity.principal, canister_id, method, arg, node_index=node_index, effective_id=effective)
        if reply.status != "replied":
            raise CallRejected(reply.reject_code, reply.reject_message, reply.error_code, what=f"query {method}")
        return reply.reply


def named_canister(arg: bytes) -> CanisterId | None:
    """The canister that the argument of a management call names. Spec: interface spec, "Effective canister id"."""
    for field in ("canister_id", "specified_id"):
        try:
            found = decode(arg, (t.record({field: t.opt(t.principal)}),))[0][field]
        except CandidError:
            return None
        if isinstance(found, Principal):
            return found
    return None


def reply_of(status: RequestStatus, method: str, rounds: int) -> bytes:
    """The reply to an answered call.

    Raises: CallRejected; NetworkError when there is no answer yet.
    """
    match status.status:
        case "replied":
            return status.reply
        case "rejected":
            raise CallRejected(status.reject_code, status.reject_message, status.error_code, what=f"call of {method}")
        case "expired":
            raise CallRejected(2, "it expired before a round took it in", what=f"call of {method}")
    if not rounds:
        raise NetworkError(f"call of {method} is not answered yet (it is {status.status})")
    raise NetworkError(
        f"call of {method} is not answered after {rounds} round{'' if rounds == 1 else 's'} (it is {status.status}); "
        "the canister may be waiting for something that never comes"
    )
