"""Limits of a subnet, per type; the numbers are the real system's (profile `mainnet`).

Rule module. Sources: the replica's configuration of subnets, execution environment, embedder and messages (end of 2025);
profile `minimal` changes those marked in `minimal.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ic_types import wire

B = 1_000_000_000
M = 1_000_000
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
MESSAGE_STRUCT_BYTES = 256
"""What a message takes beside its payload. Not in the spec: a round figure near the replica's struct sizes."""
MAX_RESPONSE_BYTES = MESSAGE_STRUCT_BYTES + 2 * MIB
"""What a guaranteed-response call reserves at both ends."""


def request_memory(payload_bytes: int, *, best_effort: bool) -> int:
    """Message memory that a request takes at each end: itself, or room for the largest response if that is guaranteed."""
    size = MESSAGE_STRUCT_BYTES + payload_bytes
    return size if best_effort else max(size, MAX_RESPONSE_BYTES)


class SubnetType(Enum):
    """What a subnet is for; fees and limits differ."""

    SYSTEM = "system"
    APPLICATION = "application"
    VERIFIED_APPLICATION = "verified_application"


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetLimits:
    """Limits that canister execution and scheduling obey; instructions, bytes, counts."""

    # --- instructions
    instructions_per_round: int = 4 * B
    """Per core: max(slice, install slice) + 2 B."""
    instructions_per_message: int = 40 * B
    instructions_per_query: int = 5 * B
    instructions_per_inspect: int = 200 * M
    instructions_per_slice: int = 2 * B
    instructions_per_install: int = 300 * B
    instructions_per_install_slice: int = 2 * B
    instruction_overhead_per_execution: int = 2 * M
    instruction_overhead_per_canister: int = 8 * M
    instruction_overhead_per_canister_finalization: int = 12_000
    dirty_page_overhead: int = 1000
    wasm64_dirty_page_multiplier: int = 4
    compile_cost_per_operator: int = 6000
    upload_chunk_instructions: int = 200 * M
    snapshot_instructions: int = 2 * B
    """Charged for taking or loading a snapshot, beside its bytes."""
    snapshot_data_instructions: int = 5 * M
    """Charged for a piece of a snapshot that is up- or downloaded."""
    instruction_overhead_per_query_call: int = 50 * M
    """Of each call in a composite query's call graph."""
    composite_query_depth: int = 6
    # --- scheduling
    scheduler_cores: int = 4
    max_paused_executions: int = 4
    max_heap_delta_per_iteration: int = 200 * M
    subnet_heap_delta_capacity: int = 140 * GIB
    heap_delta_initial_reserve: int = 32 * GIB
    heap_delta_rate_limit: int = 75 * MIB
    install_code_rate_limit: int = 2 * B
    priority_reset_interval: int = 86_400
    checkpoint_interval: int = 500
    query_stats_epoch_length: int = 600
    """Rounds after which a node submits what it has counted of queries."""
    # --- memory
    max_wasm32_heap: int = 4 * GIB
    max_wasm64_heap: int = 6 * GIB
    max_stable_memory: int = 500 * GIB
    subnet_memory_capacity: int = 2 * TIB
    subnet_memory_threshold: int = 750 * GIB
    response_memory_reserve: int = 10 * GIB
    """Kept free of other memory, for what callbacks allocate."""
    guaranteed_response_memory: int = 15 * GIB
    best_effort_memory: int = 5 * GIB
    default_wasm_memory_limit: int = 3 * GIB
    """The real system's; with the specification's 0 its own rule would run every low-memory hook at once."""
    stable_dirty_pages_update: int = 2 * GIB // 4096
    stable_dirty_pages_install: int = 8 * GIB // 4096
    stable_dirty_pages_query: int = 1 * GIB // 4096
    # --- messages
    queue_capacity: int = 500
    max_payload: int = 2 * MIB
    max_local_payload: int = 10 * MIB
    max_query_reply: int = 3 * MIB
    max_stream_messages: int = 10_000
    max_stream_bytes: int = 10 * MIB
    max_slice_bytes: int = 21 * 2 * MIB // 20
    system_stream_messages: int = 100
    request_lifetime_s: int = 300
    best_effort_timeout_max_s: int = 300
    ingress_ttl_s: int = 300
    ingress_history_messages: int = 600_000
    ingress_history_bytes: int = 4 * GIB
    max_ingress_per_round: int = 1000
    callback_quota: int = 50
    callback_soft_limit: int = 1_000_000
    stop_timeout_s: int = 300
    max_open_signatures: int = 20
    """Per chain key."""
    max_open_outcalls: int = 3000
    default_log_bytes: int = 4096
    """Log limit of a canister that sets none; other limits are at least that."""
    max_log_bytes: int = 2 * MIB
    # --- canisters
    max_controllers: int = 10
    max_snapshots: int = 10
    canister_history_entries: int = 20
    chunk_store_bytes: int = 100 * MIB
    chunk_bytes: int = 1 * MIB
    max_environment_variables: int = 20
    environment_variable_bytes: int = 128
    """Of a name, and of a value."""
    default_freezing_threshold_s: int = 2_592_000
    default_provisional_cycles: int = 100_000 * B
    canister_ids_per_subnet: int = 1 << 20
