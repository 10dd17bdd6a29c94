"""The methods of the management canister: types, who may call, whom they are about, and the rule.

Rule module. Spec: interface spec, "The IC management canister". What isn't here doesn't exist for callers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ic_types.candid.types import Type
from ic_types.candid.values import Value
from subnet.management import bitcoin, chain_keys, code, cycles, lifecycle, randomness, settings, signatures, status
from subnet.management import candid_types as types
from subnet.management import chain_key_types as key_types
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext
from subnet.management.installs import InstallRule

Handler: TypeAlias = Callable[[SubnetContext, ManagementCall, Value], ManagementOutcome]
Installer: TypeAlias = Callable[[SubnetContext, ManagementCall, Value], InstallRule]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method."""

    argument: Type | None
    """Type of the one argument; None: none is taken."""
    handler: Handler | None = None
    installer: Installer | None = None
    """In place of a handler: a rule that runs canister code and may take several rounds."""
    effective: str | None = "canister_id"
    """Field of the argument that names the effective canister; None: the call is about no canister that exists."""
    signing: bool | None = None
    """The call is about a chain key, so it goes to a subnet that holds it (False) or signs with it (True)."""
    users: bool = True
    canisters: bool = True

    @property
    def arguments(self) -> tuple[Type, ...]:
        """Types to decode the argument at."""
        return () if self.argument is None else (self.argument,)


def _key(argument: Type, handler: Handler, *, signing: bool) -> Method:
    return Method(argument=argument, handler=handler, effective=None, signing=signing, users=False)


METHODS: Mapping[str, Method] = {
    "create_canister": Method(argument=types.CREATE_CANISTER, handler=lifecycle.create_canister, effective=None, users=False),
    "provisional_create_canister_with_cycles": Method(
        argument=types.PROVISIONAL_CREATE, handler=lifecycle.provisional_create_canister, effective=None
    ),
    "provisional_top_up_canister": Method(argument=types.PROVISIONAL_TOP_UP, handler=cycles.provisional_top_up),
    "install_code": Method(argument=types.INSTALL_CODE, installer=code.install_code),
    "uninstall_code": Method(argument=types.UNINSTALL_CODE, handler=code.uninstall_code),
    "update_settings": Method(argument=types.UPDATE_SETTINGS, handler=settings.update_settings),
    "canister_status": Method(argument=types.CANISTER_ID, handler=status.canister_status),
    "start_canister": Method(argument=types.CANISTER_ID, handler=lifecycle.start_canister),
    "stop_canister": Method(argument=types.CANISTER_ID, handler=lifecycle.stop_canister),
    "delete_canister": Method(argument=types.CANISTER_ID, handler=lifecycle.delete_canister),
    "deposit_cycles": Method(argument=types.CANISTER_ID, handler=cycles.deposit_cycles, users=False),
    "raw_rand": Method(argument=None, handler=randomness.raw_rand, effective=None, users=False),
    "ecdsa_public_key": _key(key_types.ECDSA_PUBLIC_KEY, chain_keys.extended_public_key, signing=False),
    "schnorr_public_key": _key(key_types.SCHNORR_PUBLIC_KEY, chain_keys.extended_public_key, signing=False),
    "vetkd_public_key": _key(key_types.VETKD_PUBLIC_KEY, chain_keys.vetkd_public_key, signing=False),
    "sign_with_ecdsa": _key(key_types.SIGN_WITH_ECDSA, signatures.sign_with_ecdsa, signing=True),
    "sign_with_schnorr": _key(key_types.SIGN_WITH_SCHNORR, signatures.sign_with_schnorr, signing=True),
    "vetkd_derive_key": _key(key_types.VETKD_DERIVE_KEY, signatures.vetkd_derive_key, signing=True),
    **{
        name: Method(argument=argument, handler=bitcoin.refuse, effective=None, users=False)
        for name, argument in bitcoin.ARGUMENTS.items()
    },
}
