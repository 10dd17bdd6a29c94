"""Statuses of ingress messages: transitions, pruning, byte limit, changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types.reject import ErrorCode, reject
from ic_types.units import NS_PER_SECOND, TimeNs
from message_routing.ingress_history import IngressHistory, IngressState
from tests.support.routing_world import START, USER, canister_id

HERE = canister_id(0, 0)
OOPS = reject(ErrorCode.CANISTER_TRAPPED, "it trapped")


def at(seconds: int) -> TimeNs:
    """So many seconds after the start."""
    return TimeNs(START + seconds * NS_PER_SECOND)


def name(number: int) -> bytes:
    """A message id."""
    return number.to_bytes(32, "big")


def received(history: IngressHistory, number: int, time: TimeNs = START) -> bytes:
    """A message that was inducted."""
    history.received(name(number), HERE, USER, time)
    return name(number)


def test_a_message_goes_through_its_statuses() -> None:
    """received, processing, replied; sender and receiver stay."""
    history = IngressHistory()
    message = received(history, 1)
    history.processing(message, at(1))
    history.processing(message, at(2))
    history.replied(message, b"hello", at(3))
    status = history.get(message)
    assert status is not None
    assert (status.state, status.reply, status.receiver, status.sender) == (IngressState.REPLIED, b"hello", HERE, USER)
    assert status.time == at(3)


def test_terminal_statuses_are_final() -> None:
    """Nothing follows a reply or a reject; that would be a bug and stops the node."""
    history = IngressHistory()
    message = received(history, 1)
    history.rejected(message, OOPS, START)
    with pytest.raises(AssertionError, match="can't go from rejected to replied"):
        history.replied(message, b"", START)
    with pytest.raises(AssertionError):
        received(history, 1)


def test_terminal_statuses_are_forgotten_after_300_seconds() -> None:
    """Counted from the time the status was set; open messages are never forgotten."""
    history = IngressHistory()
    done, still_open = received(history, 1), received(history, 2)
    history.replied(done, b"x", at(10))
    history.prune(at(310))
    assert history.get(done) is not None
    history.prune(TimeNs(at(310) + 1))
    assert history.get(done) is None
    assert history.get(still_open) is not None
    assert history.payload_bytes == 0
    history.check_invariants()


def test_payloads_go_first_when_there_are_too_many_bytes() -> None:
    """The oldest terminal statuses become done, until the rest fits."""
    history = IngressHistory(bytes_limit=100)
    first, second, third = (received(history, n) for n in range(3))
    history.replied(first, b"a" * 60, at(1))
    history.rejected(second, OOPS, at(2))
    history.replied(third, b"c" * 60, at(3))
    assert [history.statuses[m].state for m in (first, second, third)] == [
        IngressState.DONE,
        IngressState.REJECTED,
        IngressState.REPLIED,
    ]
    assert history.statuses[first].reply == b""
    assert history.payload_bytes == 70
    history.prune(TimeNs(at(301) + 1))
    assert history.get(first) is None
    history.check_invariants()


def test_a_payload_larger_than_the_limit_is_dropped_at_once() -> None:
    """Even the newest one."""
    history = IngressHistory(bytes_limit=10)
    message = received(history, 1)
    history.replied(message, b"a" * 11, START)
    assert history.statuses[message].state is IngressState.DONE


def test_changes_are_told_once_and_in_order() -> None:
    """The certified tree learns what changed, forgotten messages included."""
    history = IngressHistory()
    later, earlier = received(history, 9), received(history, 3)
    assert [message for message, _ in history.take_changes()] == [earlier, later]
    assert history.take_changes() == []
    history.replied(later, b"x", START)
    ((message, status),) = history.take_changes()
    assert message == later
    assert status is not None
    assert status.state is IngressState.REPLIED
    history.prune(TimeNs(at(300) + 1))
    assert history.take_changes() == [(later, None)]


def test_due_time_is_that_of_the_oldest_terminal_status() -> None:
    """A node says when it wants to be woken."""
    history = IngressHistory()
    assert history.next_due() is None
    for n in range(3):
        history.replied(received(history, n), b"", at(n))
    assert history.next_due() == at(300)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), max_size=40), st.integers(0, 200))
def test_history_never_holds_more_payload_than_allowed(replies: list[tuple[int, int]], limit: int) -> None:
    """Whatever comes in which order, counters agree and the limit holds."""
    history, now = IngressHistory(bytes_limit=limit), 0
    for number, (size, seconds) in enumerate(replies):
        now += seconds
        history.replied(received(history, number, at(now)), bytes(size), at(now))
        history.prune(at(now))
        history.check_invariants()
        assert history.payload_bytes <= limit
        assert all(status.time + 300 * NS_PER_SECOND >= at(now) for status in history.statuses.values())
