"""A canister's metadata: the `icp:` sections of its module; and what it has paid for.

Rule module. Spec: abstract behaviour, "IC Management Canister: Canister metadata" and "Canister metrics".
"""

from __future__ import annotations

from ic_types.candid.values import Value
from ic_types.reject import ErrorCode, reject
from scheduler.canister import Canister
from scheduler.cycles_account import BurnCause
from subnet.management import answers
from subnet.management.candid_types import CANISTER_METADATA_RESULT, CANISTER_METRICS_RESULT
from subnet.management.context import ManagementCall, ManagementOutcome, QueryView, SubnetContext
from subnet.management.errors import ManagementError

_CONSUMED = {
    "memory": (BurnCause.MEMORY, BurnCause.MESSAGE_MEMORY),
    "compute_allocation": (BurnCause.COMPUTE,),
    "ingress_induction": (BurnCause.INGRESS,),
    "instructions": (BurnCause.INSTRUCTIONS,),
    "request_and_response_transmission": (BurnCause.TRANSMISSION,),
    "uninstall": (BurnCause.UNINSTALL,),
    "canister_creation": (BurnCause.CREATION,),
    "http_outcalls": (BurnCause.HTTP_OUTCALLS,),
    "burned_cycles": (BurnCause.CYCLES_BURN,),
}
"""Fields of `cycles_consumed`, and what is counted under each."""


def canister_metadata(_ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """The content of a section; of a private one for controllers only, who alone learn that it exists.

    Raises: ManagementError (IC0406).
    """
    canister, name = call.canister, args["name"]
    if canister.execution is None:
        raise _error(f"The canister {canister.canister_id} has no Wasm module and hence no metadata is available.")
    for section in canister.execution.module.custom_sections:
        if section.name == name and (section.public or call.caller in canister.settings.controllers):
            return ManagementOutcome(
                payload=answers.reply(CANISTER_METADATA_RESULT, {"value": section.content}), refund=call.payment
            )
    raise _error(f"The canister {canister.canister_id} has no metadata section with the name {name}.")


def canister_metrics(_ctx: SubnetContext, call: ManagementCall, _args: Value) -> ManagementOutcome:
    """Cycles that the canister has paid since it was created, by what for."""
    return ManagementOutcome(payload=answers.reply(CANISTER_METRICS_RESULT, metrics_record(call.canister)), refund=call.payment)


def query_metrics(_view: QueryView, canister: Canister | None, _args: Value) -> Value:
    """The same for a query."""
    assert canister is not None
    return metrics_record(canister)


def metrics_record(canister: Canister) -> Value:
    """`canister_metrics_result`."""
    burned = canister.metrics.burned_by
    return {"cycles_consumed": {name: sum(burned.get(c.value, 0) for c in causes) for name, causes in _CONSUMED.items()}}


def _error(text: str) -> ManagementError:
    return ManagementError(reject(ErrorCode.CANISTER_REJECTED_MESSAGE, text))
