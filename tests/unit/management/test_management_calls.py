"""Dispatch of management calls: who may call what, which calls wait, where they go."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.candid.encoder import encode
from ic_types.candid.types import blob, record
from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER
from ic_types.reject import ErrorCode, Reject, RejectCode
from ic_types.units import Cycles, TimeNs
from message_routing.induction import ManagementTarget
from scheduler.canister import LongExecution
from subnet.management import dispatch
from subnet.management.destinations import induction_target, resolve_destination
from subnet.management.methods import METHODS
from tests.support.fake_executor import work
from tests.support.management_world import USER, ManagedSubnet, encode_args, module
from tests.support.routing_world import canister_id, ingress, request, subnet_id


@pytest.fixture
def subnet() -> ManagedSubnet:
    """An empty subnet."""
    return ManagedSubnet(fees=CyclesCostSchedule())


def user_message(method: str, arg: bytes) -> Ingress:
    """A user's management call."""
    return ingress(1, MANAGEMENT_CANISTER, method=method, arg=arg)


def test_unknown_methods_do_not_exist(subnet: ManagedSubnet) -> None:
    """IC0536 for canisters, with all cycles back."""
    caller = subnet.add_canister()
    result, refund = subnet.canister_call(caller.canister_id, "no_such_method", cycles=5)
    assert isinstance(result, Reject)
    assert (result.error_code, refund) == (ErrorCode.CANISTER_METHOD_NOT_FOUND, 5)
    assert result.message == "Management canister has no method 'no_such_method'"


@pytest.mark.parametrize("method", sorted(name for name, method in METHODS.items() if method.canisters))
def test_garbage_arguments_are_refused(subnet: ManagedSubnet, method: str) -> None:
    """IC0408 whatever the method, and nobody's state changes."""
    caller = subnet.add_canister()
    bad = request(caller.canister_id, MANAGEMENT_CANISTER, 1, method=method, arg=b"DIDL\x00\x01", cycles=3)
    outcome = subnet.take(dispatch.execute_management_call(subnet, bad))
    assert outcome.payload.error_code is ErrorCode.INVALID_MANAGEMENT_PAYLOAD
    assert (outcome.refund, outcome.instructions) == (3, 0)
    assert caller.version == 0


def test_surplus_values_are_limited(subnet: ManagedSubnet) -> None:
    """An argument may hold fields and arguments that nobody asked for, up to the replica's quota for skipping them."""
    caller = subnet.add_canister()
    for size, refused in ((9_900, False), (10_100, True)):
        arg = encode([record({}), blob], [{}, b"x" * size])
        call = request(caller.canister_id, MANAGEMENT_CANISTER, 1, method="raw_rand", arg=arg)
        outcome = subnet.take(dispatch.execute_management_call(subnet, call))
        assert isinstance(outcome.payload, Reject) is refused
        if refused:
            assert outcome.payload.error_code is ErrorCode.INVALID_MANAGEMENT_PAYLOAD
            assert "Skipping cost exceeds the limit" in outcome.payload.message


def test_calls_wait_while_their_canister_is_paused(subnet: ManagedSubnet) -> None:
    """And an install also for an aborted message; other canisters' calls go on."""
    paused, aborted, free = subnet.create(), subnet.create(), subnet.create()
    call = ingress(77, paused.canister_id)
    paused.long_execution = LongExecution(call, Cycles(0), paused=True, started_round=1)
    aborted.long_execution = LongExecution(call, Cycles(0), paused=False, started_round=1)
    statuses = [subnet.by_user("canister_status", {"canister_id": c.canister_id}) for c in (paused, aborted, free)]
    args = {"mode": {"reinstall": None}, "canister_id": aborted.canister_id, "wasm_module": module(), "arg": b""}
    install = subnet.by_user("install_code", args)
    subnet.run_calls()
    assert [subnet.outcome(m) is None for m in statuses] == [True, False, False]
    assert subnet.outcome(install) is None
    paused.long_execution = aborted.long_execution = None
    subnet.run_calls()
    assert subnet.outcome(statuses[0]) is not None
    assert subnet.outcome(install) is not None


def test_installs_wait_for_budget_and_others_do_not(subnet: ManagedSubnet) -> None:
    """Calls that cost no instructions run at a budget of zero."""
    canister = subnet.create()
    args = {"mode": {"install": None}, "canister_id": canister.canister_id, "wasm_module": module(), "arg": b""}
    install = subnet.by_user("install_code", args)
    other = subnet.by_user("provisional_create_canister_with_cycles", {})
    assert subnet.take(dispatch.execute_next(subnet, 0)) == 0
    assert subnet.take(dispatch.execute_next(subnet, 0)) is None
    assert subnet.outcome(install) is None
    assert subnet.outcome(other) is not None
    assert subnet.take(dispatch.execute_next(subnet, 1)) is not None
    assert subnet.outcome(install) is not None


def test_a_round_runs_management_calls_and_a_long_install(subnet: ManagedSubnet) -> None:
    """Through the scheduler's own round, which leaves an installing canister alone."""
    canister = subnet.create()
    slice_size = subnet.limits.instructions_per_install_slice
    wasm = module({"init": [work(2 * slice_size + 1)]})
    args = {"mode": {"install": None}, "canister_id": canister.canister_id, "wasm_module": wasm, "arg": b""}
    message = subnet.by_user("install_code", args)
    queued = subnet.ingress(canister, ())
    subnet.scheduler.note(canister)
    for _ in range(2):
        subnet.run_round()
        assert subnet.outcome(message) is None
        assert subnet.outcome(queued) is None
    subnet.run_round()
    assert isinstance(subnet.outcome(message), bytes)
    subnet.run_round()
    assert subnet.outcome(queued) is not None


def test_induction_knows_the_effective_canister() -> None:
    """Named by the argument; creation is about none; a short update_settings is free."""
    who = canister_id(0, 3)
    start = user_message("start_canister", encode_args("start_canister", {"canister_id": who}))
    assert induction_target(start) == ManagementTarget(who)
    create = user_message("provisional_create_canister_with_cycles", encode((), ()))
    assert induction_target(create) == ManagementTarget(None)
    short = encode_args("update_settings", {"canister_id": who, "settings": {"freezing_threshold": 1}})
    assert induction_target(user_message("update_settings", short)) == ManagementTarget(who, free=True)
    variables = [{"name": "x" * 100, "value": str(n)} for n in range(5)]
    long = encode_args("update_settings", {"canister_id": who, "settings": {"environment_variables": variables}})
    assert len(long) > 366
    assert induction_target(user_message("update_settings", long)) == ManagementTarget(who)


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("nothing", ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE),
        ("raw_rand", ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE),
        ("create_canister", ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE),
        ("deposit_cycles", ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE),
        ("start_canister", ErrorCode.INVALID_MANAGEMENT_PAYLOAD),
    ],
)
def test_induction_refuses_what_users_may_not_call(method: str, code: ErrorCode) -> None:
    """Unknown methods, those for canisters, broken arguments."""
    why = induction_target(user_message(method, b"garbage"))
    assert isinstance(why, Reject)
    assert why.error_code is code


def test_calls_go_to_the_subnet_of_the_canister_they_are_about(subnet: ManagedSubnet) -> None:
    """Those about none stay; what can't be resolved is rejected."""

    def resolved(method: str, who: object = None) -> object:
        arg = encode((), ()) if who is None else encode_args(method, {"canister_id": who})
        asked = request(canister_id(0, 0), MANAGEMENT_CANISTER, method=method, arg=arg)
        return resolve_destination(subnet.routing, subnet.chain_keys, asked)

    assert resolved("start_canister", canister_id(2, 5)) == subnet_id(2)
    assert resolved("raw_rand") == subnet_id(0)
    unknown, nowhere, broken = resolved("nothing"), resolved("stop_canister", USER), resolved("stop_canister")
    assert isinstance(unknown, Reject)
    assert isinstance(nowhere, Reject)
    assert isinstance(broken, Reject)
    assert [why.code for why in (unknown, nowhere, broken)] == [
        RejectCode.CANISTER_ERROR,
        RejectCode.DESTINATION_INVALID,
        RejectCode.DESTINATION_INVALID,
    ]


def test_time_of_the_record_is_the_batch_time(subnet: ManagedSubnet) -> None:
    """Creation and first charge."""
    subnet.time = TimeNs(123 * 10**9)
    canister = subnet.create()
    assert (canister.created, canister.last_charged) == (123 * 10**9, 123 * 10**9)
