"""What is counted at the end of a run: cycles on their way between subnets, calls, the workload's answers."""

from __future__ import annotations

from typing import Any

from ic_types.principal import Principal
from subnet.account import count_travelling
from subnet.lab.invariants import CyclesAudit, CyclesOfSubnet, _book, _workload

A, B = Principal(b"a"), Principal(b"b")


def body(travelling: dict[bytes, list[list[int]]], streams: dict[bytes, list[Any]]) -> dict[str, Any]:
    """What a node tells of its cycles, as far as it matters here."""
    return {"travelling": travelling, "streams": streams}


def test_messages_count_from_where_the_other_side_has_signalled() -> None:
    """Signalled messages have arrived, unless they were refused: those are on their way back until their sender drops them."""
    bodies = {
        A: body({bytes(B): [[4, 100], [5, 20], [7, 3]]}, {bytes(B): [4, 8, 2, []]}),
        B: body({bytes(A): [[2, 1000]]}, {bytes(A): [2, 3, 6, [4]]}),
    }
    assert count_travelling(bodies) == 100 + 3 + 1000


def test_nothing_is_signalled_by_a_subnet_without_a_stream() -> None:
    """The other side has never heard of the sender: everything travels."""
    assert count_travelling({A: body({bytes(B): [[0, 7]]}, {}), B: body({}, {})}) == 7


def subnet(**figures: int) -> CyclesOfSubnet:
    """A subnet's cycles; what isn't given is zero."""
    names = ("expected", "found", "minted", "burned", "lost", "sent", "received", "returned")
    places = ("balances", "reserved", "in_flight", "prepaid")
    return CyclesOfSubnet(subnet="x", causes={}, **(dict.fromkeys((*names, *places), 0) | figures))


def test_an_audit_holds_only_when_every_difference_is_zero() -> None:
    """On each subnet, and between them."""
    assert CyclesAudit(subnets=(subnet(sent=50), subnet(received=20, expected=20, found=20)), travelling=30).holds
    assert not CyclesAudit(subnets=(subnet(sent=50), subnet(received=20)), travelling=29).holds
    assert not CyclesAudit(subnets=(subnet(expected=5, found=4),), travelling=0).holds
    assert CyclesAudit(subnets=(subnet(sent=50, returned=50),), travelling=0).difference == 0


def summary(**changes: Any) -> dict[str, Any]:
    """A summary of a run in which all went well."""
    return {
        "rounds": 3,
        "subnets": [{"nodes": 2}],
        "ingress": {"submitted": 4, "replied": 4, "rejected": 0, "pending": 0},
        "invariants": [
            {"name": "all hashes agreed", "holds": True},
            {"name": "every call answered at most once", "holds": True},
        ],
        "phases": [{"name": "p", "sent": 4, "unexpected": 0, "first_unexpected": ""}],
        **changes,
    }


def test_open_calls_break_a_run_unless_it_was_cut_off() -> None:
    """With --rounds, calls still open are pending."""
    cut = summary(ingress={"submitted": 4, "replied": 3, "rejected": 0, "pending": 1})
    assert [one.holds for one in _book(cut, False)] == [True, False]
    assert [one.holds for one in _book(cut, True)] == [True, True]
    assert "1 pending" in _book(cut, True)[1].detail
    twice = summary(invariants=[{"name": "all hashes agreed", "holds": True},
                                {"name": "every call answered at most once", "holds": False}])  # fmt: skip
    assert not _book(twice, True)[1].holds


def test_unexpected_answers_are_quoted() -> None:
    """Phase, how many, and the first."""
    odd = summary(phases=[{"name": "swap", "sent": 9, "unexpected": 2, "first_unexpected": "no funds"}])
    (found,) = _workload(odd)
    assert not found.holds
    assert found.detail == "swap: 2 of 9, first: no funds"
    assert _workload(summary())[0].holds
    assert _workload(summary(phases=[])) == []
