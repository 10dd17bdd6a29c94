"""Creating, starting, stopping and deleting canisters."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.reject import ErrorCode, Reject, RejectCode
from ic_types.units import TimeNs
from sandbox.protocol import EntryPoint
from scheduler.canister import CallContext, RunStatus, SystemOrigin
from scheduler.cycles_account import BurnCause
from subnet.management import lifecycle
from tests.support.management_world import OTHER, USER, ManagedSubnet
from tests.support.routing_world import canister_id

FEE = 500_000_000_000


@pytest.fixture
def subnet() -> ManagedSubnet:
    """An empty subnet at mainnet's prices."""
    return ManagedSubnet(fees=CyclesCostSchedule())


def error(result: object) -> ErrorCode | None:
    """The error code of a reject."""
    assert isinstance(result, Reject), result
    return result.error_code


def hold_open(subnet: ManagedSubnet, canister: object) -> None:
    """Give the canister an open call context."""
    context = CallContext(1, SystemOrigin(EntryPoint.HEARTBEAT), 0, subnet.time, outstanding_calls=1)  # type: ignore[arg-type]
    canister.contexts[1] = context  # type: ignore[attr-defined]


@pytest.mark.spec("management-create-canister", condition=16)
def test_create_canister_takes_the_fee_and_gives_the_rest(subnet: ManagedSubnet) -> None:
    """The creator controls the canister; nothing is refunded."""
    creator = subnet.add_canister()
    before = subnet.everything()
    asked = subnet.by_canister(creator.canister_id, "create_canister", {}, cycles=FEE + 7)
    assert subnet.everything() == before + FEE + 7
    subnet.run_calls()
    result, refund = subnet.answer_to(asked)
    made = subnet.canisters[result["canister_id"]]
    assert (made.balance, refund, made.version, made.status) == (7, 0, 0, RunStatus.RUNNING)
    assert made.settings.controllers == (creator.canister_id,)
    assert subnet.tally.burned[BurnCause.CREATION] == FEE
    assert subnet.everything() == before + FEE + 7


@pytest.mark.spec("management-create-canister", condition=16)
def test_create_canister_needs_the_fee(subnet: ManagedSubnet) -> None:
    """IC0403, everything back."""
    creator = subnet.add_canister()
    result, refund = subnet.canister_call(creator.canister_id, "create_canister", {}, cycles=FEE - 1)
    assert (error(result), refund) == (ErrorCode.INSUFFICIENT_CYCLES_FOR_CREATE_CANISTER, FEE - 1)
    assert len(subnet.canisters) == 1


@pytest.mark.spec("management-create-canister", condition=(14, 15))
def test_create_canister_is_for_canisters_of_this_or_the_root_subnet(subnet: ManagedSubnet) -> None:
    """Users and canisters of other subnets are refused."""
    assert error(subnet.user_call("create_canister", {})) is ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE
    result, _ = subnet.canister_call(canister_id(2, 0), "create_canister", {}, cycles=FEE)
    assert error(result) is ErrorCode.CANISTER_CONTRACT_VIOLATION
    result, _ = subnet.canister_call(canister_id(1, 0), "create_canister", {}, cycles=FEE)
    assert isinstance(result, dict)


def test_failed_settings_create_nothing(subnet: ManagedSubnet) -> None:
    """Not even an id is used up that matters; all cycles return."""
    creator = subnet.add_canister()
    args = {"settings": {"compute_allocation": 101}}
    result, refund = subnet.canister_call(creator.canister_id, "create_canister", args, cycles=FEE)
    assert (error(result), refund) == (ErrorCode.CANISTER_CONTRACT_VIOLATION, FEE)
    assert len(subnet.canisters) == 1


@pytest.mark.spec("management-provisional-create-canister", condition=16)
def test_provisional_creation_mints_the_balance(subnet: ManagedSubnet) -> None:
    """The default amount, or the one asked for, counted as minted."""
    create = "provisional_create_canister_with_cycles"
    first = subnet.user_call(create, {})["canister_id"]
    second = subnet.user_call(create, {"amount": 12, "settings": {"controllers": [OTHER]}})["canister_id"]
    assert subnet.canisters[first].balance == 100_000 * 10**9
    assert subnet.canisters[second].balance == 12
    assert subnet.canisters[first].settings.controllers == (USER,)
    assert subnet.canisters[second].settings.controllers == (OTHER,)
    assert subnet.minted == 100_000 * 10**9 + 12
    assert subnet.everything() == 0


@pytest.mark.spec("management-provisional-create-canister", condition=(14, 15))
def test_provisional_creation_at_a_wished_id(subnet: ManagedSubnet) -> None:
    """If it is this subnet's and free; later ids pass over it."""
    create, wish = "provisional_create_canister_with_cycles", canister_id(0, 2)
    assert subnet.user_call(create, {"specified_id": wish}) == {"canister_id": wish}
    assert error(subnet.user_call(create, {"specified_id": wish})) is ErrorCode.CANISTER_ALREADY_INSTALLED
    elsewhere = subnet.user_call(create, {"specified_id": canister_id(1, 2)})
    assert error(elsewhere) is ErrorCode.CANISTER_NOT_HOSTED_BY_SUBNET
    for never in (USER, subnet.own_subnet):
        assert error(subnet.user_call(create, {"specified_id": never})) is ErrorCode.CANISTER_NOT_HOSTED_BY_SUBNET
    made = [subnet.user_call(create, {})["canister_id"] for _ in range(2)]
    assert made == [canister_id(0, 1), canister_id(0, 3)]


@pytest.mark.spec("management-provisional-create-canister", condition=16)
def test_amounts_of_more_than_128_bits_are_refused(subnet: ManagedSubnet) -> None:
    """IC0408."""
    result = subnet.user_call("provisional_create_canister_with_cycles", {"amount": 1 << 128})
    assert error(result) is ErrorCode.INVALID_MANAGEMENT_PAYLOAD


def test_only_controllers_start_stop_and_delete(subnet: ManagedSubnet) -> None:
    """IC0512 with the replica's text."""
    canister = subnet.create()
    for method in ("start_canister", "stop_canister", "delete_canister"):
        result = subnet.user_call(method, {"canister_id": canister.canister_id}, sender=OTHER)
        assert error(result) is ErrorCode.CANISTER_INVALID_CONTROLLER
        assert result.message == (
            f"Only the controllers of the canister {canister.canister_id} can control it.\n"
            f"Canister's controllers: {USER}\nSender's ID: {OTHER}"
        )
        assert error(subnet.user_call(method, {"canister_id": canister_id(0, 99)})) is ErrorCode.CANISTER_NOT_FOUND
    assert canister.version == 0


def test_a_canister_without_open_calls_stops_at_the_end_of_the_round(subnet: ManagedSubnet) -> None:
    """The call stays open until then; two version steps, stopping and stopped."""
    canister = subnet.create()
    message = subnet.by_user("stop_canister", {"canister_id": canister.canister_id})
    subnet.run_calls()
    assert canister.status is RunStatus.STOPPING
    assert subnet.outcome(message) is None
    assert subnet.processing == [message]
    lifecycle.settle_stopping(subnet)
    assert canister.status is RunStatus.STOPPED
    assert isinstance(subnet.outcome(message), bytes)
    assert canister.version == 2
    assert not subnet.stopping


def test_stopping_waits_for_open_calls(subnet: ManagedSubnet) -> None:
    """All who asked meanwhile are answered together, canisters under the name they called."""
    canister, caller = subnet.create(), subnet.add_canister()
    canister.settings.controllers = (USER, caller.canister_id)
    hold_open(subnet, canister)
    message = subnet.by_user("stop_canister", {"canister_id": canister.canister_id})
    asked = [
        subnet.by_canister(caller.canister_id, "stop_canister", {"canister_id": canister.canister_id}, cycles=4, name=name)
        for name in (MANAGEMENT_CANISTER, subnet.own_subnet)
    ]
    subnet.run_calls()
    before = subnet.everything()
    lifecycle.settle_stopping(subnet)
    assert canister.status is RunStatus.STOPPING
    canister.contexts.clear()
    lifecycle.settle_stopping(subnet)
    assert isinstance(subnet.outcome(message), bytes)
    assert [subnet.answer_to(call) for call in asked] == [(None, 4), (None, 4)]
    assert subnet.everything() == before - 8


def test_stopping_a_stopped_canister_is_acknowledged(subnet: ManagedSubnet) -> None:
    """At once; the version still counts up."""
    canister = subnet.create()
    canister.status = RunStatus.STOPPED
    assert subnet.user_call("stop_canister", {"canister_id": canister.canister_id}) is None
    assert (canister.status, canister.version) == (RunStatus.STOPPED, 1)


def test_stop_calls_time_out_while_the_canister_goes_on_stopping(subnet: ManagedSubnet) -> None:
    """IC0206 after 300 s."""
    canister = subnet.create()
    hold_open(subnet, canister)
    message = subnet.by_user("stop_canister", {"canister_id": canister.canister_id})
    subnet.run_calls()
    subnet.time = TimeNs(subnet.time + 299 * 10**9)
    lifecycle.settle_stopping(subnet)
    assert subnet.outcome(message) is None
    subnet.time = TimeNs(subnet.time + 10**9)
    lifecycle.settle_stopping(subnet)
    assert subnet.error_of(message)[0] is ErrorCode.STOP_CANISTER_REQUEST_TIMEOUT
    assert canister.status is RunStatus.STOPPING


def test_starting_cancels_stopping(subnet: ManagedSubnet) -> None:
    """Those who wait are rejected (IC0511), the canister runs."""
    canister = subnet.create()
    hold_open(subnet, canister)
    message = subnet.by_user("stop_canister", {"canister_id": canister.canister_id})
    subnet.run_calls()
    assert subnet.user_call("start_canister", {"canister_id": canister.canister_id}) is None
    why = subnet.outcome(message)
    assert isinstance(why, Reject)
    assert (why.error_code, why.code) == (ErrorCode.CANISTER_STOPPING_CANCELLED, RejectCode.CANISTER_ERROR)
    assert canister.status is RunStatus.RUNNING
    assert not subnet.stopping


def test_deletion_burns_what_is_left(subnet: ManagedSubnet) -> None:
    """Of a stopped canister with empty queues, not by itself."""
    canister = subnet.create(amount=1000)
    where = {"canister_id": canister.canister_id}
    assert error(subnet.user_call("delete_canister", where)) is ErrorCode.CANISTER_NOT_STOPPED
    canister.status = RunStatus.STOPPED
    message = subnet.ingress(canister, ())
    assert error(subnet.user_call("delete_canister", where)) is ErrorCode.CANISTER_QUEUE_NOT_EMPTY
    assert canister.queues.pop_input() is not None
    assert message is not None
    canister.settings.controllers = (USER, canister.canister_id)
    result, _ = subnet.canister_call(canister.canister_id, "delete_canister", where)
    assert error(result) is ErrorCode.CANISTER_INVALID_CONTROLLER
    assert subnet.user_call("delete_canister", where) is None
    assert canister.canister_id not in subnet.canisters
    assert subnet.tally.burned[BurnCause.DELETION] == 1000
    assert subnet.everything() == 0
    assert error(subnet.user_call("canister_status", where)) is ErrorCode.CANISTER_NOT_FOUND


@pytest.mark.spec("management-provisional-create-canister", condition=17)
def test_a_subnet_can_run_out_of_ids(subnet: ManagedSubnet, monkeypatch: pytest.MonkeyPatch) -> None:
    """IC0101."""
    monkeypatch.setattr(ManagedSubnet, "allocate_canister_id", lambda self: None)
    result = subnet.user_call("provisional_create_canister_with_cycles", {})
    assert error(result) is ErrorCode.SUBNET_OVERSUBSCRIBED
    assert Principal.canister(1) not in subnet.canisters
