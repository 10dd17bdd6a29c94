"""The replica: state, its hash, its certified tree, and what a node answers.

Rule module but for the clock that times stages. Events in (a batch, a certification, a query), effects through the Driver,
answers out; holds no socket.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from ic_types import bls, trace
from ic_types.consensus_calls import OutcallRequest, SignatureRequest
from ic_types.errors import SandboxFailure
from ic_types.identity import Ed25519Identity
from ic_types.principal import CanisterId
from ic_types.reject import ErrorCode, Payload, Reject, RejectCode, Reply, reject
from message_routing.ingress_history import IngressState, IngressStatus
from sandbox.protocol import Environment
from scheduler.effects import Effects
from scheduler.query import QueryRun, execute_query
from scheduler.system_tasks import waits_for_cycles
from subnet.certification.certificate import Delegation, make_certificate
from subnet.management.context import QueryView
from subnet.management.installs import InstallRuns
from subnet.management.queries import answer_query
from subnet.node import acceptance, certificates, tree_update
from subnet.node.certified_state import CertifiedState
from subnet.node.driver import Driver
from subnet.node.faults import FaultPlan, parse_faults
from subnet.node.query_collector import QueryCollector
from subnet.node.rehash import Rehash
from subnet.node.round import RoundCounts, run_batch
from subnet.protocol import (
    Acceptance,
    AcceptanceRequest,
    Batch,
    CertifiedSlice,
    Certify,
    IngressOutcome,
    NodeConfig,
    QueryReply,
    QueryRequest,
    Refusal,
    RoundResult,
    Slices,
    StreamHead,
)
from subnet.random_tape import tape_message
from subnet.state.genesis import genesis_state
from subnet.state.invariants import account_of
from subnet.state.state_hash import StateHash
from subnet.state.world import RoundWorld
from xnet.slice import make_slice

log = structlog.get_logger("node")

Trace = tuple[tuple[str, bytes, str], ...]


class Replica:
    """One node's replica of its subnet."""

    def __init__(self, config: NodeConfig, driver: Driver) -> None:
        self.config = config
        self.driver = driver
        self.state = genesis_state(config)
        self.hash = StateHash()
        self.installs = InstallRuns()
        self.stopping: dict[CanisterId, None] = {}
        self.faults: list[FaultPlan] = parse_faults(config)
        self.rehash = Rehash(config.rehash_rounds)
        self.certified = CertifiedState(self.state)
        """What queries see."""
        self.collector = QueryCollector(config.node_id, config.limits.query_stats_epoch_length)
        self.previous_root: bytes | None = None
        self.identity = Ed25519Identity(config.node_secret) if config.node_secret else None
        tree_update.set_network(self.state)

    # --- a round

    def process(self, batch: Batch, take_trace: Callable[[], Trace]) -> RoundResult:
        """Execute a batch.

        Raises: SandboxFailure when a message can't be executed on this machine.
        """
        stages: dict[str, int] = {}
        cpu_stages: dict[str, int] = {}
        last, last_cpu = time.perf_counter_ns(), time.thread_time_ns()

        def lap(stage: str) -> None:
            nonlocal last, last_cpu
            now, now_cpu = time.perf_counter_ns(), time.thread_time_ns()
            stages[stage], cpu_stages[stage] = now - last, now_cpu - last_cpu
            last, last_cpu = now, now_cpu

        for fault in self.faults:
            fault.strike(self, batch.height)
        world = self._world(batch)
        counts = run_batch(world, batch, self.driver.run_round, lap)
        self.rehash.run(self.state, batch.height)
        changed = self.state.history.take_changes()
        touched = self.state.canisters.take_touched()
        self.rehash.note(self.state, touched)
        self.certified.note(touched)
        state_hash = self.hash.update(self.state, touched, changed)
        lap("hash")
        tree_update.update(self.state, touched, changed, self.previous_root)
        self.previous_root = root = self.state.tree.root()
        trace.emit("subnet.node.replica.process", root, "root")
        lap("tree")
        secret, asked = self.config.key_share, self.state.consensus_calls.take_fresh()
        result = RoundResult(
            height=batch.height,
            state_hash=state_hash,
            root_hash=root,
            certification_share=bls.sign(secret, bls.with_domain(bls.STATE_ROOT, root)),
            tape_share=bls.sign(secret, tape_message(batch.height + 1, batch.randomness)),
            heads=self._heads(),
            outcomes=tuple(outcome for outcome in map(_outcome, changed) if outcome is not None),
            signature_requests=tuple(one for one in asked if isinstance(one, SignatureRequest)),
            outcall_requests=tuple(one for one in asked if isinstance(one, OutcallRequest)),
            has_work=self._has_work(),
            query_stats=self.collector.offer(self.state.query_records),
            next_due_ns=self._next_due(),
            stats=_stats(counts, self),
            stage_ns=stages,
            stage_cpu_ns=cpu_stages,
            account=account_of(self.state) if self.config.check_invariants else None,
        )
        lap("sign")
        return replace(result, trace=take_trace())

    def _world(self, batch: Batch) -> RoundWorld:
        return RoundWorld(
            state=self.state,
            batch_size=self.config.batch_size,
            is_checkpoint=batch.is_checkpoint,
            installs=self.installs,
            stopping=self.stopping,
            version=batch.replica_version,
        )

    def _heads(self) -> tuple[StreamHead, ...]:
        own = self.state.own.subnet_id
        return tuple(
            StreamHead(peer=peer, begin=stream.begin, end=stream.end, signals_end=stream.signals_end)
            for peer, stream in sorted(self.state.streams.items())
            if peer != own
        )

    def _has_work(self) -> bool:
        """Another round would do something without new input; heartbeats don't count, they go on forever."""
        state = self.state
        loopback = state.streams.get(state.own.subnet_id)
        return bool(
            any(not waits_for_cycles(state, state.canisters[canister_id]) for canister_id in state.scheduler.active)
            or state.management_queues.has_input()
            or state.management_queues.has_output()
            or len(state.refunds)
            or (loopback is not None and loopback.messages)
            or state.canisters.outputs.ascending(state.canisters.get)
        )

    def _next_due(self) -> int:
        state = self.state
        timer, outcall = state.scheduler.next_timer(state.canisters), state.consensus_calls.next_timeout()
        due = [int(time) for time in (timer, state.deadlines.next_due(), outcall) if time]
        if state.scheduler.heartbeats:
            due.append(int(state.time))
        return min(due, default=0)

    # --- certification

    def certify(self, request: Certify) -> Slices:
        """The state of this height is certified: queries see it now, and slices of its streams may be made."""
        if request.height == self.state.height:
            self.certified.certify(request.signature)
            if request.delegation:
                self.certified.delegation = Delegation(self.config.subnet, request.delegation)
            self.collector.certified(request.height)
        return Slices(height=request.height, slices=tuple(self._slice(request, k) for k in range(len(request.slices))))

    def _slice(self, request: Certify, position: int) -> CertifiedSlice | None:
        wanted = request.slices[position]
        stream = self.state.streams.get(wanted.peer)
        if stream is None or request.height != self.state.height:
            return None
        witness = make_slice(
            self.state.tree.map,
            wanted.peer,
            stream,
            message_begin=type(stream.begin)(wanted.message_begin),
            signals_begin=type(stream.begin)(wanted.signals_begin),
            max_bytes=wanted.max_bytes,
            max_messages=wanted.max_messages,
        )
        if witness is None:
            return None
        own = self.state.own.subnet_id
        return CertifiedSlice(source=own, witness=witness, certificate_signature=request.signature)

    # --- queries and calls of users

    def query(self, request: QueryRequest) -> Effects[QueryReply]:
        """Run a query on the last certified height, even if another is certified before it ends."""
        answer = QueryReply(
            cookie=request.cookie,
            status="replied",
            height=self.certified.height,
            time_ns=self.certified.time,
            node_index=self.config.node_index,
        )
        try:
            payload = yield from self._execute_query(request)
        except SandboxFailure as failure:
            payload = Reject(RejectCode.SYS_TRANSIENT, str(failure))
        if isinstance(payload, Reply):
            answer = replace(answer, reply=payload.data)
        else:
            why = _refusal(payload)
            answer = replace(
                answer,
                status="rejected",
                reject_code=why.reject_code,
                reject_message=why.reject_message,
                error_code=why.error_code,
            )
        if not request.request_id or self.identity is None:
            return answer
        return certificates.sign_answer(answer, request.request_id, self.identity)

    def _execute_query(self, request: QueryRequest) -> Effects[Payload]:
        certified = self.certified
        if not certified.height:
            text = "Certified state is not available yet. Please try again..."
            return reject(ErrorCode.CERTIFIED_STATE_UNAVAILABLE, text)
        run = QueryRun(
            root=request.receiver,
            canisters=certified.canister,
            is_elsewhere=self._is_elsewhere,
            management=lambda caller, method, arg: answer_query(self.query_view(), caller, method, arg),
            time=certified.time,
            data_certificate=certified.data_certificate(request.receiver),
            limits=self.state.limits,
            fees=self.state.fees,
            caller_info=request.caller_info,
        )
        payload = yield from execute_query(run, request.sender, request.method, request.arg)
        self.collector.count(run.stats)
        return payload

    def _is_elsewhere(self, canister_id: CanisterId) -> bool:
        return self.state.routing.route(canister_id) not in (None, self.state.own.subnet_id)

    def query_view(self) -> QueryView:
        """The last certified height, as queries of the management canister see it."""
        seen = self.certified
        return QueryView(
            canister=seen.canister,
            canister_ids=seen.ids,
            subnet_admins=self.state.own.admins,
            fees=self.state.fees,
            streams=self.state.streams,
        )

    def accept(self, request: AcceptanceRequest) -> Effects[Acceptance]:
        """Which calls of users may enter the pool, by the last certified height."""
        height, refusals = self.certified.height, list[Refusal | None]()
        for call in request.calls:
            why = yield from acceptance.refusal(self.certified, call, self.state.limits, self.state.fees)
            refusals.append(None if why is None else _refusal(why))
        index = self.config.node_index
        return Acceptance(cookie=request.cookie, refusals=tuple(refusals), node_index=index, height=height)

    @property
    def is_certified(self) -> bool:
        """Whether the state as it is, is the certified one."""
        return self.certified.height == self.state.height and bool(self.certified.signature)

    @property
    def may_certify_data(self) -> bool:
        """Whether queries get the certificate that they may ask for; they do except between a round and its certification."""
        return self.certified.can_certify or not self.certified.height

    def read_state(self, path: tuple[bytes, ...]) -> bytes:
        """Certificate of one path at the last certified height; empty unless the newest state is certified."""
        certified = self.certified
        if not self.is_certified:
            return b""
        return make_certificate(self.state.tree, [path] if path else [], certified.signature, certified.delegation)

    # --- for the sandboxes

    def environment_for(self, canister_id: CanisterId) -> Environment:
        """What stays the same for a sandbox's whole life."""
        return Environment(
            canister_id=canister_id,
            subnet_id=self.state.own.subnet_id,
            root_key=self.state.root_key_der,
            subnet_type=self.state.own.subnet_type,
            limits=self.state.limits,
            fees=self.state.fees,
            signing_fees=self.state.chain_keys.signing_fees(),
        )


def _refusal(why: Reject) -> Refusal:
    code = "" if why.error_code is None else why.error_code.text
    return Refusal(reject_code=int(why.code), reject_message=why.message, error_code=code)


def _outcome(change: tuple[bytes, IngressStatus | None]) -> IngressOutcome | None:
    message_id, status = change
    if status is None or not status.is_terminal:
        return None
    if status.state is IngressState.REPLIED:
        return IngressOutcome(message_id=message_id, status="replied", reply=status.reply)
    why = status.reject
    if why is None:
        return None
    return IngressOutcome(
        message_id=message_id,
        status="rejected",
        reject_code=int(why.code),
        reject_message=why.message,
        error_code="" if why.error_code is None else why.error_code.text,
    )


def _stats(counts: RoundCounts, replica: Replica) -> dict[str, int]:
    """Counters of a round, by name; totals where the name says so."""
    state, execution, streams = replica.state, counts.execution, counts.demux.streams
    return {
        "messages": execution.messages,
        "subnet_messages": execution.subnet_messages,
        "slices": execution.slices,
        "instructions": execution.instructions,
        "iterations": execution.iterations,
        "ingress": counts.demux.ingress,
        "duplicates": counts.demux.duplicates,
        "xnet_in_requests": streams.requests,
        "xnet_in_responses": streams.responses,
        "xnet_in_refused": streams.refused,
        "xnet_out_requests": counts.routed.requests,
        "xnet_out_responses": counts.routed.responses,
        "refused_slices": counts.refused_slices,
        "expired": counts.expired,
        "consensus_answers": counts.consensus_answers,
        "shed": counts.shed,
        "total_messages": state.messages_executed,
        "total_cycles_burned": state.burned(),
        "total_canisters": len(state.canisters),
        "certified_height": replica.certified.height,
    }
