"""Putting a coordinator together: a new run, a continued one, or a replay.

Plumbing: opens the journal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ic_types import wire
from ic_types.errors import BadInput, WireError
from subnet.coordinator.bootstrap import Bootstrap
from subnet.coordinator.coordinator import Coordinator
from subnet.coordinator.driving import Driving
from subnet.coordinator.event_log import EventLog
from subnet.coordinator.faults import resolve_faults
from subnet.coordinator.genesis import make_genesis
from subnet.coordinator.ingress_pool import IngressPool
from subnet.coordinator.journal import Journal
from subnet.coordinator.network_plan import NetworkPlan
from subnet.coordinator.network_state import new_network
from subnet.coordinator.plan_reader import decode_phases
from subnet.coordinator.ports import Ports
from subnet.coordinator.round_clock import RoundClock
from subnet.coordinator.workload import Workload
from subnet.network_config import CoordinatorConfig

T = TypeVar("T")


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisRecord:
    """The journal's first entry: what the run consists of."""

    plan: NetworkPlan
    workload: bytes


def assemble(config: CoordinatorConfig, ports: Ports) -> Coordinator:
    """A coordinator that is ready to start its nodes.

    Raises: BadInput when the run directory or the configuration can't be used.
    """
    journal, record = _open_journal(config, ports)
    config = replace(config, faults=resolve_faults(config.faults, record.plan))
    network = new_network(record.plan, make_genesis(record.plan))
    limits = [subnet.limits for subnet in record.plan.subnets]
    replay_only = config.mode == "replay"
    return Coordinator(
        config=config,
        network=network,
        journal=journal,
        events=EventLog(Path(config.out_dir) if config.out_dir else None),
        ports=ports,
        pool=IngressPool(
            network.genesis.subnets,
            limits,
            root_key=network.genesis.registry.subnets[0].public_key,
            any_expiry=config.accept_any_expiry,
        ),
        driving=Driving(Bootstrap(record.plan), Workload(record.plan, decode_phases(record.workload))),
        clock=_clock(config, record.plan, ports),
        replay_to=journal.recorded_height,
        replay_only=replay_only,
    )


def _clock(config: CoordinatorConfig, plan: NetworkPlan, ports: Ports) -> RoundClock:
    if not config.live or config.mode == "replay":
        return RoundClock(plan.block_interval_ns)
    return RoundClock(plan.block_interval_ns, wall=ports.wall_ns, monotonic=lambda: int(ports.clock() * 1e9))


def _open_journal(config: CoordinatorConfig, ports: Ports) -> tuple[Journal, GenesisRecord]:
    match config.mode:
        case "new":
            plan = _decode(config.plan, NetworkPlan, "plan")
            if config.live:
                plan = replace(plan, genesis_time_ns=ports.wall_ns())
            record = GenesisRecord(plan=plan, workload=config.workload)
            return Journal.create(Path(config.out_dir or config.socket_dir), wire.encode(record)), record
        case "resume":
            journal = Journal.open(Path(config.out_dir or config.socket_dir))
        case "replay":
            journal = Journal.open(Path(config.replay_dir or config.socket_dir), read_only=True)
        case _:
            raise BadInput(f"mode {config.mode!r}: allowed are new, resume and replay")
    return journal, _decode(journal.genesis(), GenesisRecord, f"genesis record of {journal.path}")


def _decode(raw: bytes, kind: type[T], what: str) -> T:
    try:
        found: T = wire.decode(raw, kind)
    except WireError as error:
        raise BadInput(f"the {what} can't be read: {error}; it was written by another version of this program") from error
    return found
