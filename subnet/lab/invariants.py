"""What must hold at the end of a run, checked from outside: by queries, audits of the nodes, and the coordinator's book.

Rule module, over a connection to the running network. Spec: none of it is a rule of its own; each follows from the spec's
(cycles are never created or lost silently, every call is answered exactly once).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cbor2

from ic_types import wire
from ic_types.candid.decoder import decode
from ic_types.candid.types import field_id
from ic_types.errors import CandidError, NetworkError
from ic_types.principal import ANONYMOUS, CanisterId, SubnetId
from subnet.account import SubnetAccount, check_accounts, count_travelling
from subnet.control import ControlClient
from subnet.control_protocol import Description
from subnet.lab.run_dir import RecordedInvariant


@dataclass(frozen=True, slots=True)
class Invariant:
    """One invariant and whether it holds."""

    name: str
    holds: bool
    detail: str = ""
    """Figures that it holds by, or what breaks it."""

    def to_json(self) -> dict[str, Any]:
        """As summary.json has it."""
        return {"name": self.name, "holds": self.holds, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclesOfSubnet:
    """All cycles of one subnet, see subnet.state.audit: `expected` is by flows, `found` by places."""

    subnet: str
    expected: int
    found: int
    minted: int
    burned: int
    lost: int
    sent: int
    received: int
    returned: int
    balances: int
    reserved: int
    in_flight: int
    prepaid: int
    causes: Mapping[str, int]

    @property
    def difference(self) -> int:
        """Zero, always."""
        return self.found - self.expected


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclesAudit:
    """All cycles of a network."""

    subnets: tuple[CyclesOfSubnet, ...]
    travelling: int
    """In streams, not yet received: counted from the messages themselves."""

    @property
    def difference(self) -> int:
        """What was sent and neither received nor returned, less what travels; zero, always."""
        underway = sum(one.sent - one.received - one.returned for one in self.subnets)
        return underway - self.travelling

    @property
    def minted(self) -> int:
        """In the whole network."""
        return sum(one.minted for one in self.subnets)

    @property
    def holds(self) -> bool:
        """Nothing appeared or vanished, on any subnet or between them."""
        return self.difference == 0 and not any(one.difference for one in self.subnets)


_FIELDS = ("expected", "found", "minted", "burned", "lost", "sent", "received", "returned")
_PLACES = ("balances", "reserved", "in_flight", "prepaid", "causes")


def audit_cycles(client: ControlClient, description: Description) -> CyclesAudit:
    """Count all cycles; the network must stand still meanwhile.

    Raises: NetworkError when a node can't tell.
    """
    bodies: dict[SubnetId, dict[str, Any]] = {}
    subnets = []
    for record in description.registry.subnets:
        body = bodies[record.subnet_id] = _inspected(client, record.subnet_id, "cycles")
        subnets.append(CyclesOfSubnet(subnet=record.name, **{key: body[key] for key in (*_FIELDS, *_PLACES)}))
    return CyclesAudit(subnets=tuple(subnets), travelling=count_travelling(bodies))


def _inspected(client: ControlClient, subnet: SubnetId, what: str) -> dict[str, Any]:
    body = cbor2.loads(client.inspect(subnet, what))
    if not isinstance(body, dict) or "error" in body:
        raise NetworkError(f"subnet {subnet} gives no account of its {what}")
    return body


def check_all(
    client: ControlClient,
    description: Description,
    summary: Mapping[str, Any],
    recorded: Iterable[RecordedInvariant],
    *,
    may_be_open: bool,
) -> list[Invariant]:
    """Every invariant of a run that stands still; `may_be_open`: the run was ended at a height, calls may be pending."""
    found = [*_book(summary, may_be_open), *_workload(summary)]
    found += [_tokens(client, description, one) for one in recorded]
    found += _cycles(client, description)
    found += [_canisters(client, description)]
    return found


def _book(summary: Mapping[str, Any], may_be_open: bool) -> list[Invariant]:
    agreed = next(one for one in summary["invariants"] if one["name"] == "all hashes agreed")
    once = next(one for one in summary["invariants"] if one["name"] == "every call answered at most once")
    heights = f"{summary['rounds']:,} heights x {sum(one['nodes'] for one in summary['subnets'])} nodes"
    ingress = summary["ingress"]
    answered, pending = ingress["replied"] + ingress["rejected"], ingress["pending"]
    detail = f"{answered:,} of {ingress['submitted']:,} calls" + (f", {pending:,} pending" if pending else "")
    every_round = [
        Invariant(one["name"], one["holds"], f"{summary['rounds']:,} heights")
        for one in summary["invariants"]
        if one["name"] == "every invariant after every round"
    ]
    return [
        *every_round,
        Invariant("all hashes agreed", agreed["holds"], heights),
        Invariant("every call answered exactly once", once["holds"] and (may_be_open or pending == 0), detail),
    ]


def _workload(summary: Mapping[str, Any]) -> list[Invariant]:
    phases = summary["phases"]
    if not phases:
        return []
    odd = [one for one in phases if one["unexpected"]]
    told = [f"{one['name']}: {one['unexpected']} of {one['sent']}, first: {one['first_unexpected']}" for one in odd]
    total = f"{sum(one['sent'] for one in phases):,} calls and queries"
    return [Invariant("every answer as the workload expects", not odd, "; ".join(told) or total)]


def _tokens(client: ControlClient, description: Description, recorded: RecordedInvariant) -> Invariant:
    ids = {one.name: one.canister_id for one in description.canisters}
    told: list[str] = []
    broken: list[str] = []
    for name in recorded.canisters:
        values = _fields(client, ids[name], recorded)
        if isinstance(values, str):
            broken.append(f"{name}: {values}")
            continue
        shown = ", ".join(f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in values.items())
        same = all(value == next(iter(values.values())) for value in values.values())
        (told if same else broken).append(f"{name}: {shown}")
    return Invariant(recorded.name, not broken, "; ".join(broken or told))


def _fields(client: ControlClient, canister_id: CanisterId, recorded: RecordedInvariant) -> dict[str, Any] | str:
    """The fields' values, or what is wrong with the answer."""
    reply = client.query(ANONYMOUS, canister_id, recorded.method, bytes.fromhex(recorded.arg))
    if reply.status != "replied":
        return f"query {recorded.method} was rejected: {reply.reject_message}"
    try:
        record = decode(reply.reply)[0]
    except (CandidError, IndexError) as error:
        return f"the answer of {recorded.method} can't be read: {error}"
    found = {}
    for name in recorded.equal:
        key = f"_{field_id(name)}_"
        if not isinstance(record, dict) or key not in record:
            return f"the answer of {recorded.method} has no field {name}"
        found[name] = record[key]
    return found


def _cycles(client: ControlClient, description: Description) -> list[Invariant]:
    audit = audit_cycles(client, description)
    apart = [f"{one.subnet}: {one.difference:+,} cycles" for one in audit.subnets if one.difference]
    each = Invariant(
        "cycles conserved on each subnet",
        not apart,
        "; ".join(apart) or "minted - burned - lost = balances + reserved + in flight + prepaid",
    )
    if audit.difference:
        detail = f"sent and not arrived exceeds what travels by {audit.difference:+,} cycles"
    else:
        lost, burned = sum(one.lost for one in audit.subnets), sum(one.burned for one in audit.subnets)
        detail = f"minted {audit.minted:,}, burned {burned:,}, lost {lost:,}, travelling {audit.travelling:,}, difference 0"
    return [each, Invariant("cycles conserved in all", audit.difference == 0 and not apart, detail)]


def _canisters(client: ControlClient, description: Description) -> Invariant:
    told = [_inspected(client, record.subnet_id, "invariants")["account"] for record in description.registry.subnets]
    breaches = check_accounts([wire.decode(raw, SubnetAccount) for raw in told])
    detail = "; ".join(one.text() for one in breaches[:3])
    return Invariant("state sound on every subnet", not breaches, detail or "queues, calls, ingress history")


def all_hold(invariants: Sequence[Invariant]) -> bool:
    """Whether none is broken."""
    return all(one.holds for one in invariants)
