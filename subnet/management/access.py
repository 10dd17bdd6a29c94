"""Finding the canister that a call is about, and whether the caller may do this to it.

Rule module. Spec: abstract behaviour, the conditions on `M.caller` of every management method. Which rule a method has stands
in `methods`; the rules are asked of calls and of queries.
"""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from ic_types.principal import CanisterId, Principal
from scheduler.canister import Canister
from scheduler.system_tasks import update_low_memory_hook
from subnet.management import errors
from subnet.management.context import SubnetContext


class Access(Enum):
    """Who may call a method."""

    ANYONE = "anyone"
    CONTROLLERS = "controllers"
    CONTROLLERS_OR_SELF = "controllers, the canister itself"
    CONTROLLERS_OR_ADMINS = "controllers, subnet admins"
    OTHERS = "controllers but not the canister itself, subnet admins"
    STATUS_VIEWERS = "as status_visibility says; the canister itself, subnet admins"
    SNAPSHOT_VIEWERS = "as snapshot_visibility says"
    LOG_VIEWERS = "as log_visibility says"
    ADMINS = "subnet admins"


def find(ctx: SubnetContext, canister_id: CanisterId) -> Canister:
    """The canister, with its charges up to date.

    Raises: ManagementError (IC0301) when it isn't on this subnet.
    """
    canister = ctx.canisters.get(canister_id)
    if canister is None:
        raise errors.canister_not_found(canister_id)
    ctx.scheduler.charges.settle(ctx, canister)
    return canister


def check(access: Access, canister: Canister, caller: Principal, admins: tuple[Principal, ...], method: str) -> None:
    """Whether the caller may call a method with this rule about this canister.

    Raises: ManagementError (IC0406, IC0512, IC0541, IC0542).
    """
    settings = canister.settings
    if access is Access.CONTROLLERS_OR_SELF and caller == canister.canister_id:
        return
    match access:
        case Access.ANYONE:
            return
        case Access.CONTROLLERS | Access.CONTROLLERS_OR_SELF:
            if caller not in settings.controllers:
                raise errors.not_controller(canister, caller)
        case Access.CONTROLLERS_OR_ADMINS | Access.OTHERS:
            if access is Access.OTHERS and caller == canister.canister_id:
                raise errors.delete_self(canister.canister_id)
            if caller not in settings.controllers and caller not in admins:
                raise errors.not_controller_or_admin(canister, caller, admins)
        case Access.STATUS_VIEWERS:
            known = caller == canister.canister_id or caller in admins
            if not known and not _sees(canister, caller, settings.status_visibility, settings.status_viewers):
                raise errors.status_hidden(caller)
        case Access.SNAPSHOT_VIEWERS:
            if not _sees(canister, caller, settings.snapshot_visibility, settings.snapshot_viewers):
                raise errors.snapshots_hidden(caller, method)
        case Access.LOG_VIEWERS:
            if not _sees(canister, caller, settings.log_visibility, settings.log_viewers):
                raise errors.logs_hidden(caller)
        case Access.ADMINS:
            check_admin(caller, admins, method)
        case _:
            assert_never(access)


def check_admin(caller: Principal, admins: tuple[Principal, ...], method: str) -> None:
    """Whether the caller is a subnet admin.

    Raises: ManagementError (IC0406, IC0410).
    """
    if not admins:
        raise errors.no_admins(method)
    if caller not in admins:
        raise errors.not_admin(caller, admins)


def _sees(canister: Canister, caller: Principal, visibility: str, viewers: tuple[Principal, ...]) -> bool:
    if visibility == "public" or caller in canister.settings.controllers:
        return True
    return visibility == "allowed_viewers" and caller in viewers


def changed(ctx: SubnetContext, canister: Canister) -> None:
    """State and scheduler learn that something about the canister changed, its low-memory hook included.

    Spec: "Scheduling on low wasm memory hook", which follows every call of the management canister.
    """
    update_low_memory_hook(canister)
    ctx.touch(canister.canister_id)
    ctx.scheduler.note(canister)
