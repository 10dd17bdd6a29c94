"""The coordinator's line to the zygote: spawn nodes, kill, list, and hear of ends.

Plumbing.
"""

from __future__ import annotations

import socket
from pathlib import Path

from ic_types import wire
from ic_types.errors import NetworkError
from subnet.protocol import NodeConfig
from subnet.zygote_protocol import (
    MAX_PACKET_BYTES,
    ZYGOTE_SOCKET,
    ChildEnded,
    Children,
    KillChild,
    ListChildren,
    SpawnNode,
    Started,
)


class ZygoteLine:
    """A connection to the zygote's socket; blocks only while a packet is handed over."""

    def __init__(self, socket_dir: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_PACKET_BYTES)
        self._socket.connect(str(socket_dir / ZYGOTE_SOCKET))

    def fileno(self) -> int:
        """For a poller."""
        return self._socket.fileno()

    def spawn_node(self, config: NodeConfig, hash_seed: int | None) -> None:
        """Ask for a node process; Started comes later."""
        self._socket.send(wire.encode(SpawnNode(config=config, hash_seed=hash_seed)))

    def kill(self, pid: int) -> None:
        """Ask for a child's end."""
        self._socket.send(wire.encode(KillChild(pid=pid)))

    def list_children(self) -> None:
        """Ask for all processes; Children comes later."""
        self._socket.send(wire.encode(ListChildren()))

    def receive(self) -> Started | ChildEnded | Children:
        """The next packet; there must be one.

        Raises: NetworkError when the zygote is gone.
        """
        packet = self._socket.recv(MAX_PACKET_BYTES)
        if not packet:
            raise NetworkError("the zygote is gone")
        found: Started | ChildEnded | Children = wire.decode(packet, Started, ChildEnded, Children)
        return found
