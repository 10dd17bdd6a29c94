"""What became of ingress messages; goals that wait for them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from subnet.control_protocol import Advance
from subnet.coordinator.goals import Goal
from subnet.coordinator.ports import ReplyAddress
from subnet.coordinator.requests import RequestBook
from subnet.protocol import IngressOutcome

ADDRESS = ReplyAddress(b"", b"")


def answer(book: RequestBook, message_id: bytes, height: int, status: str = "replied") -> None:
    """An outcome in a round."""
    book.answer(IngressOutcome(message_id=message_id, status=status), height)


def test_a_message_goes_through_its_statuses() -> None:
    """Received, processing, replied; it is pending until it is answered."""
    book = RequestBook()
    book.submit(b"m", 0, 3)
    assert (book.requests[b"m"].status, book.pending) == ("received", 1)
    book.processing(b"m", 0, 3)
    assert not book.is_answered(b"m")
    answer(book, b"m", 5)
    assert (book.requests[b"m"].status, book.pending, book.replied) == ("replied", 0, 1)
    assert book.latency_rounds == {2: 1}


def test_second_and_unexpected_answers_are_counted_and_change_nothing() -> None:
    """Every call is answered exactly once; if not, it shows."""
    book = RequestBook()
    book.submit(b"m", 0, 0)
    answer(book, b"m", 1)
    answer(book, b"m", 2, "rejected")
    answer(book, b"other", 2)
    assert (book.answered_twice, book.unexpected, book.rejected) == (1, 1, 0)
    assert book.requests[b"m"].answered_height == 1


def test_expired_messages_are_answered() -> None:
    """Nobody waits for them."""
    book = RequestBook()
    book.submit(b"m", 0, 0)
    book.expire(b"m", 9)
    assert book.is_answered(b"m")
    assert (book.expired, book.pending) == (1, 0)


def test_old_answers_are_forgotten_and_open_messages_never() -> None:
    """Statuses expire; what is unanswered stays."""
    book = RequestBook()
    for number in range(4):
        book.submit(bytes([number]), 0, 0)
    for number in range(3):
        answer(book, bytes([number]), number + 1)
    book.forget_before(3)
    assert sorted(book.requests) == [b"\2", b"\3"]
    assert book.submitted == 4


@given(st.lists(st.integers(1, 50), max_size=60))
def test_percentiles_are_nearest_ranks(latencies: list[int]) -> None:
    """Against sorting them all."""
    book = RequestBook()
    for number, rounds in enumerate(latencies):
        book.submit(b"%d" % number, 0, 10)
        answer(book, b"%d" % number, 10 + rounds)
    ordered = sorted(latencies)
    wanted = [ordered[-(-len(ordered) * p // 100) - 1] if ordered else 0 for p in (50, 95, 100)]
    assert list(book.percentiles(50, 95, 100)) == wanted


def reached(
    request: Advance, height: int, book: RequestBook | None = None, *, idle: bool = False, installed: bool = False
) -> bool:
    """Whether a goal set at height 10 is reached."""
    goal = Goal.of(ADDRESS, request, 10)
    return goal.is_reached(height, idle=idle, installed=installed, book=book or RequestBook())


def test_goals_are_reached_by_the_first_that_comes() -> None:
    """Rounds, height, idle, installed, or answers."""
    assert [reached(Advance(rounds=2), height) for height in (11, 12)] == [False, True]
    assert [reached(Advance(to_height=11, rounds=5), height) for height in (10, 11)] == [False, True]
    assert reached(Advance(until_idle=True), 10, idle=True)
    assert not reached(Advance(until_idle=True, rounds=3), 12)
    assert reached(Advance(until_installed=True), 10, installed=True)
    book = RequestBook()
    book.submit(b"m", 0, 10)
    assert not reached(Advance(until_answered=(b"m",)), 11, book)
    answer(book, b"m", 12)
    assert reached(Advance(until_answered=(b"m", b"unknown")), 12, book)
    assert reached(Advance(rounds=0), 10)


def test_a_goal_that_can_never_be_reached_is_recognised() -> None:
    """An Advance without any goal."""
    assert Goal.of(ADDRESS, Advance(), 0).is_endless()
    assert not Goal.of(ADDRESS, Advance(until_idle=True), 0).is_endless()
