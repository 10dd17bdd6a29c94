"""Trace events: what happened to a message, step by step, for tests and people.

Rule module. The default sink is None, which costs one comparison; a node or a test sets its own. Traces never
feed decisions and aren't state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One step of one message."""

    step: str
    """`package.module.function`, as in ARCHITECTURE.md."""
    subject: bytes
    """Message id, canister id or subnet id."""
    detail: str = ""


Sink = Callable[[TraceEvent], None]
_sink: Sink | None = None


def set_sink(sink: Sink | None) -> None:
    """Send events of this process here from now on; None turns tracing off."""
    global _sink
    _sink = sink


def emit(step: str, subject: bytes, detail: str = "") -> None:
    """Record that `step` handled `subject`, if anyone listens."""
    if _sink is not None:
        _sink(TraceEvent(step, bytes(subject), detail))
