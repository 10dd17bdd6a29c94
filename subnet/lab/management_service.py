"""The management canister's service, so that its methods can be called with Candid text and Python values.

Rule module. Spec: interface spec, "The IC management canister". Types are those of `subnet.management.methods`.
"""

from __future__ import annotations

from ic_types.candid import types as t
from ic_types.candid.did import DidFile
from subnet.lab.interface import Interface
from subnet.management.methods import METHODS


def management_interface() -> Interface:
    """All methods that exist here."""
    methods = {name: t.func(method.arguments, method.results) for name, method in METHODS.items()}
    return Interface(DidFile(types={}, service=t.service(methods)), "management")
