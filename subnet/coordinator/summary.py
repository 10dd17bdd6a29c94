"""The run in figures: what summary.json holds.

Rule module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ic_types.principal import Principal

if TYPE_CHECKING:
    from subnet.coordinator.coordinator import Coordinator

SCHEMA = 1
XNET_KEYS = {"requests": "xnet_in_requests", "responses": "xnet_in_responses", "rejected": "xnet_in_refused"}
CANISTER_KEYS = ("pid", "status", "messages", "instructions", "cycles", "reserved", "burned", "heap_pages", "stable_pages")


def summarise(coordinator: Coordinator, canisters: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """All figures; `canisters` has what a node of each subnet tells of its canisters, by subnet name."""
    network, book = coordinator.network, coordinator.book
    wall = max(coordinator.ports.clock() - coordinator.started_at, 1e-9)
    totals = _added([subnet.totals for subnet in network.subnets])
    p50, p95, p99, most = book.percentiles(50, 95, 99, 100)
    messages = totals.get("messages", 0)
    return {
        "schema": SCHEMA,
        "version": _version(),
        "profile": network.plan.profile,
        "topology": network.plan.name,
        "topology_digest": network.plan.topology_digest,
        "outcome": _outcome(coordinator),
        "report": coordinator.failure.message if coordinator.failure else "",
        "seed": network.plan.seed,
        "rounds": network.height,
        "virtual_time_ns": network.height * network.plan.block_interval_ns,
        "wall_seconds": round(wall, 3),
        "messages_executed": messages,
        "messages_per_second": round(messages / wall, 1),
        "ingress": {
            "submitted": book.submitted,
            "replied": book.replied,
            "rejected": book.rejected + book.expired,
            "pending": book.pending,
        },
        "xnet": {name: totals.get(key, 0) for name, key in XNET_KEYS.items()},
        "totals": totals,
        "subnets": [_subnet(coordinator, place) for place in range(len(network.subnets))],
        "canisters": _canisters(coordinator, canisters),
        "stage_ns": dict(coordinator.stages.wall_ns),
        "stage_cpu_ns": dict(coordinator.stages.cpu_ns),
        "latency_rounds": {"p50": p50, "p95": p95, "p99": p99, "max": most},
        "phases": _phases(coordinator),
        "invariants": [
            *_after_every_round(coordinator),
            {"name": "all hashes agreed", "holds": coordinator.failure is None or coordinator.failure.exit_code != 3},
            {"name": "every call answered at most once", "holds": book.answered_twice == 0 and book.unexpected == 0},
        ],
    }


def _after_every_round(coordinator: Coordinator) -> list[dict[str, Any]]:
    if not coordinator.config.check_invariants:
        return []
    return [{"name": "every invariant after every round", "holds": not coordinator.broken}]


def _version() -> str:
    try:
        return version("icsim")
    except PackageNotFoundError:
        return "unknown"


def _outcome(coordinator: Coordinator) -> str:
    if coordinator.failure is None:
        return "ok"
    return {2: "bad_input", 3: "divergence"}.get(coordinator.failure.exit_code, "failed")


def _added(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total


def _subnet(coordinator: Coordinator, place: int) -> dict[str, Any]:
    subnet = coordinator.network.subnets[place]
    diverged = coordinator.failure is not None and coordinator.failure.exit_code == 3
    return {
        "name": subnet.plan.name,
        "id": subnet.record.subnet_id.to_text(),
        "type": subnet.plan.subnet_type,
        "nodes": subnet.plan.nodes,
        "height": subnet.height,
        "state_hash": subnet.state_hash.hex(),
        "agreed": not (diverged and subnet.results and subnet.height < coordinator.network.height + 1),
        "restarts": sum(node.restarts for node in subnet.nodes),
        **subnet.totals,
        "stage_ns": subnet.stage_ns,
        "stage_cpu_ns": subnet.stage_cpu_ns,
    }


def _canisters(coordinator: Coordinator, told: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    names = {canister.canister_id.to_text(): canister.name for canister in coordinator.network.plan.canisters}
    rows = []
    for subnet, canisters in told.items():
        for one in canisters:
            canister_id = Principal(one["id"]).to_text()
            row = {"id": canister_id, "name": names.get(canister_id, ""), "subnet": subnet}
            rows.append(row | {key: one[key] for key in CANISTER_KEYS if key in one})
    return rows


def _phases(coordinator: Coordinator) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "calls": progress.phase.calls,
            "sent": progress.sent,
            "replied": progress.replied,
            "rejected": progress.rejected,
            "unexpected": progress.unexpected,
            "first_unexpected": progress.first_unexpected,
        }
        for name, progress in coordinator.driving.workload.progress.items()
    ]
