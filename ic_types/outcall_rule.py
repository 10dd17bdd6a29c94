"""How HTTPS outcalls are answered: rules by URL, from a topology, a recorded file, or a test.

Rule module. Not in the spec: the outside world is no part of it. A rule answers, refuses, or names an address to ask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ic_types import wire
from ic_types.consensus_calls import OutcallRequest

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class OutcallRule:
    """Which outcalls it is for, and their answer; the first rule that fits answers."""

    url: str = "*"
    """`*` stands for any letters."""
    method: str = ""
    """Empty for all."""
    node: int = 0
    """The only node that gets this answer, from 1; 0 for all."""
    times: int = 0
    """How many outcalls it answers; 0 for any number."""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    bodies: tuple[bytes, ...] = (b"",)
    """Of node 1, 2, ...; the last one is that of all further nodes."""
    reject_code: int = 0
    """Not 0: the request fails with this code and text, as if the web server couldn't be reached."""
    reject_message: str = ""
    forward: str = ""
    """Base address (http://127.0.0.1:8000) that is asked in place of the URL's own."""

    def fits(self, request: OutcallRequest) -> bool:
        """Whether it is for this outcall."""
        return self.method in ("", request.method) and _pattern(self.url).fullmatch(request.url) is not None

    def body(self, node: int) -> bytes:
        """What this node gets."""
        return self.bodies[min(node, len(self.bodies)) - 1]


def _pattern(url: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, url.split("*"))), re.DOTALL)
