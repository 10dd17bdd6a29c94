"""What the migration orchestrator checks before a canister gets the id of another one.

Rule module. Spec: abstract behaviour, "Canister renaming". Nothing may happen on the network between the look at both canisters
and the round that renames: so it is when time passes by calls of one script.
"""

from __future__ import annotations

from typing import Any

from ic_types.canister_rename import CanisterRename
from ic_types.errors import BadInput
from ic_types.principal import CanisterId, Principal
from ic_types.reject import ErrorCode, reject
from subnet.lab.calls import Caller, CallRejected, Who

ORCHESTRATOR = Principal.from_text("sbzkb-zqaaa-aaaaa-aaaiq-cai")
"""The canister migration orchestrator of the mainnet."""


def rename(caller: Caller, canister_id: CanisterId, new_id: CanisterId, who: Who) -> CanisterRename:
    """The change to put into a round.

    Raises: CallRejected with the replica's codes; BadInput for two canisters of one subnet, or none.
    """
    subnet, former = caller.subnet_of(canister_id), caller.subnet_of(new_id)
    if subnet.subnet_id == former.subnet_id:
        raise BadInput(
            f"canisters {canister_id} and {new_id} are both on subnet {subnet.name}; the new id is one of another subnet"
        )
    rows = {one["id"]: one for record in (subnet, former) for one in caller.canister_rows(record)}
    for wanted in (canister_id, new_id):
        if wanted not in rows:
            raise refused(ErrorCode.CANISTER_NOT_FOUND, f"Canister {wanted} not found.")
    old, new = rows[canister_id], rows[new_id]
    requester = caller.identity(who).principal
    check(old, new, requester)
    return CanisterRename(
        canister_id=canister_id,
        new_canister_id=new_id,
        host=subnet.subnet_id,
        version=new["version"],
        total_num_changes=new["changes"],
        orchestrator=ORCHESTRATOR,
        orchestrator_version=0,
        requested_by=requester,
    )


def check(old: dict[str, Any], new: dict[str, Any], requester: Principal) -> None:
    """The conditions on what nodes tell of both canisters.

    Raises: CallRejected (IC0406, IC0510, IC0513, IC0514).
    """
    for row in (old, new):
        if requester not in row["controllers"] or ORCHESTRATOR not in row["controllers"]:
            raise refused(ErrorCode.CANISTER_REJECTED_MESSAGE, "The caller is not authorized to call this method.")
    for row in (old, new):
        if row["status"] != "stopped":
            raise refused(ErrorCode.CANISTER_NOT_STOPPED, f"Canister {row['id']} must be stopped before it is renamed.")
    for row in (old, new):
        if row["messages_queued"] or row["open_calls"] or row["open_contexts"]:
            raise refused(
                ErrorCode.CANISTER_QUEUE_NOT_EMPTY, f"Canister {row['id']} has messages in its queues and cannot be renamed."
            )
    if old["snapshots"]:
        raise refused(ErrorCode.CANISTER_NON_EMPTY, f"Canister {old['id']} must not have any snapshots before it is renamed.")


def refused(code: ErrorCode, text: str) -> CallRejected:
    """A reject as the orchestrator would get it."""
    why = reject(code, text)
    return CallRejected(why.code, why.message, f"IC{int(code):04}", what="renaming")
