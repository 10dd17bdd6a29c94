"""What the coordinator needs of the world outside: sockets and the zygote.

Rule module. `transport.py` and `processes.py` are the real ones; tests have one that runs everything in one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from subnet.protocol import NodeConfig


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """Where the answer to a client's request goes."""

    client: bytes
    cookie: bytes


class Ports(Protocol):
    """Everything that the coordinator does to others."""

    def send_node(self, address: bytes, raw: bytes) -> None:
        """Send an encoded message to a connected node; lost if it is gone."""

    def reply(self, address: ReplyAddress, message: object) -> None:
        """Answer a client; lost if it is gone."""

    def spawn_node(self, config: NodeConfig, hash_seed: int | None) -> None:
        """Start a node process; it introduces itself with NodeReady."""

    def kill(self, pid: int) -> None:
        """End a child of the zygote; its ChildEnded follows."""

    def list_children(self) -> None:
        """Ask the zygote for all processes."""

    def clock(self) -> float:
        """Seconds, monotonic; for safety nets and figures, never for a decision that state depends on."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970: the time of live networks, recorded with every batch."""
