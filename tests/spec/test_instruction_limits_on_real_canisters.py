"""Messages that run long, and too long, on real canisters with small limits.

Abstract behaviour, "Message execution" (`cycles_used <= MAX_CYCLES_PER_MESSAGE`) and "Initiating canister calls"; canister
interface, "Performance counter". Slices aren't in the specification: they must not show.
"""

from __future__ import annotations

import pytest

from configs.limits import SubnetLimits
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from subnet.lab.universal import (
    Program,
    argument,
    get_global,
    performance_counter,
    set_timer,
    stable_grow,
    stable_read,
    time,
)
from tests.support.lone_node import example
from tests.support.spec_node import SpecNode, management_arg

pytestmark = pytest.mark.slow
M = 1_000_000
NODE_OPTIONS = {
    "limits": SubnetLimits(
        instructions_per_message=40 * M,
        instructions_per_query=5 * M,
        instructions_per_slice=2 * M,
        instructions_per_install_slice=2 * M,
        instructions_per_round=8 * M,
        instruction_overhead_per_execution=2000,
        instruction_overhead_per_canister=8000,
        instruction_overhead_per_canister_finalization=12,
    )
}
SPIN = M // 10
"""Turns of burn_loop that take well below a slice."""


def limit_text(canister: Principal, limit: int) -> str:
    """How the message of IC0522 starts."""
    return f"Error from Canister {canister}: Canister exceeded the limit of {limit} instructions for single message execution."


@pytest.mark.spec("rule-message-execution")
def test_update_that_never_ends(node: SpecNode) -> None:
    """CANISTER_ERROR, IC0522, after the whole limit; nothing of it stays."""
    canister = node.universal()
    outcome = node.ask(canister, Program().set_global(b"lost").burn_loop(-1), "update")
    assert outcome.rejected == (5, "IC0522")
    assert outcome.message.startswith(limit_text(canister, 40 * M))
    assert node.ask(canister, Program().reply(get_global())).replied == b""
    assert node.canister(canister).metrics.instructions > 40 * M


@pytest.mark.spec("rule-message-execution")
def test_query_method_that_never_ends(node: SpecNode) -> None:
    """Limit of queries, called as an update and as a query."""
    canister = node.universal()
    outcome = node.ask(canister, Program().burn_loop(-1), "query")
    assert outcome.rejected == (5, "IC0522")
    assert outcome.message.startswith(limit_text(canister, 5 * M))
    assert node.query(canister, Program().burn_loop(-1)).rejected == (5, "IC0522")


@pytest.mark.spec("initiating-canister-calls")
@pytest.mark.spec("respond-to-user-request")
@pytest.mark.spec("ic0.time")
def test_long_message(node: SpecNode) -> None:
    """Processing while it runs over several rounds, with the time of its first; others of the canister wait as Received."""
    canister = node.universal()
    program = Program().append(time().to_blob()).burn_loop(SPIN * 20).append(time().to_blob()).send_reply()
    message = node.submit(canister, program)
    started = node.now
    assert node.status(message) == "processing"
    waiting = node.submit(canister, Program().reply(b"next"))
    assert node.status(waiting) == "received"
    assert node.outcome(message).replied == started.to_bytes(8, "little") * 2
    assert node.now > started
    assert node.outcome(waiting).replied == b"next"


@pytest.mark.spec("user-request-rejection")
def test_message_that_expires_while_it_waits(node: SpecNode) -> None:
    """IC0202: it was received, but not started in time; the one that started goes on."""
    canister = node.universal()
    message = node.submit(canister, Program().burn_loop(SPIN * 20).reply(b"long"))
    waiting = node.submit(canister, Program().reply(b"next"), expiry=node.now + 10**9)
    assert node.status(waiting) == "received"
    node.round()
    assert node.outcome(waiting).rejected == (2, "IC0202")
    assert node.outcome(message).replied == b"long"


@pytest.mark.spec("rule-message-execution")
def test_long_message_survives_checkpoints(node: SpecNode) -> None:
    """A checkpoint aborts it; it runs again from its start and is paid once."""
    canister = node.universal()
    had = node.canister(canister).metrics.instructions
    message = node.submit(canister, Program().set_global(get_global().concat(b"x")).burn_loop(SPIN * 10).reply(b"long"))
    node.round(checkpoint=True)
    assert node.outcome(message).replied == b"long"
    used = node.canister(canister).metrics.instructions - had
    assert used < 20 * M
    assert node.ask(canister, Program().reply(get_global())).replied == b"x"


@pytest.mark.spec("management-install-code")
@pytest.mark.parametrize("checkpoint", [False, True])
def test_long_install(node: SpecNode, checkpoint: bool) -> None:
    """Over several rounds its cycles stay accounted for and nothing else of the canister runs; a checkpoint only delays it."""
    canister = node.universal(Program().set_global(b"old"))
    value = {"mode": {"reinstall": None}, "canister_id": canister, "wasm_module": example("universal")}
    arg = bytes(Program().burn_loop(SPIN * 20).set_global(b"new"))
    node.canister(canister).install_debit = type(node.canister(canister).install_debit)(0)
    install = node.submit(MANAGEMENT_CANISTER, management_arg("install_code", {**value, "arg": arg}), "install_code")
    waiting = node.submit(canister, Program().reply(get_global()))
    node.check()
    node.round(checkpoint=checkpoint)
    assert (node.status(install), node.status(waiting)) == ("processing", "received")
    node.check()
    assert node.outcome(install, rounds=40).replied == b"DIDL\0\0"
    assert node.outcome(waiting).replied == b"new"


@pytest.mark.spec("management-install-code")
@pytest.mark.parametrize("checkpoint", [False, True])
def test_long_upgrade(node: SpecNode, checkpoint: bool) -> None:
    """Both of its steps run long: queries see the old state meanwhile, a checkpoint only delays it."""
    old = Program().stable_write(0, get_global()).burn_loop(SPIN * 20)
    canister = node.universal(Program().drop(stable_grow(1)).set_global(b"old").on_pre_upgrade(old))
    value = {"mode": {"upgrade": None}, "canister_id": canister, "wasm_module": example("universal")}
    arg = bytes(Program().burn_loop(SPIN * 20).set_global(stable_read(0, 3).concat(b" new")))
    node.canister(canister).install_debit = type(node.canister(canister).install_debit)(0)
    upgrade = node.submit(MANAGEMENT_CANISTER, management_arg("install_code", {**value, "arg": arg}), "install_code")
    rounds = 0
    while node.status(upgrade) == "processing":
        assert node.query(canister, Program().reply(get_global())).replied == b"old"
        node.check()
        node.round(checkpoint=checkpoint and rounds == 5)
        rounds += 1
    assert rounds > 8
    assert node.outcome(upgrade).replied == b"DIDL\0\0"
    assert node.ask(canister, Program().reply(get_global())).replied == b"old new"


@pytest.mark.spec("rule-message-execution")
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("task", ["heartbeat", "timer"])
def test_long_system_tasks(node: SpecNode, task: str, checkpoint: bool) -> None:
    """Over several rounds; until it ends queries see the state before it, and a checkpoint lets it start again."""
    canister = node.universal()
    work = Program().set_global(get_global().concat(b"x")).burn_loop(SPIN * 30)
    if task == "heartbeat":
        assert node.put(canister, example("universal_heartbeat"), Program().on_heartbeat(work), "reinstall").replied
    else:
        assert node.ask(canister, Program().on_timer(work).drop(set_timer(1)).reply(b"set")).replied == b"set"
    rounds = 0
    while not (seen := node.query(canister, Program().reply(get_global())).replied):
        node.round(checkpoint=checkpoint and rounds == 1)
        rounds += 1
    assert rounds > (4 if checkpoint else 3)
    assert seen == b"x"


@pytest.mark.spec("callback-invocation")
@pytest.mark.spec("concrete-canister-module")
def test_callback_that_never_ends(node: SpecNode) -> None:
    """IC0522; its cleanup still has instructions left and runs."""
    canister, callee = node.universal(), node.universal()
    program = Program().call(
        callee,
        "update",
        Program().reply(),
        on_reply=Program().burn_loop(-1),
        on_cleanup=Program().burn_loop(SPIN // 2).set_global(b"cleaned"),
    )
    message = node.submit(canister, program)
    outcome = node.outcome(message, rounds=40)
    assert outcome.rejected == (5, "IC0522")
    assert node.ask(canister, Program().reply(get_global())).replied == b"cleaned"


@pytest.mark.spec("ic0.performance_counter")
def test_counter_of_the_message(node: SpecNode) -> None:
    """Grows with what is executed, over slices, and starts anew in a callback."""
    canister, callee = node.universal(), node.universal()
    count = performance_counter(0).to_blob()
    program = Program().append(count).burn_loop(SPIN).append(count).burn_loop(SPIN * 10).append(count).send_reply()
    seen = node.ask(canister, program).replied
    first, second, third = (int.from_bytes(seen[k : k + 8], "little") for k in (0, 8, 16))
    assert 0 < first < 100_000
    per_turn, rest = divmod(second - first, SPIN)
    assert rest < 10_000
    assert third - second == pytest.approx((second - first) * 10, rel=0.01)
    assert third > 2 * M * 3
    program = Program().burn_loop(SPIN).call(callee, "update", Program().reply(), on_reply=Program().reply(count))
    assert node.ask(canister, program).number < 100_000
    assert per_turn in range(3, 12)


@pytest.mark.spec("ic0.performance_counter")
def test_counter_of_the_call_context(node: SpecNode) -> None:
    """Type 1 adds up over the messages of the context; what the callee does isn't in it; other types trap."""
    canister, callee = node.universal(), node.universal()
    count = performance_counter(1).to_blob()
    inner = Program().burn_loop(SPIN * 10).reply(count)
    program = Program().burn_loop(SPIN).append(count)
    program = Program().set_global(count) + program.call(
        callee, "update", inner, on_reply=Program().reply(argument().concat(performance_counter(0).to_blob()).concat(count))
    )
    seen = node.ask(canister, program).replied
    of_callee, here, context = (int.from_bytes(seen[k : k + 8], "little") for k in (0, 8, 16))
    spun = SPIN * 3
    assert of_callee > spun * 10
    assert spun < context - here < of_callee // 2
    outcome = node.ask(canister, Program().reply_int(performance_counter(2)))
    assert outcome.rejected == (5, "IC0504")


@pytest.mark.spec("ic0.performance_counter")
def test_counters_agree_in_the_first_message(node: SpecNode) -> None:
    """The later of the two readings includes the earlier."""
    both = Program().append(performance_counter(0).to_blob()).append(performance_counter(1).to_blob()).send_reply()
    seen = node.ask(node.universal(), both).replied
    first, second = int.from_bytes(seen[:8], "little"), int.from_bytes(seen[8:], "little")
    assert first < second < first + 20_000


@pytest.mark.spec("rule-message-execution")
def test_other_canisters_run_beside_a_long_message(node: SpecNode) -> None:
    """Another canister's messages don't wait for it."""
    canister, other = node.universal(), node.universal()
    message = node.submit(canister, Program().burn_loop(SPIN * 30).reply(b"long"))
    quick = node.submit(other, Program().reply(b"quick"))
    assert node.outcomes[quick.message_id].replied == b"quick"
    assert node.status(message) == "processing"
    assert node.outcome(message, rounds=40).replied == b"long"
