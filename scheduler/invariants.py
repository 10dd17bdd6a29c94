"""What is true of every canister between rounds.

Rule module. Spec: abstract behaviour, the invariants listed with the IC state, as far as they concern one canister, and what
the replica holds besides. `subnet.state.invariants` checks a whole subnet with it.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator

from ic_types.messages import Request
from ic_types.units import CallContextId
from scheduler.canister import Canister, RunStatus, SystemOrigin

Broken = tuple[str, str]
"""An invariant, and what breaks it."""

METHODS = "no two methods of a module have the same name"
DELETED = "deleted call contexts await no response"
RESPONDED = "responded call contexts have no cycles left"
STOPPED = "a stopped canister has no call contexts"
STOP_CALLS = "only a stopping canister has stop calls waiting"
CONTEXTS = "an open call context awaits exactly its outstanding calls"
TASKS_HOLD_NO_CYCLES = "a system task holds no cycles"
CALLBACKS = "a callback belongs to an existing call context"
PREPAID = "what is prepaid isn't negative"
BALANCES = "no balance is negative"
LONG = "only a paused message has slices"
TASKS = "no task is left between rounds"
EMPTY = "an empty canister has neither timer nor certified data"
CERTIFIED = "certified data has at most 32 bytes"
QUEUES = "queues, slots and memory counters agree"


def broken(canister: Canister) -> Iterator[Broken]:
    """Every invariant that this canister breaks, in a fixed order; costs the size of its queues and open calls."""
    yield from _methods(canister)
    yield from _contexts(canister)
    yield from _callbacks(canister)
    yield from _long_execution(canister)
    yield from _status(canister)
    if canister.balance < 0 or canister.reserved_balance < 0:
        yield BALANCES, f"balance {canister.balance}, reserved balance {canister.reserved_balance}"
    if canister.tasks:
        yield TASKS, f"{canister.tasks}"
    if canister.execution is None and (canister.global_timer or canister.certified_data):
        yield EMPTY, f"timer {canister.global_timer}, certified data {canister.certified_data.hex()}"
    if len(canister.certified_data) > 32:
        yield CERTIFIED, f"{len(canister.certified_data)} bytes"
    yield from failed(QUEUES, canister.queues.check_invariants)


def failed(invariant: str, check: Callable[[], None]) -> Iterator[Broken]:
    """An invariant that a structure asserts of itself."""
    try:
        check()
    except AssertionError as error:
        yield invariant, str(error) or str(traceback.extract_tb(error.__traceback__)[-1].line)


def _methods(canister: Canister) -> Iterator[Broken]:
    if canister.execution is not None:
        module = canister.execution.module
        names = Counter((*module.updates, *module.queries, *module.composite_queries))
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            yield METHODS, f"methods {', '.join(twice)}"


def _contexts(canister: Canister) -> Iterator[Broken]:
    """Open contexts wait for something; responded and deleted ones hold no cycles; system tasks never hold any."""
    open_calls: Counter[CallContextId] = Counter(callback.context_id for callback in canister.callbacks.values())
    previous = 0
    for context_id, context in canister.contexts.items():
        story = f"context {context_id}, {context}"
        in_order = context.context_id == context_id and previous < context_id < canister.next_context_id
        if not in_order or not context.outstanding_calls == open_calls[context_id] > 0:
            yield CONTEXTS, f"{story}; callbacks of this context: {open_calls[context_id]}"
        if context.available_cycles < 0 or (context.available_cycles and context.responded):
            yield RESPONDED, story
        if context.deleted and not context.responded:
            yield DELETED, story
        if isinstance(context.origin, SystemOrigin) and context.available_cycles:
            yield TASKS_HOLD_NO_CYCLES, story
        previous = context_id


def _callbacks(canister: Canister) -> Iterator[Broken]:
    """Every callback belongs to an existing context and holds its prepayments."""
    for callback_id, callback in canister.callbacks.items():
        story = f"callback {callback_id}, {callback}"
        known = callback.callback_id == callback_id < canister.next_callback_id
        if not known or callback.context_id not in canister.contexts:
            yield CALLBACKS, story
        if min(callback.cycles_sent, callback.prepaid_execution, callback.prepaid_transmission) < 0:
            yield PREPAID, story


def _long_execution(canister: Canister) -> Iterator[Broken]:
    """A paused message has slices and a start; an aborted one has neither slices nor a debit."""
    long = canister.long_execution
    if long is None:
        return
    story = f"{long}"
    if long.prepaid < 0:
        yield PREPAID, story
    if long.paused:
        holds = canister.execution is not None and long.slices > 0
    else:
        holds = not any((long.slices, long.instructions, long.ingress_debit))
    if isinstance(long.message, Request):
        holds = holds and long.message.receiver == canister.canister_id
    if not holds:
        yield LONG, story


def _status(canister: Canister) -> Iterator[Broken]:
    if canister.status is RunStatus.STOPPED and canister.contexts:
        yield STOPPED, f"contexts {', '.join(map(str, canister.contexts))}"
    if canister.status is not RunStatus.STOPPING and canister.stop_calls:
        yield STOP_CALLS, f"status {canister.status.value}, stop calls {canister.stop_calls}"
