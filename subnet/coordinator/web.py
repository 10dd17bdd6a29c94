"""Asking the web servers that the user has named, for HTTPS outcalls.

Plumbing. Requests run in threads of their own; answers come back into the coordinator's loop through `fileno` and `deliver`.
Redirects aren't followed and nothing is retried. Nobody but the address of a rule is ever asked.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ic_types.consensus_calls import OutcallRequest
from subnet.coordinator.outcall_rounds import Failed, WebResponse, sent_headers
from subnet.coordinator.outcalls import Received

TIMEOUT_SECONDS = 30.0
THREADS = 16
SYS_TRANSIENT = 2
_Asked = tuple[str, OutcallRequest, int, Received]
_Answered = tuple[Received, OutcallRequest, int, WebResponse | Failed]


@dataclass(slots=True)
class LiveWeb:
    """Web servers behind the rules' addresses; satisfies `outcalls.Web`."""

    record: Path | None = None
    """File that the answers are appended to, as a topology can read them again."""
    _waiting: queue.SimpleQueue[_Asked] = field(default_factory=queue.SimpleQueue)
    _threads: int = 0
    _done: queue.SimpleQueue[_Answered] = field(default_factory=queue.SimpleQueue)
    _wake: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)

    def fileno(self) -> int:
        """Readable when answers are there."""
        return self._wake[0].fileno()

    def ask(self, address: str, request: OutcallRequest, node: int, received: Received) -> None:
        """Send the request; `deliver` passes the answer on."""
        self._waiting.put((address, request, node, received))
        if self._threads < THREADS:
            self._threads += 1
            # Daemons, so that a server that never answers doesn't keep the process.
            threading.Thread(target=self._run, name=f"outcall-{self._threads}", daemon=True).start()

    def _run(self) -> None:
        while True:
            address, request, node, received = self._waiting.get()
            self._done.put((received, request, node, fetch(address, request)))
            with contextlib.suppress(OSError):
                self._wake[1].send(b"x")

    def deliver(self) -> None:
        """Pass on the answers that have come."""
        self._wake[0].recv(4096)
        while not self._done.empty():
            received, request, node, answer = self._done.get()
            if self.record is not None:
                with self.record.open("a") as file:
                    file.write(json.dumps(recorded(request, node, answer)) + "\n")
            received(answer)

    def close(self) -> None:
        """Wait for nobody."""
        for end in self._wake:
            end.close()


def recorded(request: OutcallRequest, node: int, answer: WebResponse | Failed) -> dict[str, Any]:
    """An answer as a line of a recorded file: for this node, once."""
    line: dict[str, Any] = {"url": request.url, "method": request.method, "node": node, "times": 1}
    if isinstance(answer, Failed):
        return {**line, "reject": answer.text}
    try:
        body = {"body": answer.body.decode()}
    except UnicodeDecodeError:
        body = {"body_hex": answer.body.hex()}
    return {**line, "status": answer.status, "headers": [list(one) for one in answer.headers], **body}


def fetch(address: str, request: OutcallRequest) -> WebResponse | Failed:
    """Send a request to a web server in place of its own host, and read at most what the caller wants."""
    base, asked = urlsplit(address), urlsplit(request.url)
    kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
    target = base.path.rstrip("/") + (asked.path or "/") + (f"?{asked.query}" if asked.query else "")
    connection = kind(base.hostname or "", base.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
        headers = sent_headers(request)
        if not any(name == "host" for name, _ in headers):
            connection.putheader("host", asked.netloc)
        for name, value in headers:
            connection.putheader(name, value.encode())
        if request.body and not any(name == "content-length" for name, _ in headers):
            connection.putheader("content-length", str(len(request.body)))
        connection.endheaders(request.body or None)
        response = connection.getresponse()
        body = response.read(request.max_response_bytes + 1)
        got = tuple((name.lower(), value) for name, value in response.getheaders())
        return WebResponse(response.status, got, body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Failed(SYS_TRANSIENT, f"Connecting to {(asked.hostname or '')[:50]} failed: {error}")
    finally:
        connection.close()
