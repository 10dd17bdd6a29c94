"""What subnets tell of themselves when invariants are checked, and the invariants that hold between them.

Rule module. Spec: abstract behaviour, the invariants listed with the IC state: referenced call contexts exist, calls get
exactly one response, cycles are conserved. `subnet.state.invariants` makes the accounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ic_types import wire
from ic_types.principal import CanisterId, Principal, SubnetId
from ic_types.units import NS_PER_SECOND

REFERENCED = "referenced call contexts exist"
ONE_RESPONSE = "every open call gets exactly one response"
CONSERVED_IN_ALL = "cycles are conserved in all"
_MOST_TOLD = 8


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """An invariant that doesn't hold."""

    subnet: str
    canister: CanisterId | None = None
    """None when it concerns the subnet as a whole."""
    invariant: str
    detail: str

    def text(self) -> str:
        """One line for people."""
        whose = f"subnet {self.subnet}" if self.canister is None else f"canister {self.canister} on subnet {self.subnet}"
        return f"{whose}: {self.invariant}: {self.detail}"


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """One place in which a call is: a queued request or response, a call context, a stop call that waits."""

    caller: CanisterId
    callback_id: int
    deadline_s: int
    """0 for a guaranteed response."""
    place: str
    """For people: `a request in the input queue of ...`."""
    peer: Principal | None = None
    """For a message in the stream to another subnet: that subnet; then `index` is the message's."""
    index: int = 0


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCallback:
    """A callback that waits for its response."""

    canister: CanisterId
    callback_id: int
    deadline_s: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetAccount:
    """One subnet after a round."""

    subnet: str
    subnet_id: SubnetId
    subnets: int
    """How many the network has."""
    time_ns: int
    breaches: tuple[Breach, ...]
    """Of the invariants that concern this subnet alone."""
    callbacks: tuple[OpenCallback, ...]
    calls: tuple[OpenCall, ...]
    canisters: tuple[CanisterId, ...]
    sent: int
    received: int
    returned: int
    travelling: dict[bytes, tuple[tuple[int, int], ...]]
    """Cycles in the stream to each peer: message index, cycles."""
    streams: dict[bytes, tuple[int, int, int, tuple[int, ...]]]
    """To each peer: begin, end, end of signals, refused messages of the reverse stream."""


def check_accounts(accounts: Sequence[SubnetAccount]) -> list[Breach]:
    """All that is broken on these subnets and between them; what concerns subnets that aren't here isn't judged."""
    found = [breach for account in accounts for breach in account.breaches]
    found += _calls_and_callbacks(accounts)
    if accounts and len(accounts) == accounts[0].subnets:
        underway = sum(one.sent - one.received - one.returned for one in accounts)
        bodies = {one.subnet_id: {"travelling": one.travelling, "streams": one.streams} for one in accounts}
        travels = count_travelling(bodies)
        if underway != travels:
            detail = f"sent and not arrived {underway:,}, travelling {travels:,}, difference {underway - travels:+,}"
            found.append(Breach(subnet=accounts[0].subnet, invariant=CONSERVED_IN_ALL, detail=detail))
    return found


def report_of(breaches: Sequence[Breach], height: int) -> str:
    """What a run ends with: the first breaches, one a line."""
    lines = [f"an invariant is broken at height {height}: {breaches[0].text()}"]
    lines += [f"  also {one.text()}" for one in breaches[1:_MOST_TOLD]]
    if len(breaches) > _MOST_TOLD:
        lines.append(f"  and {len(breaches) - _MOST_TOLD} more")
    return "\n".join(lines)


def count_travelling(bodies: Mapping[SubnetId, Mapping[str, Any]]) -> int:
    """Cycles of stream messages that the other side has not taken in, or has refused and that have not come back yet."""
    total = 0
    for source, body in bodies.items():
        for peer, rows in body["travelling"].items():
            reverse = bodies[Principal(peer)]["streams"].get(bytes(source), [0, 0, 0, []])
            signals_end, refused = reverse[2], set(reverse[3])
            total += sum(cycles for index, cycles in rows if index >= signals_end or index in refused)
    return total


def _calls_and_callbacks(accounts: Sequence[SubnetAccount]) -> Iterator[Breach]:
    here = {canister_id: account for account in accounts for canister_id in account.canisters}
    waiting = {(one.canister, one.callback_id) for account in accounts for one in account.callbacks}
    places: dict[tuple[CanisterId, int], list[str]] = {}
    for account in accounts:
        for call in _underway(account, accounts):
            key = (call.caller, call.callback_id)
            places.setdefault(key, []).append(f"{call.place} on subnet {account.subnet}")
            expired = call.deadline_s and call.deadline_s * NS_PER_SECOND < account.time_ns
            if call.caller in here and not expired and key not in waiting:
                detail = f"callback {call.callback_id} of {call.caller} doesn't exist, but its call is {places[key][-1]}"
                yield Breach(subnet=here[call.caller].subnet, canister=call.caller, invariant=REFERENCED, detail=detail)
    if not accounts or len(accounts) < accounts[0].subnets:
        return
    for account in accounts:
        for one in account.callbacks:
            found = places.get((one.canister, one.callback_id), [])
            if len(found) != 1 and not one.deadline_s:
                detail = f"the call of callback {one.callback_id} is in {len(found)} places: {'; '.join(found) or 'none'}"
                yield Breach(subnet=account.subnet, canister=one.canister, invariant=ONE_RESPONSE, detail=detail)


def _underway(account: SubnetAccount, accounts: Sequence[SubnetAccount]) -> Iterator[OpenCall]:
    """The calls that a subnet holds, without stream messages that the other side has taken in."""
    for call in account.calls:
        if call.peer is not None:
            receiver = next((one for one in accounts if one.subnet_id == call.peer), None)
            _, _, signals_end, refused = (0, 0, 0, ()) if receiver is None else _reverse(receiver, account)
            if receiver is None or (call.index < signals_end and call.index not in refused):
                continue
        yield call


def _reverse(receiver: SubnetAccount, sender: SubnetAccount) -> tuple[int, int, int, tuple[int, ...]]:
    return receiver.streams.get(bytes(sender.subnet_id), (0, 0, 0, ()))
