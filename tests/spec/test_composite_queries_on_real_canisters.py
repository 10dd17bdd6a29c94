"""Composite queries that call others, on real canisters. Abstract behaviour, "Query call", `composite_query_helper`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.limits import SubnetLimits
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal
from subnet.lab.universal import (
    Program,
    argument,
    caller,
    certificate_present,
    cycles_accept,
    cycles_available,
    cycles_balance,
    cycles_burn,
    cycles_refunded,
    deadline,
    get_global,
    in_replicated_execution,
    memory_grow,
    memory_size,
    page_byte,
    performance_counter,
    reject_code,
    reject_message,
    root_key,
    self_id,
    set_timer,
    stable_grow,
    stable_read,
    stable_size,
    time,
)
from subnet.protocol import QueryReply, QueryRequest
from tests.support.spec_node import NOBODY, USER, Outcome, SpecNode, management_arg

pytestmark = [pytest.mark.slow, pytest.mark.spec("query-call")]
LIMITS = SubnetLimits(instructions_per_query=50_000_000, instruction_overhead_per_query_call=1_000_000)
STRIKES: list[str] = []
"""Points at which sandboxes are killed."""


def strike(point: str, pid: int) -> None:
    """Kill a sandbox that has just answered a query."""
    if point in STRIKES:
        os.kill(pid, signal.SIGKILL)


NODE_OPTIONS = {"limits": LIMITS, "fault_point": strike}
SPIN = 1_000_000
"""Turns of a loop that burn 7 million instructions or more."""
ELSEWHERE = Principal.canister((5 << 20) + 1)
"""A canister id outside of the subnet's range."""
TOLD = Program().reply(reject_code().to_blob().slice(0, 1).concat(reject_message()))
"""Answers with reject code and message."""


def compose(node: SpecNode, canister: CanisterId, program: Program) -> Outcome:
    """Run a program as a composite query of USER."""
    return node.query(canister, program, "composite_query")


def ask(callee: CanisterId, program: Program | bytes, method: str = "query", **how: Any) -> Program:
    """Call a query method of another canister."""
    return Program().call(callee, method, program, **how)


def chain(callees: list[CanisterId], last: Program) -> Program:
    """Each calls the next; the last runs `last`."""
    return last if not callees else ask(callees[0], chain(callees[1:], last), "composite_query")


# --- calls and their answers


@pytest.mark.parametrize("method", ["query", "composite_query"])
@pytest.mark.spec("query-call", condition=(6, 8))
def test_the_callee_sees_the_calling_canister(node: SpecNode, method: str) -> None:
    """caller, argument, time; no deadline, not replicated, no certificate."""
    a, b = node.universal(), node.universal()
    told = caller().concat(self_id()).concat(time().to_blob()).concat(deadline().to_blob())
    told = told.concat(in_replicated_execution().to_blob()).concat(certificate_present().to_blob())
    program = Program().reply(told)
    numbers = b"".join(number.to_bytes(8, "little") for number in (node.now, 0, 0, 0))
    assert compose(node, a, ask(b, program, method)).replied == bytes(a) + bytes(b) + numbers
    assert compose(node, a, ask(b, Program().reply(argument()), method)).replied == bytes(Program().reply(argument()))


@pytest.mark.spec("ic0.msg_caller_copy")
@pytest.mark.spec("ic0.data_certificate_present")
@pytest.mark.spec("ic0.data_certificate_copy")
@pytest.mark.spec("query-call", condition=(6, 7, 8))
def test_what_a_callback_sees(node: SpecNode) -> None:
    """The caller of the query, the reply as argument, the time; the certificate only before the first call."""
    a, b = node.universal(), node.universal()
    told = caller().concat(argument()).concat(time().to_blob()).concat(certificate_present().to_blob())
    told = told.concat(get_global())
    start = Program().set_global(certificate_present().to_blob())
    program = start + ask(b, Program().reply(b"reply"), on_reply=Program().reply(told))
    expected = bytes(USER) + b"reply" + node.now.to_bytes(8, "little") + bytes(8) + (1).to_bytes(8, "little")
    assert compose(node, a, program).replied == expected


@pytest.mark.parametrize(
    ("program", "method", "code", "text"),
    [
        (Program().reject(b"no"), "query", 4, "no"),
        (
            Program().trap(b"ouch"),
            "query",
            5,
            "Error from Canister {b}: Canister called `ic0.trap` with message: 'ouch'",
        ),
        (Program().trap(b"ouch"), "composite_query", 5, "Error from Canister {b}: Canister called"),
        (Program().unreachable(), "query", 5, "Error from Canister {b}: "),
        (Program(), "query", 5, "Canister {b} did not produce a response"),
        (Program(), "composite_query", 5, "Canister {b} did not produce a response"),
        (Program(), "update", 5, "Error from Canister {b}: Canister has no query method 'update'."),
        (Program(), "missing", 5, "Error from Canister {b}: Canister has no query method 'missing'."),
    ],
)
@pytest.mark.spec("query-call", condition=(4, 11, 16, 20))
def test_rejects_reach_the_caller(node: SpecNode, program: Program, method: str, code: int, text: str) -> None:
    """The reject callback learns code and text; errors carry their code in front, rejects by the canister don't."""
    a, b = node.universal(), node.universal()
    told = compose(node, a, ask(b, program, method, on_reject=TOLD)).replied
    assert told[0] == code
    assert told[1:].decode().startswith(text.format(b=b))


@pytest.mark.spec("query-call", condition=(1, 2, 3, 5, 20))
def test_canisters_that_cannot_be_asked(node: SpecNode) -> None:
    """Unknown, on another subnet, empty, stopped, frozen."""
    a, stopped, frozen, empty = node.universal(), node.universal(), node.universal(), node.create()
    node.stop(stopped)
    node.done("update_settings", {"canister_id": frozen, "settings": {"freezing_threshold": 10**13}})
    frozen_text = f"Canister {frozen} is unable to process query calls because it's frozen. "
    for callee, code, text in (
        (NOBODY, 3, f"Canister {NOBODY} not found"),
        (ELSEWHERE, 3, f"Canister {ELSEWHERE} not found"),
        (empty, 5, f"Error from Canister {empty}: Attempted to execute a message, but the canister contains no"),
        (stopped, 5, f"Canister {stopped} is stopped and therefore does not have a CallContextManager"),
        (frozen, 2, frozen_text + "Please top up the canister with cycles and try again."),
    ):
        told = compose(node, a, ask(callee, Program().reply(), on_reject=TOLD)).replied
        assert (told[0], told[1 : 1 + len(text)].decode()) == (code, text)


@pytest.mark.spec("query-call", condition=3)
def test_stopping_canister(node: SpecNode) -> None:
    """IC0509, of the root and of a callee."""
    a, b = node.universal(), node.universal()
    node.submit(b, Program().call(bytes(MANAGEMENT_CANISTER), b"raw_rand", b"DIDL\0\0"))
    node.submit(MANAGEMENT_CANISTER, management_arg("stop_canister", {"canister_id": b}), "stop_canister")
    assert compose(node, b, Program().reply()).rejected == (5, "IC0509")
    told = compose(node, a, ask(b, Program().reply(), on_reject=TOLD)).replied
    assert told == b"\5" + f"Canister {b} is not running".encode()
    node.rounds(3)


@pytest.mark.spec("query-call", condition=19)
def test_only_queries_of_the_management_canister(node: SpecNode) -> None:
    """Its other methods don't exist for a composite query."""
    told = compose(node, node.universal(), ask(MANAGEMENT_CANISTER, b"DIDL\0\0", "raw_rand", on_reject=TOLD)).replied
    assert told == b"\5Query method raw_rand not found."


@pytest.mark.spec("query-call", condition=16)
def test_default_answers(node: SpecNode) -> None:
    """A reject that is passed on is the canister's own; a silent root did not produce a response."""
    a, b = node.universal(), node.universal()
    passed_on = compose(node, a, ask(b, Program().reject(b"no")))
    assert (passed_on.rejected, passed_on.message) == ((4, "IC0406"), "no")
    silent = compose(node, a, ask(b, Program().reply(), on_reply=Program()))
    assert (silent.rejected, silent.message) == ((5, "IC0506"), f"Canister {a} did not produce a response")


# --- state


@pytest.mark.spec("query-call", condition=(9, 10))
def test_changes_last_until_the_answer(node: SpecNode) -> None:
    """Heap, globals, sizes and stable memory of the method show in its callbacks, and nowhere else."""
    look = Program().append(get_global()).append(page_byte(3).to_blob().slice(0, 1)).append(memory_size().to_blob())
    look = look.append(stable_size().to_blob()).append(stable_read(0, 3)).send_reply()
    a = node.universal(Program().drop(stable_grow(1)).set_global(b"old"))
    b = node.universal()
    before = node.query(a, look).replied
    size = int.from_bytes(before[4:12], "little")
    write = Program().set_global(b"new").set_page_byte(3, 9).drop(memory_grow(2)).drop(stable_grow(1)).stable_write(0, b"abc")
    expected = b"new\x09" + (size + 2).to_bytes(8, "little") + (2).to_bytes(8, "little") + b"abc"
    state = node.round().state_hash
    again = ask(b, Program().reply(), on_reply=look)
    assert compose(node, a, write + ask(b, Program().reply(), on_reply=again)).replied == expected
    assert node.query(a, look).replied == before
    assert compose(node, a, look).replied == before
    assert compose(node, a, ask(b, Program().reply(), on_reply=look)).replied == before
    assert node.ask(a, look).replied == before
    assert state != node.round().state_hash


@pytest.mark.spec("query-call", condition=10)
def test_every_call_sees_the_certified_state(node: SpecNode) -> None:
    """Calls to one canister don't see one another's changes, not even of the canister that is calling."""
    a, b = node.universal(Program().set_global(b"a")), node.universal(Program().set_global(b"b"))
    write = Program().set_global(get_global().concat(b"!")).reply(get_global())
    twice = ask(b, write, "composite_query", on_reply=ask(b, write, "composite_query"))
    assert compose(node, a, twice).replied == b"b!"
    itself = Program().set_global(b"changed") + ask(a, Program().reply(get_global()), "composite_query")
    assert compose(node, a, itself).replied == b"a"
    round_trip = ask(b, ask(a, Program().reply(get_global())), "composite_query")
    assert compose(node, a, Program().set_global(b"changed") + round_trip).replied == b"a"


@pytest.mark.spec("query-call", condition=(9, 15))
def test_calls_are_made_in_order(node: SpecNode) -> None:
    """One after the other, each with everything that it sets off; calls that a callback makes come last."""
    a, b = node.universal(), node.universal()
    note = Program().set_global(get_global().concat(argument()))
    last = note + Program().reply(get_global())
    first = note + ask(b, Program().reply(b"4"), on_reply=last)
    program = ask(b, Program().reply(b"1"), on_reply=first)
    program += ask(b, ask(a, Program().reply(b"2")), "composite_query", on_reply=note)
    program += ask(b, Program().reply(b"3"), on_reply=note)
    assert compose(node, a, program).replied == b"1234"


@pytest.mark.spec("query-call", condition=15)
def test_the_first_answer_ends_it(node: SpecNode) -> None:
    """Calls that aren't made yet never are; a reply beside calls makes none of them."""
    a, b = node.universal(), node.universal()
    program = ask(b, Program().reply(b"first")) + ask(b, Program().burn_loop(100 * SPIN).reply(b"too much"))
    assert compose(node, a, program).replied == b"first"
    assert compose(node, a, ask(b, Program().trap(b"never")) + Program().reply(b"at once")).replied == b"at once"


# --- traps


@pytest.mark.spec("callback-invocation")
@pytest.mark.spec("query-call", condition=(11, 24))
def test_a_callback_that_traps(node: SpecNode) -> None:
    """Its own error, which ends the query: calls that were still wanted aren't made."""
    a, b = node.universal(Program().set_global(b"old")), node.universal()
    trapping = ask(b, Program().reply(), on_reply=Program().set_global(b"lost").trap(b"ouch"))
    outcome = compose(node, a, trapping)
    assert outcome.rejected == (5, "IC0503")
    assert outcome.message.startswith(f"Error from Canister {a}: Canister called `ic0.trap` with message: 'ouch'")
    both = trapping + ask(b, Program().reply(), on_reply=Program().reply(get_global()))
    assert compose(node, a, both).rejected == (5, "IC0503")


@pytest.mark.spec("callback-invocation")
@pytest.mark.spec("query-call", condition=17)
def test_cleanup_runs_after_a_trap(node: SpecNode) -> None:
    """The error is the callback's, and says so if the cleanup fails too."""
    a, b = node.universal(), node.universal()
    cleaning = ask(b, Program().reply(), on_reply=Program().trap(b"ouch"), on_cleanup=Program().set_global(b"clean"))
    assert compose(node, a, cleaning).rejected == (5, "IC0503")
    failing = ask(b, Program().reply(), on_reply=Program().unreachable(), on_cleanup=Program().trap(b"again"))
    outcome = compose(node, a, failing)
    assert outcome.rejected == (5, "IC0502"), "the code is the callback's"
    assert "call_on_cleanup also failed:" in outcome.message
    assert "'again'" in outcome.message


@pytest.mark.parametrize(
    "forbidden",
    [
        Program().drop(cycles_accept(1)),
        Program().drop(cycles_available()),
        Program().drop(cycles_refunded()),
        Program().drop(cycles_burn(1)),
        Program().drop(set_timer(1)),
        Program().certified_data(b"x"),
        Program().drop(root_key()),
        Program().accept(),
        Program().call(b"", b"raw_rand", b"", cycles=1),
    ],
)
def test_functions_that_composite_queries_lack(node: SpecNode, forbidden: Program) -> None:
    """IC0504 in the method, in callbacks and in the cleanup: no cycles, nothing that would last."""
    a, b = node.universal(), node.universal()
    assert compose(node, a, forbidden.reply()).rejected == (5, "IC0504")
    assert compose(node, a, ask(b, Program().reply(), on_reply=forbidden.reply())).rejected == (5, "IC0504")
    assert compose(node, a, ask(b, Program().trap(b""), on_reject=forbidden.reply())).rejected == (5, "IC0504")
    cleanup = ask(b, Program().reply(), on_reply=Program().trap(b""), on_cleanup=forbidden)
    outcome = compose(node, a, cleanup)
    assert outcome.rejected == (5, "IC0503")
    assert "cannot be executed in composite cleanup mode" in outcome.message


@pytest.mark.spec("query-call", condition=18)
def test_cleanup_can_neither_answer_nor_call(node: SpecNode) -> None:
    """IC0504 inside of it."""
    a, b = node.universal(), node.universal()
    for forbidden in (Program().reply(b"no"), Program().reject(b"no"), ask(b, Program().reply())):
        outcome = compose(node, a, ask(b, Program().reply(), on_reply=Program().trap(b""), on_cleanup=forbidden))
        assert outcome.rejected == (5, "IC0503")
        assert "cannot be executed in composite cleanup mode" in outcome.message


@pytest.mark.spec("query-call", condition=18)
def test_plain_queries_cannot_call(node: SpecNode) -> None:
    """IC0504, of the root and of a callee."""
    a, b = node.universal(), node.universal()
    assert node.query(a, ask(b, Program().reply())).rejected == (5, "IC0504")
    told = compose(node, a, ask(b, ask(a, Program().reply()), on_reject=TOLD)).replied
    assert told.startswith(b"\5Error from Canister ")


# --- limits


@pytest.mark.spec("query-call", condition=14)
def test_depth(node: SpecNode) -> None:
    """Six calls deep is answered if the last calls nobody; else the last is rejected towards its caller with 5 (IC0525)."""
    canisters = [node.universal() for _ in range(8)]
    assert compose(node, canisters[0], chain(canisters[1:7], Program().reply(b"deep"))).replied == b"deep"
    told = ask(canisters[6], chain(canisters[7:], Program().reply(b"deep")), "composite_query", on_reject=TOLD)
    up = {"on_reply": Program().reply(argument())}
    for callee in reversed(canisters[1:6]):
        told = ask(callee, told, "composite_query", **up)
    text = "Composite query calls exceeded the maximum call depth."
    assert compose(node, canisters[0], told).replied == b"\5" + text.encode()
    alone = [canisters[0]] * 7
    assert compose(node, canisters[0], chain(alone[:6], Program().reply(b"me"))).replied == b"me"
    passed_on = compose(node, canisters[0], chain(alone, Program().reply(b"me")))
    assert (passed_on.rejected, passed_on.message) == ((4, "IC0406"), text), "every caller rejects with what it was told"


@pytest.mark.spec("query-call", condition=12)
def test_instructions_of_the_whole_graph(node: SpecNode) -> None:
    """IC0526 for the whole query when all messages together have used what one may."""
    a, b = node.universal(), node.universal()
    spin = Program().burn_loop(3 * SPIN)
    once = spin + ask(b, spin.reply(b"enough"))
    assert compose(node, a, once).replied == b"enough"
    more = ask(b, spin.reply(), on_reply=ask(b, spin.reply(), on_reject=TOLD), on_reject=TOLD)
    outcome = compose(node, a, spin + more)
    text = "Composite query calls exceeded the instruction limit."
    assert (outcome.rejected, outcome.message) == ((5, "IC0526"), text)
    alone = compose(node, a, Program().burn_loop(20 * SPIN).reply())
    assert alone.rejected == (5, "IC0522"), "a message alone has the limit of a message"
    assert f"{LIMITS.instructions_per_query}" in alone.message.replace("_", "")


@pytest.mark.spec("query-call", condition=(4, 13))
def test_every_call_costs_its_overhead(node: SpecNode) -> None:
    """Fifty calls that do nothing use up fifty times a million."""
    a, b = node.universal(), node.universal()
    nothing = ask(b, Program().reply(), on_reply=Program())
    few = sum([nothing] * 40, Program()) + ask(b, Program().reply(b"done"))
    assert compose(node, a, few).replied == b"done"
    many = sum([nothing] * 50, Program()) + ask(b, Program().reply(b"done"))
    assert compose(node, a, many).rejected == (5, "IC0526")
    refused = ask(NOBODY, Program().reply(), on_reject=Program()) + ask(b, Program(), "missing", on_reject=Program())
    free = sum([refused] * 55, Program()) + ask(b, Program().reply(b"done"))
    assert compose(node, a, free).replied == b"done", "calls that find no method cost nothing"


@pytest.mark.spec("ic0.performance_counter")
def test_performance_counters(node: SpecNode) -> None:
    """Counter 1 goes on from message to message of the context, without what callees use."""
    a, b = node.universal(), node.universal()
    read = Program().reply(performance_counter(1).to_blob().concat(performance_counter(0).to_blob()))
    spin = Program().burn_loop(SPIN)
    told = compose(node, a, spin + ask(b, Program().burn_loop(3 * SPIN).reply(), on_reply=read)).replied
    context, message = int.from_bytes(told[:8], "little"), int.from_bytes(told[8:], "little")
    assert 7 * SPIN < context < 14 * SPIN
    assert message < 100_000


@pytest.mark.spec("query-call", condition=22)
def test_nothing_is_charged(node: SpecNode) -> None:
    """Balances stay, and each message starts from the certified balance."""
    a, b = node.universal(), node.universal()
    before = node.balance(a), node.balance(b)
    seen = compose(node, a, ask(b, Program().reply(), on_reply=Program().reply(cycles_balance()))).number
    assert (seen, node.balance(a), node.balance(b)) == (before[0], *before)


def test_composite_queries_are_for_query_calls_alone(node: SpecNode) -> None:
    """IC0527 as an update call and when an update calls one."""
    a, b = node.universal(), node.universal()
    assert node.ask(a, Program().reply(), "composite_query").rejected == (5, "IC0527")
    told = node.ask(a, ask(b, Program().reply(), "composite_query", on_reject=TOLD)).replied
    assert told == b"\5IC0527: Composite query cannot be called in replicated mode"


# --- many at once, and sandboxes that die


def gather(node: SpecNode, *requests: QueryRequest) -> list[QueryReply]:
    """Run queries side by side."""
    done: dict[int, QueryReply] = {}
    for request in requests:

        def keep(reply: QueryReply) -> None:
            done[reply.cookie] = reply

        node.driver.start_query(node.replica.query(request), keep)
    while len(done) < len(requests):
        node.driver.step(50)
    return [done[request.cookie] for request in requests]


def marked(callers: CanisterId, callee: CanisterId, count: int) -> list[QueryRequest]:
    """Queries of one canister; each writes its mark, asks another canister, and tells what it finds then."""
    requests = []
    for k in range(count):
        mark = bytes([65 + k])
        back = Program().reply(get_global().concat(argument()))
        program = Program().set_global(get_global().concat(mark)) + ask(callee, Program().reply(mark), on_reply=back)
        requests.append(QueryRequest(cookie=k, sender=USER, receiver=callers, method="composite_query", arg=bytes(program)))
    return requests


def test_many_at_once(node: SpecNode) -> None:
    """Queries of the same canisters side by side don't see one another."""
    a, b = node.universal(), node.universal()
    replies = gather(node, *marked(a, b, 12))
    assert [reply.reply for reply in replies] == [bytes([65 + k]) * 2 for k in range(12)]
    assert {a, b} <= set(node.controller.pids("query"))


def test_ways_of_running_change_nothing(sockets: Path) -> None:
    """Fresh instances for every message, batches of one, and sandboxes that are evicted between two messages of a query."""
    node = SpecNode(sockets, limits=LIMITS, reuse_instances=False, batch_size=1, max_sandboxes=2)
    try:
        a, b = node.universal(), node.universal()
        replies = gather(node, *marked(a, b, 6))
        assert [reply.reply for reply in replies] == [bytes([65 + k]) * 2 for k in range(6)]
        look = Program().reply(memory_size().to_blob().concat(page_byte(3).to_blob()))
        write = Program().drop(memory_grow(2)).set_page_byte(3, 9)
        before = node.query(a, look).replied
        changed = compose(node, a, write + ask(b, Program().reply(), on_reply=look)).replied
        assert int.from_bytes(changed[:8], "little") == int.from_bytes(before[:8], "little") + 2
        assert (before[8], changed[8]) == (0, 9)
    finally:
        node.close()


@pytest.fixture
def killer() -> Iterator[None]:
    """Every sandbox dies as soon as it has answered."""
    STRIKES.append("query")
    yield
    STRIKES.clear()


def test_killed_sandboxes_change_nothing(node: SpecNode, killer: None) -> None:
    """What a context has written so far is the node's; the next message runs on it in another sandbox."""
    a, b = node.universal(), node.universal()
    note = Program().set_global(get_global().concat(b"+")).set_page_byte(2, page_byte(2) + 1)
    look = Program().reply(get_global().concat(page_byte(2).to_blob().slice(0, 1)))
    program = note + ask(b, Program().reply(), on_reply=note + ask(b, Program().reply(), on_reply=note + look))
    assert compose(node, a, program).replied == b"+++\3"
    assert node.query(a, look).replied == b"\0"


def test_large_changes_do_not_stay(node: SpecNode) -> None:
    """A fork that wrote much gives its sandbox up; the next query starts from what is certified."""
    a, b = node.universal(Program().drop(stable_grow(200))), node.universal()
    fill = sum((Program().stable_write(page * 4096, b"\1") for page in range(2100)), Program())
    look = Program().reply(stable_read(2099 * 4096, 1))
    assert compose(node, a, fill + ask(b, Program().reply(), on_reply=look)).replied == b"\1"
    assert not [place for place in node.controller.pids("query") if place == a]
    assert compose(node, a, ask(b, Program().reply(), on_reply=look)).replied == b"\0"
