"""The state hash covers every field that is state: of the canister's record, and of the subnet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from ic_types.principal import Principal
from ic_types.units import Cycles, TimeNs
from message_routing.queues import CanisterQueues
from sandbox.protocol import EntryPoint
from scheduler.canister import Canister, RunStatus, Settings, SystemTask
from scheduler.canister_history import CanisterHistory, Change, ChangeOrigin, CodeUninstall
from scheduler.chunk_store import ChunkStore
from subnet.state.replicated_state import ReplicatedState
from subnet.state.state_hash import ELSEWHERE, PARTS, canister_parts

NOT_STATE = {"deadlines", "tree"}
CONSTANT = {"network", "own", "limits", "fees", "routing", "root_key_der", "chain_keys"}
COVERED = {
    "canisters", "streams", "history", "height", "time", "randomness", "next_canister_index", "messages_executed", "compiled",
    "minted", "block_makers", "renamed", "registry_changes",
    "flow", "lost", "tally", "refunds", "management_queues", "consensus_calls", "scheduler",
    "query_records",
}  # fmt: skip


def a_history() -> CanisterHistory:
    """One change."""
    change = Change(TimeNs(1), 1, ChangeOrigin(Principal(b"\x04"), False), CodeUninstall())
    return CanisterHistory().added(change, 20)


def a_canister() -> Canister:
    """An empty canister."""
    return Canister(
        canister_id=Principal.canister(1),
        settings=Settings(controllers=(Principal(b"\x04"),)),
        balance=Cycles(10),
        created=TimeNs(5),
        queues=CanisterQueues(),
    )


def test_every_field_of_a_canister_is_in_exactly_one_part() -> None:
    """A new field can't be forgotten: it belongs to a part, or is hashed elsewhere by name."""
    covered = [name for names in PARTS.values() for name in names] + list(ELSEWHERE)
    assert sorted(covered) == sorted(field.name for field in dataclasses.fields(Canister))


def test_every_field_of_the_subnet_is_covered_constant_or_derived() -> None:
    """The same for the replicated state as a whole, as docs/state.md lists it."""
    fields = {field.name for field in dataclasses.fields(ReplicatedState)}
    assert fields == COVERED | CONSTANT | NOT_STATE


CHANGES: list[tuple[bytes, Callable[[Canister], Any]]] = [
    (b"cycles", lambda c: setattr(c, "balance", Cycles(11))),
    (b"running", lambda c: setattr(c, "status", RunStatus.STOPPED)),
    (b"running", lambda c: setattr(c, "certified_data", b"x")),
    (b"calls", lambda c: setattr(c, "next_callback_id", 9)),
    (b"scheduling", lambda c: c.tasks.append(SystemTask(EntryPoint.HEARTBEAT))),
    (b"scheduling", lambda c: setattr(c, "accumulated_priority", -1)),
    (b"logs", lambda c: c.logs.add((b"line",), TimeNs(1), 4096)),
    (b"history", lambda c: setattr(c, "history", a_history())),
    (b"stored", lambda c: setattr(c, "chunk_store", ChunkStore({bytes(32): b"chunk"}))),
    (b"stored", lambda c: setattr(c, "next_snapshot", 1)),
    (b"settings", lambda c: setattr(c.settings, "freezing_threshold_s", 1)),
]


@pytest.mark.parametrize(("part", "change"), CHANGES)
def test_a_change_shows_in_its_part_alone(part: bytes, change: Callable[[Canister], Any]) -> None:
    """Two states that differ are told apart, and the part that differs is named."""
    before, changed = a_canister(), a_canister()
    change(changed)
    old, new = canister_parts(before), canister_parts(changed)
    assert [label for label in old if old[label] != new[label]] == [part]
