"""HTTPS outcalls in work: which node gets which response, and when all is decided.

Rule module. Between rounds every live node gets what the rules say, applies the caller's transform function, and votes; no
round begins meanwhile, so that the height of the answer doesn't depend on how fast anyone is. An outcall that no rule fits
stays open until a rule is added or its time is up. Web servers are asked through a port, and only those that a rule names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ic_types.consensus_calls import OutcallRequest
from ic_types.outcall_rule import OutcallRule
from ic_types.principal import MANAGEMENT_CANISTER
from subnet.coordinator import outcall_rounds as one_call
from subnet.coordinator.consensus_desk import ConsensusDesk
from subnet.coordinator.network_state import Network
from subnet.coordinator.outcall_rounds import Failed, Vote, WebResponse
from subnet.coordinator.relay import Relay
from subnet.protocol import QueryReply, QueryRequest

Received = Callable[[WebResponse | Failed], None]


class Web(Protocol):
    """The world outside."""

    def ask(self, address: str, request: OutcallRequest, node: int, received: Received) -> None:
        """Send a node's request to a web server at this address; `received` is called in the coordinator's loop."""


class NoWeb:
    """A network that asks nobody."""

    def ask(self, address: str, request: OutcallRequest, node: int, received: Received) -> None:
        """Fail as if nothing listened there."""
        received(Failed(2, f"Connecting to {address} failed: there is no way out of this network"))


@dataclass(slots=True)
class Outcall:
    """One that isn't answered."""

    request: OutcallRequest
    votes: dict[int, Vote] = field(default_factory=dict)
    """By node."""
    asked: set[int] = field(default_factory=set)
    """Nodes that have a response; never iterated over."""


@dataclass(slots=True)
class CountedRule:
    """A rule, and how many outcalls it has answered."""

    rule: OutcallRule
    used: dict[tuple[int, int], None] = field(default_factory=dict)
    """Subnet and number of the outcalls."""


class Outcalls:
    """All outcalls of a network."""

    def __init__(
        self, network: Network, relay: Relay, desk: ConsensusDesk, rules: Sequence[OutcallRule], wake: Callable[[], None]
    ) -> None:
        self._network = network
        self._relay = relay
        self._desk = desk
        self._wake = wake
        self.web: Web = NoWeb()
        self.rules = [CountedRule(rule) for rule in rules]
        """Those of the topology; a test's stand before them."""
        self.added: list[CountedRule] = []
        self._calls: list[dict[int, Outcall]] = [{} for _ in network.subnets]
        self._open = 0
        """Transform functions and web servers that haven't answered."""
        self._serving = False
        self._looked_at: tuple[int, ...] = ()
        """Processes of the live nodes when all rules were last tried on all outcalls; empty: something is new since."""
        desk.on_outcall = self._begin

    @property
    def busy(self) -> bool:
        """A response or a vote is on its way; no round may begin."""
        return self._open > 0

    def open_calls(self, place: int) -> list[OutcallRequest]:
        """Outcalls of a subnet that nobody has answered."""
        return [call.request for call in self._current(place).values()]

    def change(self, rules: Sequence[OutcallRule], *, clear: bool) -> None:
        """Add rules of a test, before those added earlier; `clear` drops those first."""
        self.added = [CountedRule(rule) for rule in rules] + ([] if clear else self.added)
        self._looked_at = ()
        self.pump()

    def answer(self, place: int, call_id: int, rules: Sequence[OutcallRule]) -> bool:
        """Give the nodes responses to one open outcall; False if it isn't open."""
        call = self._current(place).get(call_id)
        if call is None:
            return False
        self._serve_all([(place, call)], [CountedRule(rule) for rule in rules])
        return True

    def pump(self) -> None:
        """Give every node a response that has none and for which there is a rule."""
        if not any(self._calls):
            return
        nodes = tuple(node.pid for subnet in self._network.subnets for node in subnet.live())
        if nodes != self._looked_at:
            waiting = [(place, call) for place in range(len(self._calls)) for call in self._current(place).values()]
            self._looked_at = nodes
            self._serve_all(waiting, [*self.added, *self.rules])

    def _serve_all(self, calls: Sequence[tuple[int, Outcall]], rules: Sequence[CountedRule]) -> None:
        self._serving = True
        for place, call in calls:
            self._serve(place, call, rules)
        self._serving = False
        self._settle()

    def _settle(self) -> None:
        """When all that was asked has answered: the outcalls that are decided get their answers."""
        if self.busy:
            return
        for place, subnet in enumerate(self._network.subnets):
            for call in self._current(place).values():
                decided = one_call.agreed(call.request, call.votes, len(subnet.nodes))
                if decided is not None:
                    self._desk.answer(place, decided)

    # --- one outcall

    def _begin(self, place: int, request: OutcallRequest) -> None:
        self._calls[place][request.call_id] = Outcall(request)
        self._looked_at = ()

    def _current(self, place: int) -> dict[int, Outcall]:
        """Without those that a batch has answered."""
        still = self._desk.desks[place].outcalls
        self._calls[place] = {number: call for number, call in self._calls[place].items() if number in still}
        return {n: call for n, call in self._calls[place].items() if n not in self._desk.desks[place].answers}

    def _serve(self, place: int, call: Outcall, rules: Sequence[CountedRule]) -> None:
        for node in self._network.subnets[place].live():
            if node.index in call.asked or call.request.node_index not in (0, node.index):
                continue
            problem = one_call.request_problem(call.request)
            if problem is not None:
                _vote(call, node.index, problem)
                continue
            found = next((one for one in rules if _is_for(one, place, call.request, node.index)), None)
            if found is not None:
                if found.rule.times:
                    found.used[(place, call.request.call_id)] = None
                self._give(place, call, node.index, found.rule)

    def _give(self, place: int, call: Outcall, node: int, rule: OutcallRule) -> None:
        call.asked.add(node)
        if rule.reject_code:
            _vote(call, node, Failed(rule.reject_code, rule.reject_message))
        elif not rule.forward:
            self._take(place, call, node, WebResponse(rule.status, rule.headers, rule.body(node)))
        else:
            self._open += 1
            self.web.ask(rule.forward, call.request, node, lambda received: self._receive(place, call, node, received))

    def _receive(self, place: int, call: Outcall, node: int, received: WebResponse | Failed) -> None:
        self._open -= 1
        if isinstance(received, Failed):
            _vote(call, node, received)
        else:
            self._take(place, call, node, received)
        self._go_on()

    def _go_on(self) -> None:
        if not self.busy and not self._serving:
            self._settle()
            self._wake()

    def _take(self, place: int, call: Outcall, node: int, response: WebResponse) -> None:
        """A node has a response: it votes, after the caller's transform function."""
        request, subnet = call.request, self._network.subnets[place]
        problem = one_call.response_problem(request, response)
        if problem is not None or request.transform is None:
            _vote(call, node, problem or one_call.encoded(response))
            return
        question = QueryRequest(
            cookie=0,
            sender=MANAGEMENT_CANISTER,
            receiver=request.caller,
            method=request.transform,
            arg=one_call.transform_argument(request, response),
        )
        self._open += 1
        self._relay.ask(subnet, question, lambda answer: self._transformed(call, node, answer), subnet.nodes[node - 1])

    def _transformed(self, call: Outcall, node: int, answer: object) -> None:
        self._open -= 1
        if isinstance(answer, QueryReply):
            _vote(call, node, one_call.transformed(call.request, answer))
        else:
            call.asked.discard(node)  # the node is gone; it is asked again when it is back
            self._looked_at = ()
        self._go_on()


def _vote(call: Outcall, node: int, vote: Vote) -> None:
    call.asked.add(node)
    call.votes[node] = vote


def _is_for(one: CountedRule, place: int, request: OutcallRequest, node: int) -> bool:
    rule, key = one.rule, (place, request.call_id)
    left = not rule.times or key in one.used or len(one.used) < rule.times
    return left and rule.node in (0, node) and rule.fits(request)
