"""Answers of the management canister: to users through the ingress history, to canisters through its output queues.

Rule module. Spec: abstract behaviour, the ResponseMessages of the management canister's transitions.
"""

from __future__ import annotations

from ic_types.candid.encoder import encode
from ic_types.candid.types import Type
from ic_types.candid.values import Value
from ic_types.messages import Ingress, Request, Response
from ic_types.principal import CanisterId
from ic_types.reject import Payload, Reject, Reply
from ic_types.units import Cycles
from scheduler.call_context_rules import origin_of
from scheduler.canister import CallOrigin, CanisterOrigin, IngressOrigin, UserResponse
from scheduler.cycles_account import LossCause
from subnet.management.context import ManagementOutcome, SubnetContext

EMPTY_REPLY = Reply(encode((), ()))


def reply(kind: Type, value: Value) -> Reply:
    """A reply with one Candid value."""
    return Reply(encode((kind,), (value,)))


def answer_origin(ctx: SubnetContext, origin: CallOrigin, respondent: CanisterId, payload: Payload, refund: Cycles) -> None:
    """Send an outcome to whoever called; `respondent`: the name under which they called."""
    if isinstance(origin, CanisterOrigin):
        response = Response(
            originator=origin.caller,
            respondent=respondent,
            callback_id=origin.callback_id,
            refund=refund,
            payload=payload,
            deadline_s=origin.deadline_s,
        )
        ctx.management_queues.push_output_response(response)
        return
    ctx.tally.add_lost(LossCause.INGRESS_REFUND, refund)
    if isinstance(origin, IngressOrigin):
        ctx.user_responses.append(UserResponse(origin.message_id, payload if isinstance(payload, Reject) else payload.data))


def answer(ctx: SubnetContext, message: Ingress | Request, outcome: ManagementOutcome) -> None:
    """Answer a call, unless it stays open."""
    if outcome.payload is not None:
        answer_origin(ctx, origin_of(message), message.receiver, outcome.payload, outcome.refund)
    elif isinstance(message, Ingress):
        ctx.mark_processing(message.message_id)
