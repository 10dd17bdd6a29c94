"""The coordinator: rounds while anyone wants them, from the first node's start to the stop.

Rule module. Events in (messages of nodes and clients, ends of processes), effects out through Ports and the journal. It holds
no canister state: what it decides follows from the journal, the pool and what the nodes agreed on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from ic_types.errors import EnvelopeError, NetworkError
from ic_types.units import NS_PER_SECOND
from subnet import control_protocol as cp
from subnet.account import check_accounts, report_of
from subnet.coordinator.agreement import Divergence
from subnet.coordinator.batch_maker import is_quiet
from subnet.coordinator.batch_source import BatchSource
from subnet.coordinator.call_desk import CallDesk
from subnet.coordinator.consensus_desk import ConsensusDesk
from subnet.coordinator.delegations import Delegations
from subnet.coordinator.dispatcher import Dispatcher, split_jobs
from subnet.coordinator.door import Door
from subnet.coordinator.driving import Driving
from subnet.coordinator.event_log import EventLog
from subnet.coordinator.goals import Goal, Goals
from subnet.coordinator.ingress_pool import IngressPool
from subnet.coordinator.intake import Intake
from subnet.coordinator.investigation import Investigation
from subnet.coordinator.journal import Journal, RecordedHeight, replay_difference
from subnet.coordinator.network_state import Failure, Network, Node, NodePhase, Subnet
from subnet.coordinator.nodes import Hooks, NodeKeeper
from subnet.coordinator.outcalls import Outcalls
from subnet.coordinator.ports import Ports, ReplyAddress
from subnet.coordinator.relay import Relay
from subnet.coordinator.requests import RequestBook
from subnet.coordinator.round_clock import RoundClock
from subnet.coordinator.rounds import RoundHooks, Rounds
from subnet.coordinator.stage_times import StageTimes
from subnet.network_config import CoordinatorConfig
from subnet.protocol import (
    Acceptance,
    Delegated,
    Inspected,
    NodeFailure,
    NodeReady,
    QueryReply,
    RoundResult,
    Slices,
    StateRead,
)

_FORGET_ROUNDS = 64
"""Expired requests are forgotten every so many rounds."""
log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Coordinator:
    """One network's coordinator."""

    config: CoordinatorConfig
    network: Network
    journal: Journal
    events: EventLog
    ports: Ports
    pool: IngressPool
    driving: Driving
    clock: RoundClock
    book: RequestBook = field(default_factory=RequestBook)
    goals: Goals = field(init=False)
    failure: Failure | None = None
    broken: bool = False
    """An invariant was found broken after a round."""
    replay_to: int = 0
    """Batches up to this height come from the journal."""
    replay_only: bool = False
    """Stop at replay_to, record nothing."""
    stopping: bool = False
    started_at: float = 0.0
    stages: StageTimes = field(default_factory=StageTimes)
    relay: Relay = field(init=False)
    keeper: NodeKeeper = field(init=False)
    rounds: Rounds = field(init=False)
    batches: BatchSource = field(init=False)
    desk: ConsensusDesk = field(init=False)
    outcalls: Outcalls = field(init=False)
    intake: Intake = field(init=False)
    door: Door = field(init=False)
    calls: CallDesk = field(init=False)
    delegations: Delegations = field(init=False)
    _dispatcher: Dispatcher = field(init=False)

    def __post_init__(self) -> None:
        per_node, slots = split_jobs(self.config.jobs, max(one.plan.limits.scheduler_cores for one in self.network.subnets))
        self._dispatcher = dispatcher = Dispatcher(self.ports, slots)
        self.relay = Relay(self.ports)
        self.goals = Goals(self.ports)
        self.desk = ConsensusDesk(self.network.plan.identity_seed, len(self.network.subnets))
        self.batches = BatchSource(
            self.network, self.journal, self.pool, self.book, self.driving, self.desk, self.stages, self.replay_to, self.clock
        )
        self.intake = Intake(
            self.network, self.pool, self.book, self.driving, self.relay, self.stages, self.clock, self.advance
        )
        self.door = Door(self.network, self.intake, self.relay, self._can_ask, self.advance)
        self.calls = CallDesk(self.ports, self.intake, self.door, self.book, self.relay, self.network)
        self.delegations = Delegations(self.relay, self.network, self.ports, self.advance)
        hooks = Hooks(batch=self.batches.encoded, lost=self._on_lost, fail=self.fail)
        self.keeper = NodeKeeper(self.network, self.config, self.ports, self.journal, dispatcher, hooks)
        self.keeper.max_in_flight = per_node
        self.outcalls = Outcalls(self.network, self.relay, self.desk, self.network.plan.outcalls, self.advance)
        round_hooks = RoundHooks(
            certified=self._on_certified,
            sound=self._is_sound,
            finished=self._on_finished,
            diverged=self._on_diverged,
            wrong_share=lambda node, height: self.events.record(height, "wrong_share", node=node),
            fail=self.fail,
        )
        self.rounds = Rounds(self.network, self.ports, dispatcher, round_hooks, self.stages)
        self.started_at = self.ports.clock()

    # --- state for others

    def is_quiet(self) -> bool:
        """Whether nothing is under way: no message waits, travels or could be executed."""
        return len(self.pool) == 0 and self.desk.is_quiet and is_quiet(self.network)

    def is_idle(self) -> bool:
        """Whether no work is left; timers of canisters don't count once the workload is over."""
        if self.replay_only:
            return self.network.height >= self.replay_to
        if not self.is_quiet() or self.driving.will_send:
            return False
        return self.driving.finished or not any(subnet.next_due_ns for subnet in self.network.subnets)

    # --- events

    def start(self) -> None:
        """Start the nodes."""
        self.keeper.start_all()

    def on_node_message(self, address: bytes, message: object) -> None:
        """A message of a node."""
        if isinstance(message, NodeReady):
            self.keeper.ready(address, message)
            self._after_catching_up()
            return
        node = self.keeper.at(address)
        if node is None:
            return
        match message:
            case RoundResult():
                self._on_result(node, message)
            case Slices():
                self.rounds.slices(node, message)
            case QueryReply() | Acceptance() | Inspected() | StateRead() | Delegated():
                self.relay.answer(node, message)
            case NodeFailure():
                node.last_words = message.reason
                self.events.record(self.network.height, "node_failed", node=node.name, reason=message.reason)
                log.error("coordinator.node_failed", node=node.name, height=message.height, reason=message.reason)
            case _:
                log.error("coordinator.unexpected_message", node=node.name, message=type(message).__name__)

    def on_ended(self, pid: int, kind: str, name: str, status: int) -> None:
        """A node or the compiler has ended."""
        if not self.stopping:
            self.events.record(self.network.height, f"{kind}_ended", node=name, status=status, pid=pid)
        if kind == "node":
            self.keeper.ended(pid, status)

    def on_tick(self) -> None:
        """Now and then."""
        if self.failure is None and not self.stopping:
            self.keeper.kill_silent(self.config.round_timeout_s)
        try:
            self.journal.commit_if_due()
        except NetworkError as error:
            self.fail(str(error), error.exit_code)
        self.events.commit()

    def _on_result(self, node: Node, result: RoundResult) -> None:
        self._dispatcher.answered(node)
        if node.phase is NodePhase.LIVE and result.height == self.rounds.height and result.height == node.height + 1:
            subnet = self.network.subnets[node.subnet]
            if node is subnet.live()[0]:
                self.events.node_trace(subnet, result)
            self.rounds.result(node, result)
            return
        problem = self.keeper.caught_up_result(node, result)
        if problem is not None:
            self.events.record(result.height, "divergence", node=node.name, detail=problem)
            self.fail(problem, 3)
            return
        self._after_catching_up()

    def _after_catching_up(self) -> None:
        """Between rounds a node that stands where the others stand takes part at once."""
        if self.rounds.height or self.failure is not None or self.stopping:
            return
        self.keeper.welcome()
        self.advance()

    def _on_lost(self, node: Node) -> None:
        self.relay.lost(node)
        self.rounds.lost(node)

    # --- rounds

    def advance(self) -> None:
        """Answer the goals that are reached; begin the next round if any are left."""
        if self.rounds.height or self.stopping or self.failure is not None:
            return
        self.door.ask()
        if self.network.height >= self.replay_to and not self.replay_only:
            self.outcalls.pump()
        if not self._may_begin():
            return
        if self.driving.problem is not None:
            self.fail(self.driving.problem, 2)
            return
        if self.door.round_waits(wanted=self._round_is_wanted()):
            return
        if self.network.height >= self.replay_to and (
            not self._answer_goals() or self.replay_only or not self._round_is_wanted()
        ):
            self.door.round_waits(wanted=False)
            return
        self._begin()

    def _can_ask(self) -> bool:
        """Whether nodes have reached the state that users' calls are about."""
        return self.network.height >= self.replay_to and self._can_start()

    def _can_start(self) -> bool:
        return self.network.height > 0 or self.keeper.all_live()

    def _may_begin(self) -> bool:
        """Whether nothing stands in the way of another round; a live one doesn't wait for web servers."""
        if self.rounds.height or self.stopping or self.failure is not None:
            return False
        waits = self.outcalls.busy and not self.clock.live
        held_up = self.driving.open_queries or self.intake.busy or self.delegations.awaited or waits
        return self._can_start() and not held_up and not self.door.holds_rounds

    def _round_is_wanted(self) -> bool:
        """In virtual time rounds are made while anyone waits for a goal, in live time when there is something to do."""
        return self.wait_ns() == 0 if self.clock.live else len(self.goals) > 0

    def wait_ns(self) -> int | None:
        """How long a live network waits before it makes its next round; None while that doesn't depend on the clock."""
        if not self.clock.live or self.network.height < self.replay_to or not self._may_begin():
            return None
        if self.goals.drive or not self.is_quiet() or self.driving.will_send or not self.driving.installed:
            return 0
        return self.clock.wait_ns(self.network.now, (subnet.next_due_ns for subnet in self.network.subnets))

    def _answer_goals(self) -> bool:
        """Answer who has waited long enough; False when that has to wait for nodes that catch up."""
        idle = self.is_idle()
        reached = self.goals.take_reached(self.network.height, idle=idle, installed=self.driving.installed, book=self.book)
        if reached and not self.keeper.all_live():
            self.goals.put_back(reached)
            return False
        if reached:
            self.journal.commit()
            self.events.commit()
        self.goals.answer(reached, cp.Advanced(height=self.network.height, time_ns=self.network.now, idle=idle))
        return True

    def _begin(self) -> None:
        self.door.round_waits(wanted=False)
        self.keeper.promote()
        height = self.network.height + 1
        try:
            if not self.replay_only:
                self.intake.drive(height)
            time_ns, batches = self.batches.make(height)
        except EnvelopeError as error:
            self.fail(f"{self.driving.sending()}: {error}", error.exit_code)
            return
        except NetworkError as error:
            self.fail(str(error), error.exit_code)
            return
        self.clock.round_begins()
        self.rounds.begin(height, time_ns, batches, fetch_slices=height >= self.replay_to)
        with self.stages("workload"):
            self.driving.prepare(height + 1, time_ns)

    # --- what rounds tell

    def _is_sound(self, results: Sequence[RoundResult]) -> bool:
        """Checks the invariants, if the nodes were asked for their accounts."""
        accounts = [result.account for result in results if result.account is not None]
        breaches = check_accounts(accounts)
        if breaches:
            self.broken = True
            self.fail(report_of(breaches, results[0].height), 1)
        return not breaches

    def _on_certified(self, subnet: Subnet, result: RoundResult) -> None:
        height = result.height
        agreed = RecordedHeight(result.state_hash, result.root_hash, subnet.signature, subnet.randomness)
        recorded = self.journal.agreed(subnet.place, height) if height <= self.replay_to else None
        if recorded is not None and recorded != agreed:
            self.fail(replay_difference(subnet.plan.name, height, recorded, agreed), 3)
            return
        if not self.replay_only:
            with self.stages("journal"):
                self.journal.record_height(subnet.place, height, agreed)
        self.events.heights(subnet, height, {index: one.state_hash for index, one in sorted(subnet.results.items())})
        self.events.round(subnet, result)
        subnet.count(result)
        self.desk.asked(subnet.place, result)
        for outcome in result.outcomes:
            self.book.answer(outcome, height)
            self.driving.answered(outcome, height)
            self.calls.answered(outcome.message_id)

    def _on_finished(self) -> None:
        if self.failure is not None:
            return
        self.calls.certify_answers()
        self.delegations.refresh()
        if self.network.height % _FORGET_ROUNDS == 0:
            ttl_ns = max(subnet.plan.limits.ingress_ttl_s for subnet in self.network.subnets) * NS_PER_SECOND
            self.pool.forget_expired(self.network.now)
            self.book.forget(self.network.height, self.network.now, ttl_ns)
            self.calls.forget()
        self._after_catching_up()

    def _on_diverged(self, subnet: Subnet, sides: tuple[tuple[int, ...], ...]) -> None:
        log.error("coordinator.diverged", subnet=subnet.plan.name, height=self.rounds.height, sides=sides)
        height = self.rounds.height

        def done(report: Divergence) -> None:
            self.events.record(height, "divergence", subnet=subnet.plan.name, detail=report.text())
            self.fail(report.text(), 3)

        Investigation(self.relay, subnet, height, sides, done).start()

    def fail(self, message: str, exit_code: int) -> None:
        """Make no more rounds; everyone who waits is told why."""
        if self.failure is not None or self.stopping:
            return
        self.failure = Failure(message, exit_code)
        log.critical("coordinator.stopped_with_report", height=self.network.height, report=message)
        self.events.record(self.network.height, "failed", detail=message, exit_code=exit_code)
        with contextlib.suppress(NetworkError):  # when it was the journal that failed
            self.journal.commit()
        self.events.commit()
        self.goals.refuse_all(cp.Refused(message=message, exit_code=exit_code))

    # --- clients

    def call(self, address: ReplyAddress, request: cp.Call) -> None:
        """A call of an agent's; in virtual time it makes the rounds that it needs."""
        self.clock.asked()
        message_id = self.calls.call(address, request)
        if message_id is not None and not self.clock.live:
            self.goals.add(Goal.until_answered(message_id))
        self.advance()

    def wait_for(self, address: ReplyAddress, request: cp.Advance) -> None:
        """A client wants rounds."""
        goal = Goal.of(address, request, self.network.height)
        if self.failure is not None:
            self.ports.reply(address, cp.Refused(message=self.failure.message, exit_code=self.failure.exit_code))
        elif goal.is_endless():
            self.ports.reply(
                address, cp.Refused(message="advance needs a goal: rounds, a height, idle or messages", exit_code=2)
            )
        else:
            self.goals.add(goal)
            self.advance()

    def stop(self, reason: str) -> None:
        """Ask all nodes to end; the processes that don't are ended by the zygote."""
        self.stopping = True
        self.keeper.stop(reason)
        self.goals.refuse_all(cp.Refused(message=f"the network is stopping: {reason}"))
        self.events.record(self.network.height, "stopped", detail=reason)
