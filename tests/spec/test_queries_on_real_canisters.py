"""Query calls on real canisters; those that call others have a file of their own. Abstract behaviour, "Query call"."""

from __future__ import annotations

from pathlib import Path

import pytest

from ic_types.hash_tree import Found
from subnet.certification.certificate import verify_certificate
from subnet.lab.universal import (
    Program,
    argument,
    caller,
    certificate,
    certificate_present,
    cycles_accept,
    get_global,
    memory_grow,
    memory_size,
    page_byte,
    set_timer,
    stable_grow,
    time,
)
from subnet.protocol import QueryReply, QueryRequest
from tests.support.spec_node import NOBODY, STRANGER, SpecNode

pytestmark = [pytest.mark.slow, pytest.mark.spec("query-call")]
MIB = 1 << 20


@pytest.mark.parametrize("method", ["query", "composite_query"])
@pytest.mark.spec("query-call", condition=(11, 16))
def test_reply_reject_trap_and_no_answer(node: SpecNode, method: str) -> None:
    """Replied; CANISTER_REJECT; CANISTER_ERROR."""
    canister = node.universal()
    assert node.query(canister, Program().reply(argument().slice(0, 1)), method).replied == b"\x20"
    rejected = node.query(canister, Program().reject(b"no"), method)
    assert (rejected.rejected, rejected.message) == ((4, "IC0406"), "no")
    assert node.query(canister, Program().trap(b"no"), method).rejected == (5, "IC0503")
    assert node.query(canister, Program().unreachable(), method).rejected == (5, "IC0502")
    silent = node.query(canister, Program(), method)
    assert (silent.rejected, silent.message) == ((5, "IC0506"), f"Canister {canister} did not produce a response")


def test_caller_and_time(node: SpecNode) -> None:
    """The sender, and the time of the certified state."""
    canister = node.universal()
    assert node.query(canister, Program().reply(caller()), sender=STRANGER).replied == bytes(STRANGER)
    assert node.query(canister, Program().reply_int(time())).number == node.now


@pytest.mark.parametrize("method", ["query", "composite_query"])
@pytest.mark.spec("query-call", condition=10)
def test_changes_are_forgotten(node: SpecNode, method: str) -> None:
    """Heap, globals, size, stable memory; the next query and the next update see nothing of them."""
    canister = node.universal(Program().set_global(b"old").set_page_byte(1, 1))
    change = Program().set_global(b"new").set_page_byte(1, 2).drop(memory_grow(2)).drop(stable_grow(2))
    look = (
        Program().append(get_global()).append(page_byte(1).to_blob().slice(0, 1)).append(memory_size().to_blob()).send_reply()
    )
    before = node.query(canister, look, method).replied
    hashes = node.round().state_hash, node.canister(canister).version
    assert node.query(canister, change + look, method).replied[:4] == b"new\2"
    assert node.query(canister, change.trap(b"no"), method).rejected == (5, "IC0503")
    assert node.query(canister, look, method).replied == before
    assert node.ask(canister, look).replied == before
    assert node.canister(canister).version == hashes[1] + 1


def test_sees_the_certified_state(node: SpecNode) -> None:
    """What an update changed shows once its round is certified."""
    canister = node.universal(Program().set_global(b"old"))
    assert node.query(canister, Program().reply(get_global())).replied == b"old"
    node.ask(canister, Program().set_global(b"new").reply())
    assert node.query(canister, Program().reply(get_global())).replied == b"new"


def test_nothing_is_certified_yet(sockets: Path) -> None:
    """SYS_TRANSIENT, IC0208, before the first round."""
    node = SpecNode(sockets)
    outcome = node.query(NOBODY, Program().reply())
    text = "Certified state is not available yet. Please try again..."
    assert (outcome.rejected, outcome.message) == ((2, "IC0208"), text)
    node.close()


@pytest.mark.spec("query-call", condition=1)
def test_unknown_canister(node: SpecNode) -> None:
    """DESTINATION_INVALID, IC0301."""
    outcome = node.query(NOBODY, Program().reply())
    assert (outcome.rejected, outcome.message) == ((3, "IC0301"), f"Canister {NOBODY} not found")


@pytest.mark.spec("query-call", condition=5)
def test_frozen_canister(node: SpecNode) -> None:
    """SYS_TRANSIENT, IC0207; but a missing method is told first."""
    canister = node.universal()
    node.done("update_settings", {"canister_id": canister, "settings": {"freezing_threshold": 10**13}})
    outcome = node.query(canister, Program().reply())
    assert outcome.rejected == (2, "IC0207")
    assert outcome.message.startswith(f"Canister {canister} is unable to process query calls because it's frozen. ")
    assert node.query(canister, Program().reply(), "missing").rejected == (5, "IC0536")


@pytest.mark.parametrize("method", ["update", "missing"])
@pytest.mark.spec("query-call", condition=4)
def test_methods_that_are_no_queries(node: SpecNode, method: str) -> None:
    """CANISTER_ERROR, IC0536."""
    outcome = node.query(node.universal(), Program().reply(), method)
    assert outcome.rejected == (5, "IC0536")
    assert f"Canister has no query method '{method}'" in outcome.message


@pytest.mark.spec("query-call", condition=(2, 3))
def test_canister_must_run_and_have_code(node: SpecNode) -> None:
    """IC0508, IC0509, IC0537."""
    canister, empty = node.universal(), node.create()
    assert node.query(empty, Program().reply()).rejected == (5, "IC0537")
    node.stop(canister)
    stopped = node.query(canister, Program().reply())
    text = f"Canister {canister} is stopped and therefore does not have a CallContextManager"
    assert (stopped.rejected, stopped.message) == ((5, "IC0508"), text)


@pytest.mark.parametrize(
    "forbidden",
    [
        Program().drop(cycles_accept(1)),
        Program().drop(set_timer(1)),
        Program().certified_data(b"x"),
        Program().call(b"", "raw_rand"),
        Program().accept(),
    ],
)
def test_functions_that_queries_lack(node: SpecNode, forbidden: Program) -> None:
    """IC0504."""
    outcome = node.query(node.universal(), forbidden.reply())
    assert outcome.rejected == (5, "IC0504")
    assert "cannot be executed in non replicated query mode" in outcome.message


@pytest.mark.spec("ic0.msg_reply_data_append")
@pytest.mark.parametrize("method", ["query", "composite_query"])
def test_reply_limit(node: SpecNode, method: str) -> None:
    """3 MiB without replication."""
    canister = node.universal()
    program = [Program().reply(argument().slice(0, 1).repeat(size)) for size in (3 * MIB, 3 * MIB + 1)]
    assert len(node.query(canister, program[0], method).replied) == 3 * MIB
    assert node.query(canister, program[1], method).rejected == (5, "IC0504")


@pytest.mark.spec("ic0.msg_reply_data_append")
def test_reply_limit_of_composite_callbacks(node: SpecNode) -> None:
    """2 MiB; a reply to them may have 3 MiB."""
    a, b = node.universal(), node.universal()
    two, over, three = (Program().reply(argument().slice(0, 1).repeat(size)) for size in (2 * MIB, 2 * MIB + 1, 3 * MIB))

    def ask(callee: Program, on_reply: Program) -> Program:
        return Program().call(b, "query", callee, on_reply=on_reply)

    assert len(node.query(a, ask(Program().reply(b"x"), two), "composite_query").replied) == 2 * MIB
    assert node.query(a, ask(Program().reply(b"x"), over), "composite_query").rejected == (5, "IC0504")
    size = Program().reply_int(argument().size())
    assert node.query(a, ask(three, size), "composite_query").number == 3 * MIB


def test_nothing_is_charged(node: SpecNode) -> None:
    """Query calls are free."""
    canister = node.universal()
    before = node.balance(canister)
    node.query(canister, Program().burn_loop(10_000).reply_int(certificate_present()))
    assert node.balance(canister) == before


@pytest.mark.spec("state-tree-certified-data")
@pytest.mark.spec("state-tree-time")
def test_queries_while_an_update_runs(node: SpecNode) -> None:
    """In the middle of a round and between the slices of an update they see, and certify, the last certified height."""
    canister = node.universal(Program().set_global(b"old").certified_data(b"old data"))
    slow = Program().set_global(b"new").certified_data(b"new data").burn_loop(500_000_000).reply(b"done")
    look = Program().reply(get_global().concat(certificate()))
    height, certified_at, replies = node.replica.state.height, node.now, list[QueryReply]()

    def during_a_round() -> None:
        assert node.replica.may_certify_data
        request = QueryRequest(cookie=0, sender=STRANGER, receiver=canister, method="query", arg=bytes(look))
        if len(replies) < 2:
            node.driver.start_query(node.replica.query(request), replies.append)

    node.driver.on_wait = during_a_round
    message = node.submit(canister, slow)
    node.driver.on_wait = lambda: None
    assert replies, "the round has waited for its update"
    assert {reply.height for reply in replies} == {height}
    seen = replies[0].reply
    assert seen.startswith(b"old")
    shown = verify_certificate(seen.removeprefix(b"old"), node.record.public_key)
    assert (shown.lookup(b"canister", canister, b"certified_data"), shown.time()) == (Found(b"old data"), certified_at)
    assert node.canister(canister).long_execution is not None, "paused"
    between = node.query(canister, look).replied
    assert between.startswith(b"old")
    shown = verify_certificate(between.removeprefix(b"old"), node.record.public_key)
    assert (shown.lookup(b"canister", canister, b"certified_data"), shown.time()) == (Found(b"old data"), node.now)
    assert node.outcome(message).replied == b"done"
    assert node.query(canister, look).replied.startswith(b"new")
