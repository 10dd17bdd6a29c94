"""Arguments of the management canister that are made to cost a node time: the work they cause has a bound of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from ic_types.candid import types as t
from ic_types.candid.encoder import encode
from ic_types.candid.skipping import MANAGEMENT_VALUES
from ic_types.errors import CandidError
from ic_types.leb128 import encode_nat
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.reject import Reject
from scheduler import sender_version
from subnet.management import candid_types as types
from subnet.management.destinations import effective_id, induction_target
from subnet.management.methods import METHODS
from tests.support.routing_world import ingress, request

CANISTER = Principal.canister(3)
COUNT = 300_000
STEPS_PER_VALUE = 12
"""Calls of functions, those in C included, that one value may take."""


def surplus(element: t.Type, value: Any, count: int = COUNT) -> bytes:
    """An argument that names a canister, and holds a list that nobody asked for."""
    kind = t.record({"canister_id": t.principal, "surplus": t.Vec(element)})
    return encode([kind], [{"canister_id": CANISTER, "surplus": [value] * count}])


def wide_head() -> bytes:
    """A record type of many fields, and no argument."""
    fields = b"".join(encode_nat(number) + b"\x7f" for number in range(COUNT))
    return b"DIDL\x01\x6c" + encode_nat(COUNT) + fields + b"\0"


HOSTILE = {
    "principals": surplus(t.principal, Principal(b"")),
    "numbers": surplus(t.nat, 5),
    "texts": surplus(t.text, ""),
    "bools": surplus(t.bool_, True),
    "options": surplus(t.Opt(t.nat8), None),
    "records": surplus(t.record({"a": t.nat8}), {"a": 1}),
    "type table": wide_head(),
}


def steps(act: Callable[[], object]) -> int:
    """How many functions were called."""
    count = 0

    def see(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arguments_cost_little(name: str) -> None:
    """Far fewer steps than the argument has values, wherever it is looked at first; it names no canister."""
    arg = HOSTILE[name]
    assert len(arg) > COUNT

    def look() -> None:
        with pytest.raises(CandidError, match="than are allowed"):
            effective_id(METHODS["start_canister"], arg)

    assert steps(look) < STEPS_PER_VALUE * MANAGEMENT_VALUES < COUNT
    call = ingress(1, MANAGEMENT_CANISTER, method="start_canister", arg=arg)
    refused = induction_target(call)
    assert isinstance(refused, Reject)
    sent = request(CANISTER, MANAGEMENT_CANISTER, 1, method="update_settings", arg=arg)
    assert steps(lambda: sender_version.refusal(sent, 1)) < STEPS_PER_VALUE * MANAGEMENT_VALUES


def test_large_honest_arguments_are_cheap() -> None:
    """A module and an argument of megabytes are two values; a thousand of anything is few."""
    values = {"mode": {"install": None}, "canister_id": CANISTER, "wasm_module": bytes(2 << 20), "arg": bytes(1 << 20)}
    arg = encode([types.INSTALL_CODE], [values])
    assert steps(lambda: effective_id(METHODS["install_code"], arg)) < 1000
    assert effective_id(METHODS["install_code"], arg) == CANISTER
    assert effective_id(METHODS["start_canister"], surplus(t.principal, CANISTER, 1000)) == CANISTER
