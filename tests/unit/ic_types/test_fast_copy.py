"""Copies of records, field by field."""

from __future__ import annotations

import dataclasses

import pytest

from ic_types.fast_copy import copier
from ic_types.principal import Principal
from ic_types.units import Cycles, TimeNs
from message_routing.queues import CanisterQueues
from scheduler.canister import Canister, Metrics, QueryStats, Settings


def a_canister() -> Canister:
    """A canister whose fields have values of their own."""
    settings = Settings(controllers=(Principal(b"\x04"),), compute_allocation=7)
    made = Canister(
        canister_id=Principal.canister(1), settings=settings, balance=Cycles(10), created=TimeNs(5), queues=CanisterQueues()
    )
    made.version, made.query_totals = 9, QueryStats(1, 2, 3, 4)
    return made


def test_a_copy_has_the_same_fields_and_is_another_record() -> None:
    """What is assigned to the one doesn't show in the other."""
    one = a_canister()
    twin = copier(Canister)(one)
    assert twin is not one
    assert all(getattr(twin, field.name) is getattr(one, field.name) for field in dataclasses.fields(Canister))
    twin.balance = Cycles(11)
    assert one.balance == 10
    for record in (one.settings, Metrics(1), QueryStats(1)):
        assert copier(type(record))(record) == record


def test_frozen_records_need_no_copies() -> None:
    """They are refused."""

    @dataclasses.dataclass(frozen=True)
    class Fixed:
        """Never changes."""

        a: int

    with pytest.raises(AssertionError, match="is frozen"):
        copier(Fixed)
