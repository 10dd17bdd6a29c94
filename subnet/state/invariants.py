"""The invariants of the replicated state, all in one function.

Rule module. Spec: abstract behaviour, the invariants listed with the IC state; and the conservation of cycles. In-process tests
run it at their end, `icsim run --check-invariants` after every round. Costs the size of the state; nothing when it isn't asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scheduler import invariants
from subnet.account import Breach, OpenCallback, SubnetAccount, check_accounts
from subnet.state.audit import audit_cycles, travelling
from subnet.state.open_calls import open_calls
from subnet.state.replicated_state import ReplicatedState

CONSERVED = "minted - burned - lost = balances + reserved + in flight + prepaid"
USAGE = "what canisters use is counted right"
HISTORY = "the ingress history counts its payloads"


def check_invariants(states: Sequence[ReplicatedState]) -> list[Breach]:
    """Every breach on these subnets and between them, all after the same round; empty when all is well.

    What concerns subnets that aren't among `states` isn't judged.
    """
    return check_accounts([account_of(state) for state in states])


def account_of(state: ReplicatedState) -> SubnetAccount:
    """What a subnet tells for `check_accounts`, its own breaches included."""
    audit = audit_cycles(state)
    canisters = [state.canisters[canister_id] for canister_id in sorted(state.canisters)]
    return SubnetAccount(
        subnet=state.own.name,
        subnet_id=state.own.subnet_id,
        subnets=len(state.network.subnets),
        time_ns=state.time,
        breaches=tuple(_own_breaches(state)),
        callbacks=tuple(
            OpenCallback(canister=one.canister_id, callback_id=callback.callback_id, deadline_s=callback.deadline_s)
            for one in canisters
            for callback in one.callbacks.values()
        ),
        calls=tuple(open_calls(state)),
        canisters=tuple(one.canister_id for one in canisters),
        sent=audit.sent,
        received=audit.received,
        returned=audit.returned,
        travelling={peer: tuple(rows) for peer, rows in travelling(state).items()},
        streams={
            bytes(peer): (stream.begin, stream.end, stream.signals_end, tuple(s.index for s in stream.reject_signals))
            for peer, stream in sorted(state.streams.items())
        },
    )


def _own_breaches(state: ReplicatedState) -> Iterator[Breach]:
    for canister_id in sorted(state.canisters):
        for invariant, detail in invariants.broken(state.canisters[canister_id]):
            yield Breach(subnet=state.own.name, canister=canister_id, invariant=invariant, detail=detail)
    of_subnet = [
        *invariants.failed(HISTORY, state.history.check_invariants),
        *invariants.failed(invariants.QUEUES, state.management_queues.check_invariants),
        *invariants.failed(USAGE, lambda: state.canisters.usage().check(state.canisters)),
    ]
    audit = audit_cycles(state)
    if audit.difference:
        of_subnet.append((CONSERVED, f"found {audit.found:,}, expected {audit.expected:,}: {audit.difference:+,} cycles"))
    for invariant, detail in of_subnet:
        yield Breach(subnet=state.own.name, invariant=invariant, detail=detail)
