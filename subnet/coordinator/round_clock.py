"""The time of batches, and in live mode also the moment of rounds.

Rule module; the clocks are handed in. Virtual time advances by the block interval. Live time follows the wall clock, which only
the coordinator sees: it never goes back, and however far it jumps it jumps between two batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ic_types.units import NS_PER_SECOND

IDLE_INTERVAL_NS = NS_PER_SECOND
"""Between rounds in which nothing happens, so that `/time` stays fresh."""
RESTING_INTERVAL_NS = 5 * NS_PER_SECOND
"""The same when no client has asked for anything for `RESTING_AFTER_NS`; the first who asks gets a round at once."""
RESTING_AFTER_NS = 60 * NS_PER_SECOND


@dataclass(slots=True)
class RoundClock:
    """What time it is for the network; virtual without a wall clock."""

    interval_ns: int
    wall: Callable[[], int] | None = None
    """Nanoseconds since 1970, for live time."""
    monotonic: Callable[[], int] = lambda: 0
    """Nanoseconds; intervals are measured with it, so that a jump of the wall clock makes no rounds and prevents none."""
    _last_round: int = 0
    _last_asked: int = 0

    @property
    def live(self) -> bool:
        """Whether rounds follow the wall clock."""
        return self.wall is not None

    def next_batch_time(self, now: int) -> int:
        """Time of the batch that follows one at `now`: always later."""
        if self.wall is None:
            return now + self.interval_ns
        return max(self.wall(), now + 1)

    def users_now(self, now: int) -> int:
        """What expiries of requests are compared with, when the last batch was at `now`."""
        return now if self.wall is None else max(self.wall(), now)

    def round_begins(self) -> None:
        """Intervals count from here."""
        self._last_round = self.monotonic()

    def asked(self) -> None:
        """A client wants something of the network."""
        self._last_asked = self.monotonic()

    def wait_ns(self, now: int, due: Iterable[int]) -> int:
        """How long a quiet live network waits for its next round; `due` are times of timers and deadlines, 0 for none.

        Heartbeats are always due; they come once per block interval, and so do timers that are set again and again.
        """
        assert self.wall is not None, "in virtual time nobody waits"
        tick = self.monotonic()
        rests = tick - self._last_asked > RESTING_AFTER_NS
        waits = [self._last_round + (RESTING_INTERVAL_NS if rests else IDLE_INTERVAL_NS) - tick]
        earliest = min((time for time in due if time), default=0)
        if earliest:
            waits.append(max(earliest - self.users_now(now), self._last_round + self.interval_ns - tick))
        return max(0, min(waits))
