"""Applying what a message did to its canister: memory, balance, calls, certified data, timer, logs.

Rule module. Spec: abstract behaviour, "Message execution", the `State after` of a returning function; the other branch (a trap)
leaves everything but cycles, instructions and logs as it was.
"""

from __future__ import annotations

from typing import NamedTuple

from configs.limits import request_memory
from ic_types.messages import Request
from ic_types.principal import Principal
from ic_types.reject import Reject
from ic_types.units import NS_PER_SECOND, OS_PAGE_BYTES, WASM_PAGE_BYTES, CallbackId, Cycles, NumBytes, TimeNs
from message_routing.local_reject import reject_response
from message_routing.message_size import payload_bytes
from sandbox.protocol import EntryPoint, Finished, OutgoingCall, Trapped
from scheduler import call_context_rules, cycles_account, error_texts, sender_version
from scheduler.canister import Callback, CallContext, Canister
from scheduler.core import Core
from scheduler.cycles_account import BurnCause
from scheduler.system_tasks import update_low_memory_hook


class Outcome(NamedTuple):
    """What is left to know of a message after its answer was applied."""

    instructions: int
    """Executed in the whole message, dirty heap pages included, at most the limit."""
    error: Reject | None


def page_charge(core: Core, canister: Canister, dirty_pages: int) -> int:
    """Instructions for heap pages whose content changed."""
    factor = core.limits.wasm64_dirty_page_multiplier if cycles_account.is_wasm64(canister) else 1
    return dirty_pages * core.limits.dirty_page_overhead * factor


def finish(
    core: Core,
    canister: Canister,
    context: CallContext,
    answer: Finished | Trapped,
    *,
    entry: EntryPoint,
    limit: int,
    threshold: int,
    time: TimeNs,
) -> Outcome:
    """Apply the answer of a message that ended; a trap or an overdraft changes nothing but logs and counters.

    `limit`: instruction limit of this execution. `threshold`: what the withdrawals of the message must leave in the balance.
    """
    caller = call_context_rules.caller_of(context.origin)
    reserved = storage_reservation(core, canister, answer, entry)
    error, pages = failure(core, canister, answer, threshold, caller, reserved), 0
    version = canister.version
    if error is None:
        assert type(answer) is Finished
        if entry is not EntryPoint.QUERY:
            pages = keep_changes(core, canister, context, answer, time)
        take_cycles(core, canister, context, answer, version)
        if reserved:
            canister.balance = Cycles(canister.balance - reserved)
            canister.reserved_balance = Cycles(canister.reserved_balance + reserved)
        if answer.response is not None:
            call_context_rules.respond(canister, context, call_context_rules.payload_of(answer.response), core)
    elif canister.execution is not None and entry is not EntryPoint.QUERY:
        pages = canister.execution.heap.count_changed(answer.heap.indices, answer.heap.content)
    if answer.logs:
        canister.logs.add(answer.logs, time, canister.settings.log_memory_limit, answer.lines_dropped)
    charge = page_charge(core, canister, pages) if pages else 0
    core.spend(answer.slice_instructions + charge)
    return Outcome(min(answer.instructions + charge, limit), error)


def growth(canister: Canister, answer: Finished) -> int:
    """Bytes of heap and stable memory that the message takes from the subnet: those within the allocation were taken before."""
    execution, allocation = canister.execution, canister.settings.memory_allocation
    assert execution is not None
    pages = answer.heap_pages + answer.stable_pages - execution.heap.wasm_pages - execution.stable.wasm_pages
    if pages <= 0:
        return 0
    before = canister.memory_usage()
    return max(before + pages * WASM_PAGE_BYTES, allocation) - max(before, allocation)


def storage_reservation(core: Core, canister: Canister, answer: Finished | Trapped, entry: EntryPoint) -> int:
    """Cycles to set aside for the message's growth on a subnet that fills up. Spec: `cycles_to_reserve`."""
    if type(answer) is not Finished or entry is EntryPoint.QUERY:
        return 0
    grown, limits = growth(canister, answer), core.limits
    if not grown:
        return 0
    threshold, capacity = limits.subnet_memory_threshold // limits.scheduler_cores, limits.subnet_memory_capacity
    return core.fees.storage_reservation(grown, core.memory_usage, threshold, capacity // limits.scheduler_cores)


def failure(
    core: Core, canister: Canister, answer: Finished | Trapped, threshold: int, caller: Principal, reserved: int
) -> Reject | None:
    """Why the message fails: it trapped, or (only when sliced) takes or reserves more cycles than it may now."""
    if type(answer) is Trapped:
        return error_texts.canister_error(canister.canister_id, answer.error_code, answer.message)
    assert type(answer) is Finished
    if not (answer.calls or answer.cycles_burned or reserved or threshold):
        return None
    total, limit = canister.reserved_balance + reserved, canister.settings.reserved_cycles_limit
    if reserved and total > limit:
        return error_texts.over_reserved_limit(canister.canister_id, growth(canister, answer), total, limit)
    wasm64 = cycles_account.is_wasm64(canister)
    removed = reserved + answer.cycles_burned - answer.cycles_accepted
    for call in answer.calls:
        removed += call.cycles + sum(cycles_account.call_cost(core, len(call.method.encode()) + len(call.arg), wasm64=wasm64))
    if canister.balance < max(removed, 0) + threshold:
        return cycles_account.out_of_cycles(canister, max(removed, 0), threshold, caller)
    return None


def keep_changes(core: Core, canister: Canister, context: CallContext, answer: Finished, time: TimeNs) -> int:
    """Commit memory and globals, version, certified data, timer and calls; returns the number of changed heap pages."""
    execution = canister.execution
    assert execution is not None
    before, grown = execution.heap.wasm_pages, growth(canister, answer)
    heap_pages, _ = execution.commit(answer)
    core.memory_available -= grown
    core.memory_usage += grown
    if answer.heap_pages > before:
        update_low_memory_hook(canister)
    delta = (heap_pages + answer.stable_dirty_marks) * OS_PAGE_BYTES
    core.heap_delta += delta
    canister.heap_delta_debit = NumBytes(canister.heap_delta_debit + delta)
    canister.version += 1
    if answer.certified_data is not None:
        canister.certified_data = answer.certified_data
    if answer.global_timer is not None:
        canister.global_timer = TimeNs(answer.global_timer)
    return heap_pages


def take_cycles(core: Core, canister: Canister, context: CallContext, answer: Finished, version: int) -> None:
    """Move accepted, burned and attached cycles, and send the calls; `version`: that of the canister before the message."""
    if answer.cycles_accepted:
        assert 0 <= answer.cycles_accepted <= context.available_cycles, f"{canister.canister_id} accepts what isn't there"
        context.available_cycles = Cycles(context.available_cycles - answer.cycles_accepted)
        canister.balance = Cycles(canister.balance + answer.cycles_accepted)
    if answer.cycles_burned:
        canister.balance = Cycles(canister.balance - answer.cycles_burned)
        cycles_account.burn(core, canister, answer.cycles_burned, BurnCause.CYCLES_BURN)
    for call in answer.calls:
        send_call(core, canister, context, call, version)


def send_call(core: Core, canister: Canister, context: CallContext, call: OutgoingCall, version: int) -> None:
    """Register the callback, pay, and queue the request.

    Spec: "Message execution", the new CallMessages; the price includes both prepayments, which stay with the callback.
    """
    callback_id = CallbackId(canister.next_callback_id)
    deadline_s = 0
    if call.timeout_s is not None:
        timeout = min(call.timeout_s, core.limits.best_effort_timeout_max_s)
        deadline_s = (core.time + timeout * NS_PER_SECOND) // NS_PER_SECOND
    request = Request(
        sender=canister.canister_id,
        receiver=Principal(call.callee),
        callback_id=callback_id,
        payment=Cycles(call.cycles),
        method=call.method,
        arg=call.arg,
        deadline_s=deadline_s,
        call_tree_depth=context.call_tree_depth + 1,
        call_tree_start=context.call_tree_start,
    )
    wasm64 = cycles_account.is_wasm64(canister)
    cost = cycles_account.call_cost(core, payload_bytes(request), wasm64=wasm64)
    refused = sender_version.refusal(request, version)
    if refused is not None:
        canister.queues.push_refused_request(reject_response(request, refused))
    else:
        sent = canister.queues.push_output_request(request, core.time)
        assert sent, f"{canister.canister_id} calls {request.receiver} without a free slot"
    canister.balance = Cycles(canister.balance - call.cycles - sum(cost))
    cycles_account.burn(core, canister, cost.transmission, BurnCause.TRANSMISSION)
    canister.next_callback_id += 1
    canister.callbacks[callback_id] = Callback(
        callback_id=callback_id,
        context_id=context.context_id,
        callee=request.receiver,
        on_reply=call.on_reply,
        on_reject=call.on_reject,
        on_cleanup=call.on_cleanup,
        cycles_sent=request.payment,
        prepaid_execution=Cycles(cost.prepaid_execution),
        prepaid_transmission=Cycles(cost.prepaid_transmission),
        wasm64=wasm64,
        deadline_s=deadline_s,
    )
    context.outstanding_calls += 1
    core.callbacks_created += 1
    if not deadline_s:
        core.message_memory_available -= request_memory(payload_bytes(request), best_effort=False)
