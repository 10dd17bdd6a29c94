"""What existing costs, canisters that are nearly out of cycles, frozen or quite out of them; on real canisters.

Abstract behaviour, "Cycle bookkeeping and resource consumption", "Calls to frozen canisters are rejected", "Canister out of
cycles", "Time progressing, cycle consumption, ...".
"""

from __future__ import annotations

import pytest

from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.lab.universal import (
    Program,
    cycles_balance,
    cycles_burn,
    get_global,
    liquid_balance,
    memory_grow,
    reject_code,
    set_timer,
    stable_grow,
)
from tests.support.spec_node import CALL_PRICE, FEES, SpecNode, management_arg

pytestmark = pytest.mark.slow
DAY = 86_400
RAW_RAND = (bytes(MANAGEMENT_CANISTER), "raw_rand", b"DIDL\0\0")
BURN_ALL = Program().drop(cycles_burn(1 << 127))


def memory_of(node: SpecNode, canister: CanisterId) -> int:
    """Bytes that the canister pays for."""
    return node.canister(canister).memory_usage()


def threshold(node: SpecNode, canister: CanisterId, seconds: int) -> int:
    """Freezing limit: idle_cycles_burned_rate * freezing_threshold / (24 * 60 * 60)."""
    return FEES.idle_per_day(memory_usage=memory_of(node, canister), message_memory=0, compute_allocation=0) * seconds // DAY


def paid(node: SpecNode, canister: CanisterId, seconds: int) -> int:
    """What existing costs in one round so many seconds later; the last charge was one second before the look at it."""
    node.round(seconds=1000)
    before = node.done("canister_status", {"canister_id": canister})["cycles"]
    node.round(seconds=seconds)
    arg = management_arg("canister_status", {"canister_id": canister})
    message = node.submit(MANAGEMENT_CANISTER, arg, "canister_status")
    after = node.balance(canister)
    assert node.outcomes[message.message_id].reply is not None
    return int(before - after - FEES.ingress(message.raw_bytes))


def freeze(node: SpecNode, canister: CanisterId) -> None:
    """Raise the threshold above the balance."""
    node.done("update_settings", {"canister_id": canister, "settings": {"freezing_threshold": 10**13}})


def thaw(node: SpecNode, canister: CanisterId) -> None:
    """Lower it again; a short update_settings costs nothing beforehand."""
    node.done("update_settings", {"canister_id": canister, "settings": {"freezing_threshold": 0}})


@pytest.mark.spec("helper-functions")
@pytest.mark.spec("ic0.canister_liquid_cycle_balance128")
@pytest.mark.spec("ic0.canister_cycle_balance128")
def test_liquid_balance(node: SpecNode) -> None:
    """balance - max(freezing_limit - reserved_balance, 0)."""
    canister = node.universal(freezing_threshold=100 * DAY)
    seen = node.ask(canister, Program().append(cycles_balance()).append(liquid_balance()).send_reply()).replied
    balance, liquid = int.from_bytes(seen[:16], "little"), int.from_bytes(seen[16:], "little")
    assert balance - liquid == threshold(node, canister, 100 * DAY) > 0


@pytest.mark.spec("ic0.cycles_burn128")
def test_burning_stops_at_the_threshold(node: SpecNode) -> None:
    """liquid_balance is all that can be burned."""
    canister = node.universal(freezing_threshold=100 * DAY)
    seen = node.ask(
        canister, Program().append(liquid_balance()).append(cycles_burn(1 << 127)).append(liquid_balance()).send_reply()
    )
    assert seen.replied == seen.replied[:16] * 2 + bytes(16)


@pytest.mark.spec("ic0.call_cycles_add128")
@pytest.mark.spec("ic0.call_perform")
def test_calls_stop_at_the_threshold(node: SpecNode) -> None:
    """Attaching more than the liquid balance traps; a call whose price isn't liquid isn't performed."""
    canister = node.universal(freezing_threshold=100 * DAY)
    limit = threshold(node, canister, 100 * DAY)
    over = node.balance(canister) - CALL_PRICE - limit + 1
    assert node.ask(canister, Program().call(canister, "query", cycles=over)).rejected == (5, "IC0504")
    program = BURN_ALL.call(canister, "query", if_not_performed=Program().reply(b"not performed"))
    assert node.ask(canister, program).replied == b"not performed"
    assert node.balance(canister) >= limit


@pytest.mark.spec("call-context-creation")
def test_message_needs_the_price_of_its_limit(node: SpecNode) -> None:
    """Not frozen, but too poor for an update: SYS_TRANSIENT, IC0207; queries are free."""
    canister = node.universal(Program().set_global(b"here"), freezing_threshold=0)
    node.ask(canister, BURN_ALL.reply())
    assert CALL_PRICE > node.balance(canister) > 0  # the unused part of the reserve is left
    assert node.ask(canister, Program().reply()).rejected == (2, "IC0207")
    assert node.query(canister, Program().reply(get_global())).replied == b"here"
    node.rounds(1)


@pytest.mark.spec("ic0.stable64_grow")
@pytest.mark.spec("rule-message-execution")
@pytest.mark.parametrize("grow", [Program().drop(stable_grow(1000)), Program().drop(memory_grow(1000))])
def test_memory_that_would_freeze_the_canister(node: SpecNode, grow: Program) -> None:
    """IC0532, and nothing is allocated."""
    canister = node.universal(freezing_threshold=10**9)
    spare = node.balance(canister) - CALL_PRICE - threshold(node, canister, 10**9) - 10**9
    node.ask(canister, Program().drop(cycles_burn(spare)).reply())
    before = memory_of(node, canister)
    outcome = node.ask(canister, grow.reply())
    assert outcome.rejected == (5, "IC0532")
    assert "due to insufficient cycles" in outcome.message
    assert memory_of(node, canister) == before


@pytest.mark.spec("calls-to-frozen-canisters-are-rejected")
def test_frozen_canister_can_only_be_thawed(node: SpecNode) -> None:
    """Management calls about it can't be paid; a short update_settings can."""
    canister = node.universal()
    freeze(node, canister)
    for method in ("canister_status", "stop_canister", "uninstall_code"):
        assert node.managed(method, {"canister_id": canister}).rejected == (2, "IC0207")
    big = [{"name": f"variable {k}", "value": "x" * 100} for k in range(5)]
    long_one = {"canister_id": canister, "settings": {"environment_variables": big}}
    assert node.managed("update_settings", long_one).rejected == (2, "IC0207")
    thaw(node, canister)
    node.done("canister_status", {"canister_id": canister})


@pytest.mark.spec("callback-invocation")
def test_callbacks_of_a_frozen_canister_run(node: SpecNode) -> None:
    """They were paid for when the call was made."""
    canister = node.universal()
    message = node.submit(canister, Program().call(*RAW_RAND, on_reply=Program().reply(b"warm")))
    freeze(node, canister)
    assert node.outcome(message).replied == b"warm"


@pytest.mark.spec("call-context-creation")
def test_timer_of_a_frozen_canister_waits(node: SpecNode) -> None:
    """It stays set, and runs when the canister can pay again."""
    canister = node.universal(Program().on_timer(Program().set_global(b"ran")))
    node.ask(canister, Program().drop(set_timer(node.now + 3 * 10**9)).reply())
    freeze(node, canister)
    node.rounds(4)
    assert node.canister(canister).global_timer > 0
    thaw(node, canister)
    node.rounds(1)
    assert node.query(canister, Program().reply(get_global())).replied == b"ran"


@pytest.mark.spec("call-context-creation")
@pytest.mark.spec("calls-to-stopped-stopping-canisters-are-rejected")
def test_self_call_of_a_stopping_canister(node: SpecNode) -> None:
    """Its callbacks may call, but calls to itself are rejected with CANISTER_ERROR; then it stops."""
    canister = node.universal()
    inner = Program().call(canister, "update", Program().reply(), on_reject=Program().reply_int(reject_code()))
    message = node.submit(canister, Program().call(*RAW_RAND, on_reply=inner))
    stop = node.submit(MANAGEMENT_CANISTER, management_arg("stop_canister", {"canister_id": canister}), "stop_canister")
    assert node.outcome(message).number == 5
    assert node.outcome(stop).replied == b"DIDL\0\0"


@pytest.mark.spec("time-progressing")
def test_memory_is_paid_by_time(node: SpecNode) -> None:
    """What a day costs, for the seconds that passed; an empty canister pays for its history."""
    canister, empty = node.universal(), node.create()
    per_day = FEES.idle_per_day(memory_usage=memory_of(node, canister), message_memory=0, compute_allocation=0)
    assert paid(node, canister, 1000) == per_day * 1001 // DAY
    assert paid(node, canister, 9000) == per_day * 9001 // DAY
    history = FEES.idle_per_day(memory_usage=memory_of(node, empty), message_memory=0, compute_allocation=0)
    assert paid(node, empty, 1000) == history * 1001 // DAY


@pytest.mark.spec("time-progressing")
def test_allocations_are_paid_by_time(node: SpecNode) -> None:
    """Compute by the percent, memory by the larger of allocation and use."""
    canister = node.create(memory_allocation=1 << 30, compute_allocation=2)
    memory = FEES.idle_per_day(memory_usage=1 << 30, message_memory=0, compute_allocation=0) * 1001 // DAY
    assert paid(node, canister, 1000) == memory + FEES.compute_percent_per_second * 2 * 1001
    node.done("update_settings", {"canister_id": canister, "settings": {"memory_allocation": 0, "compute_allocation": 0}})
    history = FEES.idle_per_day(memory_usage=memory_of(node, canister), message_memory=0, compute_allocation=0)
    assert paid(node, canister, 1000) == history * 1001 // DAY


@pytest.mark.spec("canister-out-of-cycles")
def test_canister_out_of_cycles_is_uninstalled(node: SpecNode) -> None:
    """Code, state, timer, logs and allocations go; the version goes up; open calls are rejected with CANISTER_REJECT."""
    canister = node.universal(Program().print(b"log"), freezing_threshold=0)
    node.done("update_settings", {"canister_id": canister, "settings": {"memory_allocation": 1 << 33}})
    never = Program().call(*RAW_RAND, on_reply=Program().reply(b"late"))
    poor = never.drop(set_timer(10**18 * 9)) + BURN_ALL
    waiting = node.submit(canister, Program().call(*RAW_RAND, on_reply=poor))
    version = node.canister(canister).version
    node.rounds(2)
    assert node.status(waiting) == "processing"
    node.round(seconds=10**7)
    record = node.canister(canister)
    assert (record.execution, record.balance, record.global_timer, record.certified_data, list(record.logs)) == (
        None,
        0,
        0,
        b"",
        [],
    )
    assert (record.settings.memory_allocation, record.settings.compute_allocation) == (0, 0)
    assert record.version > version
    outcome = node.outcome(waiting)
    assert outcome.rejected == (4, "IC0406")
    assert node.ask(canister, Program().reply()).rejected == (2, "IC0207")
    node.rounds(3)
    assert not record.contexts
