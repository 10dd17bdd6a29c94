"""Questions to nodes and their answers: queries, acceptance of calls and inspections of clients, and our own.

Rule module. A question to any node moves on to another when its node ends before it has answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from ic_types import wire
from subnet.coordinator.network_state import Node, Subnet
from subnet.coordinator.ports import Ports
from subnet.protocol import (
    Acceptance,
    AcceptanceRequest,
    Delegate,
    Delegated,
    Inspect,
    Inspected,
    QueryReply,
    QueryRequest,
    ReadState,
    StateRead,
)

Question: TypeAlias = QueryRequest | AcceptanceRequest | Inspect | ReadState | Delegate
Answer: TypeAlias = QueryReply | Acceptance | Inspected | StateRead | Delegated
Receiver: TypeAlias = Callable[[Answer | None], None]
"""Called with the answer, or None when no node is left that could give one."""


@dataclass(slots=True)
class _Open:
    question: Question
    subnet: Subnet
    node: Node
    bound: bool
    """Asked of this very node."""
    receiver: Receiver


class Relay:
    """Open questions."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._open: dict[int, _Open] = {}
        self._last_cookie = 0
        self._turns: dict[tuple[int, type], int] = {}
        """Of each subnet and kind of question, so that which node runs a query doesn't depend on who looks in meanwhile."""

    def ask(self, subnet: Subnet, question: Question, receiver: Receiver, node: Node | None = None) -> None:
        """Ask one node of the subnet, in turns unless it is named; the cookie is put in here."""
        live = subnet.live()
        if not live or (node is not None and node not in live):
            receiver(None)
            return
        self._last_cookie += 1
        turn = self._turns.get((subnet.place, type(question)), 0)
        if node is None:
            self._turns[subnet.place, type(question)] = turn + 1
        chosen = node or live[turn % len(live)]
        question = replace(question, cookie=self._last_cookie)
        self._open[self._last_cookie] = _Open(question, subnet, chosen, node is not None, receiver)
        self._ports.send_node(chosen.address, wire.encode(question))

    def answer(self, node: Node, message: Answer) -> None:
        """A node's answer; what nobody asked of it is dropped."""
        found = self._open.get(message.cookie)
        if found is None or found.node is not node:
            return
        del self._open[message.cookie]
        found.receiver(message)

    def lost(self, node: Node) -> None:
        """A node is gone."""
        for cookie, found in list(self._open.items()):
            if found.node is not node:
                continue
            live = [other for other in found.subnet.live() if other is not node]
            if found.bound or not live:
                del self._open[cookie]
                found.receiver(None)
                continue
            found.node = live[0]
            self._ports.send_node(live[0].address, wire.encode(found.question))
