"""Fees of a subnet and the costs that follow from them, in cycles; integers only.

Rule module. Sources: the replica's cycles account manager and its configuration. Both sides of the sandbox border compute
with it: a canister asks `cost_call`, the node charges the same figure.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from ic_types import wire
from ic_types.units import Cycles

GIB = 1 << 30
SECONDS_PER_DAY = 86_400


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class CyclesCostSchedule:
    """The fee table; every `scale`d fee is for `reference_size` nodes."""

    subnet_size: int = 13
    """Nodes that fees are scaled to (the topology's node count, or its `fee_nodes`)."""
    reference_size: int = 13
    canister_creation: int = 500_000_000_000
    update_execution_base: int = 5_000_000
    ten_instructions_wasm32: int = 10
    ten_instructions_wasm64: int = 20
    xnet_call: int = 260_000
    xnet_byte: int = 1_000
    ingress_message: int = 1_200_000
    ingress_byte: int = 2_000
    gib_storage_per_second: int = 317_500
    canister_base_per_second: int = 10_000
    compute_percent_per_second: int = 10_000_000
    signature: int = 10_000_000_000
    http_base: int = 3_000_000
    http_per_node: int = 60_000
    http_request_byte: int = 400
    http_response_byte: int = 800
    default_reserved_cycles_limit: int = 5_000_000_000_000
    storage_reservation_period_s: int = 300_000_000
    allocation_charge_interval_s: int = 10

    @classmethod
    def free(cls) -> CyclesCostSchedule:
        """The schedule of subnets that charge nothing: those with subnet admins."""
        kept = ("subnet_size", "reference_size", "default_reserved_cycles_limit", "allocation_charge_interval_s")
        return cls(**{field.name: 0 for field in fields(cls) if field.name not in kept})

    def scale(self, fee: int) -> Cycles:
        """A reference-size fee for this subnet's size, rounded down."""
        return Cycles(fee * self.subnet_size // self.reference_size)

    def execution(self, instructions: int, *, wasm64: bool = False) -> Cycles:
        """Cost of one execution: base fee plus instructions, one scaling over the sum."""
        fee10 = self.ten_instructions_wasm64 if wasm64 else self.ten_instructions_wasm32
        return self.scale(self.update_execution_base + fee10 * instructions // 10)

    def instructions(self, instructions: int, *, wasm64: bool = False) -> Cycles:
        """Cost of instructions alone: what unused ones refund."""
        fee10 = self.ten_instructions_wasm64 if wasm64 else self.ten_instructions_wasm32
        return self.scale(fee10 * instructions // 10)

    def transmission(self, payload_bytes: int) -> Cycles:
        """Cost of carrying payload bytes between canisters."""
        return self.scale(self.xnet_byte * payload_bytes)

    def call(self, payload_bytes: int, message_limit: int, max_response: int, *, wasm64: bool = False) -> Cycles:
        """What `call_perform` takes beside the attached cycles: request, response prepayment, callback prepayment."""
        return Cycles(
            self.scale(self.xnet_call)
            + self.transmission(payload_bytes)
            + self.transmission(max_response)
            + self.execution(message_limit, wasm64=wasm64)
        )

    def ingress(self, raw_bytes: int) -> Cycles:
        """Induction of an ingress message, by the bytes of its signed envelope."""
        return Cycles(self.scale(self.ingress_message) + self.scale(self.ingress_byte) * raw_bytes)

    def storage(self, stored_bytes: int, seconds: int) -> Cycles:
        """Storage of bytes for seconds."""
        return self.scale(stored_bytes * self.gib_storage_per_second * seconds // GIB)

    def idle_per_day(self, *, memory_usage: int, message_memory: int, compute_allocation: int) -> Cycles:
        """What a canister pays per day for existing; `memory_usage` is the larger of allocation and use, in bytes."""
        base = self.scale(self.canister_base_per_second * SECONDS_PER_DAY) if memory_usage else 0
        compute = self.scale(self.compute_percent_per_second * compute_allocation * SECONDS_PER_DAY)
        memory = self.storage(memory_usage, SECONDS_PER_DAY) + self.storage(message_memory, SECONDS_PER_DAY)
        return Cycles(memory + base + compute)

    def freezing_threshold(
        self,
        *,
        memory_usage: int,
        message_memory: int,
        compute_allocation: int,
        freezing_threshold_s: int,
        reserved_balance: int,
    ) -> Cycles:
        """Cycles that transfers and fees must leave: the idle cost of `freezing_threshold_s`, less the reserved cycles."""
        per_day = self.idle_per_day(
            memory_usage=memory_usage, message_memory=message_memory, compute_allocation=compute_allocation
        )
        return Cycles(max(per_day * freezing_threshold_s // SECONDS_PER_DAY - reserved_balance, 0))

    def storage_reservation(self, grown: int, usage: int, threshold: int, capacity: int) -> Cycles:
        """Cycles set aside when a canister grows by these bytes on a subnet with this usage; nothing below the threshold."""
        return Cycles(self._reserved(usage + grown, threshold, capacity) - self._reserved(usage, threshold, capacity))

    def _reserved(self, usage: int, threshold: int, capacity: int) -> int:
        """For all storage above the threshold: half of what it costs for a period that grows with the usage."""
        above, room = max(usage - threshold, 0), max(capacity - threshold, 0)
        seconds = self.storage_reservation_period_s * above // room if room else 0
        return self.storage(above, seconds // 2)

    def http_request(self, request_bytes: int, response_bytes: int) -> Cycles:
        """An HTTPS outcall; its formula has the node count inside, so it isn't scaled."""
        n = self.subnet_size
        per = self.http_base + self.http_per_node * n
        return Cycles((per + self.http_request_byte * request_bytes + self.http_response_byte * response_bytes) * n)
