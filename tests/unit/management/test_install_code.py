"""Installing, reinstalling, upgrading and uninstalling: steps, atomicity, price, slices."""

from __future__ import annotations

from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.reject import ErrorCode, Reject
from ic_types.units import NumInstructions, TimeNs
from sandbox.protocol import EntryPoint
from scheduler.canister import CallContext, Canister, CanisterOrigin
from scheduler.canister_history import CodeUninstall
from scheduler.cycles_account import BurnCause
from subnet.management import dispatch, installs
from tests.support.fake_executor import burn as burn_cycles
from tests.support.fake_executor import certify, dirty, grow, log, set_timer, trap, work
from tests.support.management_world import OTHER, USER, ManagedSubnet, module
from tests.support.routing_world import canister_id

UPGRADE = {"upgrade": None}
KEEP: dict[str, Any] = {"upgrade": {"wasm_memory_persistence": {"keep": None}}}
REPLACE: dict[str, Any] = {"upgrade": {"wasm_memory_persistence": {"replace": None}}}
SKIP: dict[str, Any] = {"upgrade": {"skip_pre_upgrade": True}}
PERSISTENT = (("enhanced-orthogonal-persistence", False),)


@pytest.fixture
def subnet() -> ManagedSubnet:
    """Mainnet's prices; slices of 1000 instructions, 10,000 at most, no rate limit in the way."""
    limits = SubnetLimits(instructions_per_install=10_000, instructions_per_install_slice=1000, dirty_page_overhead=10)
    return ManagedSubnet(fees=CyclesCostSchedule(), limits=limits)


def error(result: object) -> ErrorCode | None:
    """The error code of a reject."""
    assert isinstance(result, Reject), result
    return result.error_code


def entries(subnet: ManagedSubnet) -> list[EntryPoint]:
    """What was run, in order."""
    return [entry for _, entry, _ in subnet.executor.executed]


def installed(subnet: ManagedSubnet, **scripts: Any) -> Canister:
    """A canister with code that may be changed again at once."""
    canister = subnet.create()
    assert subnet.install(canister, module(scripts)) is None
    canister.install_debit = NumInstructions(0)
    return canister


def test_install_runs_start_and_init(subnet: ManagedSubnet) -> None:
    """With the version after the install; effects of init are there afterwards."""
    canister = subnet.create()
    scripts = {
        "start": [work(10), log(b"s")],
        "init": [work(5), certify(b"c"), set_timer(99), dirty(2, 1), burn_cycles(3), log(b"i")],
    }
    assert subnet.install(canister, module(scripts), arg=b"hello") is None
    assert entries(subnet) == [EntryPoint.START, EntryPoint.INIT]
    run = subnet.executor.inputs[1]
    assert (run.arg, run.caller, run.time_ns, run.may_reply) == (b"hello", USER, canister.last_install, False)
    assert [c.canister_version for c in subnet.executor.contexts] == [1, 1]
    assert (canister.version, canister.certified_data, canister.global_timer) == (1, b"c", 99)
    assert [record.content for record in canister.logs] == [b"s", b"i"]
    assert canister.execution is not None
    assert canister.execution.heap.read_page(0)[:1] != b"\x00"
    assert subnet.tally.burned[BurnCause.CYCLES_BURN] == 3
    assert subnet.everything() == 0


def test_install_pays_for_what_it_used(subnet: ManagedSubnet) -> None:
    """Base fee, compilation, instructions and dirty pages; the rest of the prepayment comes back."""
    canister = subnet.create()
    balance = canister.balance
    # 6000 for one operator, 5 for init, 2 dirty pages at 10
    assert subnet.install(canister, module({"init": [work(5), dirty(2)]}, operators=1)) is None
    paid = subnet.fees.execution(10_000) - subnet.fees.instructions(10_000 - 6025)
    assert balance - canister.balance == paid == subnet.tally.burned[BurnCause.INSTRUCTIONS]
    assert canister.install_debit == 6025
    assert canister.heap_delta_debit == 2 * 4096 == subnet.scheduler.heap_delta_estimate


def test_known_modules_hardly_cost_the_round(subnet: ManagedSubnet) -> None:
    """The canister pays in full; the round a hundredth."""
    first, second = subnet.create(), subnet.create()
    args = {"mode": {"install": None}, "wasm_module": module(operators=1), "arg": b""}
    subnet.by_user("install_code", {**args, "canister_id": first.canister_id})
    assert subnet.run_calls() == 6000
    subnet.by_user("install_code", {**args, "canister_id": second.canister_id})
    assert subnet.run_calls() == 60
    assert first.install_debit == second.install_debit == 6000
    assert first.balance == second.balance


@pytest.mark.spec("management-install-code", condition=2)
@pytest.mark.spec("management-upgrade-code", condition=2)
def test_modes_need_their_state(subnet: ManagedSubnet) -> None:
    """install an empty canister, upgrade a full one; reinstall any."""
    canister = subnet.create()
    assert error(subnet.install(canister, module(), UPGRADE)) is ErrorCode.CANISTER_WASM_MODULE_NOT_FOUND
    assert subnet.install(canister, module(), {"reinstall": None}) is None
    assert error(subnet.install(canister, module(), {"install": None})) is ErrorCode.CANISTER_NON_EMPTY
    assert subnet.executor.compiled == 1


def test_only_controllers_install(subnet: ManagedSubnet) -> None:
    """Nothing is charged."""
    canister = subnet.create()
    result = subnet.install(canister, module(), {"install": None}, sender=OTHER)
    assert error(result) is ErrorCode.CANISTER_INVALID_CONTROLLER
    assert canister.balance == 10**15


@pytest.mark.spec("management-install-code", condition=7)
@pytest.mark.spec("management-upgrade-code", condition=10)
@pytest.mark.parametrize("mode", [{"install": None}, UPGRADE], ids=["install", "upgrade"])
def test_the_limit_must_be_affordable(subnet: ManagedSubnet, mode: Any) -> None:
    """IC0207, without any work done."""
    canister = installed(subnet) if mode is UPGRADE else subnet.create()
    subnet.minted -= canister.balance - 100
    canister.balance = type(canister.balance)(100)
    old, compiled = canister.execution, subnet.executor.compiled
    result = subnet.install(canister, module({"init": [], "post_upgrade": []}), mode)
    assert error(result) is ErrorCode.CANISTER_OUT_OF_CYCLES
    assert result.message.startswith("Canister installation failed with `")
    assert (canister.balance, subnet.executor.compiled, canister.execution) == (100, compiled, old)
    assert subnet.everything() == 0


def test_installs_are_rate_limited(subnet: ManagedSubnet) -> None:
    """IC0209 while earlier ones are still owed."""
    canister = subnet.create()
    assert subnet.install(canister, module({"init": [work(5)]})) is None
    assert error(subnet.install(canister, module(), {"reinstall": None})) is ErrorCode.CANISTER_INSTALL_CODE_RATE_LIMITED
    canister.install_debit = NumInstructions(0)
    assert subnet.install(canister, module(), {"reinstall": None}) is None


@pytest.mark.spec("management-install-code", condition=3)
@pytest.mark.spec("management-upgrade-code", condition=3)
def test_invalid_modules_cost_their_validation(subnet: ManagedSubnet) -> None:
    """IC0505 with the reason, or IC0522 when compiling alone is over the limit."""
    canister = subnet.create()
    result = subnet.install(canister, module(invalid="it is bad"))
    assert error(result) is ErrorCode.CANISTER_INVALID_WASM
    assert "it is bad" in result.message
    assert canister.install_debit > 0
    canister.install_debit = NumInstructions(0)
    assert error(subnet.install(canister, module(operators=2))) is ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED
    assert canister.execution is None
    full = installed(subnet)
    old = full.execution
    assert error(subnet.install(full, module(invalid="it is bad"), UPGRADE)) is ErrorCode.CANISTER_INVALID_WASM
    assert full.execution is old
    assert subnet.everything() == 0


@pytest.mark.spec("management-install-code", condition=5)
@pytest.mark.spec("management-upgrade-code", condition=(5, 8))
@pytest.mark.parametrize(
    ("mode", "step"),
    [("install", "start"), ("install", "init"), ("upgrade", "pre_upgrade"), ("upgrade", "start"), ("upgrade", "post_upgrade")],
)
def test_every_step_must_succeed(subnet: ManagedSubnet, mode: str, step: str) -> None:
    """IC0503 with its text; no new code, version or history."""
    broken = module({step: [trap(f"no {step}")]})
    canister = (
        subnet.create()
        if mode == "install"
        else installed(subnet, **({step: [trap(f"no {step}")]} if step == "pre_upgrade" else {}))
    )
    before = canister.execution, canister.version, canister.history
    result = subnet.install(canister, broken, {mode: None})
    assert error(result) is ErrorCode.CANISTER_CALLED_TRAP
    assert f"no {step}" in result.message
    assert before == (canister.execution, canister.version, canister.history)
    assert subnet.everything() == 0


def test_a_trap_in_any_step_leaves_the_canister_as_it_was(subnet: ManagedSubnet) -> None:
    """But for the price and the logs."""
    canister = installed(subnet, pre_upgrade=[work(3), dirty(1), certify(b"no"), set_timer(5), log(b"pre")])
    old, version = canister.execution, canister.version
    root = old.heap.root_hash() if old is not None else b""
    result = subnet.install(canister, module({"post_upgrade": [dirty(3), log(b"post"), trap("bad")]}), UPGRADE)
    assert error(result) is ErrorCode.CANISTER_CALLED_TRAP
    assert result.message.startswith(f"Error from Canister {canister.canister_id}: ")
    assert canister.execution is old
    assert old is not None
    assert old.heap.root_hash() == root
    assert (canister.version, canister.certified_data, canister.global_timer) == (version, b"", 0)
    assert [record.content for record in canister.logs] == [b"pre", b"post"]
    # work, one dirty page of pre_upgrade, three of post_upgrade
    assert canister.install_debit == 3 + 4 * 10
    assert subnet.everything() == 0


def test_upgrade_keeps_stable_memory_and_loses_the_heap(subnet: ManagedSubnet) -> None:
    """pre_upgrade on the old code, start and post_upgrade on the new, versions accordingly."""
    canister = installed(subnet, init=[dirty(2, 1)], pre_upgrade=[dirty(1, 2), certify(b"pre")])
    canister.global_timer = TimeNs(77)
    subnet.executor.executed.clear()
    subnet.executor.contexts.clear()
    assert subnet.install(canister, module({"start": [], "post_upgrade": [set_timer(5)]}), UPGRADE, arg=b"up") is None
    assert entries(subnet) == [EntryPoint.PRE_UPGRADE, EntryPoint.START, EntryPoint.POST_UPGRADE]
    assert [c.canister_version for c in subnet.executor.contexts] == [1, 2, 2]
    assert [c.global_timer for c in subnet.executor.contexts] == [77, 0, 0]
    assert subnet.executor.inputs[-1].arg == b"up"
    execution = canister.execution
    assert execution is not None
    assert execution.heap.read_page(0) == bytes(4096)
    assert execution.stable.read_page(1)[:1] != b"\x00"
    assert (canister.version, canister.certified_data, canister.global_timer) == (2, b"pre", 5)


@pytest.mark.spec("management-upgrade-code", condition=5)
def test_upgrade_may_skip_pre_upgrade_and_clears_the_timer(subnet: ManagedSubnet) -> None:
    """As asked for; without a new timer there is none."""
    canister = installed(subnet, pre_upgrade=[trap("stuck")])
    canister.global_timer = TimeNs(77)
    canister.certified_data = b"kept"
    subnet.executor.executed.clear()
    assert subnet.install(canister, module(), SKIP) is None
    assert entries(subnet) == []
    assert (canister.global_timer, canister.certified_data) == (0, b"kept")


def test_reinstall_starts_over(subnet: ManagedSubnet) -> None:
    """Stable memory, certified data and old logs are gone; settings and balance stay."""
    canister = installed(subnet, init=[dirty(1, 1), certify(b"old"), log(b"old")])
    assert subnet.install(canister, module({"init": [log(b"new")]}), {"reinstall": None}) is None
    assert canister.execution is not None
    assert canister.execution.stable.read_page(0) == bytes(4096)
    assert canister.certified_data == b""
    assert [record.content for record in canister.logs] == [b"new"]


@pytest.mark.spec("management-upgrade-code", condition=(6, 7))
def test_a_persistent_heap_is_not_lost_by_accident(subnet: ManagedSubnet) -> None:
    """An upgrade has to say keep or replace; keep needs code that supports it."""
    canister = subnet.create()
    assert subnet.install(canister, module({"init": [dirty(2), grow(4)]}, sections=PERSISTENT)) is None
    canister.install_debit = NumInstructions(0)
    result = subnet.install(canister, module(sections=PERSISTENT), UPGRADE)
    assert error(result) is ErrorCode.CANISTER_CONTRACT_VIOLATION
    assert result.message.startswith("Missing upgrade option: ")
    result = subnet.install(canister, module(), KEEP)
    assert error(result) is ErrorCode.CANISTER_CONTRACT_VIOLATION
    assert subnet.install(canister, module(sections=PERSISTENT, heap_pages=2), KEEP) is None
    assert canister.execution is not None
    assert canister.execution.heap.wasm_pages == 5
    assert canister.execution.heap.read_page(1)[:1] != b"\x00"
    assert subnet.install(canister, module(sections=PERSISTENT), REPLACE) is None
    assert canister.execution.heap.wasm_pages == 1


def test_steps_share_one_limit(subnet: ManagedSubnet) -> None:
    """IC0522 in the step that exceeds what the earlier ones left."""
    canister = subnet.create()
    result = subnet.install(canister, module({"start": [work(6000)], "init": [work(6000)]}))
    assert error(result) is ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED
    assert canister.install_debit == 10_000
    assert canister.execution is None


@pytest.mark.spec("management-install-code", condition=8)
@pytest.mark.spec("management-upgrade-code", condition=11)
@pytest.mark.parametrize("mode", [{"install": None}, UPGRADE], ids=["install", "upgrade"])
def test_growth_must_be_affordable(mode: Any) -> None:
    """IC0532 when the new freezing threshold isn't covered."""
    subnet = ManagedSubnet(fees=CyclesCostSchedule(), limits=SubnetLimits(instructions_per_install=10_000))
    canister = subnet.create(amount=2 * 10**13, freezing_threshold=10**9)
    if mode is UPGRADE:
        assert subnet.install(canister, module()) is None
    old = canister.execution
    result = subnet.install(canister, module(heap_pages=1000), mode)
    assert error(result) is ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW
    assert canister.execution is old
    assert subnet.everything() == 0


@pytest.mark.spec("management-install-code", condition=9)
@pytest.mark.spec("management-upgrade-code", condition=12)
@pytest.mark.parametrize("mode", [{"install": None}, {"reinstall": None}, UPGRADE], ids=["install", "reinstall", "upgrade"])
def test_the_heap_has_the_limit_of_the_canister(subnet: ManagedSubnet, mode: Any) -> None:
    """IC0539 when it is larger, the canister stays as it was; 0 stands for no limit."""
    canister = subnet.create(wasm_memory_limit=2 << 16)
    if mode == UPGRADE:
        assert subnet.install(canister, module()) is None
    old = canister.execution
    result = subnet.install(canister, module(heap_pages=3), mode)
    assert error(result) is ErrorCode.CANISTER_WASM_MEMORY_LIMIT_EXCEEDED
    assert canister.execution is old
    for limit, pages in ((3 << 16, 3), (0, 4)):
        canister.install_debit = NumInstructions(0)
        canister.settings.wasm_memory_limit = limit
        if mode == {"install": None}:
            assert subnet.user_call("uninstall_code", {"canister_id": canister.canister_id}) is None
        assert subnet.install(canister, module(heap_pages=pages), mode) is None
    assert subnet.everything() == 0


def test_a_long_install_runs_a_slice_per_round(subnet: ManagedSubnet) -> None:
    """Nothing else about the canister happens meanwhile; time in its steps stands still."""
    canister, other, third = subnet.create(), subnet.create(), subnet.create()
    args = {"canister_id": canister.canister_id, "mode": {"install": None}, "arg": b""}
    wasm = module({"start": [work(1500)], "init": [work(1500), certify(b"x")]})
    message = subnet.by_user("install_code", {**args, "wasm_module": wasm})
    assert subnet.run_calls() == 1000
    long, started = canister.long_install, subnet.time
    assert long is not None
    assert (long.paused, long.slices, long.instructions, subnet.processing) == (True, 1, 1000, [message])
    status = subnet.by_user("canister_status", {"canister_id": canister.canister_id})
    second = subnet.by_user("install_code", {**args, "canister_id": other.canister_id, "wasm_module": module()})
    behind = subnet.by_user("canister_status", {"canister_id": other.canister_id})
    free = subnet.by_user("canister_status", {"canister_id": third.canister_id})
    subnet.run_calls()
    assert [subnet.outcome(m) is None for m in (status, second, behind, free)] == [True, True, True, False]
    before = subnet.everything()
    subnet.next_round()
    assert subnet.take(dispatch.continue_install(subnet, 0)) == 500 + 1000
    assert (canister.long_install, long.slices) == (long, 2)
    subnet.next_round()
    assert subnet.take(dispatch.continue_install(subnet, 0)) == 500
    assert canister.long_install is None
    assert canister.certified_data == b"x"
    assert {run.time_ns for run in subnet.executor.inputs} == {started}
    assert canister.install_debit == 3000
    assert subnet.everything() == before
    assert subnet.take(dispatch.continue_install(subnet, 0)) is None
    subnet.run_calls()
    assert subnet.outcome(status) is not None
    assert subnet.outcome(second) is not None


def test_an_aborted_install_starts_again_already_paid(subnet: ManagedSubnet) -> None:
    """Same result and price as an undisturbed one."""
    wasm = module({"start": [work(1500)], "init": [work(1500), certify(b"x")]})
    plain, disturbed = subnet.create(), subnet.create()
    assert subnet.install(plain, wasm) is None
    args = {"canister_id": disturbed.canister_id, "mode": {"install": None}, "wasm_module": wasm, "arg": b""}
    message = subnet.by_user("install_code", args)
    subnet.run_calls()
    subnet.next_round()
    subnet.take(dispatch.continue_install(subnet, 0))
    balance = disturbed.balance
    subnet.take(installs.abort_all(subnet))
    long = disturbed.long_install
    assert long is not None
    assert (long.paused, long.slices, disturbed.balance, subnet.executor.aborted) == (False, 0, balance, 1)
    subnet.next_round()
    rounds = 0
    while subnet.outcome(message) is None:
        subnet.take(dispatch.continue_install(subnet, 0))
        subnet.next_round()
        rounds += 1
    assert rounds == 3
    assert disturbed.certified_data == b"x"
    assert (disturbed.balance, disturbed.install_debit) == (plain.balance, plain.install_debit)
    assert subnet.everything() == 0


def test_a_long_install_that_fails_leaves_nothing_behind(subnet: ManagedSubnet) -> None:
    """The canister is free again."""
    canister = subnet.create()
    result = subnet.install(canister, module({"init": [work(2500), trap("late")]}))
    assert error(result) is ErrorCode.CANISTER_CALLED_TRAP
    assert canister.long_install is None
    assert not subnet.installs.ongoing
    assert not subnet.installs.suspended
    assert subnet.everything() == 0


def test_a_canisters_install_call_is_answered_with_its_cycles(subnet: ManagedSubnet) -> None:
    """Over rounds too."""
    caller, canister = subnet.add_canister(), subnet.create()
    canister.settings.controllers = (caller.canister_id,)
    args = {"mode": {"install": None}, "canister_id": canister.canister_id, "wasm_module": module({"init": [work(1500)]})}
    asked = subnet.by_canister(caller.canister_id, "install_code", {**args, "arg": b""}, cycles=5)
    subnet.run_calls()
    subnet.take(dispatch.continue_install(subnet, 0))
    assert subnet.answer_to(asked) == (None, 5)


@pytest.mark.spec("rule-uninstall", condition=(2, 3, 4))
def test_uninstalling_empties_the_canister_and_rejects_open_calls(subnet: ManagedSubnet) -> None:
    """What still waits for responses stays as a deleted context."""
    canister = installed(subnet, init=[certify(b"x"), set_timer(9), log(b"l")])
    caller = canister_id(1, 0)
    subnet.request(canister, (), cycles=8, sender=caller)
    request = canister.queues.pop_input()
    assert request is not None
    origin = CanisterOrigin(caller, request.callback_id, 0)  # type: ignore[union-attr]
    context = CallContext(1, origin, 8, subnet.time, outstanding_calls=1)  # type: ignore[arg-type]
    canister.contexts[1] = context  # type: ignore[index]
    assert subnet.user_call("uninstall_code", {"canister_id": canister.canister_id}) is None
    assert (canister.execution, canister.certified_data, canister.global_timer, list(canister.logs)) == (None, b"", 0, [])
    assert (context.deleted, context.responded, canister.version) == (True, True, 2)
    assert (canister.history.total, canister.history.changes[-1].details) == (3, CodeUninstall())
    answer = canister.queues.pop_output(caller)
    assert (answer.refund, answer.payload.code) == (8, 4)  # type: ignore[union-attr]
