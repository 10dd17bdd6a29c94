"""A round on one page: induct, execute, route.

Rule module. ARCHITECTURE.md tells the twelve steps from a user's envelope to a certified answer; those of a node are the calls
below, in their order. state(h) = f(state(h-1), batch(h)): nothing else enters.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import cast

import structlog

from ic_types import trace
from ic_types.errors import CertificationError
from ic_types.principal import CanisterId, SubnetId
from ic_types.query_statistics import QueryStatsPayload
from ic_types.reject import Reject
from ic_types.units import Height, TimeNs
from message_routing.demux import DemuxCounts, demux
from message_routing.induction import IngressInduction
from message_routing.shedding import shed_best_effort
from message_routing.stream_builder import StreamBuilding, build_streams
from message_routing.stream_handler import StreamCounts, StreamPort
from message_routing.timeouts import time_out_ingress, time_out_messages
from scheduler import charging
from scheduler.round import Round, RoundSummary, Step, StepResult, execute_round
from subnet.management import consensus_calls, installs, lifecycle
from subnet.management.destinations import induction_target, resolve_destination
from subnet.node import renaming
from subnet.protocol import Batch, CertifiedSlice
from subnet.state.replicated_state import ReplicatedState
from subnet.state.world import RoundWorld
from xnet.slice import StreamSlice
from xnet.slice_check import check_slice
from xnet.stream import Stream

log = structlog.get_logger("node")


@dataclass(slots=True)
class RoundCounts:
    """What happened in a round; for tables, never for decisions."""

    demux: DemuxCounts = field(default_factory=DemuxCounts)
    execution: RoundSummary = field(default_factory=RoundSummary)
    routed: StreamCounts = field(default_factory=StreamCounts)
    refused_slices: int = 0
    consensus_answers: int = 0
    expired: int = 0
    shed: int = 0


def run_batch(
    world: RoundWorld, batch: Batch, execute: Callable[[Round], RoundSummary], lap: Callable[[str], None]
) -> RoundCounts:
    """Turn state h-1 into state h; `execute` drives the execution on sandboxes, `lap` notes the end of a stage.

    Raises: SandboxFailure when a message can't be executed on this machine.
    """
    state, counts = world.state, RoundCounts()
    assert batch.height == state.height + 1, f"batch {batch.height} after state {state.height}"
    trace.emit("subnet.node.round.run_batch", batch.height.to_bytes(8, "big"))
    state.height = Height(batch.height)
    if batch.query_stats is not None:
        _take_query_stats(state, batch.query_stats)
    state.time = TimeNs(max(batch.time_ns, state.time))
    state.randomness = batch.randomness
    state.block_makers.observe(state.own.nodes, batch.randomness, state.time)
    for one in batch.renames:
        renaming.rename(world, one)
    counts.expired = _time_out(world)
    slices = verified_slices(state, batch.slices, counts)
    counts.demux = demux(
        StreamPort(delivery=world.delivery(), streams=state.streams, flow=state.flow),
        _induction(world),
        slices,
        batch.ingress,
        state.time,
    )
    counts.consensus_answers = consensus_calls.settle(world, batch.answers)
    lap("induct")
    counts.execution = execute(_execution(world))
    lifecycle.settle_stopping(world)
    world.settle_user_responses()
    state.messages_executed += counts.execution.messages
    if batch.is_checkpoint:
        state.compiled.clear()
    lap("execute")
    counts.routed = build_streams(_stream_building(world))
    counts.shed = _shed(world)
    state.history.prune(state.time)
    lap("route")
    return counts


def _execution(world: RoundWorld) -> Round:
    """The round's execution; at a checkpoint no install stays paused either."""
    summary = yield from execute_round(world)
    if world.is_checkpoint:
        yield from cast("Generator[Step, StepResult, None]", installs.abort_all(world))
    return summary


def _take_query_stats(state: ReplicatedState, payload: QueryStatsPayload) -> None:
    """Take in what a node has counted, and add to the canisters' totals what enough nodes have."""
    last_epoch = (state.height - 1) // state.limits.query_stats_epoch_length
    problem = state.query_records.add(payload, state.own.nodes, last_epoch)
    if problem is not None:
        log.warning("node.query_stats_ignored", height=state.height, proposer=str(payload.proposer), reason=problem)
        return
    nodes = len(state.own.nodes)
    for canister_id, stats in state.query_records.aggregate(nodes).items():
        canister = state.canisters.get(canister_id)
        if canister is not None:
            canister.query_totals.add(stats)
            state.canisters.touch(canister_id)


def _time_out(world: RoundWorld) -> int:
    """Drop what has expired, in queues and of callbacks."""
    state = world.state
    where = (state.deadlines, state.canisters, state.management_queues, state.routing)
    return time_out_ingress(*where, state.history, state.time) + time_out_messages(*where, state.refunds, state.time)


def _shed(world: RoundWorld) -> int:
    """Drop best-effort messages that the subnet has no memory for."""
    state, usage = world.state, world.state.canisters.usage()
    capacity = state.limits.best_effort_memory
    if usage.total.best_effort <= capacity:
        return 0
    return shed_best_effort(state.canisters, usage.best_effort.items(), capacity, state.routing, state.refunds)


def verified_slices(
    state: ReplicatedState, slices: tuple[CertifiedSlice, ...], counts: RoundCounts
) -> list[tuple[SubnetId, StreamSlice]]:
    """The slices that are certified and continue what we have; every other is refused and logged, and changes nothing."""
    good: dict[SubnetId, StreamSlice] = {}
    known = {record.subnet_id: record.public_key for record in state.network.subnets}
    for piece in slices:
        try:
            if piece.source not in known:
                raise CertificationError("slice of an unknown subnet")
            if piece.source in good:
                raise CertificationError("second slice of the same subnet in one batch")
            ours = state.streams.get(piece.source) or Stream()
            good[piece.source] = check_slice(
                source=piece.source,
                witness=piece.witness,
                signature=piece.certificate_signature,
                source_key=known[piece.source],
                own=state.own.subnet_id,
                expected=ours.signals_end,
                stream_begin=ours.begin,
                stream_end=ours.end,
            )
            trace.emit("subnet.node.round.verified_slices", piece.source)
        except CertificationError as error:
            counts.refused_slices += 1
            log.warning("xnet.slice_refused", source=str(piece.source), height=state.height, reason=str(error))
    return [(source, good[source]) for source in sorted(good)]


def _induction(world: RoundWorld) -> IngressInduction:
    state = world.state

    def pay(canister_id: CanisterId, raw_bytes: int) -> Reject | None:
        canister = state.canisters.get(canister_id)
        assert canister is not None, "the payer of an induction is looked up before"
        return charging.pay_ingress(world, canister, raw_bytes)

    return IngressInduction(
        canisters=state.canisters,
        management_queues=state.management_queues,
        routing=state.routing,
        history=state.history,
        deadlines=state.deadlines,
        limits=state.limits,
        system_subnet=state.is_system,
        pay=pay,
        management_rule=lambda ingress: induction_target(ingress, state.own.admins),
    )


def _stream_building(world: RoundWorld) -> StreamBuilding:
    state = world.state
    return StreamBuilding(
        canisters=state.canisters,
        management_queues=state.management_queues,
        routing=state.routing,
        streams=state.streams,
        refunds=state.refunds,
        deadlines=state.deadlines,
        lost=state.lost,
        flow=state.flow,
        limits=state.limits,
        system_subnets=frozenset(r.subnet_id for r in state.network.subnets if r.subnet_type == "system"),
        resolve=lambda request: resolve_destination(state.routing, state.chain_keys, request),
    )
