"""The coordinator's sockets: a ROUTER that nodes connect to, a ROUTER for clients.

Plumbing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import zmq

from ic_types import wire
from ic_types.errors import WireError
from subnet.control_protocol import CONTROL_SOCKET
from subnet.coordinator.ports import ReplyAddress
from subnet.coordinator.processes import ZygoteLine
from subnet.protocol import (
    Acceptance,
    Delegated,
    Inspected,
    NodeConfig,
    NodeFailure,
    NodeReady,
    QueryReply,
    RoundResult,
    Slices,
    StateRead,
)

FROM_NODES = (NodeReady, RoundResult, Slices, QueryReply, Acceptance, Inspected, StateRead, Delegated, NodeFailure)


@dataclass(slots=True, eq=False)
class Transport:
    """Everything that goes in and out; it is the coordinator's Ports."""

    context: zmq.Context[zmq.Socket[bytes]]
    nodes: zmq.Socket[bytes]
    clients: zmq.Socket[bytes]
    zygote: ZygoteLine

    @classmethod
    def open(cls, socket_dir: Path, nodes_endpoint: str | None) -> Transport:
        """Bind the sockets and connect to the zygote."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        nodes, clients = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
        for one in (nodes, clients):
            one.setsockopt(zmq.LINGER, 500)
            one.setsockopt(zmq.SNDHWM, 0)
            one.setsockopt(zmq.RCVHWM, 0)
        nodes.bind(nodes_endpoint or f"ipc://{socket_dir / 'nodes'}")
        clients.bind(f"ipc://{socket_dir / CONTROL_SOCKET}")
        return cls(context, nodes, clients, ZygoteLine(socket_dir))

    def close(self) -> None:
        """Hand over what is queued, then close."""
        self.nodes.close()
        self.clients.close()
        self.context.term()

    # --- Ports

    def send_node(self, address: bytes, raw: bytes) -> None:
        """Send an encoded message to a node."""
        self.nodes.send_multipart([address, raw], copy=len(raw) < 1 << 16)

    def reply(self, address: ReplyAddress, message: object) -> None:
        """Answer a client."""
        self.clients.send_multipart([address.client, address.cookie, wire.encode(message)])

    def spawn_node(self, config: NodeConfig, hash_seed: int | None) -> None:
        """Start a node process."""
        self.zygote.spawn_node(config, hash_seed)

    def kill(self, pid: int) -> None:
        """End a child of the zygote."""
        self.zygote.kill(pid)

    def list_children(self) -> None:
        """Ask for all processes."""
        self.zygote.list_children()

    def clock(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()

    # --- incoming

    def next_from_nodes(self) -> tuple[bytes, object] | None:
        """A node's address and message, if one waits.

        Raises: WireError when it is malformed.
        """
        try:
            address, raw = self.nodes.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        except ValueError as error:
            raise WireError(f"a node sent a message of the wrong number of frames: {error}") from error
        return address, wire.decode(raw, *FROM_NODES)

    def next_from_clients(self) -> tuple[ReplyAddress, bytes] | None:
        """A client's address and request, if one waits; malformed ones are dropped."""
        try:
            frames = self.clients.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        if len(frames) != 3:
            return None
        return ReplyAddress(frames[0], frames[1]), frames[2]
