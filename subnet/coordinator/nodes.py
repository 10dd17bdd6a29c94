"""Node processes: started, restarted when they end, brought up to date from the journal.

Rule module. A node is a pure function of its batches, so a fresh process that is sent all of them again stands where the
others stand; its state hashes are compared with the recorded ones on the way. The subnet goes on meanwhile if enough are left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from ic_types import wire
from subnet.coordinator.dispatcher import Dispatcher
from subnet.coordinator.genesis import node_config
from subnet.coordinator.journal import Journal
from subnet.coordinator.network_state import Network, Node, NodePhase, Subnet
from subnet.coordinator.ports import Ports
from subnet.network_config import CoordinatorConfig
from subnet.process_tools import describe_status
from subnet.protocol import Certify, NodeReady, RoundResult, Stop

_WINDOW = 8
"""Batches sent ahead to a node that catches up."""
_CLOSE = 4
"""A node so many heights behind may take part in the next round: what it lacks is on its way."""
_MAX_STALLED_RESTARTS = 3
_HASH_SEED_STEP = 7919
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the keeper tells the coordinator."""

    batch: Callable[[int, int], bytes]
    """Encoded batch of (subnet, height), which must have been made."""
    lost: Callable[[Node], None]
    """A node is gone; called before it is started again."""
    fail: Callable[[str, int], None]
    """The network can't go on: message and exit code."""


class NodeKeeper:
    """All nodes of the network and their processes."""

    def __init__(
        self, network: Network, config: CoordinatorConfig, ports: Ports, journal: Journal, dispatcher: Dispatcher, hooks: Hooks
    ) -> None:
        self._network = network
        self._config = config
        self._ports = ports
        self._journal = journal
        self._dispatcher = dispatcher
        self._hooks = hooks
        self._by_address: dict[bytes, Node] = {}
        self.max_in_flight: int | None = None
        self.stopping = False

    # --- processes

    def start_all(self) -> None:
        """Start every node."""
        for subnet in self._network.subnets:
            for node in subnet.nodes:
                self._spawn(node)

    def all_live(self) -> bool:
        """Whether every node that isn't given up takes part in rounds."""
        return all(node.phase is NodePhase.LIVE for node in self._nodes() if node.stalled_restarts <= _MAX_STALLED_RESTARTS)

    def _nodes(self) -> list[Node]:
        return [node for subnet in self._network.subnets for node in subnet.nodes]

    def _spawn(self, node: Node) -> None:
        node.phase, node.height, node.sent, node.address = NodePhase.STARTING, 0, 0, b""
        node.sent_at, node.last_words = self._ports.clock(), ""
        config = node_config(
            self._network.plan, self._network.genesis, self._config, node.subnet, node.index, max_in_flight=self.max_in_flight
        )
        if node.restarts:
            config = replace(config, faults=tuple(one for one in config.faults if not one.startswith("crash:")))
        seed = (node.subnet * 1000 + node.index + node.restarts) * _HASH_SEED_STEP % (1 << 32)
        self._ports.spawn_node(config, seed if self._config.fresh_interpreters else None)

    def started(self, name: str, pid: int) -> None:
        """The zygote has started the node with this name."""
        for node in self._nodes():
            if node.name == name and node.phase is NodePhase.STARTING:
                node.pid = pid

    def at(self, address: bytes) -> Node | None:
        """The node at this address, if it has introduced itself."""
        return self._by_address.get(address)

    def ready(self, address: bytes, message: NodeReady) -> None:
        """A started node introduces itself."""
        place = self._network.by_id.get(message.subnet)
        nodes = self._network.subnets[place].nodes if place is not None else []
        if not 1 <= message.node_index <= len(nodes) or nodes[message.node_index - 1].phase is not NodePhase.STARTING:
            log.warning("coordinator.unexpected_node", node_index=message.node_index, pid=message.pid)
            return
        node = nodes[message.node_index - 1]
        node.address, node.pid, node.height, node.sent = address, message.pid, message.height, message.height
        self._by_address[address] = node
        node.phase = NodePhase.CATCHING_UP
        log.info("coordinator.node_ready", node=node.name, pid=node.pid, restarts=node.restarts)
        self.feed(node)

    def ended(self, pid: int, status: int) -> None:
        """A node process has ended."""
        node = next((one for one in self._nodes() if one.pid == pid and one.phase is not NodePhase.DEAD), None)
        if node is None:
            return
        if self.stopping:
            node.pid = 0
            return
        log.warning("coordinator.node_ended", node=node.name, pid=pid, status=status, height=node.height)
        self._by_address.pop(node.address, None)
        hint = ", see logs/stderr.txt of the run directory" if status > 0 and self._config.out_dir else ""
        node.last_words = node.last_words or describe_status(status) + hint
        node.phase, node.pid, node.address = NodePhase.DEAD, 0, b""
        self._dispatcher.forget(node)
        node.stalled_restarts = 0 if node.height > node.best_height else node.stalled_restarts + 1
        node.best_height = max(node.height, node.best_height)
        self._hooks.lost(node)
        subnet = self._network.subnets[node.subnet]
        if self._too_few(subnet):
            missing = ", ".join(_excuse(n) for n in subnet.nodes if n.phase is not NodePhase.LIVE)
            self._hooks.fail(
                f"subnet {subnet.plan.name} lost its quorum at height {self._network.height}: {subnet.keys.threshold} of "
                f"{subnet.plan.nodes} nodes are needed; not available: {missing}",
                1,
            )
        elif node.stalled_restarts > _MAX_STALLED_RESTARTS:
            log.error("coordinator.node_given_up", node=node.name, height=node.height)
        else:
            node.restarts += 1
            self._spawn(node)

    def _too_few(self, subnet: Subnet) -> bool:
        """Before the first round nobody is missed: nothing is lost by starting again."""
        if self._network.height == 0 and not any(n.phase is NodePhase.LIVE for n in subnet.nodes):
            return all(n.stalled_restarts > _MAX_STALLED_RESTARTS for n in subnet.nodes)
        return len(subnet.live()) < subnet.keys.threshold

    def stop(self, reason: str) -> None:
        """Ask all nodes to end; none is started again."""
        self.stopping = True
        raw = wire.encode(Stop(reason))
        for node in self._nodes():
            if node.address:
                self._ports.send_node(node.address, raw)

    def kill(self, node: Node) -> None:
        """End a node process; its end is noticed as any other."""
        if node.pid:
            self._ports.kill(node.pid)

    # --- catching up

    def feed(self, node: Node) -> None:
        """Send a node that catches up the next batches it lacks, as far as they have been made."""
        while (
            node.phase is NodePhase.CATCHING_UP
            and node.sent < self._network.height
            and self._dispatcher.unanswered(node) < _WINDOW
        ):
            self._dispatcher.send(node, node.sent + 1, self._hooks.batch(node.subnet, node.sent + 1))

    def caught_up_result(self, node: Node, result: RoundResult) -> str | None:
        """A node's answer to a batch of an earlier round; what differs from the record, if anything does."""
        if result.height != node.height + 1:
            return f"node {node.name} answered height {result.height} after {node.height}"
        node.height = result.height
        self.feed(node)
        recorded = self._journal.agreed(node.subnet, result.height)
        if recorded is None or recorded.state_hash == result.state_hash:
            return None
        return (
            f"node {node.name} has state hash {result.state_hash.hex()} at height {result.height} after it was started "
            f"again, where the subnet had agreed on {recorded.state_hash.hex()}"
        )

    def welcome(self) -> None:
        """Between rounds: nodes that stand where the others stand take part at once."""
        for subnet in self._network.subnets:
            for node in subnet.nodes:
                self.feed(node)
                if node.phase is NodePhase.CATCHING_UP and node.height == self._network.height:
                    node.phase = NodePhase.LIVE
                    if subnet.signature:
                        message = Certify(height=subnet.height, signature=subnet.signature, delegation=subnet.delegation)
                        self._ports.send_node(node.address, wire.encode(message))

    def promote(self) -> list[Node]:
        """Between rounds: nodes that have caught up take part from the next round on."""
        promoted = []
        for node in self._nodes():
            if node.phase is NodePhase.CATCHING_UP and self._network.height - node.height <= _CLOSE:
                while node.sent < self._network.height:
                    self._dispatcher.send(node, node.sent + 1, self._hooks.batch(node.subnet, node.sent + 1))
                node.phase = NodePhase.LIVE
                promoted.append(node)
        return promoted

    def kill_silent(self, limit_s: float) -> None:
        """Safety net: end live nodes that have owed an answer for far too long."""
        for node in self._nodes():
            owing = node.sent > node.height or node.phase is NodePhase.STARTING
            if node.pid and owing and self._ports.clock() - node.sent_at > limit_s:
                log.error("coordinator.node_silent", node=node.name, pid=node.pid, height=node.height)
                self.kill(node)


def _excuse(node: Node) -> str:
    """`app-1/2 (dead: killed by SIGKILL)`."""
    return f"{node.name} ({node.phase.value}{': ' if node.last_words else ''}{node.last_words})"
