"""The canister log: lines that a canister printed, and its traps.

Rule module. Spec: abstract behaviour, `canister_logs` and "Trimming canister logs"; interface spec, "IC method
fetch_canister_logs". Adding a line costs the line: the list only grows at its end, copies for queries see their own part of it,
and the digest is a sum over lines, so that it depends on what is there and not on what was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

from ic_types import canonical
from ic_types.units import TimeNs

RECORD_BYTES = 40
"""What a line takes beside its content."""
_DIGESTS = 1 << 256


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line."""

    index: int
    time: TimeNs
    content: bytes

    @property
    def memory_bytes(self) -> int:
        """What the limit counts."""
        return RECORD_BYTES + len(self.content)

    def digest(self) -> int:
        """Of the line, as a number."""
        head = self.index.to_bytes(8, "big") + self.time.to_bytes(8, "big")
        return int.from_bytes(hashlib.sha256(b"icsim log line" + head + self.content).digest(), "big")


class CanisterLog(Sequence[LogRecord]):
    """The newest lines, oldest first."""

    __slots__ = ("_digest", "_end", "_lines", "_start", "memory_bytes", "next_index")

    def __init__(self) -> None:
        self._lines: list[LogRecord] = []
        self._start = self._end = 0
        self._digest = 0
        self.memory_bytes = 0
        """Of all lines, as the limit counts them."""
        self.next_index = 0
        """Number of the next line; goes on when lines are dropped."""

    @overload
    def __getitem__(self, index: int) -> LogRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[LogRecord]: ...
    def __getitem__(self, index: int | slice) -> LogRecord | list[LogRecord]:
        return self._lines[self._start : self._end][index]

    def __len__(self) -> int:
        return self._end - self._start

    def add(self, lines: Iterable[bytes], time: TimeNs, limit: int, dropped: int = 0) -> None:
        """Add lines; the oldest go while all take more bytes than the limit, and a line too long for it loses its end.

        `dropped`: lines before these that are gone already; they take numbers.
        """
        assert self._end == len(self._lines), "only the canister's own log takes lines"
        self.next_index += dropped
        for content in lines:
            record = LogRecord(self.next_index, time, content[: max(limit - RECORD_BYTES, 0)])
            self.next_index += 1
            self._lines.append(record)
            self._end += 1
            self.memory_bytes += record.memory_bytes
            self._digest = (self._digest + record.digest()) % _DIGESTS
        self.trim(limit)

    def trim(self, limit: int) -> None:
        """Drop the oldest lines until the others fit."""
        while self.memory_bytes > limit:
            record = self._lines[self._start]
            self._start += 1
            self.memory_bytes -= record.memory_bytes
            self._digest = (self._digest - record.digest()) % _DIGESTS
        if self._start > len(self):
            self._lines, self._start, self._end = self._lines[self._start : self._end], 0, len(self)

    def clear(self) -> None:
        """Drop all lines; numbers go on."""
        self._lines, self._start, self._end, self.memory_bytes, self._digest = [], 0, 0, 0, 0

    def keep_newest(self, count: int) -> None:
        """Drop all lines but so many."""
        while len(self) > count:
            self.trim(self.memory_bytes - 1)

    def frozen(self) -> CanisterLog:
        """The log as it is now; later lines aren't seen."""
        twin = CanisterLog()
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    def to_canonical(self) -> tuple[int, int, int]:
        """What is hashed."""
        return self.next_index, len(self), self._digest


canonical.register(CanisterLog, CanisterLog.to_canonical)
