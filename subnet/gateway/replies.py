"""Replies of HTTP: plain text for errors, CBOR for agents, JSON for the page.

Rule module. Spec: interface spec, "CBOR encoding of requests and responses".
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import cbor2

from ic_types import cbor

TEXT, CBOR, JSON, HTML = "text/plain; charset=utf-8", "application/cbor", "application/json", "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class HttpReply:
    """Status, body and headers of an answer."""

    status: int
    body: bytes = b""
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()
    pieces: AsyncIterator[bytes] | None = None
    """A body that comes piece by piece, instead of `body`."""


class HttpError(Exception):
    """A request that can't be answered; status and text go to the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text

    def reply(self) -> HttpReply:
        """As the client sees it."""
        return HttpReply(self.status, self.text.encode())


def cbor_reply(fields: dict[str, Any]) -> HttpReply:
    """A self-described CBOR map."""
    return HttpReply(200, cbor.SELF_DESCRIBED + cbor2.dumps(fields), CBOR)


def json_reply(value: Any, status: int = 200) -> HttpReply:
    """JSON for the page's script."""
    return HttpReply(status, json.dumps(value).encode(), JSON)
