"""Abstract behaviour, "Scheduling on low wasm memory hook" and "Call context creation: On low wasm memory"."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.principal import Principal
from ic_types.reject import Reply
from ic_types.units import Cycles
from sandbox.protocol import EntryPoint
from scheduler.canister import Canister, RunStatus
from scheduler.snapshots import LowMemoryHook
from scheduler.system_tasks import update_low_memory_hook, waits_for_cycles
from tests.support.fake_executor import FakeWorld, call, certify, grow, reply, work

pytestmark = pytest.mark.spec("rule-on-low-wasm-memory")
PAGE = 65536


def nearly_full(*entry_points: str) -> tuple[FakeWorld, Canister]:
    """A canister with one heap page of ten, and a threshold of three."""
    world = FakeWorld()
    canister = world.add_canister(entry_points=entry_points, wasm_memory_limit=10 * PAGE, wasm_memory_threshold=3 * PAGE)
    world.executor.tasks[canister.canister_id, EntryPoint.ON_LOW_WASM_MEMORY] = [work(1), certify(b"hook")]
    return world, canister


@pytest.mark.spec("call-context-creation", condition=17)
@pytest.mark.spec("rule-on-low-wasm-memory", condition=(1, 5))
@pytest.mark.parametrize(("pages", "runs"), [(6, 0), (7, 1)])
def test_hook_runs_when_little_is_left(pages: int, runs: int) -> None:
    """wasm_memory_limit < |wasm_memory| + wasm_memory_threshold."""
    world, canister = nearly_full("on_low_wasm_memory")
    world.ingress(canister, [work(1), grow(pages), reply()])
    world.run_round()
    assert canister.certified_data == (b"hook" if runs else b"")
    expected = LowMemoryHook.EXECUTED if runs else LowMemoryHook.CONDITION_NOT_SATISFIED
    assert canister.low_memory_hook is expected


@pytest.mark.spec("rule-message-execution", condition=1)
@pytest.mark.spec("rule-on-low-wasm-memory", condition=(1, 5))
def test_hook_runs_before_any_other_message() -> None:
    """No other message of the canister runs while the hook is Ready."""
    world, canister = nearly_full("on_low_wasm_memory", "heartbeat")
    for _ in range(2):
        world.ingress(canister, [work(1), grow(4), reply()])
    world.ingress(canister, [work(1), reply()])
    world.run_round()
    entries = [entry for _, entry, _ in world.executor.executed]
    update, hook = EntryPoint.UPDATE, EntryPoint.ON_LOW_WASM_MEMORY
    assert entries == [EntryPoint.HEARTBEAT, update, update, hook, update]


@pytest.mark.spec("rule-on-low-wasm-memory", condition=3)
def test_hook_runs_once_until_memory_was_free_again() -> None:
    """Executed stays until the condition has been false."""
    world, canister = nearly_full("on_low_wasm_memory")
    for _ in range(3):
        world.ingress(canister, [work(1), grow(8), reply()])
    world.run_round()
    entries = [entry for _, entry, _ in world.executor.executed]
    assert entries.count(EntryPoint.ON_LOW_WASM_MEMORY) == 1


def test_module_without_the_hook_goes_on() -> None:
    """Nothing runs and nothing is held up."""
    world, canister = nearly_full()
    for _ in range(2):
        world.ingress(canister, [work(1), grow(8), reply()])
    world.run_round()
    assert [entry for _, entry, _ in world.executor.executed] == [EntryPoint.UPDATE] * 2
    world.run_round()
    assert canister.canister_id not in world.scheduler.active


@pytest.mark.spec("call-context-creation", condition=17)
def test_hook_waits_for_a_running_canister() -> None:
    """S.canister_status = Running."""
    world, canister = nearly_full("on_low_wasm_memory")
    canister.low_memory_hook = LowMemoryHook.READY
    canister.status = RunStatus.STOPPED
    world.touch(canister.canister_id)
    world.run_round()
    assert canister.low_memory_hook is LowMemoryHook.READY
    canister.status = RunStatus.RUNNING
    world.touch(canister.canister_id)
    world.run_round()
    assert canister.certified_data == b"hook"


@pytest.mark.spec("call-context-creation", condition=17)
def test_hook_waits_until_it_can_be_paid() -> None:
    """It stays Ready, and callbacks still run; nothing else does before it."""
    fees = CyclesCostSchedule()
    world = FakeWorld(fees=fees)
    price = fees.execution(world.limits.instructions_per_message)
    canister = world.add_canister(
        price - 1, entry_points=["on_low_wasm_memory"], wasm_memory_limit=10 * PAGE, wasm_memory_threshold=30 * PAGE
    )
    world.executor.tasks[canister.canister_id, EntryPoint.ON_LOW_WASM_MEMORY] = [work(1), certify(b"hook")]
    canister.low_memory_hook = LowMemoryHook.READY
    world.touch(canister.canister_id)
    world.run_round()
    assert (canister.low_memory_hook, world.executor.executed) == (LowMemoryHook.READY, [])
    assert waits_for_cycles(world, canister)
    canister.balance = Cycles(2 * price)
    assert not waits_for_cycles(world, canister)
    world.run_round()
    assert (canister.low_memory_hook, canister.certified_data) == (LowMemoryHook.EXECUTED, b"hook")


@pytest.mark.spec("rule-on-low-wasm-memory", condition=2)
def test_limit_of_zero() -> None:
    """0 is less than any heap, as the specification says it: the hook runs once."""
    world = FakeWorld()
    canister = world.add_canister(entry_points=["on_low_wasm_memory"], wasm_memory_limit=0)
    world.executor.tasks[canister.canister_id, EntryPoint.ON_LOW_WASM_MEMORY] = [work(1), certify(b"hook")]
    world.ingress(canister, [work(1), grow(1), reply()])
    world.run_round()
    assert (canister.low_memory_hook, canister.certified_data) == (LowMemoryHook.EXECUTED, b"hook")


@pytest.mark.spec("rule-on-low-wasm-memory", condition=(3, 4))
def test_states_of_the_hook() -> None:
    """Executed stays while memory is low; with more room it starts again."""
    _, canister = nearly_full("on_low_wasm_memory")
    canister.settings.wasm_memory_limit = 3 * PAGE
    canister.low_memory_hook = LowMemoryHook.EXECUTED
    update_low_memory_hook(canister)
    assert canister.low_memory_hook is LowMemoryHook.EXECUTED
    canister.settings.wasm_memory_limit = 4 * PAGE
    update_low_memory_hook(canister)
    assert canister.low_memory_hook is LowMemoryHook.CONDITION_NOT_SATISFIED
    canister.settings.wasm_memory_limit = 4 * PAGE - 1
    update_low_memory_hook(canister)
    assert canister.low_memory_hook is LowMemoryHook.READY


@pytest.mark.spec("call-context-creation", condition=17)
def test_hook_of_a_stopping_canister() -> None:
    """Callbacks run before it."""
    world, canister = nearly_full("on_low_wasm_memory")
    world.ingress(canister, [work(1), call(Principal.canister(77), on_reply=[work(1)])])
    world.run_round()
    canister.low_memory_hook, canister.status = LowMemoryHook.READY, RunStatus.STOPPING
    world.answer(world.requests[0], Reply(b""))
    world.run_round()
    assert world.executor.inputs[-1].entry is EntryPoint.REPLY
    assert canister.low_memory_hook is LowMemoryHook.READY
