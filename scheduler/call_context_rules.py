"""Call contexts: opening, responding, starving, removing and deleting them.

Rule module. Spec: abstract behaviour, "Call context creation", "Call context starvation", "Call context removal" and what
"IC Management Canister: Code uninstallation" does to open calls.
"""

from __future__ import annotations

from typing import Protocol

from ic_types.messages import Ingress, Request, Response
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.reject import ErrorCode, Payload, Reject, RejectCode, Reply
from ic_types.units import CallContextId, Cycles, TimeNs
from sandbox.protocol import RejectMessage, ReplyData
from scheduler import error_texts
from scheduler.canister import (
    CallContext,
    CallOrigin,
    Canister,
    CanisterOrigin,
    IngressOrigin,
    SystemOrigin,
    SystemTask,
    UserResponse,
)
from scheduler.cycles_account import CyclesTally, LossCause

Call = Ingress | Request | SystemTask
"""What opens a call context."""


class Outbox(Protocol):
    """Where answers to users and lost cycles go; a Core is one."""

    @property
    def user_responses(self) -> list[UserResponse]:
        """Outcomes for the ingress history."""

    @property
    def tally(self) -> CyclesTally:
        """Where lost cycles are counted."""


def origin_of(call: Call) -> CallOrigin:
    """Whom the call's answer goes to."""
    if type(call) is Ingress:
        return IngressOrigin(call.message_id, call.sender, call.caller_info)
    if type(call) is Request:
        return CanisterOrigin(call.sender, call.callback_id, call.deadline_s)
    assert type(call) is SystemTask
    return SystemOrigin(call.entry)


def caller_of(origin: CallOrigin) -> Principal:
    """`msg_caller` in every message of a context with this origin."""
    if type(origin) is IngressOrigin:
        return origin.sender
    return origin.caller if type(origin) is CanisterOrigin else MANAGEMENT_CANISTER


def new_context(canister: Canister, call: Call, time: TimeNs) -> CallContext:
    """The context that this call opens, with the next id; unregistered, since most calls end within their first message."""
    depth, start, payment = 0, time, 0
    if type(call) is Request:
        depth, start, payment = call.call_tree_depth, call.call_tree_start, call.payment
    return CallContext(
        context_id=CallContextId(canister.next_context_id),
        origin=origin_of(call),
        available_cycles=Cycles(payment),
        created=time,
        call_tree_depth=depth,
        call_tree_start=start,
    )


def answer_origin(canister: Canister, origin: CallOrigin, payload: Payload, refund: int, out: Outbox) -> None:
    """Send an outcome to whoever is waiting for it; cycles can't be refunded to users or system tasks."""
    if type(origin) is CanisterOrigin:
        response = Response(
            originator=origin.caller,
            respondent=canister.canister_id,
            callback_id=origin.callback_id,
            refund=Cycles(refund),
            payload=payload if type(payload) is Reply else error_texts.for_caller(payload),  # type: ignore[arg-type]
            deadline_s=origin.deadline_s,
        )
        canister.queues.push_output_response(response)
        return
    out.tally.add_lost(LossCause.INGRESS_REFUND, refund)
    if type(origin) is IngressOrigin:
        outcome = payload.data if type(payload) is Reply else payload
        out.user_responses.append(UserResponse(origin.message_id, outcome))  # type: ignore[arg-type]


def payload_of(response: ReplyData | RejectMessage) -> Payload:
    """The payload of an answer that a canister gave."""
    if type(response) is ReplyData:
        return Reply(response.data)
    assert type(response) is RejectMessage
    text = error_texts.shorten(response.message)
    return Reject(RejectCode.CANISTER_REJECT, text, ErrorCode.CANISTER_REJECTED_MESSAGE)


def respond(canister: Canister, context: CallContext, payload: Payload, out: Outbox) -> None:
    """Answer the call of this context and refund what it didn't accept.

    State after: needs_to_respond = false, available_cycles = 0.
    """
    assert not context.responded, f"context {context.context_id} of {canister.canister_id} responds twice"
    refund, context.available_cycles, context.responded = context.available_cycles, Cycles(0), True
    answer_origin(canister, context.origin, payload, refund, out)


def close_if_done(canister: Canister, context: CallContext, error: Reject | None, out: Outbox) -> None:
    """After a message of the context: answer for it if nothing is left that could, and remove or keep the context.

    Spec: "Call context starvation", #rule-starvation, and "Call context removal", #call-context-removal.
    Conditions: no outstanding calls (and no further message, since a message in a queue has a callback or no context yet).
    """
    if context.outstanding_calls:
        canister.contexts[context.context_id] = context
        return
    if not context.responded:
        if error is None:
            to_user = type(context.origin) is IngressOrigin
            error = error_texts.did_not_reply(canister.canister_id) if to_user else error_texts.NO_RESPONSE
        respond(canister, context, error, out)
    canister.contexts.pop(context.context_id, None)


def delete_all(canister: Canister, reason: Reject, out: Outbox) -> None:
    """Reject every open call because the code is gone; contexts with outstanding calls stay, deleted, until these return.

    Spec: "IC Management Canister: Code uninstallation", #rule-uninstall: deleted = true, needs_to_respond = false,
    available_cycles = 0.
    """
    for context in list(canister.contexts.values()):
        if not context.responded:
            respond(canister, context, reason, out)
        context.deleted = True


def reject_call(canister: Canister, call: Call, reason: Reject, out: Outbox) -> None:
    """Answer a call that never got a context; all attached cycles go back, and a system task just ends."""
    payment = call.payment if type(call) is Request else 0
    answer_origin(canister, origin_of(call), reason, payment, out)
