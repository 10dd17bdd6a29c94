"""What others may know of a canister.

Rule module. Spec: interface spec, "IC method canister_status".
"""

from __future__ import annotations

from collections.abc import Mapping

from configs.fees import CyclesCostSchedule
from ic_types.candid.values import Value
from ic_types.messages import Request, Response, StreamMessage
from ic_types.principal import Principal, SubnetId
from ic_types.units import WASM_PAGE_BYTES
from scheduler import cycles_account
from scheduler.canister import Canister, RunStatus
from subnet.management.answers import reply
from subnet.management.candid_types import CANISTER_STATUS
from subnet.management.context import ManagementCall, ManagementOutcome, QueryView, SubnetContext
from xnet.stream import Stream


def canister_status(ctx: SubnetContext, call: ManagementCall, _args: Value) -> ManagementOutcome:
    """Status, settings, memory and cycles."""
    return ManagementOutcome(
        payload=reply(CANISTER_STATUS, status_record(call.canister, ctx.fees, ctx.streams)), refund=call.payment
    )


def query_status(view: QueryView, canister: Canister | None, _args: Value) -> Value:
    """The same for a query."""
    assert canister is not None
    return status_record(canister, view.fees, view.streams)


def is_ready_for_migration(canister: Canister, streams: Mapping[SubnetId, Stream]) -> bool:
    """Stopped, with empty queues, and nothing of it is on its way to another subnet."""
    queues = canister.queues
    if canister.status is not RunStatus.STOPPED or queues.has_input() or queues.has_output() or canister.callbacks:
        return False
    sent = (message for stream in streams.values() for message in stream.iter_messages())
    return canister.canister_id not in (_sender(message) for message in sent)


def _sender(message: StreamMessage) -> Principal | None:
    if isinstance(message, Request):
        return message.sender
    return message.respondent if isinstance(message, Response) else None


def status_record(canister: Canister, fees: CyclesCostSchedule, streams: Mapping[SubnetId, Stream]) -> Value:
    """The result record."""
    execution = canister.execution
    metrics = memory_metrics(canister)
    return {
        "status": canister.status.value,
        "ready_for_migration": is_ready_for_migration(canister, streams),
        "version": canister.version,
        "settings": settings_record(canister),
        "module_hash": None if execution is None else execution.module.module_hash,
        "memory_size": sum(metrics.values()),
        "memory_metrics": metrics,
        "cycles": canister.balance,
        "reserved_cycles": canister.reserved_balance,
        "idle_cycles_burned_per_day": cycles_account.idle_cost_per_day(canister, fees),
        "query_stats": query_stats(canister),
    }


def query_stats(canister: Canister) -> dict[str, int]:
    """Totals of the statistics of queries, as far as the subnet has aggregated them."""
    totals = canister.query_totals
    return {
        "num_calls_total": totals.calls,
        "num_instructions_total": totals.instructions,
        "request_payload_bytes_total": totals.request_bytes,
        "response_payload_bytes_total": totals.response_bytes,
    }


def memory_metrics(canister: Canister) -> dict[str, int]:
    """Bytes by kind; their sum is what the canister is billed for, message memory left out."""
    execution = canister.execution
    kinds = ("global_memory_size", "wasm_binary_size", "canister_history_size", "wasm_chunk_store_size", "snapshots_size")
    metrics = dict.fromkeys(kinds, 0)
    metrics["canister_history_size"] = canister.history.memory_bytes
    metrics["wasm_chunk_store_size"], metrics["snapshots_size"] = (
        canister.chunk_store.memory_bytes,
        canister.snapshots.memory_bytes,
    )
    metrics["wasm_memory_size"] = 0 if execution is None else execution.heap.wasm_pages * WASM_PAGE_BYTES
    metrics["stable_memory_size"] = 0 if execution is None else execution.stable.wasm_pages * WASM_PAGE_BYTES
    if execution is not None:
        metrics["wasm_binary_size"], metrics["global_memory_size"] = execution.module.module_bytes, execution.global_bytes()
    counted = sum(metrics.values())
    metrics["custom_sections_size"] = canister.memory_usage() - counted
    return metrics


def settings_record(canister: Canister) -> Value:
    """`definite_canister_settings`."""
    settings = canister.settings
    return {
        "controllers": list(settings.controllers),
        "compute_allocation": settings.compute_allocation,
        "memory_allocation": settings.memory_allocation,
        "freezing_threshold": settings.freezing_threshold_s,
        "reserved_cycles_limit": settings.reserved_cycles_limit,
        "minimum_incoming_canister_call_cycles": settings.minimum_incoming_call_cycles,
        "log_memory_limit": settings.log_memory_limit,
        "log_visibility": _visibility(settings.log_visibility, settings.log_viewers),
        "snapshot_visibility": _visibility(settings.snapshot_visibility, settings.snapshot_viewers),
        "status_visibility": _visibility(settings.status_visibility, settings.status_viewers),
        "wasm_memory_limit": settings.wasm_memory_limit,
        "wasm_memory_threshold": settings.wasm_memory_threshold,
        "environment_variables": [{"name": name, "value": value} for name, value in settings.environment_variables],
    }


def _visibility(kind: str, viewers: tuple[Principal, ...]) -> Value:
    return {kind: list(viewers) if kind == "allowed_viewers" else None}
