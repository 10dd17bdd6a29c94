"""Slices of streams: a header and consecutive messages, revealed by a witness of the sender's certified state.

Rule module. Not in the spec, which leaves transport open; paths and leaves are the replica's: `/streams/<subnet>/header` and
`/streams/<subnet>/messages/<index>`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import hash_tree
from ic_types.errors import CertificationError
from ic_types.merkle import MerkleMap, Wanted
from ic_types.messages import StreamMessage
from ic_types.principal import SubnetId
from ic_types.units import StreamIndex
from xnet.encoding import decode_header, decode_message
from xnet.header import StreamHeader
from xnet.stream import Stream, index_label

STREAMS, HEADER, MESSAGES = b"streams", b"header", b"messages"
_BASE_BYTES = 2048
"""For the header and the digests on the way to the stream and at the edges of the revealed messages."""
_BYTES_PER_MESSAGE = 24
"""Index and nodes of the tree around a message's bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSlice:
    """What a slice says, once read."""

    header: StreamHeader
    begin: StreamIndex
    """Index of the first message; the header's end if there is none."""
    messages: tuple[StreamMessage, ...]

    @property
    def end(self) -> StreamIndex:
        """Index after the last message."""
        return StreamIndex(self.begin + len(self.messages))


@dataclass(frozen=True, slots=True)
class OpenSlice:
    """A slice in its encoded parts, with the root digest that its certification must sign."""

    root: bytes
    header: bytes
    begin: int | None
    """Index of the first message; None if there is none."""
    messages: tuple[bytes, ...]

    def read(self) -> StreamSlice:
        """What the slice says; to be asked once the root is known to be certified.

        Raises: CertificationError when header or a message is malformed.
        """
        header = decode_header(self.header)
        begin = StreamIndex(header.end if self.begin is None else self.begin)
        return StreamSlice(header=header, begin=begin, messages=tuple(map(decode_message, self.messages)))


def make_slice(
    certified: MerkleMap,
    peer: SubnetId,
    stream: Stream,
    *,
    message_begin: StreamIndex,
    signals_begin: StreamIndex,
    max_bytes: int,
    max_messages: int | None = None,
) -> bytes | None:
    """Witness for `peer` with the messages from `message_begin` on, as many as fit; None if it has nothing new.

    `certified` is the certified tree that holds the stream, unchanged since it was signed. `signals_begin` is the peer's first
    message that waits for a signal.
    """
    first = max(message_begin, stream.begin)
    end, room = first, max_bytes - _BASE_BYTES
    limit = stream.end if max_messages is None else min(stream.end, first + max_messages)
    while end < limit:
        raw = stream.tree.get(index_label(end))
        assert isinstance(raw, bytes), f"message {end} is not in the tree"
        room -= len(raw) + _BYTES_PER_MESSAGE
        if room < 0:
            break
        end = StreamIndex(end + 1)
    if end == first and stream.signals_end <= signals_begin:
        return None
    shown: dict[bytes, Wanted] = {HEADER: None}
    if end > first:
        shown[MESSAGES] = {index_label(index): None for index in range(first, end)}
    return hash_tree.encode(certified.witness_of({STREAMS: {bytes(peer): shown}}))


def open_slice(witness: bytes, own: SubnetId) -> OpenSlice:
    """The parts that a witness reveals for us; nothing is verified but their places.

    Raises: CertificationError when it isn't exactly a header and consecutive messages of a stream to us.
    """
    tree = hash_tree.decode(witness)
    header: bytes | None = None
    begin: int | None = None
    messages: list[bytes] = []
    for path, raw in hash_tree.leaves(tree):
        if len(path) < 3 or path[0] != STREAMS:
            raise CertificationError(f"slice reveals {_text(path)}, which is no stream")
        if path[1] != own:
            raise CertificationError(f"slice reveals the stream to subnet {path[1].hex()}, we are {own}")
        if len(path) == 3 and path[2] == HEADER:
            header = raw
        elif len(path) == 4 and path[2] == MESSAGES and len(path[3]) == 8:
            index = int.from_bytes(path[3], "big")
            begin = index if begin is None else begin
            if index != begin + len(messages):
                raise CertificationError(f"slice has a gap: message {index} follows {begin + len(messages) - 1}")
            messages.append(raw)
        else:
            raise CertificationError(f"slice reveals {_text(path)}, which is no part of a stream")
    if header is None:
        raise CertificationError("slice has no stream header")
    return OpenSlice(hash_tree.reconstruct(tree), header, begin, tuple(messages))


def _text(path: tuple[bytes, ...]) -> str:
    shown = [label.decode() if label.isalnum() and label.isascii() else label.hex() for label in path]
    return "/" + "/".join(shown)[:200]
