"""Finding the canister that a call is about, and whether the caller may do this to it.

Rule module. Spec: abstract behaviour, the conditions on `M.caller` of every management method.
"""

from __future__ import annotations

from ic_types.principal import CanisterId
from scheduler.canister import Canister
from scheduler.system_tasks import update_low_memory_hook
from subnet.management import errors
from subnet.management.context import ManagementCall, SubnetContext


def find(ctx: SubnetContext, canister_id: CanisterId) -> Canister:
    """The canister.

    Raises: ManagementError (IC0301) when it isn't on this subnet.
    """
    canister = ctx.canisters.get(canister_id)
    if canister is None:
        raise errors.canister_not_found(canister_id)
    ctx.scheduler.charges.settle(ctx, canister)
    return canister


def controlled(ctx: SubnetContext, call: ManagementCall, canister_id: CanisterId) -> Canister:
    """The canister, if the caller is one of its controllers.

    Raises: ManagementError (IC0301, IC0512).
    """
    canister = find(ctx, canister_id)
    if call.caller not in canister.settings.controllers:
        raise errors.not_controller(canister, call.caller)
    return canister


def status_visible(ctx: SubnetContext, call: ManagementCall, canister_id: CanisterId) -> Canister:
    """The canister, if its `status_visibility` lets the caller see its status; controllers and the canister itself always may.

    Raises: ManagementError (IC0301, IC0512).
    """
    canister = find(ctx, canister_id)
    settings = canister.settings
    seen = settings.status_visibility == "public" or call.caller == canister_id
    if not seen and call.caller not in settings.controllers and call.caller not in settings.status_viewers:
        raise errors.not_controller(canister, call.caller)
    return canister


def changed(ctx: SubnetContext, canister: Canister) -> None:
    """State and scheduler learn that something about the canister changed, its low-memory hook included.

    Spec: "Scheduling on low wasm memory hook", which follows every call of the management canister.
    """
    update_low_memory_hook(canister)
    ctx.touch(canister.canister_id)
    ctx.scheduler.note(canister)
