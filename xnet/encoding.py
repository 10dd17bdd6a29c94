"""Canonical CBOR of stream headers and messages: what the certified state holds under /streams.

Rule module. The replica's encoding, certification version 22: maps with small integer keys in ascending order, shortest
integers, definite lengths, empty and zero optional parts left out. Decoding builds the value and accepts it only if encoding it
again gives the same bytes, so whatever isn't canonical is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import cbor2

from ic_types.errors import CertificationError
from ic_types.messages import Refund, Request, Response, StreamMessage
from ic_types.principal import MAX_BYTES, Principal
from ic_types.reject import Reject, RejectCode, Reply
from ic_types.units import CallbackId, Cycles, StreamIndex, TimeNs
from xnet.header import RejectReason, RejectSignal, StreamHeader

_LOW: Final = (1 << 64) - 1
_REQUEST, _RESPONSE, _REFUND = 0, 1, 2
_SMALL_HEADS: Final = [[bytes((major << 5 | number,)) for number in range(24)] for major in range(4)]
_HEAD_1, _HEAD_2, _HEAD_4, _HEAD_8 = (struct.Struct(form).pack for form in (">BB", ">BH", ">BI", ">BQ"))
_MAX_U32 = (1 << 32) - 1


def encode_header(header: StreamHeader) -> bytes:
    """The header's leaf in the certified state."""
    fields: dict[int, Any] = {0: header.begin, 1: header.end, 2: header.signals_end}
    if header.flags:
        fields[4] = header.flags
    if header.reject_signals:
        by_reason: dict[int, list[int]] = {}
        for signal in header.reject_signals:
            by_reason.setdefault(int(signal.reason), []).append(signal.index)
        fields[5] = {reason: _deltas(by_reason[reason], header.signals_end) for reason in sorted(by_reason)}
    return cbor2.dumps(fields)


def decode_header(raw: bytes) -> StreamHeader:
    """The header in a leaf.

    Raises: CertificationError when the bytes aren't the canonical form of a header.
    """
    try:
        fields = _numbered(cbor2.loads(raw), {0, 1, 2, 4, 5})
        signals_end = _natural(fields[2])
        signals = [
            RejectSignal(StreamIndex(index), RejectReason(reason))
            for reason, deltas in _numbered(fields.get(5, {}), set(range(7))).items()
            for index in _from_deltas(deltas, signals_end)
        ]
        signals.sort(key=lambda signal: signal.index)
        header = StreamHeader(
            begin=StreamIndex(_natural(fields[0])), end=StreamIndex(_natural(fields[1])), signals_end=StreamIndex(signals_end),
            reject_signals=tuple(signals), flags=_natural(fields.get(4, 0)),
        )  # fmt: skip
    except Exception as error:  # cbor2 raises whatever the libraries behind its tags raise
        raise CertificationError(f"malformed stream header: {error!r}") from error
    if encode_header(header) != raw:
        raise CertificationError("stream header is not in its canonical form")
    return header


def encode_message(message: StreamMessage) -> bytes:
    """The message's leaf in the certified state. The error code of a reject doesn't cross subnets.

    Written out byte by byte, since every message pays for it on its way in and out; 0xA0 + n starts a map of n fields.
    """
    if isinstance(message, Request):
        deadline = b"\x08" + _head(0, message.deadline_s) if message.deadline_s else b""
        return (
            (b"\xa1\x00\xa8\x00" if deadline else b"\xa1\x00\xa7\x00") + _blob(message.receiver)
            + b"\x01" + _blob(message.sender) + b"\x02" + _head(0, message.callback_id)
            + b"\x03\xa1\x00" + _cycles(message.payment) + b"\x04" + _text(message.method) + b"\x05" + _blob(message.arg)
            + b"\x07\xa2\x00" + _head(0, message.call_tree_depth) + b"\x01" + _head(0, message.call_tree_start) + deadline
        )  # fmt: skip
    if isinstance(message, Response):
        payload = message.payload
        if isinstance(payload, Reply):
            body = b"\xa1\x00" + _blob(payload.data)
        else:
            body = b"\xa1\x01\xa2\x00" + _head(0, payload.code) + b"\x01" + _text(payload.message)
        deadline = b"\x06" + _head(0, message.deadline_s) if message.deadline_s else b""
        return (
            (b"\xa1\x01\xa6\x00" if deadline else b"\xa1\x01\xa5\x00") + _blob(message.originator)
            + b"\x01" + _blob(message.respondent) + b"\x02" + _head(0, message.callback_id)
            + b"\x03\xa1\x00" + _cycles(message.refund) + b"\x04" + body + deadline
        )  # fmt: skip
    return b"\xa1\x02\xa2\x00" + _blob(message.recipient) + b"\x01" + _cycles(message.amount)


def decode_message(raw: bytes) -> StreamMessage:
    """The message in a leaf.

    Raises: CertificationError when the bytes aren't the canonical form of a message.
    """
    try:
        [(kind, fields)] = _numbered(cbor2.loads(raw), {_REQUEST, _RESPONSE, _REFUND}).items()
        message = _DECODERS[kind](fields)
        again = encode_message(message)
    except Exception as error:
        raise CertificationError(f"malformed stream message: {error!r}") from error
    if again != raw:
        raise CertificationError("stream message is not in its canonical form")
    return message


def _decode_request(fields: Any) -> Request:
    _numbered(fields, {0, 1, 2, 3, 4, 5, 7, 8})
    metadata = _numbered(fields[7], {0, 1})
    return Request(
        receiver=_principal(fields[0]), sender=_principal(fields[1]), callback_id=CallbackId(_natural(fields[2])),
        payment=_from_funds(fields[3]), method=_typed(fields[4], str), arg=_typed(fields[5], bytes),
        deadline_s=_natural(fields.get(8, 0), _MAX_U32),
        call_tree_depth=_natural(metadata[0]), call_tree_start=TimeNs(_natural(metadata[1])),
    )  # fmt: skip


def _decode_response(fields: Any) -> Response:
    _numbered(fields, {0, 1, 2, 3, 4, 6})
    [(kind, body)] = _numbered(fields[4], {0, 1}).items()
    payload: Reply | Reject
    if kind == 0:
        payload = Reply(_typed(body, bytes))
    else:
        reject = _numbered(body, {0, 1})
        payload = Reject(RejectCode(_natural(reject[0])), _typed(reject[1], str))
    return Response(
        originator=_principal(fields[0]), respondent=_principal(fields[1]), callback_id=CallbackId(_natural(fields[2])),
        refund=_from_funds(fields[3]), payload=payload, deadline_s=_natural(fields.get(6, 0), _MAX_U32),
    )  # fmt: skip


def _decode_refund(fields: Any) -> Refund:
    _numbered(fields, {0, 1})
    return Refund(recipient=_principal(fields[0]), amount=_from_cycles(fields[1]))


_DECODERS: dict[int, Callable[[Any], StreamMessage]] = {
    _REQUEST: _decode_request,
    _RESPONSE: _decode_response,
    _REFUND: _decode_refund,
}


def _deltas(indices: list[int], signals_end: int) -> list[int]:
    """Distance of each index to the next, of the last to signals_end."""
    return [after - index for index, after in zip(indices, [*indices[1:], signals_end], strict=True)]


def _from_deltas(deltas: Any, signals_end: int) -> list[int]:
    indices, index = [], signals_end
    for delta in reversed(_typed(deltas, list)):
        index -= _natural(delta)
        if not delta or index < 0:
            raise ValueError("reject signals don't fit signals_end")
        indices.append(index)
    return indices[::-1]


def _head(major: int, number: int) -> bytes:
    """Head of a CBOR item in its shortest form; for major type 0 the whole integer."""
    if number < 24:
        return _SMALL_HEADS[major][number]
    if number < 1 << 16:
        return _HEAD_1(major << 5 | 24, number) if number < 1 << 8 else _HEAD_2(major << 5 | 25, number)
    return _HEAD_4(major << 5 | 26, number) if number < 1 << 32 else _HEAD_8(major << 5 | 27, number)


def _blob(raw: bytes) -> bytes:
    return _head(2, len(raw)) + raw


def _text(text: str) -> bytes:
    raw = text.encode()
    return _head(3, len(raw)) + raw


def _cycles(amount: int) -> bytes:
    """Low and, unless zero, high 64 bits."""
    if amount <= _LOW:
        return b"\xa1\x00" + _head(0, amount)
    return b"\xa2\x00" + _head(0, amount & _LOW) + b"\x01" + _head(0, amount >> 64)


def _from_cycles(value: Any) -> Cycles:
    _numbered(value, {0, 1})
    return Cycles(_natural(value[0]) | _natural(value.get(1, 0)) << 64)


def _from_funds(value: Any) -> Cycles:
    return _from_cycles(_numbered(value, {0})[0])


def _numbered(value: Any, keys: set[int]) -> dict[int, Any]:
    if type(value) is not dict or not value.keys() <= keys:
        raise ValueError(f"expected a map with keys among {sorted(keys)}")
    return value


def _natural(value: Any, limit: int = _LOW) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError(f"expected a natural number up to {limit}")
    return value


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


def _principal(value: Any) -> Principal:
    if type(value) is not bytes or len(value) > MAX_BYTES:
        raise ValueError("expected a principal")
    return Principal(value)
