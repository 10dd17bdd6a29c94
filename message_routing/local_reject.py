"""Rejects that a subnet makes itself for requests of its own canisters.

Rule module. Spec: abstract behaviour, "Call rejection by the system"; texts are cut as the replica does: at 8 KiB those of
calls to the management canister, which are refused when they are made, others at 255 bytes.
"""

from __future__ import annotations

from typing import Final

from ic_types.messages import Request, Response
from ic_types.principal import MANAGEMENT_CANISTER
from ic_types.reject import Reject
from message_routing.queues import CanisterQueues

MAX_TEXT_BYTES: Final = 255
MAX_MANAGEMENT_TEXT_BYTES: Final = 8192


def reject_response(request: Request, why: Reject) -> Response:
    """The response that gives all cycles back and says why."""
    text = why.message
    most = MAX_MANAGEMENT_TEXT_BYTES if request.receiver == MANAGEMENT_CANISTER else MAX_TEXT_BYTES
    if len(text.encode()) > most:
        text = text.encode()[: most - 3].decode(errors="ignore") + "..."
    return Response(
        originator=request.sender,
        respondent=request.receiver,
        callback_id=request.callback_id,
        refund=request.payment,
        payload=Reject(why.code, text, why.error_code),
        deadline_s=request.deadline_s,
    )


def push_local_reject(queues: CanisterQueues, request: Request, why: Reject, *, local: bool) -> tuple[int, Response] | None:
    """Answer a request of the queues' owner; `local`: the callee is on this subnet.

    Returns: sequence number and answer, or None if a response is queued already.
    """
    answer = reject_response(request, why)
    sequence = queues.push_input_response(answer, local)
    return None if sequence is None else (sequence, answer)
