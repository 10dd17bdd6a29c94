"""The stream from one subnet to another: messages on their way and signals for the messages of the reverse stream.

Rule module. Spec: abstract behaviour leaves transport open; this is the replica's protocol. Message i of the reverse stream is
accepted when i < signals_end and no reject signal names it. Indices are never reused. Each message is encoded once, when it
enters, and kept in a Merkle map, so that certification costs what changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ic_types.merkle import MerkleMap
from ic_types.messages import StreamMessage
from ic_types.units import StreamIndex
from xnet.encoding import encode_message
from xnet.header import RejectReason, RejectSignal, StreamHeader

__all__ = ["RejectReason", "RejectSignal", "Stream", "StreamHeader", "index_label"]


@dataclass(slots=True)
class Stream:
    """A stream with its messages; changed by its own methods only."""

    begin: StreamIndex = StreamIndex(0)
    messages: deque[StreamMessage] = field(default_factory=deque)
    signals_end: StreamIndex = StreamIndex(0)
    reject_signals: deque[RejectSignal] = field(default_factory=deque)
    byte_count: int = 0
    """Of the encoded messages."""
    tree: MerkleMap = field(default_factory=MerkleMap, repr=False)
    """Encoded messages under their indices; the `messages` subtree of the certified state."""

    @property
    def end(self) -> StreamIndex:
        """Index that the next message will get."""
        return StreamIndex(self.begin + len(self.messages))

    def push(self, message: StreamMessage) -> StreamIndex:
        """Append a message; gives its index."""
        index = self.end
        raw = encode_message(message)
        self.messages.append(message)
        self.tree.set(index_label(index), raw)
        self.byte_count += len(raw)
        return index

    def accept(self) -> StreamIndex:
        """Signal that the next message of the reverse stream is accepted; gives its index."""
        index = self.signals_end
        self.signals_end = StreamIndex(index + 1)
        return index

    def reject(self, reason: RejectReason) -> StreamIndex:
        """Signal that the next message of the reverse stream is refused; gives its index."""
        index = self.accept()
        self.reject_signals.append(RejectSignal(index, reason))
        return index

    def discard_messages_before(self, index: StreamIndex) -> list[tuple[StreamIndex, StreamMessage]]:
        """Drop the messages that the other side has signalled for; gives them with their indices."""
        assert self.begin <= index <= self.end, f"signals up to {index} for a stream of [{self.begin}, {self.end})"
        gone = []
        while self.begin < index:
            label = index_label(self.begin)
            raw = self.tree.get(label)
            assert isinstance(raw, bytes), f"message {self.begin} is not in the tree"
            self.byte_count -= len(raw)
            self.tree.delete(label)
            gone.append((self.begin, self.messages.popleft()))
            self.begin = StreamIndex(self.begin + 1)
        return gone

    def discard_signals_before(self, index: StreamIndex) -> None:
        """Drop signals for messages that the other side doesn't keep any more."""
        while self.reject_signals and self.reject_signals[0].index < index:
            self.reject_signals.popleft()

    def header(self) -> StreamHeader:
        """The header as of now."""
        return StreamHeader(
            begin=self.begin, end=self.end, signals_end=self.signals_end, reject_signals=tuple(self.reject_signals)
        )

    def iter_messages(self) -> Iterator[StreamMessage]:
        """The messages from `begin` on."""
        return iter(self.messages)

    def to_canonical(self) -> tuple[object, ...]:
        """What the state hash covers: the header, and the messages by their root."""
        return self.header(), self.tree.root()


def index_label(index: int) -> bytes:
    """Label of a message in the certified tree: 8 bytes, big-endian."""
    return index.to_bytes(8, "big")
