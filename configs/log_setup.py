"""Logging of every process: one JSON object per line, to a file or to standard error.

Plumbing. Logs never feed decisions; their times are the machine's, while everything that is compared between nodes
is in the state.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from ic_types.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error", "critical")


def configure(process_title: str, path: Path | str | None = None, level: str = "info") -> None:
    """Send this process's log to a file (appended) or to standard error, each line with the process's title.

    Raises: ConfigError when the level is unknown or the file can't be written.
    """
    if level not in LEVELS:
        raise ConfigError(f"log level {level!r}: allowed are {', '.join(LEVELS)}")

    def _add_title(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["process"] = process_title
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_title,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=_shown),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=_open(path)),
        cache_logger_on_first_use=False,
    )


def _open(path: Path | str | None) -> TextIO:
    if path is None:
        return sys.stderr
    try:
        return Path(path).open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise ConfigError(f"the log file {path} can't be written: {error}") from None


def _shown(value: object) -> str:
    """Values that JSON doesn't know: bytes as hexadecimal, others as text."""
    return value.hex() if type(value) is bytes else str(value)
