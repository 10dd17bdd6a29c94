"""The methods of the management canister, one row each: types, who may call it and how, whom it is about, rule and price.

Rule module. Spec: interface spec, "The IC management canister". What isn't here doesn't exist for callers. A new method is a
row here and a rule in the module of its family; `python tools/management_table.py` brings it into docs/management.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from ic_types.candid.types import Type, blob
from ic_types.candid.values import Value
from subnet.management import (
    bitcoin,
    chain_keys,
    chunks,
    code,
    cycles,
    history,
    lifecycle,
    logs,
    metadata,
    outcall_types,
    outcalls,
    randomness,
    settings,
    signatures,
    snapshot_data,
    snapshot_loading,
    snapshots,
    status,
    subnet_facts,
)
from subnet.management import candid_snapshots as snapshot_types
from subnet.management import candid_types as types
from subnet.management import chain_key_types as key_types
from subnet.management.access import Access
from subnet.management.context import ManagementCall, ManagementOutcome, QueryRule, SubnetContext
from subnet.management.installs import InstallRule

Handler: TypeAlias = Callable[[SubnetContext, ManagementCall, Value], ManagementOutcome]
Installer: TypeAlias = Callable[[SubnetContext, ManagementCall, Value], InstallRule]


class Users(Enum):
    """Whether users may call a method (as an update), beside what its `access` says of the canister that it is about."""

    YES = "yes"
    NO = "no"
    ADMINS = "subnet admins"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method."""

    argument: Type | None
    """Type of the one argument; None: none is taken."""
    result: Type | None = None
    """Type of the one result; None: there is none."""
    access: Access = Access.ANYONE
    handler: Handler | None = None
    installer: Installer | None = None
    """In place of a handler: a rule that compiles or runs code, and may take several rounds."""
    query: QueryRule | None = None
    """How it is answered as a query, if it can be."""
    effective: str | None = "canister_id"
    """Field of the argument that names the canister, or the subnet, that the call is about; None: neither."""
    signing: bool | None = None
    """The call is about a chain key, so it goes to a subnet that holds it (False) or signs with it (True)."""
    users: Users = Users.YES
    canisters: bool = True
    """Whether canisters may call it (in replicated mode)."""
    elsewhere: bool = True
    """Whether canisters of subnets other than this one and the root may."""
    heavy: bool = False
    """Waits for the next round once this round's budget for management calls is used up."""
    exclusive: bool = False
    """Waits while a message of the canister was aborted and has to start again."""
    fee: str = ""
    """What it costs whom, beside induction of a user's call and transmission of a canister's; empty: nothing."""

    @property
    def arguments(self) -> tuple[Type, ...]:
        """Types to decode the argument at."""
        return () if self.argument is None else (self.argument,)

    @property
    def results(self) -> tuple[Type, ...]:
        """Types of the results."""
        return () if self.result is None else (self.result,)

    @property
    def about_canister(self) -> bool:
        """The call is about a canister of this subnet."""
        return self.effective in ("canister_id", "target_canister")


_CONTROLLERS, _OR_SELF, _OR_ADMINS = Access.CONTROLLERS, Access.CONTROLLERS_OR_SELF, Access.CONTROLLERS_OR_ADMINS
_VIEWERS = Access.SNAPSHOT_VIEWERS

_LIFECYCLE: dict[str, Method] = {
    "create_canister": Method(
        argument=types.CREATE_CANISTER, result=types.CANISTER_ID, handler=lifecycle.create_canister, effective=None,
        users=Users.ADMINS, elsewhere=False, fee="creation fee, from the attached cycles",
    ),
    "provisional_create_canister_with_cycles": Method(
        argument=types.PROVISIONAL_CREATE, result=types.CANISTER_ID, handler=lifecycle.provisional_create_canister,
        effective=None,
    ),
    "provisional_top_up_canister": Method(argument=types.PROVISIONAL_TOP_UP, handler=cycles.provisional_top_up),
    "update_settings": Method(argument=types.UPDATE_SETTINGS, access=_CONTROLLERS, handler=settings.update_settings),
    "start_canister": Method(argument=types.CANISTER_ID, access=_OR_ADMINS, handler=lifecycle.start_canister),
    "stop_canister": Method(
        argument=types.CANISTER_ID, access=_OR_ADMINS, handler=lifecycle.stop_canister, exclusive=True
    ),
    "delete_canister": Method(
        argument=types.CANISTER_ID, access=Access.OTHERS, handler=lifecycle.delete_canister, exclusive=True,
        fee="the canister's cycles are burned",
    ),
    "deposit_cycles": Method(argument=types.CANISTER_ID, handler=cycles.deposit_cycles, users=Users.NO),
}  # fmt: skip
_CODE: dict[str, Method] = {
    "install_code": Method(
        argument=types.INSTALL_CODE, access=_CONTROLLERS, installer=code.install_code, heavy=True, exclusive=True,
        fee="execution, prepaid for the install limit",
    ),
    "install_chunked_code": Method(
        argument=types.INSTALL_CHUNKED_CODE, access=_CONTROLLERS, installer=code.install_chunked_code,
        effective="target_canister", heavy=True, exclusive=True, fee="execution, and an instruction per byte of the chunks",
    ),
    "uninstall_code": Method(argument=types.UNINSTALL_CODE, access=_OR_ADMINS, handler=code.uninstall_code),
    "upload_chunk": Method(
        argument=types.UPLOAD_CHUNK, result=types.CHUNK_HASH, access=_OR_SELF, handler=chunks.upload_chunk, heavy=True,
        fee="200 M instructions",
    ),
    "clear_chunk_store": Method(argument=types.CANISTER_ID, access=_OR_SELF, handler=chunks.clear_chunk_store),
    "stored_chunks": Method(
        argument=types.CANISTER_ID, result=types.STORED_CHUNKS, access=_OR_SELF, handler=chunks.stored_chunks
    ),
}  # fmt: skip
_KNOWLEDGE: dict[str, Method] = {
    "canister_status": Method(
        argument=types.CANISTER_ID, result=types.CANISTER_STATUS, access=Access.STATUS_VIEWERS,
        handler=status.canister_status, query=status.query_status,
    ),
    "canister_metrics": Method(
        argument=types.CANISTER_ID, result=types.CANISTER_METRICS_RESULT, access=_OR_ADMINS,
        handler=metadata.canister_metrics, query=metadata.query_metrics,
    ),
    "canister_info": Method(
        argument=types.CANISTER_INFO, result=types.CANISTER_INFO_RESULT, handler=history.canister_info, users=Users.NO
    ),
    "canister_metadata": Method(
        argument=types.CANISTER_METADATA, result=types.CANISTER_METADATA_RESULT, handler=metadata.canister_metadata,
        users=Users.NO,
    ),
    "fetch_canister_logs": Method(
        argument=types.FETCH_LOGS, result=types.FETCH_LOGS_RESULT, access=Access.LOG_VIEWERS, query=logs.query_logs,
        users=Users.NO, canisters=False,
    ),
    "list_canisters": Method(
        argument=None, result=types.LIST_CANISTERS_RESULT, access=Access.ADMINS, query=subnet_facts.query_canisters,
        effective=None, users=Users.NO, canisters=False,
    ),
    "raw_rand": Method(
        argument=None, result=blob, handler=randomness.raw_rand, effective=None, users=Users.NO, elsewhere=False
    ),
    "node_metrics_history": Method(
        argument=types.NODE_METRICS_HISTORY, result=types.NODE_METRICS_HISTORY_RESULT,
        handler=subnet_facts.node_metrics_history, effective="subnet_id", users=Users.NO,
    ),
    "subnet_info": Method(
        argument=types.SUBNET_ID, result=types.SUBNET_INFO_RESULT, handler=subnet_facts.subnet_info, effective="subnet_id",
        users=Users.NO,
    ),
}  # fmt: skip
_BYTES = "baseline of snapshots, and an instruction per byte"
_PIECES = "baseline of pieces, and an instruction per byte"
_SNAPSHOTS: dict[str, Method] = {
    "take_canister_snapshot": Method(
        argument=snapshot_types.TAKE, result=snapshot_types.SNAPSHOT, access=_CONTROLLERS, handler=snapshots.take, heavy=True,
        fee=_BYTES,
    ),
    "load_canister_snapshot": Method(
        argument=snapshot_types.LOAD, access=_CONTROLLERS, installer=snapshot_loading.load, heavy=True, exclusive=True,
        fee=f"{_BYTES}, and compilation",
    ),
    "list_canister_snapshots": Method(
        argument=types.CANISTER_ID, result=snapshot_types.LIST, access=_VIEWERS, handler=snapshots.list_snapshots
    ),
    "delete_canister_snapshot": Method(argument=snapshot_types.NAMED, access=_CONTROLLERS, handler=snapshots.delete),
    "read_canister_snapshot_metadata": Method(
        argument=snapshot_types.NAMED, result=snapshot_types.METADATA, access=_VIEWERS, handler=snapshot_data.read_metadata
    ),
    "read_canister_snapshot_data": Method(
        argument=snapshot_types.READ_DATA, result=snapshot_types.DATA, access=_VIEWERS, handler=snapshot_data.read_data,
        fee=_PIECES,
    ),
    "upload_canister_snapshot_metadata": Method(
        argument=snapshot_types.UPLOAD_METADATA, result=snapshot_types.UPLOADED, access=_CONTROLLERS,
        handler=snapshot_data.upload_metadata, fee=_BYTES,
    ),
    "upload_canister_snapshot_data": Method(
        argument=snapshot_types.UPLOAD_DATA, access=_CONTROLLERS, handler=snapshot_data.upload_data,
        fee="an instruction per byte; 1 Mi for a chunk",
    ),
}  # fmt: skip


def _key(argument: Type, result: Type, handler: Handler, *, signing: bool) -> Method:
    return Method(
        argument=argument,
        result=result,
        handler=handler,
        effective=None,
        signing=signing,
        users=Users.NO,
        fee="fee of the key, from the attached cycles" if signing else "",
    )


_KEYS: dict[str, Method] = {
    "http_request": Method(
        argument=outcall_types.HTTP_REQUEST,
        result=outcall_types.RESULT,
        handler=outcalls.http_request,
        effective=None,
        users=Users.NO,
        fee="by the bytes of request and response, from the attached cycles",
    ),
    "ecdsa_public_key": _key(
        key_types.ECDSA_PUBLIC_KEY, key_types.EXTENDED_KEY_RESULT, chain_keys.extended_public_key, signing=False
    ),
    "schnorr_public_key": _key(
        key_types.SCHNORR_PUBLIC_KEY, key_types.EXTENDED_KEY_RESULT, chain_keys.extended_public_key, signing=False
    ),
    "vetkd_public_key": _key(
        key_types.VETKD_PUBLIC_KEY, key_types.PUBLIC_KEY_RESULT, chain_keys.vetkd_public_key, signing=False
    ),
    "sign_with_ecdsa": _key(key_types.SIGN_WITH_ECDSA, key_types.SIGNATURE_RESULT, signatures.sign_with_ecdsa, signing=True),
    "sign_with_schnorr": _key(
        key_types.SIGN_WITH_SCHNORR, key_types.SIGNATURE_RESULT, signatures.sign_with_schnorr, signing=True
    ),
    "vetkd_derive_key": _key(
        key_types.VETKD_DERIVE_KEY, key_types.ENCRYPTED_KEY_RESULT, signatures.vetkd_derive_key, signing=True
    ),
    **{
        name: Method(argument=argument, handler=bitcoin.refuse, effective=None, users=Users.NO)
        for name, argument in bitcoin.ARGUMENTS.items()
    },
}

METHODS: Mapping[str, Method] = {**_LIFECYCLE, **_CODE, **_KNOWLEDGE, **_SNAPSHOTS, **_KEYS}
