"""What is shown while rounds are made: a bar on a terminal, a line now and then elsewhere, or nothing.

Plumbing. It goes to standard error; standard output is for results.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from subnet.control import ControlClient
from subnet.control_protocol import Advanced, NetworkStatus

if TYPE_CHECKING:
    from rich.progress import Progress

_POLL_SECONDS = 0.02
_STATUS_SECONDS = 0.15
_LINE_SECONDS = 5.0
_WINDOW_SECONDS = 3.0


class Rates:
    """Rounds and messages per second over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)])

    def add(self, now: float, status: NetworkStatus) -> tuple[float, float]:
        """Rounds/s and messages/s as of now."""
        messages = sum(subnet.totals.get("messages", 0) for subnet in status.subnets)
        self._seen.append((now, status.height, messages))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_SECONDS:
            self._seen.popleft()
        before = self._seen[0]
        passed = max(now - before[0], 1e-3)
        return (status.height - before[1]) / passed, (messages - before[2]) / passed


class Display(Protocol):
    """Something that shows progress."""

    def show(self, status: NetworkStatus, rounds: float, messages: float) -> None:
        """Take in where the network stands."""

    def close(self) -> None:
        """Leave the terminal tidy."""


class Silent:
    """Shows nothing."""

    def show(self, status: NetworkStatus, rounds: float, messages: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """One line per phase, and one every few seconds."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._phase = ""
        self._at = time.monotonic()

    def show(self, status: NetworkStatus, rounds: float, messages: float) -> None:
        """A line, if something is new."""
        now = time.monotonic()
        if status.phase == self._phase and now - self._at < _LINE_SECONDS:
            return
        self._phase, self._at = status.phase, now
        print(f"{describe(status)}: {figures(status, self._total, rounds, messages)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing."""


class Bar:
    """A bar that is redrawn."""

    def __init__(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._total = total
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
        )
        self._progress: Progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("starting", total=None, figures="")
        self._progress.start()

    def show(self, status: NetworkStatus, rounds: float, messages: float) -> None:
        """Redraw."""
        done, total = fraction(status, self._total)
        self._progress.update(
            self._task,
            description=describe(status),
            completed=done,
            total=total,
            figures=figures(status, self._total, rounds, messages),
        )

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def describe(status: NetworkStatus) -> str:
    """The phase in words."""
    if status.phase == "installing":
        return f"installing canisters, {status.installed} done"
    return status.phase


def figures(status: NetworkStatus, total: int | None, rounds: float, messages: float) -> str:
    """Height and rates."""
    height = f"height {status.height:,}" + (f" of {total:,}" if total else "")
    return f"{height}, {rounds:,.1f} rounds/s, {messages:,.0f} messages/s"


def fraction(status: NetworkStatus, total: int | None) -> tuple[int, int | None]:
    """How much is done, of how much; None when nobody knows."""
    if total is not None:
        return min(status.height, total), total
    if not status.workload_start or not status.workload_rounds:
        return 0, None
    done = status.height - status.workload_start + 1
    return min(done, status.workload_rounds), status.workload_rounds


class Watch:
    """Makes rounds while showing progress; a context manager."""

    def __init__(self, client: ControlClient, *, total: int | None = None, quiet: bool = False) -> None:
        self._client = client
        self._total = total
        self._quiet = quiet
        self._display: Display = Silent()
        self._rates = Rates()

    def __enter__(self) -> Watch:
        if not self._quiet:
            self._display = Bar(self._total) if sys.stderr.isatty() else Lines(self._total)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._display.close()

    def advance(self, **goals: object) -> Advanced:
        """As `ControlClient.advance`.

        Raises: NetworkError, BadInput or DivergenceError when the network stops before.
        """
        cookie = self._client.start_advance(**goals)
        shown = time.monotonic()
        while True:
            found = self._client.poll_advance(cookie)
            if found is not None:
                return found
            time.sleep(_POLL_SECONDS)
            now = time.monotonic()
            if now - shown >= _STATUS_SECONDS and not self._quiet:
                shown = now
                status = self._client.status()
                self._display.show(status, *self._rates.add(now, status))
