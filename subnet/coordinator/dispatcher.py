"""Sending batches to nodes, at most so many at once.

Rule module. `--jobs N` bounds how many sandboxes compute at once in all: each node runs at most `per_node` of them, and at most
`slots` nodes have an unanswered batch. Which nodes wait changes nothing but the wall clock.
"""

from __future__ import annotations

from collections import deque

from ic_types import wire
from subnet.coordinator.network_state import Node
from subnet.coordinator.ports import Ports
from subnet.protocol import Batch


def split_jobs(jobs: int | None, cores: int) -> tuple[int | None, int | None]:
    """Sandboxes per node and nodes at once, of which the product is at most `jobs`; None means no bound."""
    if jobs is None:
        return None, None
    per_node = min(jobs, cores)
    return per_node, jobs // per_node


class Dispatcher:
    """Batches on their way to nodes."""

    def __init__(self, ports: Ports, slots: int | None) -> None:
        self._ports = ports
        self._slots = slots
        self._waiting: deque[tuple[Node, int, bytes]] = deque()
        self._busy: dict[Node, int] = {}
        """Unanswered batches per node."""

    def send(self, node: Node, height: int, raw: bytes) -> None:
        """Send the encoded batch of this height, at once or when a node has answered."""
        node.sent = height
        if self._slots is None:
            self._pass_on(node, raw)
            return
        self._waiting.append((node, height, raw))
        self._fill()

    def send_batch(self, node: Node, batch: Batch) -> None:
        """As `send`, from the decoded form."""
        self.send(node, batch.height, wire.encode(batch))

    def answered(self, node: Node) -> None:
        """A node has answered one of its batches."""
        left = self._busy.get(node, 0) - 1
        if left > 0:
            self._busy[node] = left
        else:
            self._busy.pop(node, None)
        self._fill()

    def unanswered(self, node: Node) -> int:
        """How many batches it has been sent, or will be, and hasn't answered."""
        return self._busy.get(node, 0) + sum(1 for other, _, _ in self._waiting if other is node)

    def forget(self, node: Node) -> None:
        """The node is gone."""
        self._waiting = deque(item for item in self._waiting if item[0] is not node)
        self._busy.pop(node, None)
        self._fill()

    def _fill(self) -> None:
        while self._waiting and self._slots is not None:
            node, _, raw = self._waiting[0]
            if node not in self._busy and len(self._busy) >= self._slots:
                return
            self._waiting.popleft()
            self._pass_on(node, raw)

    def _pass_on(self, node: Node, raw: bytes) -> None:
        self._busy[node] = self._busy.get(node, 0) + 1
        node.sent_at = self._ports.clock()
        self._ports.send_node(node.address, raw)
