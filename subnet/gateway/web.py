"""What browsers ask for: so far, only that a network is here.

Rule module.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from subnet.gateway.boundary import Boundary
from subnet.gateway.replies import HttpError, HttpReply


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A request of a browser."""

    method: str
    host: str
    path: str
    """As it came, still percent-encoded."""
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def of(cls, scope: MutableMapping[str, Any], body: bytes) -> WebRequest:
        """From ASGI."""
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        host = next((value for name, value in headers if name == "host"), "")
        raw = scope.get("raw_path") or scope["path"].encode()
        return cls(scope["method"], host, raw.decode("latin-1"), scope["query_string"].decode("latin-1"), headers, body)


@dataclass(slots=True)
class Web:
    """Answers browsers."""

    boundary: Boundary

    async def answer(self, request: WebRequest) -> HttpReply:
        """Raises: HttpError when there is nothing to show."""
        if request.path == "/":
            return HttpReply(200, f"icsim network {self.boundary.description.name}\n".encode())
        raise HttpError(404, "There is no such page.")
