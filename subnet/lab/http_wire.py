"""Requests and answers over HTTP, without a look at what they say.

Plumbing: urllib3, and its only user. Spec: interface spec, "HTTPS interface".
"""

from __future__ import annotations

import time
from typing import Any

import urllib3

from ic_types import cbor
from ic_types.errors import BadInput, NetworkError

_BUSY = (429, 503)
_BUSY_S = (0.2, 0.5, 1.0, 2.0)
"""Pauses before a network that has no room at the moment is asked again; a request sent twice is the same request."""
_MOST_BYTES = 16 << 20
_TIMEOUT = urllib3.Timeout(connect=10.0, read=60.0)
_AGAIN = urllib3.Retry(3, connect=2, read=2, redirect=0, status=0, allowed_methods=None)
"""Servers close connections that were idle, maybe just when we send; every request of the interface may be sent again."""


class Unreachable(NetworkError):
    """Nothing was sent, since nobody takes connections."""


class HttpWire:
    """The way to one network."""

    def __init__(self, url: str) -> None:
        """Raises: BadInput when the URL is none."""
        parsed = urllib3.util.parse_url(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise BadInput(f"{url!r} is no URL of a network; one looks like http://127.0.0.1:8000")
        self.where = url.rstrip("/")
        self.host = parsed.host
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=_AGAIN)

    def asked(self, versions: tuple[str, ...], path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer by the newest version of the interface that is there; busy networks are asked again."""
        status, raw = 404, b""
        for version in versions:
            for pause in (*_BUSY_S, None):
                status, raw = self.send("POST", f"/api/{version}/{path}", body)
                if status not in _BUSY or pause is None:
                    break
                time.sleep(pause)
            if status != 404:
                break
        return status, raw

    def send(self, verb: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises: Unreachable; NetworkError when the connection breaks.
        """
        headers = {"Content-Type": "application/cbor"} if body is not None else {}
        try:
            answer = self._pool.request(verb, self.where + path, body=body, headers=headers, preload_content=False)
            try:
                raw = answer.read(_MOST_BYTES + 1)
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
                raise Unreachable(f"nobody answers at {self.where}: {_cause(reason)}") from None
            raise NetworkError(f"the connection to {self.where} broke: {_cause(reason)}") from None
        if len(raw) > _MOST_BYTES:
            raise NetworkError(f"{self.where} answers with more than {_MOST_BYTES:,} bytes")
        return answer.status, raw

    def map(self, raw: bytes, what: str) -> dict[str, Any]:
        """The map that an answer holds.

        Raises: NetworkError when it holds none.
        """
        try:
            found = cbor.decode(raw)
        except cbor.CborError as error:
            raise NetworkError(f"{self.where} answers {what} with malformed CBOR: {error}") from None
        if not isinstance(found, dict):
            raise NetworkError(f"{self.where} answers {what} with something that is no map")
        return found


def shown(raw: bytes) -> str:
    """The text of an answer that refuses something."""
    return raw[:500].decode("utf-8", "replace").strip() or "(no text)"


def _cause(error: object) -> str:
    return str(error).rpartition(">: ")[2]
