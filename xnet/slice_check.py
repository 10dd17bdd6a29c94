"""Whether a certified slice may be inducted: certified by its source, and continuing exactly where we stand.

Rule module. Not in the spec; the replica's rules for XNet payloads. Every node checks every slice itself, whoever brought it: a
slice that fails changes nothing.
"""

from __future__ import annotations

from ic_types import bls
from ic_types.errors import CertificationError
from ic_types.principal import SubnetId
from ic_types.units import StreamIndex
from xnet.header import StreamHeader
from xnet.slice import StreamSlice, open_slice

MAX_SIGNAL_AGE = 200_000
"""Reject signals may be so many messages older than signals_end; the replica's figure."""


def check_slice(
    *,
    source: SubnetId,
    witness: bytes,
    signature: bytes,
    source_key: bytes,
    own: SubnetId,
    expected: StreamIndex,
    stream_begin: StreamIndex,
    stream_end: StreamIndex,
) -> StreamSlice:
    """The slice, if it is certified by `source` and its indices continue what we have.

    `expected` is the index of the source's message that we want next (our signals_end); [stream_begin, stream_end) are the
    messages of our stream to the source. `source_key` is the source's threshold key, 96 bytes.

    Raises: CertificationError naming the reason.
    """
    if source == own:
        raise CertificationError("slice comes from our own subnet; our loopback stream never travels")
    parts = open_slice(witness, own)
    if not bls.verify(source_key, bls.with_domain(bls.STATE_ROOT, parts.root), signature):
        root = parts.root.hex()
        raise CertificationError(f"slice is not certified by subnet {source}: the signature isn't over its root {root}")
    content = parts.read()
    check_indices(content, expected=expected, stream_begin=stream_begin, stream_end=stream_end)
    return content


def check_indices(content: StreamSlice, *, expected: StreamIndex, stream_begin: StreamIndex, stream_end: StreamIndex) -> None:
    """Messages start at the expected index; signals are for messages of our stream.

    Raises: CertificationError naming the reason.
    """
    header = content.header
    if header.begin > header.end:
        raise CertificationError(f"stream begins at {header.begin}, behind its end {header.end}")
    if not header.begin <= expected <= header.end:
        raise CertificationError(f"stream has messages [{header.begin}, {header.end}), we expect message {expected}")
    if content.messages:
        if content.begin != expected:
            raise CertificationError(f"slice starts with message {content.begin}, we expect message {expected}")
        if content.end > header.end:
            raise CertificationError(f"slice has messages up to {content.end}, its stream ends at {header.end}")
    if not stream_begin <= header.signals_end <= stream_end:
        raise CertificationError(f"signals up to {header.signals_end} for our messages [{stream_begin}, {stream_end})")
    if not content.messages and header.signals_end == stream_begin:
        raise CertificationError("slice has neither messages nor new signals")
    check_signals(header)


def check_signals(header: StreamHeader) -> None:
    """Reject signals ascend, lie below signals_end and aren't older than is bearable.

    Raises: CertificationError naming the reason.
    """
    last = header.signals_end - MAX_SIGNAL_AGE - 1
    for signal in header.reject_signals:
        if signal.index <= last or signal.index >= header.signals_end:
            raise CertificationError(
                f"reject signal for message {signal.index} is out of order, too old or not below {header.signals_end}"
            )
        last = signal.index
