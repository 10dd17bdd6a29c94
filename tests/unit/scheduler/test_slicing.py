"""Messages longer than a slice: pause, resume, abort, and what happens to their canister meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.messages import Response
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reply
from ic_types.units import Cycles, TimeNs
from sandbox.protocol import EntryPoint
from scheduler import cycles_account
from scheduler.canister import Canister
from scheduler.invariants import broken
from tests.support.fake_executor import FakeWorld, call, reply, set_timer, trap, work

FEES = CyclesCostSchedule()
LIMITS = SubnetLimits(
    instructions_per_round=99,
    instructions_per_slice=50,
    instructions_per_install_slice=50,
    instructions_per_message=1000,
    instruction_overhead_per_execution=0,
    instruction_overhead_per_canister=0,
    instruction_overhead_per_canister_finalization=0,
)


def small(fees: CyclesCostSchedule = FEES, **changes: int) -> FakeWorld:
    """A world with slices of 50 instructions and rounds of one slice."""
    return FakeWorld(fees=fees, limits=replace(LIMITS, **changes), interval_ns=1000)


def long_of(canister: Canister) -> tuple[bool, int, int]:
    """(paused, slices, instructions) of the long execution."""
    long = canister.long_execution
    assert long is not None
    return (long.paused, long.slices, long.instructions)


def test_long_message_takes_a_slice_per_round() -> None:
    """120 instructions in slices of 50 end in the third round; the canister is untouched until then."""
    world = small()
    canister = world.add_canister()
    message_id = world.ingress(canister, [work(120), set_timer(10**18), reply(b"ok")])
    prepaid = FEES.execution(1000)
    for slices in (1, 2):
        summary = world.run_round()
        assert (summary.messages, summary.slices, summary.instructions) == (0, 1, 50)
        assert long_of(canister) == (True, slices, 50 * slices)
        assert (canister.version, canister.contexts, canister.next_context_id) == (0, {}, 1)
        assert canister.balance == 10**15 - prepaid
        assert world.all_cycles() == 10**15
        assert not list(broken(canister))
    world.run_round()
    assert world.outcome(message_id) == b"ok"
    assert world.processing == [message_id]
    assert canister.long_execution is None
    assert 10**15 - canister.balance == 5_000_120
    assert world.all_cycles() == 10**15


def test_time_stays_that_of_the_first_slice() -> None:
    """`ic0.time` and the call context carry the time of the round in which the message started."""
    world = small()
    canister = world.add_canister()
    start = world.time
    world.ingress(canister, [work(120), call(Principal.canister(77))])
    world.run_rounds()
    (context,) = canister.contexts.values()
    assert context.created == context.call_tree_start == start


def test_nothing_else_of_the_canister_runs_meanwhile() -> None:
    """Later messages wait for the long one."""
    world = small()
    canister = world.add_canister()
    first = world.ingress(canister, [work(120), reply(b"1")])
    second = world.ingress(canister, [work(1), reply(b"2")])
    world.run_round()
    world.run_round()
    assert world.outcome(second) is None
    world.run_round()
    assert world.outcome(first) == b"1"
    assert world.outcome(second) is None  # its canister's long message ended in this round
    world.run_round()
    assert world.outcome(second) == b"2"


def test_other_canisters_run_on_other_cores() -> None:
    """A long execution doesn't hold up short messages elsewhere."""
    world = small()
    long, short = world.add_canister(), world.add_canister()
    world.ingress(long, [work(500), reply()])
    world.run_round()
    message_id = world.ingress(short, [work(1), reply(b"quick")])
    world.run_round()
    assert world.outcome(message_id) == b"quick"


def test_message_over_its_limit_fails_in_its_last_slice() -> None:
    """A message that needs more than the limit pays all of it and is answered with IC0522."""
    world = small()
    canister = world.add_canister()
    message_id = world.ingress(canister, [work(5000), reply()])
    assert world.run_rounds() == 20
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED
    assert 10**15 - canister.balance == FEES.execution(1000)


def test_checkpoint_aborts_and_the_message_starts_again() -> None:
    """Finished slices are lost, the prepayment isn't; the bill is that of one run."""
    world = small()
    canister = world.add_canister()
    message_id = world.ingress(canister, [work(120), reply(b"ok")])
    world.is_checkpoint = True
    assert world.run_round().aborted == 1
    assert long_of(canister) == (False, 0, 0)
    assert world.executor.aborted == 1
    assert not list(broken(canister))
    world.is_checkpoint = False
    assert world.run_rounds() == 3
    assert world.outcome(message_id) == b"ok"
    assert world.processing == [message_id]
    assert 10**15 - canister.balance == 5_000_120


def test_restarted_message_takes_the_time_of_its_new_start() -> None:
    """An aborted message begins anew in every respect but payment."""
    world = small()
    canister = world.add_canister()
    world.ingress(canister, [work(120), call(Principal.canister(77))])
    world.is_checkpoint = True
    world.run_round()
    world.is_checkpoint = False
    again = world.time
    world.run_rounds()
    (context,) = canister.contexts.values()
    assert context.created == again


def test_only_so_many_stay_paused() -> None:
    """Beyond the limit, those last in scheduling order are aborted."""
    world = small(max_paused_executions=2)
    canisters = [world.add_canister() for _ in range(4)]
    for canister in canisters:
        world.ingress(canister, [work(500), reply()])
    assert world.run_round().aborted == 2
    assert [long_of(c)[0] for c in canisters] == [True, True, False, False]


def test_aborted_message_of_an_emptied_canister_is_refused() -> None:
    """If the code went away before the restart, the call is refused and the prepayment comes back but for the base fee."""
    world = small()
    canister = world.add_canister()
    message_id = world.ingress(canister, [work(120), reply()])
    world.is_checkpoint = True
    world.run_round()
    canister.execution = None
    world.touch(canister.canister_id)
    world.run_round()
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_WASM_MODULE_NOT_FOUND
    assert 10**15 - canister.balance == 5_000_000
    assert canister.long_execution is None


def test_induction_fees_wait_until_the_end() -> None:
    """While paused the balance stays; the debit is paid when the message ends."""
    world = small()
    canister = world.add_canister()
    world.ingress(canister, [work(120), reply()])
    world.run_round()
    before = canister.balance
    assert cycles_account.charge_ingress(world, canister, 100) is None
    fee = FEES.ingress(100)
    assert canister.balance == before
    assert canister.long_execution is not None
    assert canister.long_execution.ingress_debit == fee
    world.run_rounds()
    assert 10**15 - canister.balance == 5_000_120 + fee
    assert world.all_cycles() == 10**15


def test_induction_fees_that_are_not_there_are_refused() -> None:
    """Debits count against the balance when the next fee is checked."""
    world = small()
    fee = FEES.ingress(100)
    canister = world.add_canister(FEES.execution(1000) + fee)
    world.ingress(canister, [work(120), reply()])
    world.run_round()
    assert cycles_account.charge_ingress(world, canister, 100) is None
    refused = cycles_account.charge_ingress(world, canister, 100)
    assert refused is not None
    assert refused.error_code is ErrorCode.CANISTER_OUT_OF_CYCLES


def test_abort_pays_the_debit() -> None:
    """After an abort the balance is up to date."""
    world = small()
    canister = world.add_canister()
    world.ingress(canister, [work(120), reply()])
    world.run_round()
    before = canister.balance
    cycles_account.charge_ingress(world, canister, 100)
    world.is_checkpoint = True
    world.run_round()
    assert before - canister.balance == FEES.ingress(100)


def test_debit_can_fail_a_message_that_spends() -> None:
    """A sliced message whose calls no longer fit beside the debit fails with IC0207 and changes nothing."""
    world = small()
    price = FEES.call(6 + 200, 1000, 2 << 20)
    canister = world.add_canister(FEES.execution(1000) + price)
    message_id = world.ingress(canister, [work(120), call(Principal.canister(77))])
    world.run_round()
    assert cycles_account.charge_ingress(world, canister, 5_000) is None
    world.run_rounds()
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_OUT_OF_CYCLES
    assert (canister.callbacks, canister.contexts) == ({}, {})
    assert canister.version == 0


@pytest.mark.parametrize("ends", [reply(b"ok"), trap("late")])
def test_long_callback(ends: tuple[object, ...]) -> None:
    """A callback is sliced like a call; its refunds count when it ends, its cleanup runs in the same round."""
    world = small()
    canister = world.add_canister()
    message_id = world.ingress(
        canister, [call(Principal.canister(77), cycles=90, on_reply=[work(120), ends], on_cleanup=[work(3)])]
    )
    world.run_round()
    request = world.remote.pop()
    canister.queues.push_input_response(
        Response(
            originator=canister.canister_id,
            respondent=request.receiver,  # type: ignore[union-attr]
            callback_id=request.callback_id,
            refund=Cycles(90),
            payload=Reply(b""),
        ),
        local=False,
    )
    world.touch(canister.canister_id)
    before = canister.balance
    for _ in range(2):
        world.run_round()
        assert long_of(canister)[0]
        assert canister.balance == before
        assert world.all_cycles() == 10**15
        assert not list(broken(canister))
    world.run_round()
    assert world.outcome(message_id) is not None
    assert (canister.callbacks, canister.contexts) == ({}, {})
    assert world.all_cycles() == 10**15
    last = world.executor.executed[-1][1]
    assert last is (EntryPoint.REPLY if ends[0] == "reply" else EntryPoint.CLEANUP)


def test_long_timer_clears_the_timer_when_it_ends() -> None:
    """The timer is one-off; while the task is paused the state is as before."""
    world = small()
    canister = world.add_canister(entry_points=["global_timer"])
    canister.global_timer = TimeNs(1)
    world.executor.tasks[canister.canister_id, EntryPoint.GLOBAL_TIMER] = [work(70)]
    world.touch(canister.canister_id)
    world.run_round()
    assert canister.global_timer == 1
    world.run_round()
    assert canister.global_timer == 0
    assert canister.long_execution is None
