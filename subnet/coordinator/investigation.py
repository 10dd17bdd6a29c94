"""Finding out where the nodes of a subnet differ, once they do.

Rule module. The walk itself is `agreement.Walk`; here its questions are put to all nodes and their answers gathered.
"""

from __future__ import annotations

from collections.abc import Callable

from subnet.coordinator.agreement import Divergence, Walk
from subnet.coordinator.network_state import Node, Subnet
from subnet.coordinator.relay import Answer, Relay
from subnet.protocol import Inspect, Inspected


class Investigation:
    """One divergence; `done` is called with the report when nothing more can be found."""

    def __init__(
        self, relay: Relay, subnet: Subnet, height: int, sides: tuple[tuple[int, ...], ...], done: Callable[[Divergence], None]
    ) -> None:
        self._relay = relay
        self._subnet = subnet
        self._height = height
        self._sides = sides
        self._done = done
        self._walk = Walk(tuple(sorted(index for side in sides for index in side)))
        self._answers: dict[int, bytes] = {}
        self._missing = 0

    def start(self) -> None:
        """Ask the first question."""
        self._next()

    def _next(self) -> None:
        path = self._walk.question()
        nodes = [node for node in self._subnet.live() if node.index in self._walk.nodes]
        if path is None or len(nodes) < 2:
            self._done(Divergence(self._subnet.plan.name, self._height, self._sides, tuple(self._walk.findings)))
            return
        self._answers, self._missing = {}, len(nodes)
        for node in nodes:
            question = Inspect(cookie=0, what="digests", path=path)
            self._relay.ask(self._subnet, question, self._receiver(node), node)

    def _receiver(self, node: Node) -> Callable[[Answer | None], None]:
        def receive(answer: Answer | None) -> None:
            if isinstance(answer, Inspected):
                self._answers[node.index] = answer.body
            self._missing -= 1
            if self._missing == 0:
                self._walk.answer(self._answers)
                self._next()

        return receive
