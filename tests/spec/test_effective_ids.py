"""Abstract behaviour, "Effective canister ids" and "Effective subnet ids"."""

from __future__ import annotations

from typing import Any

import pytest

from ic_types.candid import encoder
from ic_types.errors import EnvelopeError
from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.units import TimeNs
from scheduler.canister_log import CanisterLog
from subnet.coordinator.call_desk import check_effective
from subnet.management.methods import METHODS
from tests.support.fake_executor import USER

HERE, OTHER, SUBNET = Principal.canister(1), Principal.canister(2), Principal(b"a subnet\x02")


def call(receiver: Principal, method: str = "update", value: Any = None) -> Ingress:
    """A call by a user."""
    kind = METHODS[method].argument if receiver == MANAGEMENT_CANISTER else None
    arg = encoder.encode([], []) if kind is None else encoder.encode([kind], [value])
    return Ingress(message_id=bytes(32), sender=USER, receiver=receiver, method=method, arg=arg, expiry=TimeNs(0), raw_bytes=0)


def fits(message: Ingress, effective: Principal, *, at_subnet: bool = False) -> bool:
    """Whether the call may come in there."""
    try:
        check_effective(message, effective, at_subnet=at_subnet)
    except EnvelopeError:
        return False
    return True


@pytest.mark.spec("effective-canister-ids", condition=1)
def test_call_of_a_canister() -> None:
    """The canister itself."""
    assert fits(call(HERE), HERE)
    assert not fits(call(HERE), OTHER)


@pytest.mark.spec("effective-canister-ids", condition=2)
def test_management_call_about_a_canister() -> None:
    """The canister that the argument names."""
    chunked = {"mode": {"install": None}, "target_canister": HERE, "chunk_hashes_list": [], "wasm_module_hash": b"", "arg": b""}
    for message in (
        call(MANAGEMENT_CANISTER, "start_canister", {"canister_id": HERE}),
        call(MANAGEMENT_CANISTER, "install_chunked_code", chunked),
    ):
        assert fits(message, HERE)
        assert not fits(message, OTHER)


@pytest.mark.spec("effective-canister-ids", condition=3)
def test_creation_is_about_no_canister() -> None:
    """Any will do."""
    message = call(MANAGEMENT_CANISTER, "provisional_create_canister_with_cycles", {})
    assert fits(message, HERE)
    assert fits(message, OTHER)


@pytest.mark.spec("effective-subnet-ids", condition=1)
def test_calls_at_a_subnet() -> None:
    """Creation only."""
    assert fits(call(MANAGEMENT_CANISTER, "provisional_create_canister_with_cycles", {}), SUBNET, at_subnet=True)
    assert not fits(call(MANAGEMENT_CANISTER, "start_canister", {"canister_id": SUBNET}), SUBNET, at_subnet=True)
    assert not fits(call(SUBNET, "create_canister"), SUBNET, at_subnet=True)


@pytest.mark.spec("trimming-canister-logs", condition=2)
def test_numbers_of_log_lines() -> None:
    """Lines that were dropped before they were kept take numbers, too."""
    log = CanisterLog()
    log.add([b"a"], TimeNs(1), 4096)
    log.add([b"b"], TimeNs(2), 4096, dropped=3)
    assert [record.index for record in log] == [0, 4]
