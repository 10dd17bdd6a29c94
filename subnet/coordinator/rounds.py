"""One round of all subnets, in lockstep: send batches, gather and compare answers, certify, fetch slices.

Rule module. Events in (`result`, `slices`, `lost`), effects out through Ports and the dispatcher. The order of events decides
nothing but the wall clock: a round ends when every live node of every subnet has answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from ic_types import bls, wire
from ic_types.errors import CertificationError
from ic_types.query_statistics import QueryStatsPayload
from subnet.coordinator import agreement
from subnet.coordinator.batch_maker import fitting_slices, slice_requests
from subnet.coordinator.certifier import SigningTask, root_message, sign_all
from subnet.coordinator.dispatcher import Dispatcher
from subnet.coordinator.network_state import Network, Node, Subnet
from subnet.coordinator.ports import Ports
from subnet.coordinator.stage_times import StageTimes
from subnet.protocol import CertifiedSlice, Certify, RoundResult, SliceRequest, Slices
from subnet.random_tape import randomness, tape_message

_TURN_ROUNDS = 8
"""So often another set of nodes' shares is combined."""
log = structlog.get_logger()


@dataclass(slots=True)
class _Fetch:
    """Slices asked of one subnet; any of its nodes can make them."""

    node: Node
    requests: list[tuple[int, SliceRequest]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundHooks:
    """What a round tells the coordinator."""

    certified: Callable[[Subnet, RoundResult], None]
    """A subnet's answer is agreed on and certified."""
    sound: Callable[[Sequence[RoundResult]], bool]
    """Whether the answers of all subnets may be certified, as far as invariants are checked; if not, the round doesn't end."""
    finished: Callable[[], None]
    """All is done for this height."""
    diverged: Callable[[Subnet, tuple[tuple[int, ...], ...]], None]
    """The nodes of a subnet differ; the round doesn't end."""
    wrong_share: Callable[[str, int], None]
    """A node's share of a signature at this height is wrong; the others' were enough."""
    fail: Callable[[str, int], None]


@dataclass(slots=True, eq=False)
class Rounds:
    """The round in work."""

    network: Network
    ports: Ports
    dispatcher: Dispatcher
    hooks: RoundHooks
    stages: StageTimes = field(default_factory=StageTimes)
    height: int = 0
    """Of the round in work; 0 between rounds."""
    time_ns: int = 0
    """Batch time of the round in work."""
    fetch_slices: bool = True
    _halted: bool = False
    """Nodes differ, so nothing is certified any more."""
    _open: set[int] = field(default_factory=set)
    """Subnets that haven't answered."""
    _fetches: dict[int, _Fetch] = field(default_factory=dict)
    """By source subnet."""
    _fetched: dict[int, list[CertifiedSlice]] = field(default_factory=dict)
    """By receiving subnet."""

    def begin(self, height: int, time_ns: int, batches: Sequence[tuple[bytes, bytes]], *, fetch_slices: bool) -> None:
        """Send each subnet its encoded batch; the second of each pair is the batch's randomness."""
        self.height, self.time_ns, self.fetch_slices = height, time_ns, fetch_slices
        self._open = {subnet.place for subnet in self.network.subnets}
        for subnet, (raw, tape) in zip(self.network.subnets, batches, strict=True):
            subnet.results, subnet.current_randomness, subnet.slices = {}, tape, []
            for node in subnet.live():
                self.dispatcher.send(node, height, raw)

    # --- answers

    def result(self, node: Node, result: RoundResult) -> None:
        """A live node's answer to the round's batch."""
        subnet = self.network.subnets[node.subnet]
        node.height = result.height
        subnet.results[node.index] = result
        self._check_complete(subnet)

    def lost(self, node: Node) -> None:
        """A node is gone; the round goes on with the others."""
        if not self.height:
            return
        subnet = self.network.subnets[node.subnet]
        if len(subnet.live()) < subnet.keys.threshold:
            return
        if node.subnet in self._open:
            self._check_complete(subnet)
        fetch = self._fetches.get(node.subnet)
        if fetch is not None and fetch.node is node:
            fetch.node = subnet.live()[0]
            self._ask(subnet, fetch)

    def _check_complete(self, subnet: Subnet) -> None:
        if self._halted or subnet.place not in self._open or any(node.index not in subnet.results for node in subnet.live()):
            return
        groups = agreement.sides({node.index: subnet.results[node.index] for node in subnet.live()})
        if len(groups) > 1:
            self._halted = True
            self.hooks.diverged(subnet, groups)
            return
        self._open.discard(subnet.place)
        if not self._open and self.hooks.sound([_any(one) for one in self.network.subnets]):
            self._certify()

    # --- certification

    def _certify(self) -> None:
        tasks = [task for subnet in self.network.subnets for task in self._tasks(subnet)]
        try:
            with self.stages("certify"):
                # Turns change seldom: the lowest shares are the quickest to combine.
                made = sign_all(tasks, self.height // _TURN_ROUNDS if self.height % _TURN_ROUNDS == 0 else 0)
        except CertificationError as error:
            self.hooks.fail(f"height {self.height} can't be certified: {error}", 1)
            return
        for subnet, (root, tape) in zip(self.network.subnets, zip(made[::2], made[1::2], strict=True), strict=True):
            self._report_wrong_shares(subnet, root, tape)
            self._adopt(subnet, root.signature, randomness(tape.signature))
        asked = slice_requests(self.network, self.height) if self.fetch_slices else {}
        self._fetched = {}
        self._fetches = {
            source: _Fetch(self._provider(self.network.subnets[source]), requests) for source, requests in asked.items()
        }
        for subnet in self.network.subnets:
            self._send_certification(subnet)
        if not self._fetches:
            self._finish()

    def _tasks(self, subnet: Subnet) -> tuple[SigningTask, SigningTask]:
        live = [(node.index, subnet.results[node.index]) for node in subnet.live()]
        root = live[0][1].root_hash
        return (
            SigningTask(
                what=f"state root of subnet {subnet.plan.name}",
                key=subnet.record.public_key,
                message=root_message(root),
                threshold=subnet.keys.threshold,
                shares=[(index, result.certification_share) for index, result in live],
                share_keys=subnet.keys.share_keys,
            ),
            SigningTask(
                what=f"random tape of subnet {subnet.plan.name}",
                key=subnet.record.public_key,
                message=tape_message(self.height + 1, subnet.current_randomness),
                threshold=subnet.keys.threshold,
                shares=[(index, result.tape_share) for index, result in live],
                share_keys=subnet.keys.share_keys,
            ),
        )

    def _report_wrong_shares(self, subnet: Subnet, *made: bls.Combined) -> None:
        for index in sorted({index for one in made for index in one.wrong}):
            self.hooks.wrong_share(f"{subnet.plan.name}/{index}", self.height)

    def _adopt(self, subnet: Subnet, signature: bytes, tape: bytes) -> None:
        result = _any(subnet)
        subnet.height, subnet.state_hash, subnet.root_hash = self.height, result.state_hash, result.root_hash
        subnet.signature, subnet.randomness = signature, tape
        subnet.heads = {head.peer: head for head in result.heads}
        subnet.has_work, subnet.next_due_ns = result.has_work, result.next_due_ns
        subnet.query_stats = self._offered(subnet)
        self.hooks.certified(subnet, result)

    def _offered(self, subnet: Subnet) -> QueryStatsPayload | None:
        """Statistics of queries for the next batch: of the node whose turn it is, or of the next that has any."""
        live = subnet.live()
        for k in range(len(live)):
            node = live[(self.height + k) % len(live)]
            offered = subnet.results[node.index].query_stats
            if offered is not None and offered.proposer == subnet.record.nodes[node.index - 1]:
                return offered
        return None

    # --- slices

    def _provider(self, subnet: Subnet) -> Node:
        """Nodes take turns at making slices."""
        live = subnet.live()
        return live[self.height % len(live)]

    def _send_certification(self, subnet: Subnet) -> None:
        fetch = self._fetches.get(subnet.place)
        plain = wire.encode(Certify(height=self.height, signature=subnet.signature, delegation=subnet.delegation))
        for node in subnet.live():
            if fetch is None or node is not fetch.node:
                self.ports.send_node(node.address, plain)
        if fetch is not None:
            self._ask(subnet, fetch)

    def _ask(self, subnet: Subnet, fetch: _Fetch) -> None:
        requests = tuple(request for _, request in fetch.requests)
        message = Certify(height=self.height, signature=subnet.signature, slices=requests, delegation=subnet.delegation)
        self.ports.send_node(fetch.node.address, wire.encode(message))

    def slices(self, node: Node, message: Slices) -> None:
        """A node's answer to a certification that asks for slices."""
        fetch = self._fetches.get(node.subnet)
        if fetch is None or fetch.node is not node or message.height != self.height:
            return
        if len(message.slices) != len(fetch.requests):
            log.error("coordinator.wrong_slices", node=node.name, wanted=len(fetch.requests), got=len(message.slices))
        source = self.network.subnets[node.subnet].record.subnet_id
        for (receiver, _), one in zip(fetch.requests, message.slices, strict=False):
            if one is not None and one.source == source:
                self._fetched.setdefault(receiver, []).append(one)
        del self._fetches[node.subnet]
        if not self._fetches:
            self._finish()

    def _finish(self) -> None:
        for receiver, slices in self._fetched.items():
            subnet = self.network.subnets[receiver]
            subnet.slices = list(fitting_slices(self.network, subnet, slices, self.height))
        self._fetched = {}
        self.network.height, self.network.now, self.height = self.height, self.time_ns, 0
        self.hooks.finished()


def _any(subnet: Subnet) -> RoundResult:
    """What the live nodes of a subnet answered, all the same."""
    return subnet.results[subnet.live()[0].index]
