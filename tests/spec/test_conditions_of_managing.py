"""What has to hold for a canister to be created, changed, seen, stopped, started, deleted or paid: each condition failing once.

Abstract behaviour, "Conditions" of the "IC Management Canister" transitions, numbered in conditions/management-canisters.toml.
Who may call which method stands in `test_every_management_method`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.candid.encoder import encode
from ic_types.messages import Request
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from ic_types.units import Cycles, NumInstructions, TimeNs
from sandbox.protocol import EntryPoint
from scheduler.canister import CallContext, Canister, LongExecution, RunStatus, SystemOrigin
from subnet.management import lifecycle
from subnet.management.dispatch import execute_management_call
from subnet.management.methods import METHODS
from tests.support.management_world import OTHER, USER, ManagedSubnet, module
from tests.support.routing_world import canister_id, ingress, request
from tests.support.spec_node import SpecNode

ASKER, STRANGER = canister_id(0, 500_000), canister_id(0, 500_001)
GIB = 1 << 30
SENT = 10**15
SMALL = SubnetLimits(subnet_memory_capacity=20 * GIB, subnet_memory_threshold=1 << 16, response_memory_reserve=0)
"""A subnet that fills up."""
ALL_SETTING_CALLS = pytest.mark.parametrize(
    "method", ["create_canister", "provisional_create_canister_with_cycles", "update_settings"]
)


@pytest.fixture
def subnet() -> ManagedSubnet:
    """Nothing costs anything."""
    return ManagedSubnet(limits=SubnetLimits(instructions_per_install=10**6))


def code(result: object) -> ErrorCode | None:
    """The error code of a reject; None for anything else."""
    return result.error_code if isinstance(result, Reject) else None


def asking(method: str, arg: bytes, cycles: int = 0, sender: Principal = ASKER) -> Request:
    """A canister's call, with this raw argument."""
    return request(sender, MANAGEMENT_CANISTER, 1, method=method, arg=arg, cycles=cycles)


def give_settings(
    subnet: ManagedSubnet, method: str, settings: dict[str, Any], *, amount: int = SENT, spoil: bytes = b""
) -> Any:
    """A canister gives a new canister, or one that it controls, these settings; a refusal changes nothing and keeps nothing.

    `spoil`: bytes of the argument that become ones that no text can have.
    """
    args: dict[str, Any] = {"settings": settings}
    if method == "update_settings":
        args["canister_id"] = subnet.create(amount, controllers=[ASKER]).canister_id
    elif method != "create_canister":
        args["amount"] = amount
    before = [(c.canister_id, c.settings, c.balance, c.reserved_balance, c.version) for c in subnet.canisters.values()]
    arg = encode(METHODS[method].arguments, (args,))
    arg = arg.replace(spoil, b"\xff" * len(spoil)) if spoil else arg
    outcome = subnet.take(execute_management_call(subnet, asking(method, arg, amount)))
    if isinstance(outcome.payload, Reject):
        after = [(c.canister_id, c.settings, c.balance, c.reserved_balance, c.version) for c in subnet.canisters.values()]
        assert (after, outcome.refund) == (before, amount)
    return outcome.payload


# --- settings, of new canisters and old ones


@pytest.mark.spec("management-create-canister", condition=(1, 2, 3, 4, 5))
@pytest.mark.spec("management-provisional-create-canister", condition=(1, 2, 3, 4, 5))
@pytest.mark.spec("management-update-settings", condition=(1, 2, 3, 4, 5))
@ALL_SETTING_CALLS
def test_environment_variables_are_bounded(subnet: ManagedSubnet, method: str) -> None:
    """20 of them, names and values of 128 bytes, no name twice, all in UTF-8: that much is fine, and more is IC0408."""
    most = [{"name": f"{k:03}" + "é" * 62 + "x", "value": "ü" * 64} for k in range(20)]
    assert isinstance(give_settings(subnet, method, {"environment_variables": most}), Reply)
    for wrong in (
        [*most, {"name": "one more", "value": ""}],
        [{"name": "é" * 64 + "x", "value": ""}],
        [{"name": "n", "value": "ü" * 64 + "x"}],
        [{"name": "n", "value": "1"}, {"name": "n", "value": "2"}],
    ):
        refused = give_settings(subnet, method, {"environment_variables": wrong})
        assert code(refused) is ErrorCode.INVALID_MANAGEMENT_PAYLOAD, wrong
    for part in ("name", "value"):
        wrong = [{"name": "n", "value": "v"} | {part: "spoiled"}]
        refused = give_settings(subnet, method, {"environment_variables": wrong}, spoil=b"spoiled")
        assert code(refused) is ErrorCode.INVALID_MANAGEMENT_PAYLOAD


@pytest.mark.spec("management-create-canister", condition=(6, 7))
@pytest.mark.spec("management-provisional-create-canister", condition=(6, 7))
@pytest.mark.spec("management-update-settings", condition=(6, 7))
@ALL_SETTING_CALLS
def test_values_are_bounded(subnet: ManagedSubnet, method: str) -> None:
    """Ten controllers and viewers; percents, bytes, seconds and cycles in the ranges of the interface specification."""
    ten = [Principal.canister(k) for k in range(9)] + [ASKER]
    assert isinstance(give_settings(subnet, method, {"controllers": ten}), Reply)
    for listed in ({"controllers": [*ten, OTHER]}, {"log_visibility": {"allowed_viewers": [*ten, OTHER]}}):
        assert code(give_settings(subnet, method, listed)) is ErrorCode.INVALID_MANAGEMENT_PAYLOAD
    bounds = {
        "compute_allocation": 100,
        "memory_allocation": 1 << 48,
        "freezing_threshold": (1 << 64) - 1,
        "reserved_cycles_limit": (1 << 128) - 1,
        "minimum_incoming_canister_call_cycles": (1 << 128) - 1,
        "wasm_memory_limit": 1 << 48,
        "wasm_memory_threshold": 1 << 48,
    }
    for name, most in bounds.items():
        refused = give_settings(subnet, method, {name: most + 1})
        assert code(refused) is ErrorCode.CANISTER_CONTRACT_VIOLATION, name
        assert f"got {most + 1}" in refused.message


@pytest.mark.spec("management-create-canister", condition=8)
@pytest.mark.spec("management-provisional-create-canister", condition=8)
@pytest.mark.spec("management-update-settings", condition=8)
@ALL_SETTING_CALLS
def test_the_subnet_has_what_is_allocated(method: str) -> None:
    """IC0101 for a percent or a byte more than is left."""
    subnet = ManagedSubnet(limits=SMALL)
    subnet.create(compute_allocation=100, memory_allocation=10 * GIB)
    assert code(give_settings(subnet, method, {"compute_allocation": 50})) is ErrorCode.SUBNET_OVERSUBSCRIBED
    assert isinstance(give_settings(subnet, method, {"compute_allocation": 49}), Reply)
    assert code(give_settings(subnet, method, {"memory_allocation": 10 * GIB + 1})) is ErrorCode.SUBNET_OVERSUBSCRIBED
    assert isinstance(give_settings(subnet, method, {"memory_allocation": 9 * GIB}), Reply)


@pytest.mark.spec("management-create-canister", condition=9)
@pytest.mark.spec("management-provisional-create-canister", condition=9)
@pytest.mark.spec("management-update-settings", condition=9)
@ALL_SETTING_CALLS
def test_reserved_cycles_stay_within_their_limit(method: str) -> None:
    """IC0533 when the storage of the allocation costs more than may be reserved; the new limit counts."""
    subnet = ManagedSubnet(limits=SMALL, fees=CyclesCostSchedule())
    subnet.create(10**18, memory_allocation=10 * GIB, reserved_cycles_limit=10**18)
    settings = {"memory_allocation": 5 * GIB, "reserved_cycles_limit": 10**6}
    refused = give_settings(subnet, method, settings, amount=10**18)
    assert code(refused) is ErrorCode.RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_ALLOCATION
    assert isinstance(give_settings(subnet, method, {**settings, "reserved_cycles_limit": 10**18}, amount=10**18), Reply)
    *_, made = subnet.canisters.values()
    assert 10**6 < made.reserved_balance < 10**18 - made.balance + 1


@pytest.mark.spec("management-create-canister", condition=10)
@pytest.mark.spec("management-provisional-create-canister", condition=10)
@pytest.mark.spec("management-update-settings", condition=10)
@ALL_SETTING_CALLS
def test_allocations_leave_the_liquid_balance_positive(method: str) -> None:
    """IC0530 or IC0531 when the balance doesn't cover the freezing threshold that follows, or what is to be reserved."""
    subnet = ManagedSubnet(fees=CyclesCostSchedule())
    amount = 10**12
    compute = give_settings(subnet, method, {"compute_allocation": 1}, amount=amount)
    assert code(compute) is ErrorCode.INSUFFICIENT_CYCLES_IN_COMPUTE_ALLOCATION
    memory = give_settings(subnet, method, {"memory_allocation": 100 * GIB}, amount=amount)
    assert code(memory) is ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_ALLOCATION
    free = {"freezing_threshold": 0, "compute_allocation": 1, "memory_allocation": 100 * GIB}
    assert isinstance(give_settings(subnet, method, free, amount=amount), Reply)
    full = ManagedSubnet(limits=SMALL, fees=CyclesCostSchedule())
    full.create(10**18, memory_allocation=10 * GIB, reserved_cycles_limit=10**18)
    wanted = {"freezing_threshold": 0, "memory_allocation": 9 * GIB, "reserved_cycles_limit": 10**18}
    reserving = give_settings(full, method, wanted, amount=amount)
    assert code(reserving) is ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_ALLOCATION


@pytest.mark.spec("management-create-canister", condition=(11, 12))
@pytest.mark.spec("management-provisional-create-canister", condition=(11, 12))
@pytest.mark.parametrize("method", ["create_canister", "provisional_create_canister_with_cycles"])
def test_what_a_new_canister_has(subnet: ManagedSubnet, method: str) -> None:
    """Its caller as controller, and defaults, unless settings are named; one change in its history, of version 0."""
    result, _ = subnet.canister_call(ASKER, method, {"sender_canister_version": 7}, cycles=SENT)
    settings = subnet.canisters[result["canister_id"]].settings
    assert (settings.controllers, settings.compute_allocation, settings.memory_allocation) == ((ASKER,), 0, 0)
    assert (settings.freezing_threshold_s, settings.reserved_cycles_limit) == (2_592_000, 5_000_000_000_000)
    assert (settings.wasm_memory_threshold, settings.environment_variables) == (0, ())
    assert (settings.log_visibility, settings.snapshot_visibility) == ("controllers", "controllers")
    args = {"settings": {"controllers": [OTHER], "freezing_threshold": 5}, "sender_canister_version": 7}
    result, _ = subnet.canister_call(ASKER, method, args, cycles=SENT)
    made = subnet.canisters[result["canister_id"]]
    assert (made.settings.controllers, made.settings.freezing_threshold_s) == ((OTHER,), 5)
    assert (made.history.total, len(made.history.changes)) == (1, 1)
    (change,) = made.history.changes
    assert (change.version, change.time, change.details.controllers) == (0, subnet.time, (OTHER,))  # type: ignore[union-attr]
    assert (change.origin.principal, change.origin.by_canister, change.origin.version) == (ASKER, True, 7)


@pytest.mark.slow
@pytest.mark.spec("management-create-canister", condition=13)
@pytest.mark.spec("management-provisional-create-canister", condition=13)
def test_new_ids_are_free(node: SpecNode) -> None:
    """An id that a canister was given on request isn't given again."""
    last = node.create().canister_index()
    assert last is not None
    wish = Principal.canister(last + 1)
    value = {"amount": 5, "specified_id": wish}
    assert node.done("provisional_create_canister_with_cycles", value) == {"canister_id": wish}
    assert node.create() == Principal.canister(last + 2)
    assert node.balance(wish) == 5


# --- changing settings


@pytest.mark.spec("management-update-settings", condition=(12, 13, 14))
def test_only_controllers_change_settings(subnet: ManagedSubnet) -> None:
    """IC0512 also for the canister itself and for subnet admins; unnamed settings stay; new controllers are a change."""
    canister = subnet.create(controllers=[USER, ASKER], freezing_threshold=9, log_visibility={"public": None})
    args = {"canister_id": canister.canister_id, "settings": {"compute_allocation": 1}}
    subnet.subnet_admins = (OTHER,)
    for who in (STRANGER, canister.canister_id):
        result, refund = subnet.canister_call(who, "update_settings", args, cycles=5)
        assert (code(result), refund) == (ErrorCode.CANISTER_INVALID_CONTROLLER, 5)
    assert code(subnet.user_call("update_settings", args, sender=OTHER)) is ErrorCode.CANISTER_INVALID_CONTROLLER
    assert (canister.version, canister.settings.compute_allocation) == (0, 0)
    assert subnet.canister_call(ASKER, "update_settings", args, cycles=5) == (None, 5)
    assert (canister.version, canister.settings.compute_allocation, canister.history.total) == (1, 1, 1)
    kept = canister.settings
    assert (kept.freezing_threshold_s, kept.log_visibility, kept.controllers) == (9, "public", tuple(sorted([USER, ASKER])))
    args = {"canister_id": canister.canister_id, "settings": {"controllers": [OTHER]}, "sender_canister_version": 3}
    assert subnet.canister_call(ASKER, "update_settings", args) == (None, 0)
    change = canister.history.changes[-1]
    assert (canister.version, canister.history.total, change.version) == (2, 2, 2)
    assert change.details.controllers == canister.settings.controllers == (OTHER,)  # type: ignore[union-attr]
    assert (change.origin.principal, change.origin.by_canister, change.origin.version) == (ASKER, True, 3)


# --- stopping, starting, deleting


def open_call(subnet: ManagedSubnet, canister: Canister) -> None:
    """The canister waits for an answer."""
    origin = SystemOrigin(EntryPoint.HEARTBEAT)
    canister.contexts[1] = CallContext(1, origin, NumInstructions(0), subnet.time, outstanding_calls=1)  # type: ignore[arg-type]


@pytest.mark.spec("management-stop-canister", condition=(2, 3, 4, 5, 6))
def test_how_a_canister_stops(subnet: ManagedSubnet) -> None:
    """Stopping while anything is open, with all who ask meanwhile; then stopped, and all are told; each step is a version."""
    canister = subnet.create(controllers=[USER, ASKER])
    where = {"canister_id": canister.canister_id}
    open_call(subnet, canister)
    first = subnet.by_canister(ASKER, "stop_canister", where, cycles=4)
    subnet.run_calls()
    assert (canister.status, canister.version) == (RunStatus.STOPPING, 1)
    second = subnet.by_user("stop_canister", where)
    subnet.run_calls()
    assert (canister.status, canister.version, len(canister.stop_calls)) == (RunStatus.STOPPING, 2, 2)
    lifecycle.settle_stopping(subnet)
    assert (canister.status, subnet.outcome(second)) == (RunStatus.STOPPING, None)
    canister.contexts.clear()
    canister.long_execution = LongExecution(ingress(7, canister.canister_id), Cycles(0), paused=False, started_round=1)
    lifecycle.settle_stopping(subnet)
    assert (canister.status, subnet.outcome(second)) == (RunStatus.STOPPING, None)
    canister.long_execution = None
    lifecycle.settle_stopping(subnet)
    assert (canister.status, canister.version, canister.stop_calls) == (RunStatus.STOPPED, 3, [])
    assert (subnet.answer_to(first), subnet.outcome(second)) == ((None, 4), encode((), ()))
    assert subnet.canister_call(ASKER, "stop_canister", where, cycles=6) == (None, 6)
    assert (canister.status, canister.version) == (RunStatus.STOPPED, 4)


@pytest.mark.spec("management-stop-canister", condition=7)
def test_those_who_wait_too_long(subnet: ManagedSubnet) -> None:
    """SYS_TRANSIENT, IC0206, with their cycles; the canister goes on stopping, and others go on waiting."""
    canister = subnet.create(controllers=[USER, ASKER])
    where = {"canister_id": canister.canister_id}
    open_call(subnet, canister)
    early = subnet.by_canister(ASKER, "stop_canister", where, cycles=4)
    subnet.run_calls()
    subnet.time = TimeNs(subnet.time + 10**9)
    late = subnet.by_user("stop_canister", where)
    subnet.run_calls()
    subnet.time = TimeNs(subnet.time + (subnet.limits.stop_timeout_s - 1) * 10**9)
    lifecycle.settle_stopping(subnet)
    why, refund = subnet.answer_to(early)
    assert (why.code, why.error_code, refund) == (RejectCode.SYS_TRANSIENT, ErrorCode.STOP_CANISTER_REQUEST_TIMEOUT, 4)
    assert (canister.status, len(canister.stop_calls), subnet.outcome(late)) == (RunStatus.STOPPING, 1, None)


@pytest.mark.spec("management-start-canister", condition=(2, 3))
def test_how_a_canister_starts(subnet: ManagedSubnet) -> None:
    """From any status, each time a version; those who wait for it to stop are told CANISTER_ERROR and get their cycles back."""
    canister = subnet.create(controllers=[USER, ASKER])
    where = {"canister_id": canister.canister_id}
    for version, status in enumerate((RunStatus.RUNNING, RunStatus.STOPPED), 1):
        canister.status = status
        assert subnet.canister_call(ASKER, "start_canister", where, cycles=3) == (None, 3)
        assert (canister.status, canister.version) == (RunStatus.RUNNING, version)
    open_call(subnet, canister)
    waiting = subnet.by_canister(ASKER, "stop_canister", where, cycles=4)
    subnet.run_calls()
    assert subnet.user_call("start_canister", where) is None
    why, refund = subnet.answer_to(waiting)
    assert (why.code, why.error_code, refund) == (RejectCode.CANISTER_ERROR, ErrorCode.CANISTER_STOPPING_CANCELLED, 4)
    assert (canister.status, canister.version, canister.stop_calls) == (RunStatus.RUNNING, 4, [])


@pytest.mark.spec("management-stop-canister", condition=1)
@pytest.mark.spec("management-start-canister", condition=1)
@pytest.mark.spec("management-delete-canister", condition=(2, 3))
@pytest.mark.spec("management-canister-metrics", condition=1)
@pytest.mark.parametrize("method", ["stop_canister", "start_canister", "delete_canister", "canister_metrics"])
def test_controllers_and_subnet_admins_may(subnet: ManagedSubnet, method: str) -> None:
    """Others are told IC0512, or IC0541 where there are admins; the canister itself may not, unless it controls itself."""
    for who, admins, refused in (
        (ASKER, (), None),
        (STRANGER, (STRANGER,), None),
        (STRANGER, (), ErrorCode.CANISTER_INVALID_CONTROLLER),
        (STRANGER, (OTHER,), ErrorCode.CANISTER_INVALID_CONTROLLER_OR_SUBNET_ADMIN),
        (None, (), ErrorCode.CANISTER_INVALID_CONTROLLER),
    ):
        canister = subnet.create(controllers=[ASKER])
        canister.status, subnet.subnet_admins = RunStatus.STOPPED, admins
        where = {"canister_id": canister.canister_id}
        result, refund = subnet.canister_call(who or canister.canister_id, method, where, cycles=2)
        assert (code(result), refund) == (refused, 2), (who, admins)
        if refused:
            assert (canister.canister_id in subnet.canisters, canister.version) == (True, 0)
    subnet.subnet_admins = ()
    own = subnet.create()
    own.settings = replace(own.settings, controllers=(own.canister_id,))
    own.status = RunStatus.STOPPED
    result, _ = subnet.canister_call(own.canister_id, method, {"canister_id": own.canister_id})
    itself = ErrorCode.CANISTER_INVALID_CONTROLLER if method == "delete_canister" else None
    assert (code(result), own.canister_id in subnet.canisters) == (itself, True)


@pytest.mark.spec("management-delete-canister", condition=(1, 4))
def test_what_can_be_deleted(subnet: ManagedSubnet) -> None:
    """A stopped canister, neither running nor stopping, that has nothing in its queues."""
    canister = subnet.create()
    where = {"canister_id": canister.canister_id}
    for status in (RunStatus.RUNNING, RunStatus.STOPPING):
        canister.status = status
        assert code(subnet.user_call("delete_canister", where)) is ErrorCode.CANISTER_NOT_STOPPED
    canister.status = RunStatus.STOPPED
    subnet.ingress(canister, ())
    assert code(subnet.user_call("delete_canister", where)) is ErrorCode.CANISTER_QUEUE_NOT_EMPTY
    canister.queues.pop_input()
    assert subnet.user_call("delete_canister", where) is None
    assert canister.canister_id not in subnet.canisters


# --- reading


@pytest.mark.spec("management-canister-metadata", condition=(1, 2, 3, 4))
def test_metadata_by_caller(subnet: ManagedSubnet) -> None:
    """Public sections for every canister, private ones for those that control it, no others; users have none at all."""
    canister = subnet.create(controllers=[USER, ASKER])
    where = {"canister_id": canister.canister_id}
    result, refund = subnet.canister_call(ASKER, "canister_metadata", {**where, "name": "open"}, cycles=8)
    assert (code(result), refund) == (ErrorCode.CANISTER_REJECTED_MESSAGE, 8)
    assert subnet.install(canister, module(sections=(("open", True), ("secret", False)))) is None
    for sender, name, seen in (
        (STRANGER, "open", True),
        (STRANGER, "secret", False),
        (canister.canister_id, "secret", False),
        (ASKER, "secret", True),
        (ASKER, "none", False),
    ):
        result, refund = subnet.canister_call(sender, "canister_metadata", {**where, "name": name}, cycles=8)
        assert (code(result), refund) == (None if seen else ErrorCode.CANISTER_REJECTED_MESSAGE, 8), (sender, name)
    by_user = subnet.user_call("canister_metadata", {**where, "name": "open"})
    assert code(by_user) is ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE


@pytest.mark.spec("management-canister-status", condition=(1, 2, 3, 4))
def test_status_by_caller(subnet: ManagedSubnet) -> None:
    """Controllers, the canister itself and subnet admins always; others as the canister's setting says."""
    canister = subnet.create(controllers=[USER, ASKER])
    where = {"canister_id": canister.canister_id}

    def sees(who: Principal) -> bool:
        result, refund = subnet.canister_call(who, "canister_status", where, cycles=8)
        assert refund == 8
        assert code(result) in (None, ErrorCode.CANISTER_STATUS_ACCESS_DENIED)
        return not isinstance(result, Reject)

    assert [sees(who) for who in (ASKER, canister.canister_id, STRANGER)] == [True, True, False]
    subnet.subnet_admins = (STRANGER,)
    assert sees(STRANGER)
    subnet.subnet_admins = ()
    other = canister_id(0, 500_002)
    for visibility, seen in (
        ({"allowed_viewers": [STRANGER]}, [True, True, True, False]),
        ({"public": None}, [True, True, True, True]),
        ({"controllers": None}, [True, True, False, False]),
    ):
        subnet.user_call("update_settings", {**where, "settings": {"status_visibility": visibility}})
        assert [sees(who) for who in (ASKER, canister.canister_id, STRANGER, other)] == seen


# --- randomness, cycles, what users may call


@pytest.mark.spec("management-raw-rand", condition=(1, 2, 3, 4))
def test_who_gets_random_bytes(subnet: ManagedSubnet) -> None:
    """32 bytes and all cycles, for a call without argument by a canister of this subnet or the root; nobody else."""
    for sender, refused in (
        (ASKER, None),
        (canister_id(1, 5), None),
        (canister_id(2, 5), ErrorCode.CANISTER_CONTRACT_VIOLATION),
    ):
        result, refund = subnet.canister_call(sender, "raw_rand", cycles=9)
        assert (code(result), refund) == (refused, 9)
        assert refused or len(result) == 32
    assert code(subnet.user_call("raw_rand")) is ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE
    outcome = subnet.take(execute_management_call(subnet, asking("raw_rand", b"no Candid", 9)))
    assert (code(outcome.payload), outcome.refund) == (ErrorCode.INVALID_MANAGEMENT_PAYLOAD, 9)


@pytest.mark.spec("management-deposit-cycles", condition=(1, 2, 3))
@pytest.mark.spec("management-provisional-top-up-canister", condition=(1, 2, 3))
@pytest.mark.parametrize("method", ["deposit_cycles", "provisional_top_up_canister"])
def test_who_gets_cycles(subnet: ManagedSubnet, method: str) -> None:
    """A canister that exists, from anyone: what is attached, or what is named, and nothing else."""
    canister = subnet.create(amount=100)
    deposit = method == "deposit_cycles"
    args = {"canister_id": canister.canister_id} | ({} if deposit else {"amount": 7})
    assert subnet.canister_call(STRANGER, method, args, cycles=12) == (None, 0 if deposit else 12)
    assert canister.balance == 100 + (12 if deposit else 7)
    result, refund = subnet.canister_call(ASKER, method, {**args, "canister_id": canister_id(0, 99)}, cycles=12)
    assert (code(result), refund) == (ErrorCode.CANISTER_NOT_FOUND, 12)
    by_user = subnet.user_call(method, args, sender=OTHER)
    assert code(by_user) is (ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE if deposit else None)
    if not deposit:
        huge = subnet.user_call(method, {**args, "amount": 1 << 128})
        assert code(huge) is ErrorCode.INVALID_MANAGEMENT_PAYLOAD
        assert canister.balance == 100 + 2 * 7
