"""Every method of the management canister, called by users and by canisters here and elsewhere, with good and bad arguments.

Interface spec, "The IC management canister"; abstract behaviour, the conditions on `M.caller` and `M.arg` of each transition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from configs.limits import SubnetLimits
from ic_types.candid.encoder import encode
from ic_types.candid.types import Record, nat, record, text
from ic_types.errors import CandidError
from ic_types.messages import Ingress, Request
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.reject import ErrorCode, Reject, Reply
from ic_types.units import CallbackId, Cycles, NumInstructions, TimeNs
from scheduler.canister import Canister
from subnet.management import bitcoin
from subnet.management.access import Access
from subnet.management.destinations import induction_target
from subnet.management.dispatch import execute_management_call
from subnet.management.methods import METHODS, Users
from tests.support.management_world import OTHER, USER, ManagedSubnet, module
from tests.support.routing_world import canister_id

pytestmark = [
    pytest.mark.spec("ic-create_canister"),
    pytest.mark.spec("ic-update_settings"),
    pytest.mark.spec("ic-upload_chunk"),
    pytest.mark.spec("ic-clear_chunk_store"),
    pytest.mark.spec("ic-stored_chunks"),
    pytest.mark.spec("ic-install_code"),
    pytest.mark.spec("ic-install_chunked_code"),
    pytest.mark.spec("ic-uninstall_code"),
    pytest.mark.spec("ic-start_canister"),
    pytest.mark.spec("ic-stop_canister"),
    pytest.mark.spec("ic-canister_status"),
    pytest.mark.spec("ic-canister_metrics"),
    pytest.mark.spec("ic-delete_canister"),
    pytest.mark.spec("ic-deposit_cycles"),
    pytest.mark.spec("ic-raw_rand"),
    pytest.mark.spec("ic-canister_info"),
    pytest.mark.spec("ic-canister_metadata"),
    pytest.mark.spec("ic-node_metrics_history"),
    pytest.mark.spec("ic-subnet_info"),
    pytest.mark.spec("ic-provisional_create_canister_with_cycles"),
    pytest.mark.spec("ic-provisional_top_up_canister"),
    pytest.mark.spec("ic-take_canister_snapshot"),
    pytest.mark.spec("ic-load_canister_snapshot"),
    pytest.mark.spec("ic-list_canister_snapshots"),
    pytest.mark.spec("ic-delete_canister_snapshot"),
    pytest.mark.spec("ic-read_canister_snapshot_metadata"),
    pytest.mark.spec("ic-read_canister_snapshot_data"),
    pytest.mark.spec("ic-upload_canister_snapshot_metadata"),
    pytest.mark.spec("ic-upload_canister_snapshot_data"),
    pytest.mark.spec("ic-fetch_canister_logs"),
    pytest.mark.spec("ic-list_canisters"),
]
NEAR, FAR = canister_id(0, 900_000), canister_id(2, 5)
"""Canisters of the subnet, and of another one that isn't the root."""
CHUNK = b"a chunk"
WASM = module({"init": []}, sections=(("name", True), ("secret", False)))
ELSEWHERE_REFUSED = ErrorCode.CANISTER_CONTRACT_VIOLATION
NOT_FOR_USERS = ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE
QUERY_ONLY = ErrorCode.CANISTER_REJECTED_MESSAGE
OF_OTHER_TESTS = {name for name, method in METHODS.items() if method.signing is not None} | {"http_request", *bitcoin.ARGUMENTS}
"""Chain keys, outcalls and Bitcoin: here with bad arguments only."""


@dataclass
class Scene:
    """A subnet with a canister that all callers control."""

    subnet: ManagedSubnet = field(
        default_factory=lambda: ManagedSubnet(limits=SubnetLimits(instructions_per_install=10**9), subnet_admins=())
    )
    target: Canister = field(init=False)
    taken: bytes = b""
    uploaded: bytes = b""

    def __post_init__(self) -> None:
        self.target = self.subnet.create(controllers=[USER, NEAR, FAR])
        self.target.status = type(self.target.status).RUNNING
        where = {"canister_id": self.target.canister_id}
        assert self.subnet.install(self.target, WASM) is None
        self.target.install_debit = NumInstructions(0)
        self.subnet.user_call("upload_chunk", {**where, "chunk": CHUNK})
        self.taken = self.subnet.user_call("take_canister_snapshot", where)["id"]
        self.uploaded = self.subnet.user_call("upload_canister_snapshot_metadata", {**where, **METADATA})["snapshot_id"]

    def call(self, caller: Principal, method: str, arg: bytes, cycles: int = 0) -> tuple[Any, int]:
        """Run one call as the dispatcher does, after induction if it is a user's: the payload and the refund."""
        message = self.message(caller, method, arg, cycles)
        if isinstance(message, Ingress):
            target = induction_target(message, self.subnet.subnet_admins)
            if isinstance(target, Reject):
                return target, 0
        outcome = self.subnet.take(execute_management_call(self.subnet, message))
        return outcome.payload, outcome.refund

    def message(self, caller: Principal, method: str, arg: bytes, cycles: int) -> Ingress | Request:
        """The call as a message."""
        if caller.canister_index() is None:
            return Ingress(
                message_id=bytes(32), sender=caller, receiver=MANAGEMENT_CANISTER, method=method, arg=arg,
                expiry=TimeNs(10**15), raw_bytes=len(arg), effective_canister_id=None,
            )  # fmt: skip
        return Request(
            sender=caller,
            receiver=MANAGEMENT_CANISTER,
            callback_id=CallbackId(1),
            payment=Cycles(cycles),
            method=method,
            arg=arg,
        )


METADATA: dict[str, Any] = {
    "wasm_module_size": 10,
    "globals": [],
    "wasm_memory_size": 1 << 16,
    "stable_memory_size": 0,
    "certified_data": b"",
}
Args = Callable[[Scene], dict[str, Any] | None]


def about(**more: Any) -> Args:
    """The scene's canister, and these fields."""
    return lambda scene: {"canister_id": scene.target.canister_id, **more}


def stopped(scene: Scene) -> dict[str, Any]:
    """The canister, stopped."""
    scene.target.status = type(scene.target.status).STOPPED
    return {"canister_id": scene.target.canister_id}


INSTALL = {"mode": {"reinstall": None}, "wasm_module": WASM, "arg": b""}
CHUNKED = {"chunk_hashes_list": [], "wasm_module_hash": hashlib.sha256(b"").digest(), "arg": b"", "mode": {"reinstall": None}}
SOME = ErrorCode.CANISTER_CONTRACT_VIOLATION
OK = None
Expected = ErrorCode | None
ROWS: dict[str, tuple[Args, Expected, Expected, Expected]] = {
    "create_canister": (lambda _: {}, NOT_FOR_USERS, OK, ELSEWHERE_REFUSED),
    "provisional_create_canister_with_cycles": (lambda _: {}, OK, OK, OK),
    "provisional_top_up_canister": (about(amount=7), OK, OK, OK),
    "update_settings": (about(settings={"freezing_threshold": 5}), OK, OK, OK),
    "start_canister": (about(), OK, OK, OK),
    "stop_canister": (stopped, OK, OK, OK),
    "delete_canister": (stopped, OK, OK, OK),
    "deposit_cycles": (about(), NOT_FOR_USERS, OK, OK),
    "install_code": (about(**INSTALL), OK, OK, OK),
    "install_chunked_code": (lambda s: {**CHUNKED, **chunked(s)}, OK, OK, OK),
    "uninstall_code": (about(), OK, OK, OK),
    "upload_chunk": (about(chunk=b"another"), OK, OK, OK),
    "clear_chunk_store": (about(), OK, OK, OK),
    "stored_chunks": (about(), OK, OK, OK),
    "canister_status": (about(), OK, OK, OK),
    "canister_metrics": (about(), OK, OK, OK),
    "canister_info": (about(num_requested_changes=3), NOT_FOR_USERS, OK, OK),
    "canister_metadata": (about(name="name"), NOT_FOR_USERS, OK, OK),
    "fetch_canister_logs": (about(), NOT_FOR_USERS, QUERY_ONLY, QUERY_ONLY),
    "list_canisters": (lambda _: None, NOT_FOR_USERS, QUERY_ONLY, QUERY_ONLY),
    "raw_rand": (lambda _: None, NOT_FOR_USERS, OK, ELSEWHERE_REFUSED),
    "node_metrics_history": (
        lambda s: {"subnet_id": s.subnet.own_subnet, "start_at_timestamp_nanos": 0}, NOT_FOR_USERS, OK, OK,
    ),
    "subnet_info": (lambda s: {"subnet_id": s.subnet.own_subnet}, NOT_FOR_USERS, OK, OK),
    "take_canister_snapshot": (about(), OK, OK, OK),
    "load_canister_snapshot": (lambda s: {**about()(s), "snapshot_id": s.taken}, OK, OK, OK),
    "list_canister_snapshots": (about(), OK, OK, OK),
    "delete_canister_snapshot": (lambda s: {**about()(s), "snapshot_id": s.taken}, OK, OK, OK),
    "read_canister_snapshot_metadata": (lambda s: {**about()(s), "snapshot_id": s.taken}, OK, OK, OK),
    "read_canister_snapshot_data": (
        lambda s: {**about()(s), "snapshot_id": s.taken, "kind": {"wasm_module": {"offset": 0, "size": 4}}}, OK, OK, OK,
    ),
    "upload_canister_snapshot_metadata": (about(**METADATA), OK, OK, OK),
    "upload_canister_snapshot_data": (
        lambda s: {**about()(s), "snapshot_id": s.uploaded, "kind": {"wasm_module": {"offset": 0}}, "chunk": b"x"}, OK, OK, OK,
    ),
}  # fmt: skip
"""Method: argument, and what becomes of it for a user, for a canister of this subnet and for one of another."""
DENIED = {
    Access.CONTROLLERS: ErrorCode.CANISTER_INVALID_CONTROLLER,
    Access.CONTROLLERS_OR_SELF: ErrorCode.CANISTER_INVALID_CONTROLLER,
    Access.CONTROLLERS_OR_ADMINS: ErrorCode.CANISTER_INVALID_CONTROLLER,
    Access.OTHERS: ErrorCode.CANISTER_INVALID_CONTROLLER,
    Access.STATUS_VIEWERS: ErrorCode.CANISTER_STATUS_ACCESS_DENIED,
    Access.SNAPSHOT_VIEWERS: ErrorCode.CANISTER_REJECTED_MESSAGE,
}
"""What strangers are told."""


def chunked(scene: Scene) -> dict[str, Any]:
    """The scene's module, as one chunk."""
    where = {"canister_id": scene.target.canister_id, "chunk": WASM}
    chunk_hash = scene.subnet.user_call("upload_chunk", where)["hash"]
    return {
        "target_canister": scene.target.canister_id,
        "chunk_hashes_list": [{"hash": chunk_hash}],
        "wasm_module_hash": chunk_hash,
    }


def encoded(scene: Scene, method: str) -> bytes:
    """The row's argument."""
    value = ROWS[method][0](scene)
    return encode((), ()) if value is None else encode(METHODS[method].arguments, (value,))


def code(payload: object) -> ErrorCode | None:
    """The error code of a reject; None for a reply, or a call that stays open."""
    return payload.error_code if isinstance(payload, Reject) else None


def test_the_table_has_every_method() -> None:
    """A new method can't be forgotten."""
    assert sorted([*ROWS, *OF_OTHER_TESTS & set(METHODS)]) == sorted(METHODS)


@pytest.mark.parametrize("method", ROWS)
@pytest.mark.parametrize("caller", [USER, NEAR, FAR], ids=["user", "canister here", "canister elsewhere"])
@pytest.mark.spec("management-canister-info", condition=1)
@pytest.mark.spec("management-node-metrics-history", condition=3)
@pytest.mark.spec("management-subnet-info", condition=2)
@pytest.mark.spec("management-fetch-canister-logs", condition=3)
@pytest.mark.spec("management-list-canisters", condition=3)
def test_who_may_call(method: str, caller: Principal) -> None:
    """A user, a canister of the subnet, a canister of another: answered, or refused with the right code and all cycles back."""
    scene = Scene()
    expected = ROWS[method][1 + (USER, NEAR, FAR).index(caller)]
    cycles = 0 if caller is USER else 10**12
    payload, refund = scene.call(caller, method, encoded(scene, method), cycles)
    assert code(payload) is expected, payload
    if expected is None:
        assert isinstance(payload, Reply), payload
    kept = expected is None and method in ("create_canister", "deposit_cycles")
    assert refund == (0 if kept else cycles)


@pytest.mark.parametrize("method", [name for name in ROWS if METHODS[name].access in DENIED])
@pytest.mark.parametrize("caller", [OTHER, canister_id(0, 900_001)], ids=["user", "canister"])
def test_strangers_are_refused(method: str, caller: Principal) -> None:
    """Who doesn't control the canister gets the code of the method's rule, everything stays as it was."""
    scene = Scene()
    arg = encoded(scene, method)
    before = scene.target.version, scene.target.history, scene.target.snapshots, scene.target.chunk_store
    payload, _ = scene.call(caller, method, arg)
    assert code(payload) is DENIED[METHODS[method].access], payload
    assert before == (scene.target.version, scene.target.history, scene.target.snapshots, scene.target.chunk_store)


@pytest.mark.parametrize("method", [name for name in ROWS if METHODS[name].access is Access.CONTROLLERS_OR_SELF])
def test_the_canister_itself_may(method: str) -> None:
    """Without controlling itself."""
    scene = Scene()
    assert scene.target.canister_id not in scene.target.settings.controllers
    payload, _ = scene.call(scene.target.canister_id, method, encoded(scene, method))
    assert isinstance(payload, Reply), payload


@pytest.mark.parametrize(
    "method", [name for name in ROWS if METHODS[name].access in (Access.CONTROLLERS_OR_ADMINS, Access.STATUS_VIEWERS)]
)
def test_subnet_admins_may(method: str) -> None:
    """Where there are any; others are told of both."""
    scene = Scene()
    arg = encoded(scene, method)
    scene.subnet.subnet_admins = (OTHER,)
    assert not isinstance(scene.call(OTHER, method, arg)[0], Reject)
    scene = Scene()
    arg = encoded(scene, method)
    scene.subnet.subnet_admins = (Principal(b"\x01admin\x02"),)
    denied = ErrorCode.CANISTER_INVALID_CONTROLLER_OR_SUBNET_ADMIN
    status = METHODS[method].access is Access.STATUS_VIEWERS
    assert code(scene.call(OTHER, method, arg)[0]) is (ErrorCode.CANISTER_STATUS_ACCESS_DENIED if status else denied)


@pytest.mark.spec("management-create-canister", condition=14)
def test_subnet_admins_create_canisters_as_users() -> None:
    """And nobody else does."""
    scene = Scene()
    scene.subnet.subnet_admins = (OTHER,)
    assert METHODS["create_canister"].users is Users.ADMINS
    arg = encode(METHODS["create_canister"].arguments, ({},))
    assert isinstance(scene.call(OTHER, "create_canister", arg)[0], Reply)
    assert code(scene.call(USER, "create_canister", arg)[0]) is ErrorCode.INVALID_SUBNET_ADMIN


@pytest.mark.parametrize("method", [name for name in ROWS if METHODS[name].about_canister])
def test_a_canister_that_is_not_there(method: str) -> None:
    """IC0301, whoever asks."""
    scene = Scene()
    value = {**(ROWS[method][0](scene) or {}), METHODS[method].effective: canister_id(0, 7)}
    payload, _ = scene.call(NEAR, method, encode(METHODS[method].arguments, (value,)))
    expected = ErrorCode.CANISTER_NOT_FOUND if METHODS[method].canisters else QUERY_ONLY
    assert code(payload) is expected


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize(
    "bad", [b"", b"DIDL", b"DIDL\x00\x01\x99", b"no Candid", b"DIDL\x01\x6c\x01\x01\x7d\x01\x00"], ids=repr
)
def test_malformed_arguments(method: str, bad: bytes) -> None:
    """IC0408 with all cycles back; methods that nobody may call that way say so first."""
    scene = Scene()
    expected = ErrorCode.INVALID_MANAGEMENT_PAYLOAD if METHODS[method].canisters else QUERY_ONLY
    assert scene_code(scene, NEAR, method, bad) == (expected, 5)
    for_users = METHODS[method].users is Users.YES
    assert scene_code(scene, USER, method, bad)[0] is (expected if for_users else NOT_FOR_USERS)


def scene_code(scene: Scene, caller: Principal, method: str, arg: bytes) -> tuple[ErrorCode | None, int]:
    """Error code and refund of a call with five cycles."""
    payload, refund = scene.call(caller, method, arg, 5)
    assert isinstance(payload, Reject), payload
    return payload.error_code, refund


@pytest.mark.parametrize("method", [name for name, one in METHODS.items() if one.argument is not None and one.canisters])
def test_missing_arguments(method: str) -> None:
    """No argument at all, and a record without any of its fields: IC0408, unless every field may be left out."""
    scene = Scene()
    kind = METHODS[method].argument
    assert isinstance(kind, Record)
    assert scene_code(scene, NEAR, method, encode((), ())) == (ErrorCode.INVALID_MANAGEMENT_PAYLOAD, 5)
    try:
        encode((kind,), ({},))
        optional = True
    except CandidError:
        optional = False
    payload, _ = scene.call(NEAR, method, encode((Record(()),), ({},)), 10**12)
    if not optional:
        assert code(payload) is ErrorCode.INVALID_MANAGEMENT_PAYLOAD
        assert isinstance(payload, Reject)
        assert payload.message.startswith("Error decoding candid: ")
    else:
        assert code(payload) is not ErrorCode.INVALID_MANAGEMENT_PAYLOAD


@pytest.mark.parametrize("method", [name for name in ROWS if ROWS[name][2] is OK])
def test_superfluous_arguments(method: str) -> None:
    """A field that nobody knows, and a second argument, change nothing."""
    scene = Scene()
    value, known = ROWS[method][0](scene), METHODS[method].argument
    if value is None:
        arg = encode((text,), ("more",))
    else:
        assert isinstance(known, Record)
        more = record({**{one.label: one.type for one in known.fields}, "something else": nat})
        arg = encode((more, text), ({**value, "something else": 1}, "more"))
    payload, _ = scene.call(NEAR, method, arg, 10**12)
    assert isinstance(payload, Reply), payload
