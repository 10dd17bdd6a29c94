"""What is true of every canister between rounds.

Rule module. Spec: abstract behaviour, the invariants listed with the IC state (call contexts, callbacks, balances).
"""

from __future__ import annotations

from collections import Counter

from ic_types.messages import Request
from ic_types.units import CallContextId
from scheduler.canister import Canister, RunStatus, SystemOrigin


def check_invariants(canister: Canister) -> None:
    """Raises: AssertionError with the canister and the broken rule."""
    _check_contexts(canister)
    _check_callbacks(canister)
    _check_long_execution(canister)
    assert canister.balance >= 0, _story(canister, f"balance {canister.balance}")
    assert canister.reserved_balance >= 0, _story(canister, f"reserved balance {canister.reserved_balance}")
    assert not canister.tasks, _story(canister, "tasks are left between rounds")
    if canister.execution is None:
        assert canister.global_timer == 0, _story(canister, "an empty canister has a timer")
        assert canister.certified_data == b"", _story(canister, "an empty canister has certified data")
    assert len(canister.certified_data) <= 32, _story(canister, "certified data is too long")
    if canister.status is RunStatus.STOPPED:
        assert not canister.contexts, _story(canister, "a stopped canister has open call contexts")
    if canister.status is not RunStatus.STOPPING:
        assert not canister.stop_calls, _story(canister, "stop calls wait though the canister isn't stopping")


def _check_contexts(canister: Canister) -> None:
    """Open contexts wait for something; responded and deleted ones hold no cycles; system tasks never hold any."""
    open_calls: Counter[CallContextId] = Counter(callback.context_id for callback in canister.callbacks.values())
    previous = 0
    for context_id, context in canister.contexts.items():
        story = _story(canister, f"context {context_id} {context}")
        assert context.context_id == context_id, story
        assert previous < context_id < canister.next_context_id, story
        assert context.outstanding_calls == open_calls[context_id] > 0, story
        assert context.available_cycles == 0 or not context.responded, story
        assert context.responded or not context.deleted, story
        assert not (isinstance(context.origin, SystemOrigin) and context.available_cycles), story
        previous = context_id


def _check_callbacks(canister: Canister) -> None:
    """Every callback belongs to an existing context and holds its prepayments."""
    for callback_id, callback in canister.callbacks.items():
        story = _story(canister, f"callback {callback_id} {callback}")
        assert callback.callback_id == callback_id < canister.next_callback_id, story
        assert callback.context_id in canister.contexts, story
        assert min(callback.cycles_sent, callback.prepaid_execution, callback.prepaid_transmission) >= 0, story


def _check_long_execution(canister: Canister) -> None:
    """A paused message has slices and a start; an aborted one has neither slices nor a debit."""
    long = canister.long_execution
    if long is None:
        return
    story = _story(canister, f"long execution {long}")
    assert long.prepaid >= 0, story
    if long.paused:
        assert canister.execution is not None, story
        assert long.slices > 0, story
    else:
        assert not any((long.slices, long.instructions, long.ingress_debit)), story
    if isinstance(long.message, Request):
        assert long.message.receiver == canister.canister_id, story


def _story(canister: Canister, what: str) -> str:
    return f"canister {canister.canister_id}, version {canister.version}: {what}"
