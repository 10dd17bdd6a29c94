"""Cycles attached to calls, accepted, refunded and paid, to the cycle, on real canisters that cost nothing to exist.

Abstract behaviour, "Message execution" and "Callback invocation"; canister interface, "Cycles".
"""

from __future__ import annotations

from typing import Any

import pytest

from ic_types.principal import Principal
from subnet.lab.universal import (
    Program,
    argument,
    cost_call,
    cost_create_canister,
    cycles_accept,
    cycles_available,
    cycles_balance,
    cycles_burn,
    cycles_refunded,
    get_global,
    liquid_balance,
    wide,
)
from tests.support.spec_node import CALL_PRICE, FEES, LIMITS, NO_IDLE_COST, NOBODY, Outcome, SpecNode

pytestmark = pytest.mark.slow
NODE_OPTIONS = {"fees": NO_IDLE_COST}
BASE = FEES.update_execution_base
RESPONSE_PRICE = FEES.transmission(LIMITS.max_payload)
SENT, TAKEN = 10**12, 3 * 10**11
REFUNDED = Program().reply(cycles_refunded())


class Watched:
    """What two canisters paid, and for how many instructions, since the last look."""

    def __init__(self, node: SpecNode, *canisters: Principal) -> None:
        self.node, self.canisters = node, canisters
        self.before = self.look()

    def look(self) -> list[tuple[int, int]]:
        return [(self.node.balance(c), self.node.canister(c).metrics.instructions) for c in self.canisters]

    def paid(self) -> list[int]:
        """Cycles that left each balance beside those for instructions."""
        after = self.look()
        return [old - new - (ran - had) for (old, had), (new, ran) in zip(self.before, after, strict=True)]


def pair(node: SpecNode) -> tuple[Principal, Principal]:
    """A caller and a callee."""
    return node.universal(), node.universal()


def called(node: SpecNode, caller: Principal, callee: Principal, inner: Program, **fields: Any) -> tuple[Outcome, int]:
    """Call with SENT cycles; the outcome, and what the call costs the caller beside instructions and cycles."""
    program = Program().call(callee, "update", inner, cycles=SENT, **fields)
    message = node.submit(caller, program)
    outcome = node.outcome(message)
    sent_bytes = len("update") + len(bytes(inner))
    return outcome, FEES.ingress(message.raw_bytes) + 2 * BASE + FEES.xnet_call + FEES.transmission(sent_bytes)


@pytest.mark.spec("rule-message-execution")
@pytest.mark.spec("callback-invocation")
@pytest.mark.spec("ic0.call_cycles_add128")
@pytest.mark.spec("ic0.msg_cycles_accept128")
@pytest.mark.spec("ic0.msg_cycles_refunded128")
def test_accepted_cycles_move_and_the_rest_comes_back(node: SpecNode) -> None:
    """The caller loses what was accepted and the price of the call, the callee gains it; both pay for instructions."""
    caller, callee = pair(node)
    watched = Watched(node, caller, callee)
    outcome, price = called(node, caller, callee, Program().drop(cycles_accept(TAKEN)).reply(b"reply"), on_reply=REFUNDED)
    assert outcome.number == SENT - TAKEN
    assert watched.paid() == [price + FEES.transmission(len(b"reply")) + TAKEN, BASE - TAKEN]


@pytest.mark.spec("rule-starvation")
@pytest.mark.parametrize(
    ("inner", "text_size"),
    [
        (Program().reject(b"no"), 2),
        (Program(), len("No response")),
        (Program().drop(cycles_accept(TAKEN)).trap(b"undone"), None),
    ],
)
def test_unanswered_calls_give_their_cycles_back(node: SpecNode, inner: Program, text_size: int | None) -> None:
    """Reject, no answer, or a trap after accepting: everything comes back."""
    caller, callee = pair(node)
    watched = Watched(node, caller, callee)
    outcome, price = called(node, caller, callee, inner, on_reject=REFUNDED)
    assert outcome.number == SENT
    of_caller, of_callee = watched.paid()
    assert of_callee == BASE
    if text_size is not None:
        assert of_caller == price + FEES.transmission(text_size)


@pytest.mark.spec("request-rejection")
@pytest.mark.spec("calls-to-stopped-stopping-canisters-are-rejected")
@pytest.mark.parametrize("exists", [True, False])
def test_calls_that_never_run_give_their_cycles_back(node: SpecNode, exists: bool) -> None:
    """To a stopped canister, and to none at all; only transmission is paid."""
    caller, callee = pair(node)
    node.stop(callee)
    target, text = (callee, f"Canister {callee} is stopped") if exists else (NOBODY, f"Canister {NOBODY} not found")
    watched = Watched(node, caller, callee)
    outcome, price = called(node, caller, target, Program(), on_reject=REFUNDED)
    assert outcome.number == SENT
    assert watched.paid() == [price + FEES.transmission(len(text)), 0]


@pytest.mark.spec("ic0.msg_cycles_available128")
@pytest.mark.spec("ic0.msg_cycles_accept128")
def test_cycles_stay_available_in_the_callbacks_of_the_callee(node: SpecNode) -> None:
    """Until the call is answered: part at once, part in a callback, and no more than there are."""
    caller, callee = pair(node)
    later = Program().append(cycles_available()).append(cycles_accept(SENT * 5)).append(cycles_available()).send_reply()
    inner = Program().drop(cycles_accept(TAKEN)).call(callee, "query", Program().reply(), on_reply=later)
    watched = Watched(node, callee)
    outcome, _ = called(node, caller, callee, inner)
    rest = SENT - TAKEN
    assert outcome.replied == rest.to_bytes(16, "little") * 2 + bytes(16)
    own_call = FEES.xnet_call + FEES.transmission(len("query") + len(bytes(Program().reply())))
    assert watched.paid() == [3 * BASE + own_call - SENT]


@pytest.mark.spec("ic0.msg_cycles_available128")
@pytest.mark.spec("ic0.msg_cycles_accept128")
def test_nothing_is_available_after_the_answer(node: SpecNode) -> None:
    """It is refunded with the answer; accepting then moves nothing."""
    caller, callee = pair(node)
    after = Program().set_global(cycles_available().concat(cycles_accept(5)))
    outcome, _ = called(node, caller, callee, Program().reply() + after, on_reply=REFUNDED)
    assert outcome.number == SENT
    assert node.ask(callee, Program().reply(get_global())).replied == bytes(32)


@pytest.mark.spec("call-context-creation")
@pytest.mark.spec("ic0.msg_cycles_available128")
def test_users_attach_no_cycles(node: SpecNode) -> None:
    """Nothing is available, nothing accepted."""
    program = Program().append(cycles_available()).append(cycles_accept(10)).send_reply()
    assert node.ask(node.universal(), program).replied == bytes(32)


@pytest.mark.spec("rule-message-execution")
@pytest.mark.spec("ic0.msg_cycles_accept128")
def test_replicated_query_accepts_cycles(node: SpecNode) -> None:
    """Though its other changes are forgotten."""
    caller, callee = pair(node)
    watched = Watched(node, callee)
    inner = Program().drop(cycles_accept(TAKEN)).reply()
    program = Program().call(callee, "query", inner, cycles=SENT, on_reply=REFUNDED)
    assert node.ask(caller, program).number == SENT - TAKEN
    assert watched.paid() == [BASE - TAKEN]


@pytest.mark.spec("ic0.canister_cycle_balance128")
@pytest.mark.spec("ic0.canister_liquid_cycle_balance128")
@pytest.mark.spec("call-context-creation")
def test_balance_is_short_of_the_reserve_for_the_message(node: SpecNode) -> None:
    """And of what call_cycles_add and call_perform have taken; with no idle cost all of it is liquid."""
    canister = node.universal()
    show = Program().append(cycles_balance())
    call = show.call(canister, "query", Program().reply(), cycles=7, on_reply=Program()) + show
    message = node.message(canister, call.append(liquid_balance()).send_reply())
    before = node.balance(canister)
    node.round(message)
    seen = node.outcomes[message.message_id].replied
    first, second, liquid = (int.from_bytes(seen[k : k + 16], "little") for k in (0, 16, 32))
    assert before - FEES.ingress(message.raw_bytes) - CALL_PRICE == first
    price = FEES.call(len("query") + len(bytes(Program().reply())), LIMITS.instructions_per_message, LIMITS.max_payload)
    assert first - second == price + 7
    assert liquid == second
    node.rounds(1)


@pytest.mark.spec("ic0.cost_call")
def test_cost_call_is_what_call_perform_takes(node: SpecNode) -> None:
    """Base, request, largest response and its execution."""
    canister = node.universal()
    inner = Program().reply()
    told = node.ask(canister, Program().reply(cost_call(len("query"), len(bytes(inner))))).number
    assert told == FEES.xnet_call + FEES.transmission(len("query") + len(bytes(inner))) + RESPONSE_PRICE + CALL_PRICE
    program = Program().append(cycles_balance()).call(canister, "query", inner, on_reply=Program()).append(cycles_balance())
    seen = node.ask(canister, program.send_reply()).replied
    assert int.from_bytes(seen[:16], "little") - int.from_bytes(seen[16:], "little") == told


@pytest.mark.spec("ic0.cost_create_canister")
def test_cost_of_creating_a_canister(node: SpecNode) -> None:
    """The fee of this subnet's size."""
    assert node.ask(node.universal(), Program().reply(cost_create_canister())).number == FEES.canister_creation


@pytest.mark.spec("ic0.call_perform")
@pytest.mark.spec("ic0.call_cycles_add128")
def test_call_that_cannot_be_paid(node: SpecNode) -> None:
    """call_perform returns 2, attached cycles are back, and the message goes on."""
    canister = node.universal()
    node.ask(canister, Program().drop(cycles_burn(node.balance(canister) - CALL_PRICE - 10**9)).reply())
    failed = Program().append(cycles_balance()).send_reply()
    program = Program().append(cycles_balance()).call(canister, "update", cycles=1000, if_not_performed=failed)
    seen = node.ask(canister, program).replied
    assert seen[:16] == seen[16:]
    assert len(seen) == 32


@pytest.mark.spec("ic0.call_cycles_add128")
def test_more_cycles_than_there_are(node: SpecNode) -> None:
    """call_cycles_add128 traps with IC0504."""
    canister = node.universal()
    outcome = node.ask(canister, Program().call(canister, "update", cycles=10**15))
    assert outcome.rejected == (5, "IC0504")
    assert f"Canister {canister} is out of cycles" in outcome.message


@pytest.mark.spec("ic0.call_cycles_add128")
def test_cycles_of_a_dropped_call_come_back(node: SpecNode) -> None:
    """When call_new starts another call, and at the end of the message."""
    canister = node.universal()
    half = Program().call(canister, "update", cycles=10**14).code
    unfinished = Program(half[: half.index(b"\x26")])
    show = Program().append(cycles_balance())
    watched = Watched(node, canister)
    program = show + unfinished + unfinished + show + unfinished
    message = node.submit(canister, program.send_reply())
    seen = node.outcomes[message.message_id].replied
    assert int.from_bytes(seen[:16], "little") - int.from_bytes(seen[16:], "little") == 10**14
    assert watched.paid() == [FEES.ingress(message.raw_bytes) + BASE]


@pytest.mark.spec("ic0.cycles_burn128")
def test_burned_cycles_are_gone(node: SpecNode) -> None:
    """As many as asked for, or as are liquid; a trap undoes it."""
    canister = node.universal()
    watched = Watched(node, canister)
    message = node.submit(canister, Program().reply(cycles_burn(TAKEN)))
    assert node.outcomes[message.message_id].number == TAKEN
    assert watched.paid() == [FEES.ingress(message.raw_bytes) + BASE + TAKEN]
    watched = Watched(node, canister)
    message = node.submit(canister, Program().drop(cycles_burn(TAKEN)).trap(b""))
    assert watched.paid() == [FEES.ingress(message.raw_bytes) + BASE]
    everything = node.ask(canister, Program().append(liquid_balance()).append(cycles_burn(1 << 120)).send_reply()).replied
    assert everything[:16] == everything[16:]


@pytest.mark.spec("rule-message-execution")
def test_failed_message_pays_for_its_instructions(node: SpecNode) -> None:
    """And for nothing else: attached cycles and the price of its calls are back."""
    canister = node.universal()
    watched = Watched(node, canister)
    message = node.submit(canister, Program().call(canister, "update", cycles=SENT).trap(b"no"))
    assert node.outcomes[message.message_id].rejected == (5, "IC0503")
    assert watched.paid() == [FEES.ingress(message.raw_bytes) + BASE]


@pytest.mark.spec("ic0.canister_cycle_balance128")
@pytest.mark.spec("ic0.call_cycles_add128")
@pytest.mark.spec("management-provisional-create-canister")
def test_amounts_beyond_64_bits(node: SpecNode) -> None:
    """Balance, attached, available, accepted and refunded cycles have 128 bits."""
    caller, callee = node.universal(cycles=1 << 100), node.universal()
    assert node.ask(caller, Program().reply(cycles_balance())).number > 1 << 99
    inner = Program().append(cycles_available()).append(cycles_accept(1 << 70)).send_reply()
    program = Program().call(
        callee, "update", inner, cycles=1 << 80, on_reply=Program().reply(argument().concat(cycles_refunded()))
    )
    seen = node.ask(caller, program).replied
    values = [int.from_bytes(seen[k : k + 16], "little") for k in (0, 16, 32)]
    assert values == [1 << 80, 1 << 70, (1 << 80) - (1 << 70)]


@pytest.mark.spec("concrete-canister-module")
@pytest.mark.spec("ic0.msg_cycles_refunded128")
def test_refund_is_in_the_balance_when_the_callback_runs(node: SpecNode) -> None:
    """As is what the response didn't cost of its prepaid transmission; a failed callback keeps both."""
    caller, callee = pair(node)
    had = node.canister(caller).metrics.instructions
    show = Program().set_global(cycles_balance())
    after = Program().reply(get_global().concat(cycles_balance()))
    inner = Program().reply()
    seen = node.ask(caller, show.call(callee, "update", inner, cycles=SENT, on_reply=after)).replied
    at_call, in_callback = int.from_bytes(seen[:16], "little"), int.from_bytes(seen[16:], "little")
    instructions = at_call - in_callback - FEES.xnet_call - FEES.transmission(len("update") + len(bytes(inner))) - BASE
    assert 0 < instructions < node.canister(caller).metrics.instructions - had
    watched = Watched(node, caller)
    outcome, price = called(node, caller, callee, Program().reply(), on_reply=Program().trap(b"no"))
    assert outcome.rejected == (5, "IC0503")
    assert watched.paid() == [price]


@pytest.mark.spec("ic0.call_cycles_add128")
def test_cycles_can_be_added_repeatedly(node: SpecNode) -> None:
    """All of them travel with the call."""
    caller, callee = pair(node)
    half = Program().call(callee, "update", Program().reply(cycles_available()), cycles=5).code
    at = half.index(wide(5) + b"\x23")
    more = half[:at] + wide(1 << 65) + b"\x23" + half[at:]
    rich = node.universal(cycles=1 << 70)
    assert node.ask(rich, Program(more)).number == (1 << 65) + 5
    assert node.ask(caller, Program(half)).number == 5
