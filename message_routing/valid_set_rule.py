"""Which ingress messages of a batch may be inducted at all.

Rule module. Spec: interface spec, "Request authentication" (a request is executed at most once, never after its expiry).
"""

from __future__ import annotations

from configs.limits import SubnetLimits
from ic_types.messages import Ingress
from ic_types.reject import ErrorCode, Reject, reject
from ic_types.units import TimeNs
from message_routing.ingress_history import IngressHistory


def is_duplicate(ingress: Ingress, history: IngressHistory) -> bool:
    """The message is known already, whatever its status: it is skipped without a trace."""
    return ingress.message_id in history.statuses


def refusal(
    ingress: Ingress, history: IngressHistory, now: TimeNs, limits: SubnetLimits, *, system_subnet: bool
) -> Reject | None:
    """Why a message fails before anybody pays for it, or None."""
    if ingress.expiry < now:
        text = f"Ingress message {ingress.message_id.hex()} timed out waiting to start executing."
        return reject(ErrorCode.INGRESS_MESSAGE_TIMEOUT, text)
    if not system_subnet and len(history) >= limits.ingress_history_messages:
        text = f"Maximum queue capacity {limits.ingress_history_messages} reached for the ingress history."
        return reject(ErrorCode.INGRESS_HISTORY_FULL, text)
    return None
