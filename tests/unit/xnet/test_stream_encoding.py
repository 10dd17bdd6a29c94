"""Canonical CBOR of stream headers and messages: the replica's keys, round trips, strictness."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types.errors import CertificationError
from ic_types.messages import Refund, Request, Response
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply, reject
from ic_types.units import CallbackId, Cycles, StreamIndex, TimeNs
from xnet.encoding import decode_header, decode_message, encode_header, encode_message
from xnet.header import RejectReason, RejectSignal, StreamHeader

A, B = Principal.canister(1), Principal.canister(2)
u64, u128 = st.integers(0, 2**64 - 1), st.integers(0, 2**128 - 1)
principals = st.binary(max_size=29).map(Principal)
requests = st.builds(
    Request, sender=principals, receiver=principals, callback_id=u64, payment=u128, method=st.text(max_size=30),
    arg=st.binary(max_size=300), deadline_s=st.integers(0, 2**32 - 1), call_tree_depth=u64, call_tree_start=u64,
)  # fmt: skip
payloads = st.builds(Reply, st.binary(max_size=300)) | st.builds(Reject, st.sampled_from(RejectCode), st.text(max_size=30))
responses = st.builds(
    Response, originator=principals, respondent=principals, callback_id=u64, refund=u128, payload=payloads,
    deadline_s=st.integers(0, 2**32 - 1),
)  # fmt: skip
messages = requests | responses | st.builds(Refund, recipient=principals, amount=u128)


@st.composite
def headers(draw: st.DrawFn) -> StreamHeader:
    """Headers with reject signals in order."""
    begin, count = draw(st.integers(0, 2**40)), draw(st.integers(0, 2**20))
    indices = sorted(draw(st.sets(st.integers(0, 10_000), max_size=12)))
    signals = tuple(RejectSignal(StreamIndex(k), draw(st.sampled_from(RejectReason))) for k in indices)
    signals_end = draw(st.integers(indices[-1] + 1 if indices else 0, 2**40))
    return StreamHeader(
        begin=StreamIndex(begin), end=StreamIndex(begin + count), signals_end=StreamIndex(signals_end),
        reject_signals=signals, flags=draw(st.integers(0, 1)),
    )  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(messages)
def test_messages_round_trip(message: Request | Response | Refund) -> None:
    """Every message comes out as it went in, and the library writes the same bytes."""
    raw = encode_message(message)
    assert decode_message(raw) == message
    assert cbor2.dumps(cbor2.loads(raw)) == raw


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1])
def test_integers_and_lengths_are_in_their_shortest_form(size: int) -> None:
    """Around every step of CBOR's forms our bytes are the library's."""
    short = size if size < 100_000 else 0
    request = Request(
        receiver=A, sender=B, callback_id=CallbackId(size), payment=Cycles(size << 32), method="m" * short, arg=bytes(short)
    )
    raw = encode_message(request)
    assert cbor2.dumps(cbor2.loads(raw)) == raw
    assert decode_message(raw) == request


@settings(deadline=None, max_examples=200)
@given(headers())
def test_headers_round_trip(header: StreamHeader) -> None:
    """Every header comes out as it went in, its signals in order."""
    assert decode_header(encode_header(header)) == header


def test_keys_of_a_request() -> None:
    """Integer keys as the replica numbers them; the high half of cycles and a deadline only when there."""
    request = Request(
        receiver=A, sender=B, callback_id=CallbackId(3), payment=Cycles(4), method="m", arg=b"x", call_tree_start=TimeNs(9)
    )
    body = {0: bytes(A), 1: bytes(B), 2: 3, 3: {0: {0: 4}}, 4: "m", 5: b"x", 7: {0: 0, 1: 9}}
    assert encode_message(request) == cbor2.dumps({0: body})
    large = Request(receiver=A, sender=B, callback_id=CallbackId(3), payment=Cycles(2**64), method="m", arg=b"x", deadline_s=5)
    body |= {3: {0: {0: 0, 1: 1}}, 7: {0: 0, 1: 0}, 8: 5}
    assert encode_message(large) == cbor2.dumps({0: body})


def test_keys_of_responses_and_refunds() -> None:
    """Data or reject, never both; the error code stays at home."""
    base = {"originator": A, "respondent": B, "callback_id": CallbackId(1), "refund": Cycles(0)}
    replied = Response(payload=Reply(b""), **base)  # type: ignore[arg-type]
    rejected = Response(payload=reject(ErrorCode.CANISTER_TRAPPED, "no"), deadline_s=7, **base)  # type: ignore[arg-type]
    head = {0: bytes(A), 1: bytes(B), 2: 1, 3: {0: {0: 0}}}
    assert encode_message(replied) == cbor2.dumps({1: {**head, 4: {0: b""}}})
    assert encode_message(rejected) == cbor2.dumps({1: {**head, 4: {1: {0: 5, 1: "no"}}, 6: 7}})
    arrived = decode_message(encode_message(rejected))
    assert isinstance(arrived, Response)
    assert arrived.payload == Reject(RejectCode.CANISTER_ERROR, "no")
    assert encode_message(Refund(recipient=A, amount=Cycles(5))) == cbor2.dumps({2: {0: bytes(A), 1: {0: 5}}})


def test_signals_are_deltas_by_reason() -> None:
    """Distances between neighbours of one reason, the last to signals_end."""
    signals = [(3, RejectReason.CANISTER_MIGRATING), (4, RejectReason.QUEUE_FULL), (7, RejectReason.CANISTER_MIGRATING)]
    header = StreamHeader(
        begin=StreamIndex(1), end=StreamIndex(2), signals_end=StreamIndex(10),
        reject_signals=tuple(RejectSignal(StreamIndex(k), reason) for k, reason in signals),
    )  # fmt: skip
    assert encode_header(header) == cbor2.dumps({0: 1, 1: 2, 2: 10, 5: {0: [4, 3], 4: [6]}})


REFUND = {0: b"", 1: {0: 5}}
RESPONSE = {0: b"", 1: b"", 2: 1, 3: {0: {0: 0}}, 4: {0: b""}}
REQUEST = {0: b"", 1: b"", 2: 1, 3: {0: {0: 0}}, 4: "m", 5: b"", 7: {0: 0, 1: 0}}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        cbor2.dumps([]),
        cbor2.dumps({}),
        cbor2.dumps({3: REFUND}),
        cbor2.dumps({0: REQUEST, 2: REFUND}),
        cbor2.dumps({2: REFUND}) + b"\x00",
        b"\xd9\xd9\xf7" + cbor2.dumps({2: REFUND}),
        b"\xbf\x02" + cbor2.dumps(REFUND) + b"\xff",
        b"\xa1\x18\x02" + cbor2.dumps(REFUND),
        cbor2.dumps({2: {1: {0: 5}, 0: b""}}),
        cbor2.dumps({2: {0: b"", 1: {0: 5, 1: 0}}}),
        cbor2.dumps({2: {0: b"", 1: {0: 2**64}}}),
        cbor2.dumps({2: {0: b"", 1: {0: -1}}}),
        cbor2.dumps({2: {0: b"", 1: {0: True}}}),
        cbor2.dumps({2: {0: b"", 1: {0: 1.0}}}),
        cbor2.dumps({2: {0: bytes(30), 1: {0: 5}}}),
        cbor2.dumps({2: {0: "", 1: {0: 5}}}),
        cbor2.dumps({2: {0: b"", 1: {0: 5}, 2: 0}}),
        cbor2.dumps({1: {**RESPONSE, 4: {}}}),
        cbor2.dumps({1: {**RESPONSE, 4: {0: b"", 1: {0: 1, 1: ""}}}}),
        cbor2.dumps({1: {**RESPONSE, 4: {1: {0: 9, 1: ""}}}}),
        cbor2.dumps({1: {**RESPONSE, 6: 0}}),
        cbor2.dumps({1: {**RESPONSE, 6: 2**32}}),
        cbor2.dumps({0: {**REQUEST, 6: 0}}),
        cbor2.dumps({0: {**REQUEST, 4: b"m"}}),
        cbor2.dumps({0: {k: v for k, v in REQUEST.items() if k != 7}}),
        cbor2.dumps({0: 1}),
        b"\xd8\x1c\x81\xd8\x1d\x00",
    ],
)
def test_other_messages_are_refused(raw: bytes) -> None:
    """Unknown or missing keys, wrong types, ranges or forms are errors."""
    for good in ({2: REFUND}, {1: RESPONSE}, {0: REQUEST}):
        decode_message(cbor2.dumps(good))
    with pytest.raises(CertificationError, match="stream message"):
        decode_message(raw)


@pytest.mark.parametrize(
    "fields",
    [
        {0: 1, 1: 2},
        {0: 1, 1: 2, 2: "x"},
        {0: 1, 1: 2, 2: 10, 3: []},
        {0: 1, 1: 2, 2: 10, 4: 0},
        {0: 1, 1: 2, 2: 10, 5: {}},
        {0: 1, 1: 2, 2: 10, 5: {0: []}},
        {0: 1, 1: 2, 2: 10, 5: {7: [1]}},
        {0: 1, 1: 2, 2: 10, 5: {0: [0]}},
        {0: 1, 1: 2, 2: 10, 5: {0: [11]}},
        {0: 1, 1: 2, 2: 10, 5: {0: [6, 5]}},
        {0: 1, 1: 2, 2: 10, 5: {1: [1], 0: [2]}},
        {2: 10, 1: 2, 0: 1},
    ],
)
def test_other_headers_are_refused(fields: dict[int, object]) -> None:
    """Signals must fit below signals_end; empty parts and other keys aren't canonical."""
    decode_header(cbor2.dumps({0: 1, 1: 2, 2: 10, 5: {0: [2], 1: [1]}}))
    with pytest.raises(CertificationError, match="stream header"):
        decode_header(cbor2.dumps(fields))


@settings(deadline=None, max_examples=200)
@given(messages, st.integers(0, 1000), st.integers(1, 255))
def test_decoder_refuses_or_gives_canonical(message: Request | Response | Refund, position: int, flip: int) -> None:
    """A changed byte gives an error or another message whose bytes these are."""
    raw = bytearray(encode_message(message))
    raw[position % len(raw)] ^= flip
    try:
        assert encode_message(decode_message(bytes(raw))) == raw
    except CertificationError:
        return
