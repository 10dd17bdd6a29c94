"""Recording changes of a canister, and telling of them.

Rule module. Spec: abstract behaviour, "IC Management Canister: Canister information"; interface spec, "IC method
canister_info".
"""

from __future__ import annotations

from ic_types.candid.values import Value
from scheduler.canister import Canister
from scheduler.canister_history import (
    Change,
    ChangeDetails,
    ChangeOrigin,
    CodeDeployment,
    CodeUninstall,
    ControllersChange,
    Creation,
    LoadSnapshot,
    RenameCanister,
    origin_of,
)
from subnet.management import answers
from subnet.management.candid_types import CANISTER_INFO_RESULT
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext


def record(ctx: SubnetContext, call: ManagementCall, canister: Canister, sender: int | None, what: ChangeDetails) -> None:
    """Add a change to the canister's history; `canister.version` is already the one after it, `sender` that of the caller."""
    change = Change(ctx.time, canister.version, origin_of(call.message, sender), what)
    canister.history = canister.history.added(change, ctx.limits.canister_history_entries)


def canister_info(_ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """The newest changes that are asked for, module hash and controllers; for every canister."""
    canister, wanted = call.canister, args["num_requested_changes"]
    info = {
        "total_num_changes": canister.history.total,
        "recent_changes": [change_record(change) for change in canister.history.recent(wanted or 0)],
        "module_hash": None if canister.execution is None else canister.execution.module.module_hash,
        "controllers": list(canister.settings.controllers),
    }
    return ManagementOutcome(payload=answers.reply(CANISTER_INFO_RESULT, info), refund=call.payment)


def change_record(change: Change) -> Value:
    """`change` of the service description."""
    return {
        "timestamp_nanos": change.time,
        "canister_version": change.version,
        "origin": _origin(change.origin),
        "details": _details(change.details),
    }


def _origin(origin: ChangeOrigin) -> Value:
    if origin.by_canister:
        return {"from_canister": {"canister_id": origin.principal, "canister_version": origin.version}}
    return {"from_user": {"user_id": origin.principal}}


def _details(what: ChangeDetails) -> Value:
    match what:
        case Creation():
            made = {"controllers": list(what.controllers), "environment_variables_hash": what.environment_hash}
            return {"creation": made}
        case CodeUninstall():
            return {"code_uninstall": None}
        case CodeDeployment():
            return {"code_deployment": {"mode": {what.mode: None}, "module_hash": what.module_hash}}
        case LoadSnapshot():
            source = {"metadata_upload" if what.uploaded else "taken_from_canister": None}
            return {
                "load_snapshot": {
                    "from_canister_id": what.from_canister,
                    "snapshot_id": what.snapshot_id,
                    "canister_version": what.canister_version,
                    "taken_at_timestamp": what.taken_at,
                    "source": source,
                }
            }
        case ControllersChange():
            return {"controllers_change": {"controllers": list(what.controllers)}}
        case RenameCanister():
            return {"rename_canister": _renamed(what)}


def _renamed(what: RenameCanister) -> Value:
    to = {"canister_id": what.rename_to, "version": what.to_version, "total_num_changes": what.to_total_num_changes}
    return {
        "canister_id": what.canister_id,
        "total_num_changes": what.total_num_changes,
        "rename_to": to,
        "requested_by": what.requested_by,
    }
