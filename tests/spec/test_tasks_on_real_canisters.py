"""Global timers, heartbeats and the low-memory hook on real canisters.

Abstract behaviour, "Call context creation: Heartbeat", "... Global timer", "... On low wasm memory"; canister interface,
"Heartbeat", "Global timer", "On Low Wasm Memory".
"""

from __future__ import annotations

import itertools

import pytest

from ic_types.principal import MANAGEMENT_CANISTER, Principal
from subnet.lab.universal import Program, argument, caller, get_global, memory_grow, memory_size, set_timer, time
from tests.support.lone_node import SECOND, example
from tests.support.spec_node import SpecNode

pytestmark = pytest.mark.slow
NOTE = Program().set_global(get_global().concat(b"x"))
SOON = time() + SECOND


def ran(node: SpecNode, canister: Principal) -> bytes:
    """What the canister has noted, looked up without running anything on it."""
    return node.query(canister, Program().reply(get_global())).replied


@pytest.mark.spec("call-context-creation")
@pytest.mark.spec("ic0.global_timer_set")
def test_timer_runs_once_when_its_time_has_come(node: SpecNode) -> None:
    """Not before, and not again unless it is set again."""
    canister = node.universal(Program().on_timer(NOTE).drop(set_timer(time() + 3 * SECOND)))
    seen = []
    for _ in range(5):
        seen.append(ran(node, canister))
        node.round()
    assert seen == [b"", b"", b"", b"x", b"x"]
    assert node.canister(canister).global_timer == 0


@pytest.mark.spec("ic0.global_timer_set")
def test_setting_returns_the_setting_before(node: SpecNode) -> None:
    """Zero if there was none; zero switches it off; the last setting of a message counts."""
    canister = node.universal(Program().on_timer(NOTE))
    far = node.now + 10**6 * SECOND
    program = Program().append(set_timer(far).to_blob()).append(set_timer(far + 1).to_blob()).append(set_timer(0).to_blob())
    seen = node.ask(canister, program.append(set_timer(SOON).to_blob()).append(set_timer(0).to_blob()).send_reply()).replied
    values = [int.from_bytes(seen[k : k + 8], "little") for k in range(0, 40, 8)]
    assert values == [0, far, far + 1, 0, node.now + SECOND]
    node.rounds(3)
    assert ran(node, canister) == b""


@pytest.mark.spec("call-context-creation")
@pytest.mark.spec("ic0.global_timer_set")
def test_timer_is_off_when_it_runs_and_can_be_set_again(node: SpecNode) -> None:
    """global_timer = 0 before the task; a periodic timer runs every round."""
    again = NOTE.drop(set_timer(1))
    canister = node.universal(Program().on_timer(again).drop(set_timer(1)))
    for _ in range(3):
        before = len(ran(node, canister))
        node.round()
        assert len(ran(node, canister)) == before + 1
    old = Program().set_global(set_timer(1).to_blob())
    node.ask(canister, Program().on_timer(old).drop(set_timer(0)).drop(set_timer(1)).reply())
    node.round()
    assert ran(node, canister) == bytes(8)


@pytest.mark.spec("call-context-creation")
def test_timer_that_traps_is_gone(node: SpecNode) -> None:
    """Its context was created, so the timer stays off; nothing of the message stays."""
    canister = node.universal(Program().on_timer(NOTE.trap(b"no")).drop(set_timer(1)))
    node.rounds(3)
    assert ran(node, canister) == b""
    assert node.canister(canister).global_timer == 0
    assert [record.content for record in node.canister(canister).logs] == [b"[TRAP]: no"]


@pytest.mark.spec("call-context-creation")
def test_stopped_canister_keeps_its_timer(node: SpecNode) -> None:
    """It runs once the canister is started again."""
    canister = node.universal(Program().on_timer(NOTE).drop(set_timer(time() + 3 * SECOND)))
    node.stop(canister)
    node.rounds(5)
    assert node.canister(canister).global_timer > 0
    node.done("start_canister", {"canister_id": canister})
    node.round()
    assert ran(node, canister) == b"x"


@pytest.mark.spec("management-upgrade-code")
@pytest.mark.spec("rule-uninstall")
@pytest.mark.parametrize("mode", ["upgrade", "reinstall"])
def test_new_code_switches_the_timer_off(node: SpecNode, mode: str) -> None:
    """Unless it sets one itself; pre_upgrade's setting is forgotten."""
    far = node.now + 10**6 * SECOND
    canister = node.universal(Program().drop(set_timer(far)).on_pre_upgrade(Program().drop(set_timer(far + 1))))
    node.put(canister, example("universal"), mode=mode).replied  # noqa: B018
    assert node.canister(canister).global_timer == 0
    node.put(canister, example("universal"), Program().set_global(set_timer(far + 2).to_blob()), mode=mode).replied  # noqa: B018
    assert node.canister(canister).global_timer == far + 2
    assert ran(node, canister) == bytes(8)
    node.done("uninstall_code", {"canister_id": canister})
    assert node.canister(canister).global_timer == 0


@pytest.mark.spec("call-context-creation")
def test_heartbeat_runs_every_round(node: SpecNode) -> None:
    """Once a round, while the canister is running."""
    canister = node.create()
    node.put(canister, example("universal_heartbeat"), Program().on_heartbeat(NOTE)).replied  # noqa: B018
    before = len(ran(node, canister))
    node.rounds(4)
    assert len(ran(node, canister)) == before + 4
    node.stop(canister)
    node.rounds(3)
    stopped = node.canister(canister).metrics.messages_executed
    node.rounds(2)
    assert node.canister(canister).metrics.messages_executed == stopped
    node.done("delete_canister", {"canister_id": canister})


@pytest.mark.spec("call-context-creation")
@pytest.mark.spec("ic0.msg_caller_copy")
def test_caller_of_tasks_is_the_management_canister(node: SpecNode) -> None:
    """In the task and in the callbacks of its calls."""
    in_callback = Program().set_global(get_global().concat(caller()).concat(argument()))
    callee = node.universal()
    task = (
        Program()
        .set_global(caller().concat(b"!"))
        .call(callee, "query", Program().reply(b"?"), on_reply=in_callback, on_reject=Program())
    )
    canister = node.universal(Program().on_timer(task).drop(set_timer(1)))
    node.rounds(2)
    assert ran(node, canister) == bytes(MANAGEMENT_CANISTER) + b"!" + bytes(MANAGEMENT_CANISTER) + b"?"


@pytest.mark.spec("call-context-creation")
@pytest.mark.parametrize("what", [Program().send_reply(), Program().reject(b"x"), Program().append(b"x")])
def test_tasks_cannot_answer(node: SpecNode, what: Program) -> None:
    """Nor can the callbacks of their calls: nobody waits for it."""
    canister = node.universal(Program().on_timer(NOTE + what).drop(set_timer(1)))
    node.rounds(2)
    assert ran(node, canister) == b""
    (record,) = node.canister(canister).logs
    assert b"cannot be executed in system task mode" in record.content
    cleaned = Program().set_global(b"cleaned")
    task = Program().call(canister, "query", Program().reply(), on_reply=what, on_cleanup=cleaned)
    node.ask(canister, Program().on_timer(task).drop(set_timer(1)).reply())
    node.rounds(2)
    assert ran(node, canister) == b"cleaned"


@pytest.mark.spec("call-context-creation")
def test_timers_and_heartbeats_take_turns_with_messages(node: SpecNode) -> None:
    """In a round both tasks run before its messages, or only messages run; each comes first in turn."""
    canister = node.create()
    note = {name: Program().set_global(get_global().concat(name)) for name in (b"t", b"h", b"m")}
    tasks = Program().on_heartbeat(note[b"h"]).on_timer(note[b"t"].drop(set_timer(1)))
    node.put(canister, example("universal_heartbeat"), tasks.drop(set_timer(1))).replied  # noqa: B018
    seen = []
    for _ in range(6):
        before = len(ran(node, canister))
        node.round(node.message(canister, note[b"m"].reply()))
        seen.append(ran(node, canister)[before:])
    assert sorted(set(seen)) == [b"htm", b"m", b"thm"]
    assert all(a != b for a, b in itertools.pairwise(seen))
    node.stop(canister)
    node.done("delete_canister", {"canister_id": canister})


@pytest.mark.spec("rule-on-low-wasm-memory")
def test_low_memory_hook(node: SpecNode) -> None:
    """It runs right after the message that left less than the threshold, before the next message, once."""
    canister = node.universal(Program().on_low_wasm_memory(NOTE))
    size = node.ask(canister, Program().reply_int(memory_size())).number * 65536
    settings = {"wasm_memory_limit": size + (20 << 16), "wasm_memory_threshold": 5 << 16}
    node.done("update_settings", {"canister_id": canister, "settings": settings})
    assert ran(node, canister) == b""
    grow, look = Program().drop(memory_grow(15)).reply(), Program().reply(get_global())
    first, second = node.message(canister, grow), node.message(canister, look)
    node.round(first, second)
    assert node.outcomes[second.message_id].replied == b""
    node.ask(canister, Program().drop(memory_grow(1)).reply())
    node.rounds(2)
    assert ran(node, canister) == b"x"


@pytest.mark.spec("rule-on-low-wasm-memory")
def test_low_memory_hook_after_a_change_of_settings(node: SpecNode) -> None:
    """Settings alone can make the condition true, and false again."""
    canister = node.universal(Program().on_low_wasm_memory(NOTE))
    size = node.ask(canister, Program().reply_int(memory_size())).number * 65536
    tight = {"wasm_memory_limit": size, "wasm_memory_threshold": 1}
    for count in (1, 2):
        node.done("update_settings", {"canister_id": canister, "settings": tight})
        node.rounds(2)
        assert ran(node, canister) == b"x" * count
        node.done("update_settings", {"canister_id": canister, "settings": {"wasm_memory_threshold": 0}})
        node.rounds(2)
