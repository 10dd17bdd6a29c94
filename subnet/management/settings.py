"""Canister settings: reading them from Candid, validating and applying a change.

Rule module. Spec: interface spec, "IC method create_canister" (the list of settings) and "IC method update_settings".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from configs.limits import SubnetLimits
from ic_types.candid.values import Value
from ic_types.principal import Principal
from ic_types.units import Cycles
from scheduler import cycles_account
from scheduler.canister import Canister, Settings
from scheduler.canister_history import ControllersChange
from scheduler.cycles_account import BurnCause
from subnet.management import access, errors, history, resources
from subnet.management.answers import EMPTY_REPLY
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext

MAX_ENVIRONMENT_VARIABLES = 20
MAX_VARIABLE_NAME = 128
MAX_VARIABLE_VALUE = 128
MAX_WASM_MEMORY = 1 << 48
ALLOCATABLE_PERCENT = 50
"""Part of the compute capacity that allocations may take."""
FREE_UPDATE_BYTES = 366
"""Up to this argument size a user's update_settings is free at induction and charged afterwards, so that it can unfreeze."""

Visibility = tuple[str, tuple[Principal, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChange:
    """The settings that a call names; None leaves one as it is."""

    controllers: tuple[Principal, ...] | None = None
    compute_allocation: int | None = None
    memory_allocation: int | None = None
    freezing_threshold_s: int | None = None
    reserved_cycles_limit: Cycles | None = None
    minimum_incoming_call_cycles: Cycles | None = None
    log_memory_limit: int | None = None
    log: Visibility | None = None
    snapshot: Visibility | None = None
    status: Visibility | None = None
    wasm_memory_limit: int | None = None
    wasm_memory_threshold: int | None = None
    environment_variables: tuple[tuple[str, str], ...] | None = None


def parse_settings(value: Value, limits: SubnetLimits) -> SettingsChange:
    """The change in a decoded `canister_settings` record (None: nothing is asked for).

    Raises: ManagementError when a value is out of range (IC0504) or a list too long (IC0408).
    """
    if value is None:
        return SettingsChange()
    controllers = value["controllers"]
    if controllers is not None and len(controllers) > limits.max_controllers:
        found = f"The number of elements exceeds maximum allowed {limits.max_controllers}"
        raise errors.invalid_payload(f"Error decoding candid: {found}, got {len(controllers)}")
    return SettingsChange(
        controllers=None if controllers is None else tuple(sorted(set(controllers))),
        compute_allocation=_ranged("ComputeAllocation", value["compute_allocation"], 100, "[0..100]"),
        memory_allocation=_ranged("MemoryAllocation", value["memory_allocation"], 1 << 48, "[0..2^48]"),
        freezing_threshold_s=_ranged("Freezing threshold", value["freezing_threshold"], (1 << 64) - 1, "[0..2^64-1]"),
        reserved_cycles_limit=_cycles("Reserved cycles limit", value["reserved_cycles_limit"]),
        minimum_incoming_call_cycles=_cycles(
            "Minimum incoming canister call cycles", value["minimum_incoming_canister_call_cycles"]
        ),
        log_memory_limit=_log_limit(value["log_memory_limit"], limits),
        log=_visibility(value["log_visibility"], limits),
        snapshot=_visibility(value["snapshot_visibility"], limits),
        status=_visibility(value["status_visibility"], limits),
        wasm_memory_limit=_ranged("Wasm memory limit", value["wasm_memory_limit"], MAX_WASM_MEMORY, "[0..2^48]"),
        wasm_memory_threshold=_ranged("Wasm memory threshold", value["wasm_memory_threshold"], MAX_WASM_MEMORY, "[0..2^48]"),
        environment_variables=_environment(value["environment_variables"]),
    )


def update_settings(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Spec: "IC method update_settings"."""
    canister, change = call.canister, parse_settings(args["settings"], ctx.limits)
    apply(ctx, canister, change, is_new=False)
    canister.version += 1
    if change.controllers is not None:
        controllers = ControllersChange(canister.settings.controllers)
        history.record(ctx, call, canister, args["sender_canister_version"], controllers)
    if call.by_user and len(call.message.arg) <= FREE_UPDATE_BYTES:
        fee = ctx.fees.ingress(len(call.message.arg) + len(call.message.method))
        cycles_account.charge(ctx, canister, fee, BurnCause.INGRESS)
    access.changed(ctx, canister)
    return ManagementOutcome(payload=EMPTY_REPLY, refund=call.payment)


def apply(ctx: SubnetContext, canister: Canister, change: SettingsChange, *, is_new: bool) -> None:
    """Validate the change against canister and subnet, then make it; nothing changes if it is refused.

    Raises: ManagementError.
    """
    old = canister.settings
    new = merged(old, change)
    if new.wasm_memory_limit and canister.execution is not None:
        heap = canister.execution.heap.wasm_pages << 16
        if heap > new.wasm_memory_limit:
            raise errors.out_of_range("Wasm memory limit", f"[{heap}..2^48], the size of the heap,", new.wasm_memory_limit)
    _check_capacity(ctx, canister, old, new, is_new=is_new)
    _check_affordable(ctx, canister, old, new)
    resources.reserve(canister, _reservation(ctx, canister, old, new))
    percent = new.compute_allocation
    canister.settings = new
    if new.log_memory_limit != old.log_memory_limit:
        canister.logs.trim(new.log_memory_limit)
        if canister.execution is not None:
            canister.execution = canister.execution.fork()  # sandboxes that run on it know the old limit
    if not is_new and percent != old.compute_allocation:
        new.compute_allocation = old.compute_allocation
        ctx.scheduler.priority.set_allocation(canister, percent)


def merged(old: Settings, change: SettingsChange) -> Settings:
    """The settings after the change."""
    named = ("controllers", "compute_allocation", "memory_allocation", "freezing_threshold_s", "reserved_cycles_limit")
    more = ("minimum_incoming_call_cycles", "log_memory_limit", "wasm_memory_limit", "wasm_memory_threshold")
    changes = {
        name: getattr(change, name) for name in (*named, *more, "environment_variables") if getattr(change, name) is not None
    }
    for name in ("log", "snapshot", "status"):
        visibility = getattr(change, name)
        if visibility is not None:
            changes[f"{name}_visibility"], changes[f"{name}_viewers"] = visibility
    return replace(old, **changes)


def _check_capacity(ctx: SubnetContext, canister: Canister, old: Settings, new: Settings, *, is_new: bool) -> None:
    before = 0 if is_new else old.compute_allocation
    if new.compute_allocation > before:
        capacity = (ctx.limits.scheduler_cores - 1) * 100 * ALLOCATABLE_PERCENT // 100
        available = max(capacity - 1 - (ctx.scheduler.priority.total_allocation - before), 0)
        if new.compute_allocation > available:
            raise errors.compute_oversubscribed(new.compute_allocation, available)
    usage = canister.memory_usage()
    increase = max(new.memory_allocation, usage) - max(0 if is_new else old.memory_allocation, usage)
    if increase > max(ctx.available_memory(), 0):
        raise errors.memory_oversubscribed(increase, max(ctx.available_memory(), 0))


def _check_affordable(ctx: SubnetContext, canister: Canister, old: Settings, new: Settings) -> None:
    """A larger allocation needs the freezing threshold that follows from it."""
    more_compute = new.compute_allocation > old.compute_allocation
    if not more_compute and new.memory_allocation <= old.memory_allocation:
        return
    canister.settings = new
    threshold = cycles_account.freezing_threshold(canister, ctx.fees)
    canister.settings = old
    missing = threshold - canister.balance
    if missing > 0:
        if more_compute:
            raise errors.compute_not_affordable(new.compute_allocation, missing)
        raise errors.memory_not_affordable(new.memory_allocation, missing)


def _reservation(ctx: SubnetContext, canister: Canister, old: Settings, new: Settings) -> Cycles:
    """The cycles to set aside for the storage of a larger allocation, within the limit that holds from now on."""
    usage, reserved, limit = canister.memory_usage(), canister.reserved_balance, new.reserved_cycles_limit
    amount = resources.cycles_to_reserve(ctx, max(new.memory_allocation, usage) - max(old.memory_allocation, usage))
    if reserved > limit:
        raise errors.reserved_limit_too_low(reserved, limit)
    if reserved + amount > limit:
        raise errors.reserved_limit_in_allocation(new.memory_allocation, reserved + amount, limit)
    if amount > canister.balance:
        raise errors.memory_not_affordable(new.memory_allocation, amount - canister.balance)
    return amount


def _ranged(setting: str, value: int | None, most: int, allowed: str) -> int | None:
    if value is not None and value > most:
        raise errors.out_of_range(setting, allowed, value)
    return value


def _cycles(setting: str, value: int | None) -> Cycles | None:
    checked = _ranged(setting, value, (1 << 128) - 1, "[0..2^128-1]")
    return None if checked is None else Cycles(checked)


def _log_limit(value: int | None, limits: SubnetLimits) -> int | None:
    if value is not None and value < limits.default_log_bytes:
        raise errors.log_limit("low", value, f"at least {limits.default_log_bytes}")
    if value is not None and value > limits.max_log_bytes:
        raise errors.log_limit("high", value, f"at most {limits.max_log_bytes}")
    return value


def _visibility(value: Value, limits: SubnetLimits) -> Visibility | None:
    if value is None:
        return None
    ((kind, viewers),) = value.items()
    if kind != "allowed_viewers":
        return kind, ()
    if len(viewers) > limits.max_controllers:
        found = f"The number of elements exceeds maximum allowed {limits.max_controllers}"
        raise errors.invalid_payload(f"Error decoding candid: {found}, got {len(viewers)}")
    return kind, tuple(viewers)


def _environment(value: Value) -> tuple[tuple[str, str], ...] | None:
    if value is None:
        return None
    pairs = sorted((item["name"], item["value"]) for item in value)
    if len({name for name, _ in pairs}) != len(pairs):
        raise errors.invalid_payload("Duplicate environment variables are not allowed")
    if len(pairs) > MAX_ENVIRONMENT_VARIABLES:
        raise errors.invalid_payload(f"Too many environment variables: {len(pairs)} (max: {MAX_ENVIRONMENT_VARIABLES})")
    for name, content in pairs:
        if len(name.encode()) > MAX_VARIABLE_NAME:
            text = f'Environment variable name "{name}" exceeds the maximum allowed length of {MAX_VARIABLE_NAME}.'
            raise errors.invalid_payload(text)
        if len(content.encode()) > MAX_VARIABLE_VALUE:
            text = f'Environment variable value "{content}" exceeds the maximum allowed length of {MAX_VARIABLE_VALUE}.'
            raise errors.invalid_payload(text)
    return tuple(pairs)
