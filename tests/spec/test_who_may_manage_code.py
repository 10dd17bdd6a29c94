"""Who may change a canister's code, chunks and snapshots: its controllers, sometimes the canister itself or subnet admins.

Abstract behaviour, the conditions on `M.caller` of the transitions named by the markers.
"""

from __future__ import annotations

import pytest

from ic_types.principal import Principal
from ic_types.reject import ErrorCode
from tests.spec.test_every_management_method import Scene, code, encoded
from tests.support.management_world import OTHER, USER

ADMIN = Principal(b"\x01admin\x02")
DENIED, DENIED_WITH_ADMINS = ErrorCode.CANISTER_INVALID_CONTROLLER, ErrorCode.CANISTER_INVALID_CONTROLLER_OR_SUBNET_ADMIN
OTHERS = {
    "install_code": (),
    "install_chunked_code": (),
    "uninstall_code": ("admin",),
    "upload_chunk": ("self",),
    "clear_chunk_store": ("self",),
    "stored_chunks": ("self",),
    "take_canister_snapshot": (),
    "load_canister_snapshot": (),
    "upload_canister_snapshot_metadata": (),
    "upload_canister_snapshot_data": (),
    "delete_canister_snapshot": (),
}
"""Method: who may call it beside controllers."""


@pytest.mark.spec("management-install-code", condition=1)
@pytest.mark.spec("management-upgrade-code", condition=1)
@pytest.mark.spec("management-install-chunked-code", condition=1)
@pytest.mark.spec("rule-uninstall", condition=1)
@pytest.mark.spec("management-upload-chunk", condition=1)
@pytest.mark.spec("management-clear-chunk-store", condition=1)
@pytest.mark.spec("management-stored-chunks", condition=1)
@pytest.mark.spec("management-take-snapshot", condition=5)
@pytest.mark.spec("management-load-snapshot", condition=5)
@pytest.mark.spec("management-upload-snapshot-metadata", condition=1)
@pytest.mark.spec("management-upload-snapshot-data", condition=1)
@pytest.mark.spec("management-delete-snapshot", condition=1)
@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("who", ["controller", "stranger", "self", "admin"])
def test_who_may_manage_code(method: str, who: str) -> None:
    """Everybody else gets the code of the method's rule, and the canister stays as it was."""
    scene = Scene()
    scene.subnet.subnet_admins = (ADMIN,)
    target = scene.target
    caller = {"controller": USER, "stranger": OTHER, "self": target.canister_id, "admin": ADMIN}[who]
    arg = encoded(scene, method)
    before = target.version, target.execution, target.history, target.chunk_store, target.snapshots
    denied = DENIED_WITH_ADMINS if method == "uninstall_code" else DENIED
    allowed = who == "controller" or who in OTHERS[method]
    payload, _ = scene.call(caller, method, arg)
    assert code(payload) is (None if allowed else denied), payload
    if not allowed:
        assert before == (target.version, target.execution, target.history, target.chunk_store, target.snapshots)
