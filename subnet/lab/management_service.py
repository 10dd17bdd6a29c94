"""The management canister's service, so that its methods can be called with Candid text and Python values.

Rule module. Spec: interface spec, "The IC management canister". Arguments are those of `subnet.management.methods`.
"""

from __future__ import annotations

from ic_types.candid import types as t
from ic_types.candid.did import DidFile
from subnet.lab.interface import Interface
from subnet.management import candid_types
from subnet.management.methods import METHODS

RESULTS: dict[str, tuple[t.Type, ...]] = {
    "create_canister": (candid_types.CANISTER_ID,),
    "provisional_create_canister_with_cycles": (candid_types.CANISTER_ID,),
    "canister_status": (candid_types.CANISTER_STATUS,),
    "raw_rand": (t.blob,),
}
"""Methods that answer something."""


def management_interface() -> Interface:
    """All methods that exist here."""
    methods = {name: t.func(method.arguments, RESULTS.get(name, ())) for name, method in METHODS.items()}
    return Interface(DidFile(types={}, service=t.service(methods)), "management")
