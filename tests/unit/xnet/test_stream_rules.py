"""Streams, garbage collection and payload selection: two subnets exchange everything exactly once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ic_types import canonical
from ic_types.errors import CertificationError
from ic_types.merkle import MerkleMap
from ic_types.messages import Refund, StreamMessage
from ic_types.principal import Principal
from ic_types.units import Cycles, StreamIndex
from xnet.encoding import encode_header, encode_message
from xnet.garbage_collection import Refused, collect_garbage, take_loopback
from xnet.header import RejectReason, RejectSignal
from xnet.payload_selection import StreamPosition, WantedSlice, fitting, wanted_slices
from xnet.slice import make_slice, open_slice
from xnet.slice_check import check_indices
from xnet.stream import Stream, index_label

A, B, C = (Principal(name) for name in (b"a", b"b", b"c"))


def refund(amount: int) -> StreamMessage:
    """A message that one can tell from others."""
    return Refund(recipient=Principal.canister(1), amount=Cycles(amount))


def test_stream_counts_and_certifies_its_messages() -> None:
    """Indices go up, bytes are those of the encoding, the tree holds what is there."""
    stream = Stream()
    assert [stream.push(refund(k)) for k in range(4)] == [0, 1, 2, 3]
    assert stream.byte_count == sum(len(encode_message(refund(k))) for k in range(4))
    gone = stream.discard_messages_before(StreamIndex(3))
    assert gone == [(0, refund(0)), (1, refund(1)), (2, refund(2))]
    assert (stream.begin, stream.end, list(stream.iter_messages())) == (3, 4, [refund(3)])
    assert stream.byte_count == len(encode_message(refund(3)))
    assert list(stream.tree.items()) == [(index_label(3), encode_message(refund(3)))]


def test_state_hash_of_a_stream_follows_every_part() -> None:
    """Messages, signals and reject signals each change the canonical form."""
    stream, seen = Stream(), set()
    for step in (lambda: stream.push(refund(1)), stream.accept, lambda: stream.reject(RejectReason.UNKNOWN), stream.accept):
        step()
        seen.add(canonical.digest(stream.to_canonical()))
    assert len(seen) == 4


def test_signals_for_unknown_messages_are_a_bug() -> None:
    """Checked slices can't signal beyond the stream; one that does must not pass silently."""
    with pytest.raises(AssertionError, match="signals up to 1"):
        Stream().discard_messages_before(StreamIndex(1))


def test_refused_messages_come_back() -> None:
    """What the other side accepted goes, what it refused is given back with the reason, known signals are dropped."""
    ours, theirs = Stream(), Stream()
    for number in range(4):
        ours.push(refund(number))
    theirs.accept()
    theirs.reject(RejectReason.QUEUE_FULL)
    theirs.accept()
    assert collect_garbage(ours, theirs.header()) == [Refused(StreamIndex(1), refund(1), RejectReason.QUEUE_FULL)]
    assert (ours.begin, ours.end) == (3, 4)
    assert collect_garbage(ours, theirs.header()) == []
    collect_garbage(theirs, ours.header())
    assert list(theirs.reject_signals) == []


def test_signals_that_are_still_needed_stay() -> None:
    """A reject signal stays until the other side's begin has passed its message."""
    stream, other = Stream(), Stream()
    stream.accept()
    stream.reject(RejectReason.UNKNOWN)
    for number in range(2):
        other.push(refund(number))
    other.discard_messages_before(StreamIndex(1))
    collect_garbage(stream, other.header())
    assert list(stream.reject_signals) == [RejectSignal(StreamIndex(1), RejectReason.UNKNOWN)]


def test_loopback_stream_is_emptied_at_once() -> None:
    """All messages are taken and no signal stays."""
    stream = Stream()
    stream.push(refund(1))
    assert take_loopback(stream) == [(0, refund(1))]
    stream.push(refund(2))
    assert take_loopback(stream) == [(1, refund(2))]
    assert (stream.begin, stream.end, stream.signals_end, stream.byte_count) == (2, 2, 2, 0)


def at(begin: int, end: int, signals_end: int) -> StreamPosition:
    """A position."""
    return StreamPosition(StreamIndex(begin), StreamIndex(end), StreamIndex(signals_end))


def test_only_news_are_asked_for() -> None:
    """New messages or new signals, from where we stand; idle streams aren't asked for."""
    assert wanted_slices({}, {A: at(0, 0, 0)}) == []
    assert wanted_slices({}, {A: at(0, 2, 0)}) == [WantedSlice(A, StreamIndex(0), StreamIndex(0))]
    assert wanted_slices({A: at(3, 7, 2)}, {A: at(0, 2, 3)}) == []
    assert wanted_slices({A: at(3, 7, 2)}, {A: at(0, 2, 5)}) == [WantedSlice(A, StreamIndex(2), StreamIndex(3))]
    assert wanted_slices({A: at(3, 7, 2)}, {A: at(0, 4, 3)}) == [WantedSlice(A, StreamIndex(2), StreamIndex(3))]


def test_peers_take_turns_at_being_first() -> None:
    """The rotation decides who comes first, so that nobody starves when bytes run out."""
    incoming = {peer: at(0, 1, 0) for peer in (C, A, B)}
    assert [[w.peer for w in wanted_slices({}, incoming, rotation=k)] for k in (0, 1, 5)] == [[A, B, C], [B, C, A], [C, A, B]]


def test_system_subnets_take_a_hundred_at_most() -> None:
    """No more messages than keep the reverse stream within 100; signals are taken all the same."""
    limited = wanted_slices({A: at(0, 70, 0)}, {A: at(0, 500, 0)}, limit_messages=True)
    assert limited == [WantedSlice(A, StreamIndex(0), StreamIndex(0), 30)]
    assert wanted_slices({A: at(0, 120, 0)}, {A: at(0, 500, 0)}, limit_messages=True) == []
    assert wanted_slices({A: at(0, 120, 0)}, {A: at(0, 500, 9)}, limit_messages=True)[0].max_messages == 0


def test_slices_fit_a_batch_in_order() -> None:
    """Slices are taken while they fit; a rest below 1 KiB is left."""
    assert fitting([1000, 2000, 3000], 10_000) == 3
    assert fitting([1000, 2000, 3000], 5000) == 2
    assert fitting([9000, 10], 10_000) == 1
    assert fitting([], 0) == 0


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 50), max_size=30))
def test_message_limit_of_a_slice(counts: list[int]) -> None:
    """A slice has no more messages than asked for."""
    stream, tree = Stream(), MerkleMap()
    for number in range(20):
        stream.push(refund(number))
    place = tree.child(b"streams").child(b"peer")
    place.set(b"header", encode_header(stream.header()))
    place.set(b"messages", stream.tree)
    for limit in counts:
        made = make_slice(
            tree, Principal(b"peer"), stream, message_begin=StreamIndex(0), signals_begin=StreamIndex(0),
            max_bytes=1 << 20, max_messages=limit,
        )  # fmt: skip
        assert (made is None) == (limit == 0)
        if made is not None:
            assert len(open_slice(made, Principal(b"peer")).messages) == min(limit, 20)


class TwoSubnets(RuleBasedStateMachine):
    """Two subnets push, exchange slices (also late ones) and refuse now and then; each message is settled exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.streams = {A: Stream(), B: Stream()}
        self.trees = {A: MerkleMap(), B: MerkleMap()}
        self.pushed: dict[Principal, int] = {A: 0, B: 0}
        self.accepted: dict[Principal, list[int]] = {A: [], B: []}
        self.refused: dict[Principal, list[int]] = {A: [], B: []}
        self.on_the_way: list[tuple[Principal, bytes]] = []

    @rule(sender=st.sampled_from([A, B]), count=st.integers(1, 5))
    def push(self, sender: Principal, count: int) -> None:
        """New messages enter a stream."""
        for _ in range(count):
            self.streams[sender].push(refund(self.pushed[sender]))
            self.pushed[sender] += 1

    @rule(sender=st.sampled_from([A, B]), size=st.sampled_from([2100, 2300, 100_000]))
    def certify_and_send(self, sender: Principal, size: int) -> None:
        """The sender certifies its stream; a slice from where the receiver stands goes on its way."""
        receiver = B if sender == A else A
        stream, theirs = self.streams[sender], self.streams[receiver]
        place = self.trees[sender].child(b"streams").child(bytes(receiver))
        place.set(b"header", encode_header(stream.header()))
        place.set(b"messages", stream.tree)
        made = make_slice(
            self.trees[sender], receiver, stream, message_begin=theirs.signals_end, signals_begin=theirs.begin, max_bytes=size
        )
        if made is not None:
            self.on_the_way.append((sender, made))

    @precondition(lambda self: self.on_the_way)
    @rule(which=st.integers(0, 100), keep=st.booleans(), refuse=st.sets(st.integers(0, 4)))
    def receive(self, which: int, keep: bool, refuse: set[int]) -> None:
        """Some slice arrives, perhaps an old one or one that arrives twice; what fits is inducted."""
        sender, witness = self.on_the_way[which % len(self.on_the_way)]
        if not keep:
            self.on_the_way.remove((sender, witness))
        receiver = B if sender == A else A
        own = self.streams[receiver]
        content = open_slice(witness, receiver).read()
        try:
            check_indices(content, expected=own.signals_end, stream_begin=own.begin, stream_end=own.end)
        except CertificationError:
            return
        self.refused[receiver] += [self.number(refused.message) for refused in collect_garbage(own, content.header)]
        for position, message in enumerate(content.messages):
            if position % 5 in refuse:
                own.reject(RejectReason.QUEUE_FULL)
            else:
                own.accept()
                self.accepted[sender].append(self.number(message))

    @staticmethod
    def number(message: StreamMessage) -> int:
        """Which message it is."""
        assert isinstance(message, Refund)
        return message.amount

    @invariant()
    def everything_once_and_in_order(self) -> None:
        """Accepted ones arrived once and in order; refused ones came back once; nothing is both, nothing left unseen."""
        for sender, stream in self.streams.items():
            accepted, refused = self.accepted[sender], self.refused[sender]
            assert accepted == sorted(set(accepted))
            assert refused == sorted(set(refused))
            assert not set(accepted) & set(refused)
            waiting = {self.number(message) for message in stream.iter_messages()}
            assert set(accepted) | set(refused) | waiting == set(range(self.pushed[sender]))
            fresh = MerkleMap((index_label(stream.begin + k), encode_message(m)) for k, m in enumerate(stream.iter_messages()))
            assert stream.tree.root() == fresh.root()


TwoSubnets.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=30)
TestTwoSubnets = TwoSubnets.TestCase
