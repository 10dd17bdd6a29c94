"""The root subnet's delegations to the others, made anew now and then, handed to nodes and gateways.

Rule module. Spec: interface spec, "Delegation".
"""

from __future__ import annotations

from collections.abc import Callable

from ic_types.units import NS_PER_SECOND
from subnet.coordinator.network_state import Network
from subnet.coordinator.ports import Ports, ReplyAddress
from subnet.coordinator.relay import Answer, Relay
from subnet.protocol import Delegate, Delegated

MAX_AGE_NS = 600 * NS_PER_SECOND
"""Of network time; clients take delegations that are weeks old."""


class Delegations:
    """What the root subnet has last said."""

    def __init__(self, relay: Relay, network: Network, ports: Ports, wake: Callable[[], None]) -> None:
        """`wake` is called when the first are there, so that rounds may go on."""
        self._relay = relay
        self._wake = wake
        self._network = network
        self._ports = ports
        self._last: Delegated | None = None
        self._asked = False
        self._forced = 0
        self._waiting: list[ReplyAddress] = []

    @property
    def awaited(self) -> bool:
        """The first ones are under way; rounds wait, so that no canister certifies data that nobody can verify."""
        return self._asked and self._last is None

    def refresh(self) -> None:
        """Ask for new ones if those at hand are old; called when a round is certified."""
        fresh = self._last is not None and self._network.now - self._last.time_ns < MAX_AGE_NS
        if self._asked or (fresh and not self._forced):
            return
        self._forced = max(0, self._forced - 1)
        self._asked = True
        root = self._network.subnets[self._network.by_id[self._network.genesis.registry.root]]
        self._relay.ask(root, Delegate(cookie=0), self._receive)

    def ranges_change(self) -> None:
        """In the next round that begins: the one in work is certified before it."""
        self._forced = 2

    def _receive(self, answer: Answer | None) -> None:
        first, self._asked = self.awaited, False
        if not isinstance(answer, Delegated):
            return
        self._last = answer
        for one in answer.subnets:
            self._network.subnets[self._network.by_id[one.subnet]].delegation = one.flat
        for address in self._waiting:
            self._ports.reply(address, answer)
        self._waiting = []
        if first:
            self._wake()

    def tell(self, address: ReplyAddress) -> None:
        """Give a client the last ones, or the first as soon as there are any."""
        if self._last is None:
            self._waiting.append(address)
        else:
            self._ports.reply(address, self._last)
