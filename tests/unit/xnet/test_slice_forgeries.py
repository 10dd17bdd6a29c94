"""Certified slices: a good one is taken, every forged, stale or misdirected one is refused with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types import bls, hash_tree
from ic_types.errors import CertificationError
from ic_types.hash_tree import Fork, HashTree, Labeled, Leaf, Pruned
from ic_types.merkle import MerkleMap
from ic_types.messages import Refund, StreamMessage
from ic_types.principal import Principal, SubnetId
from ic_types.units import Cycles, StreamIndex
from xnet.encoding import encode_header, encode_message
from xnet.header import RejectReason, RejectSignal, StreamHeader
from xnet.slice import StreamSlice, make_slice
from xnet.slice_check import MAX_SIGNAL_AGE, check_signals, check_slice
from xnet.stream import Stream, index_label

SOURCE, OWN, THIRD = Principal(b"source"), Principal(b"own"), Principal(b"third")
SECRETS = {SOURCE: b"\x01" * 32, OWN: b"\x02" * 32, THIRD: b"\x03" * 32}


@cache
def key(subnet: SubnetId) -> bytes:
    """Public key of a subnet of one node."""
    return bls.public_key(SECRETS[subnet])


def refund(amount: int) -> StreamMessage:
    """A message that one can tell from others."""
    return Refund(recipient=Principal.canister(1), amount=Cycles(amount))


@dataclass
class Source:
    """A subnet with streams, reduced to what certifies them."""

    subnet: SubnetId = SOURCE
    tree: MerkleMap = field(default_factory=MerkleMap)
    streams: dict[SubnetId, Stream] = field(default_factory=dict)

    def stream(self, peer: SubnetId = OWN) -> Stream:
        """The stream to a peer."""
        return self.streams.setdefault(peer, Stream())

    def certify(self) -> bytes:
        """Bring the tree up to date; gives the signature over its root."""
        for peer, stream in self.streams.items():
            place = self.tree.child(b"streams").child(bytes(peer))
            place.set(b"header", encode_header(stream.header()))
            place.set(b"messages", stream.tree)
        return bls.sign(SECRETS[self.subnet], bls.with_domain(bls.STATE_ROOT, self.tree.root()))

    def slice(self, peer: SubnetId = OWN, begin: int = 0, signals: int = 0, size: int = 1 << 20) -> bytes:
        """A slice for a peer."""
        made = make_slice(
            self.tree,
            peer,
            self.stream(peer),
            message_begin=StreamIndex(begin),
            signals_begin=StreamIndex(signals),
            max_bytes=size,
        )
        assert made is not None
        return made


def source_with(count: int) -> Source:
    """A source with so many messages for us, some for a third subnet, and other state."""
    source = Source()
    for number in range(count):
        source.stream().push(refund(number))
    source.stream(THIRD).push(refund(99))
    source.tree.set(b"time", b"1")
    return source


def check(
    witness: bytes, signature: bytes, *, source: SubnetId = SOURCE, own: SubnetId = OWN,
    expected: int = 0, begin: int = 0, end: int = 0, certified_by: SubnetId = SOURCE,
) -> StreamSlice:  # fmt: skip
    """check_slice as a node calls it."""
    return check_slice(
        source=source, witness=witness, signature=signature, source_key=key(certified_by), own=own,
        expected=StreamIndex(expected), stream_begin=StreamIndex(begin), stream_end=StreamIndex(end),
    )  # fmt: skip


def edit(tree: HashTree, path: tuple[bytes, ...], value: bytes) -> HashTree:
    """The tree with another value in the leaf at a path."""
    match tree:
        case Fork():
            return Fork(edit(tree.left, path, value), edit(tree.right, path, value))
        case Labeled() if path and tree.label == path[0]:
            return Labeled(tree.label, edit(tree.subtree, path[1:], value))
        case Leaf() if not path:
            return Leaf(value)
    return tree


def forge(witness: bytes, *path: bytes, value: bytes) -> bytes:
    """The witness with another value at a path."""
    forged = hash_tree.encode(edit(hash_tree.decode(witness), (b"streams", bytes(OWN), *path), value))
    assert forged != witness
    return forged


def test_good_slice_is_taken() -> None:
    """Messages and header arrive as they were sent."""
    source = source_with(3)
    signature = source.certify()
    got = check(source.slice(), signature)
    assert got.messages == (refund(0), refund(1), refund(2))
    assert (got.begin, got.end, got.header) == (0, 3, source.stream().header())


def test_slice_may_start_and_end_inside_the_stream() -> None:
    """The receiver asks from where it stands; a byte budget cuts the rest."""
    source = source_with(500)
    signature = source.certify()
    assert check(source.slice(begin=7), signature, expected=7).messages == tuple(map(refund, range(7, 500)))
    witness = source.slice(begin=7, size=8000)
    part = check(witness, signature, expected=7)
    assert 50 < len(part.messages) < 400
    assert len(witness) < 8000


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(0, 59), st.integers(2048, 8000))
def test_every_slice_fits_and_reads_back(count: int, begin: int, size: int) -> None:
    """For any stream, start and budget the slice holds consecutive messages from the start and keeps to the budget."""
    source = source_with(count)
    begin = min(begin, count)
    source.certify()
    made = make_slice(
        source.tree, OWN, source.stream(), message_begin=StreamIndex(begin), signals_begin=StreamIndex(0), max_bytes=size
    )
    if made is None:
        assert begin == count or size < 2300
        return
    signature = bls.sign(SECRETS[SOURCE], bls.with_domain(bls.STATE_ROOT, source.tree.root()))
    got = check(made, signature, expected=begin)
    assert got.messages == tuple(map(refund, range(begin, begin + len(got.messages))))
    assert len(made) <= size


def test_nothing_new_makes_no_slice() -> None:
    """No messages from the expected index on and no new signals: nothing to send."""
    source = source_with(2)
    source.certify()
    stream = source.stream()
    asked = {"message_begin": StreamIndex(2), "signals_begin": StreamIndex(0), "max_bytes": 1 << 20}
    assert make_slice(source.tree, OWN, stream, **asked) is None  # type: ignore[arg-type]
    stream.accept()
    signature = source.certify()
    witness = make_slice(source.tree, OWN, stream, **asked)  # type: ignore[arg-type]
    assert witness is not None
    got = check(witness, signature, expected=2, end=1)
    assert got.messages == ()
    assert got.header.signals_end == 1


def test_message_changed() -> None:
    """A message that isn't the one certified."""
    source = source_with(3)
    signature = source.certify()
    forged = forge(source.slice(), b"messages", index_label(1), value=encode_message(refund(1_000_000)))
    with pytest.raises(CertificationError, match="not certified by subnet"):
        check(forged, signature)


def test_signals_altered() -> None:
    """A header with other signals than certified."""
    source = source_with(1)
    signature = source.certify()
    header = StreamHeader(
        begin=StreamIndex(0), end=StreamIndex(1), signals_end=StreamIndex(1),
        reject_signals=(RejectSignal(StreamIndex(0), RejectReason.QUEUE_FULL),),
    )  # fmt: skip
    with pytest.raises(CertificationError, match="not certified by subnet"):
        check(forge(source.slice(), b"header", value=encode_header(header)), signature, end=1)


def test_signature_from_another_subnet() -> None:
    """A third subnet can't certify for the source, whichever it claims to be."""
    source = source_with(1)
    source.certify()
    source.subnet = THIRD
    signature = source.certify()
    with pytest.raises(CertificationError, match="not certified by subnet"):
        check(source.slice(), signature)


def test_valid_witness_under_an_older_certificate() -> None:
    """A witness of this height with the signature of the height before."""
    source = source_with(1)
    old = source.certify()
    source.stream().push(refund(5))
    source.certify()
    with pytest.raises(CertificationError, match="not certified by subnet"):
        check(source.slice(), old)


def test_malformed_signatures() -> None:
    """No point, no signature."""
    source = source_with(1)
    signature = source.certify()
    for bad in (b"", bytes(48), signature[:-1], signature + b"\x00", b"\xc0" + bytes(47)):
        with pytest.raises(CertificationError, match="not certified by subnet"):
            check(source.slice(), bad)


def test_replay() -> None:
    """A slice that has been inducted before starts where we no longer are."""
    source = source_with(2)
    signature = source.certify()
    witness = source.slice()
    check(witness, signature)
    with pytest.raises(CertificationError, match="starts with message 0, we expect message 2"):
        check(witness, signature, expected=2)


def test_replay_after_the_source_went_on() -> None:
    """An old slice whose stream doesn't reach the expected index."""
    source = source_with(2)
    signature = source.certify()
    with pytest.raises(CertificationError, match=r"has messages \[0, 2\), we expect message 3"):
        check(source.slice(), signature, expected=3)


def test_gap_before_the_slice() -> None:
    """A slice that skips the messages we wait for."""
    source = source_with(3)
    signature = source.certify()
    with pytest.raises(CertificationError, match="starts with message 1, we expect message 0"):
        check(source.slice(begin=1), signature)


def test_gap_inside_the_slice() -> None:
    """A witness that leaves out a message in the middle, under a good signature."""
    source = source_with(5)
    signature = source.certify()
    shown = {b"header": None, b"messages": {index_label(k): None for k in (0, 1, 3)}}
    witness = hash_tree.encode(source.tree.witness_of({b"streams": {bytes(OWN): shown}}))
    with pytest.raises(CertificationError, match="message 3 follows 1"):
        check(witness, signature)


def test_messages_we_still_keep_but_the_source_dropped() -> None:
    """A stream that begins behind the index we expect."""
    source = source_with(3)
    source.stream().discard_messages_before(StreamIndex(2))
    signature = source.certify()
    with pytest.raises(CertificationError, match=r"has messages \[2, 3\), we expect message 1"):
        check(source.slice(begin=2), signature, expected=1)


def test_own_slice_sent_back() -> None:
    """Our own certified stream comes back to us."""
    ours = Source(subnet=OWN)
    ours.stream(SOURCE).push(refund(1))
    ours.stream(OWN).push(refund(2))
    signature = ours.certify()
    with pytest.raises(CertificationError, match="our own subnet"):
        check(ours.slice(OWN), signature, source=OWN, certified_by=OWN)
    with pytest.raises(CertificationError, match="we are"):
        check(ours.slice(SOURCE), signature, source=SOURCE)


def test_stream_to_another_subnet() -> None:
    """What the source certified for a third subnet is nothing for us."""
    source = source_with(1)
    signature = source.certify()
    with pytest.raises(CertificationError, match="reveals the stream to subnet"):
        check(source.slice(THIRD), signature)


def test_more_than_the_stream_is_refused() -> None:
    """A slice reveals header and messages; other state in it is a sign of confusion."""
    source = source_with(1)
    signature = source.certify()
    witness = hash_tree.encode(source.tree.witness([(b"time",), (b"streams", OWN)]))
    with pytest.raises(CertificationError, match="/time, which is no stream"):
        check(witness, signature)


def test_header_must_be_revealed() -> None:
    """Messages alone don't tell where the stream stands."""
    source = source_with(1)
    signature = source.certify()
    witness = hash_tree.encode(source.tree.witness([(b"streams", OWN, b"messages")]))
    with pytest.raises(CertificationError, match="no stream header"):
        check(witness, signature)


def test_signals_beyond_our_stream() -> None:
    """Signals for messages that we never sent, or that we had signals for long ago."""
    source = source_with(1)
    for _ in range(3):
        source.stream().accept()
    signature = source.certify()
    check(source.slice(), signature, begin=1, end=3)
    with pytest.raises(CertificationError, match=r"signals up to 3 for our messages \[0, 2\)"):
        check(source.slice(), signature, end=2)
    with pytest.raises(CertificationError, match=r"signals up to 3 for our messages \[4, 9\)"):
        check(source.slice(), signature, begin=4, end=9)


def test_slice_without_news() -> None:
    """Neither messages nor signals we don't know: not worth a place in a batch."""
    source = source_with(1)
    source.stream().accept()
    signature = source.certify()
    witness = hash_tree.encode(source.tree.witness([(b"streams", OWN, b"header")]))
    with pytest.raises(CertificationError, match="neither messages nor new signals"):
        check(witness, signature, expected=1, begin=1, end=1)


def test_contradictory_headers() -> None:
    """A dishonest source can certify nonsense; it is refused all the same."""
    source = source_with(1)
    place = source.tree.child(b"streams").child(bytes(OWN))
    source.certify()
    for begin, end, reason in ((2, 1, "behind its end"), (0, 0, "up to 1, its stream ends at 0")):
        header = StreamHeader(begin=StreamIndex(begin), end=StreamIndex(end), signals_end=StreamIndex(0))
        place.set(b"header", encode_header(header))
        signature = bls.sign(SECRETS[SOURCE], bls.with_domain(bls.STATE_ROOT, source.tree.root()))
        with pytest.raises(CertificationError, match=reason):
            check(source.slice(), signature)


@pytest.mark.parametrize(
    "indices", [[5, 5], [6, 5], [10], [11], [MAX_SIGNAL_AGE]], ids=["twice", "descending", "at end", "after end", "far after"]
)
def test_signals_out_of_order(indices: list[int]) -> None:
    """Signals ascend strictly and lie below signals_end."""
    signals = tuple(RejectSignal(StreamIndex(k), RejectReason.UNKNOWN) for k in indices)
    header = StreamHeader(begin=StreamIndex(0), end=StreamIndex(0), signals_end=StreamIndex(10), reject_signals=signals)
    with pytest.raises(CertificationError, match="reject signal for message"):
        check_signals(header)


def test_signals_are_bounded_in_age() -> None:
    """A signal may be 200,000 messages old, not more."""
    for age, good in ((MAX_SIGNAL_AGE, True), (MAX_SIGNAL_AGE + 1, False)):
        end = StreamIndex(500_000)
        signals = (RejectSignal(StreamIndex(end - age), RejectReason.UNKNOWN),)
        header = StreamHeader(begin=StreamIndex(0), end=StreamIndex(0), signals_end=end, reject_signals=signals)
        if good:
            check_signals(header)
        else:
            with pytest.raises(CertificationError, match="too old"):
                check_signals(header)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 5000), st.integers(1, 255))
def test_no_changed_byte_passes(position: int, flip: int) -> None:
    """Whatever byte of a witness changes, the slice is refused."""
    source = source_with(4)
    signature = source.certify()
    raw = bytearray(source.slice())
    raw[position % len(raw)] ^= flip
    with pytest.raises(CertificationError):
        check(bytes(raw), signature)


def test_pruned_witness_of_nothing() -> None:
    """A tree that reveals nothing at all."""
    source = source_with(1)
    signature = source.certify()
    with pytest.raises(CertificationError, match="no stream header"):
        check(hash_tree.encode(Pruned(source.tree.root())), signature)


@pytest.mark.parametrize("depth", [100, 390])
def test_deep_witnesses(depth: int) -> None:
    """Labels nested as deep as the reader allows are refused like any other nonsense, even when certified."""
    tree: HashTree = Leaf(b"")
    for _ in range(depth):
        tree = Labeled(b"streams", tree)
    signature = bls.sign(SECRETS[SOURCE], bls.with_domain(bls.STATE_ROOT, hash_tree.reconstruct(tree)))
    with pytest.raises(CertificationError, match="stream to subnet"):
        check(hash_tree.encode(tree), signature)


@pytest.mark.parametrize(
    "raw", ["c11bffffffffffffffff", "d8236128", "d81c81d81d00", "5b7fffffffffffffff", "c4821b7fffffffffffffff01"]
)
@pytest.mark.parametrize("where", ["header", "messages"])
def test_hostile_leaves_of_a_certified_slice(raw: str, where: str) -> None:
    """A dishonest subnet certifies leaves that upset CBOR libraries: still an error, not a crash."""
    source = source_with(1)
    place = source.tree.child(b"streams").child(bytes(OWN))
    source.certify()
    if where == "header":
        place.set(b"header", bytes.fromhex(raw))
    else:
        place.child(b"messages").set(index_label(0), bytes.fromhex(raw))
    signature = bls.sign(SECRETS[SOURCE], bls.with_domain(bls.STATE_ROOT, source.tree.root()))
    with pytest.raises(CertificationError, match="malformed stream"):
        check(source.slice(), signature)
