"""What a message that fails leaves behind: nothing but its price and its logs. On real canisters.

Abstract behaviour, "Message execution" (the branch of a trap), "The concrete CanisterModule".
"""

from __future__ import annotations

import pytest

from ic_types.principal import Principal
from subnet.lab.universal import (
    Program,
    canister_version,
    get_global,
    memory_grow,
    memory_size,
    page_byte,
    set_timer,
    stable_grow,
    stable_read,
    stable_size,
)
from tests.support.lone_node import SECOND
from tests.support.spec_node import Outcome, SpecNode
from tests.support.wasm_samples import REPLY_WORD, compile_wat, module

pytestmark = [pytest.mark.slow, pytest.mark.spec("rule-message-execution")]
FAR = 10**18 * 4

STATEFUL = compile_wat(
    module(
        """
    (memory 1)
    (table $t 2 funcref)
    (elem (i32.const 0) $one)
    (data $words "abcd")
    (global $count (mut i64) (i64.const 7))
    (func $one)
    (func (export "canister_update bump") (global.set $count (i64.add (global.get $count) (i64.const 1))) (call $tell))
    (func (export "canister_update bump_and_trap") (global.set $count (i64.const 99)) unreachable)
    (func (export "canister_update drop_and_trap") (data.drop $words) unreachable)
    (func (export "canister_update drop") (data.drop $words) (call $tell))
    (func (export "canister_update words") (memory.init $words (i32.const 64) (i32.const 0) (i32.const 4))
      (call $reply_word (i32.load (i32.const 64))))
    (func (export "canister_update divide") (drop (i32.div_u (i32.const 1) (i32.load (i32.const 128)))))
    (func (export "canister_update overflow") (drop (i32.trunc_f64_s (f64.const 1e300))))
    (func (export "canister_update out_of_bounds") (drop (i32.load (i32.const 65536))))
    (func (export "canister_update indirect") (call_indirect (param i32) (i32.const 1) (i32.const 0)))
    (func $deep (export "canister_update deep") (call $deep))
    (func $tell (call $reply_word (i32.wrap_i64 (global.get $count))))"""
        + REPLY_WORD,
        "msg_reply",
        "msg_reply_data_append",
    )
)


def stateful(node: SpecNode) -> Principal:
    """A canister with a global and a passive segment."""
    canister = node.create()
    node.put(canister, STATEFUL).replied  # noqa: B018
    return canister


def failed(node: SpecNode, change: Program) -> tuple[Principal, Outcome]:
    """A canister in which these changes were followed by a trap."""
    canister = node.universal(Program().set_global(b"before").drop(stable_grow(1)).stable_write(10, b"old"))
    outcome = node.ask(canister, change.trap(b"back"))
    assert outcome.rejected == (5, "IC0503")
    return canister, outcome


def test_heap(node: SpecNode) -> None:
    """Pages are as before."""
    canister, _ = failed(node, Program().set_global(b"after").set_page_byte(3, 5))
    assert node.ask(
        canister, Program().append(get_global()).append(page_byte(3).to_blob()).send_reply()
    ).replied == b"before" + bytes(8)


def test_heap_of_a_page_that_was_written_before(node: SpecNode) -> None:
    """Not zeros, but the earlier message's content."""
    canister = node.universal()
    node.ask(canister, Program().set_page_byte(3, 5).reply())
    node.ask(canister, Program().set_page_byte(3, 6).trap(b""))
    assert node.ask(canister, Program().reply_int(page_byte(3))).number == 5
    node.ask(canister, Program().set_page_byte(3, 7).reply())
    node.ask(canister, Program().set_page_byte(3, 8).trap(b""))
    assert node.ask(canister, Program().reply_int(page_byte(3))).number == 7


def test_grown_heap(node: SpecNode) -> None:
    """Its size is as before, and what is grown again is zero."""
    canister = node.universal()
    size = node.ask(canister, Program().reply_int(memory_size())).number
    top = memory_size() * 65536 - 8
    node.ask(canister, Program().drop(memory_grow(3)).poke(top, b"\xff" * 8).trap(b""))
    assert node.ask(canister, Program().reply_int(memory_size())).number == size
    assert node.ask(canister, Program().drop(memory_grow(3)).reply_int(memory_size())).number == size + 3
    assert node.canister(canister).execution is not None


@pytest.mark.spec("ic0.stable64_grow")
@pytest.mark.spec("ic0.stable64_write")
def test_stable_memory(node: SpecNode) -> None:
    """Content and size."""
    canister, _ = failed(node, Program().stable_write(10, b"new").drop(stable_grow(2)).stable_write(2 * 65536, b"far"))
    assert node.ask(canister, Program().append(stable_read(9, 5)).append(stable_size().to_blob()).send_reply()).replied == (
        b"\0old\0" + (1).to_bytes(8, "little")
    )


@pytest.mark.spec("ic0.certified_data_set")
def test_certified_data(node: SpecNode) -> None:
    """The earlier value stays."""
    canister = node.universal(Program().certified_data(b"old"))
    node.ask(canister, Program().certified_data(b"new").trap(b""))
    assert node.canister(canister).certified_data == b"old"


@pytest.mark.spec("ic0.global_timer_set")
def test_timer(node: SpecNode) -> None:
    """The earlier setting stays."""
    canister = node.universal(Program().drop(set_timer(FAR)))
    node.ask(canister, Program().drop(set_timer(FAR + SECOND)).trap(b""))
    assert node.ask(canister, Program().reply_int(set_timer(FAR))).number == FAR


@pytest.mark.spec("ic0.canister_version")
def test_version(node: SpecNode) -> None:
    """Not incremented."""
    canister = node.universal()
    before = node.ask(canister, Program().reply_int(canister_version()), "query").number
    node.ask(canister, Program().trap(b""))
    assert node.ask(canister, Program().reply_int(canister_version()), "query").number == before


@pytest.mark.spec("ic0.debug_print")
@pytest.mark.spec("ic0.trap")
def test_logs_stay(node: SpecNode) -> None:
    """What was printed before the trap, and the trap itself."""
    canister = node.universal()
    node.ask(canister, Program().print(b"one").print_out_of_bounds().trap(b"two"))
    assert [record.content for record in node.canister(canister).logs] == [
        b"one",
        b"(debug_print message out of memory bounds)",
        b"[TRAP]: two",
    ]


def test_globals(node: SpecNode) -> None:
    """Mutable globals are as before, and go on from there."""
    canister = stateful(node)
    assert node.ask(canister, b"", "bump").number == 8
    assert node.ask(canister, b"", "bump_and_trap").rejected == (5, "IC0502")
    assert node.ask(canister, b"", "bump").number == 9


def test_dropped_segments(node: SpecNode) -> None:
    """Every message runs on a fresh instance: a dropped segment is there again, whether the message failed or not."""
    canister = stateful(node)
    words = int.from_bytes(b"abcd", "little")
    assert node.ask(canister, b"", "drop_and_trap").rejected == (5, "IC0502")
    assert node.ask(canister, b"", "words").number == words
    node.ask(canister, b"", "drop").replied  # noqa: B018
    assert node.ask(canister, b"", "words").number == words


@pytest.mark.parametrize(
    ("method", "error", "text"),
    [
        ("divide", "IC0502", "Canister trapped: integer division by 0"),
        ("overflow", "IC0502", "Canister trapped: unknown"),
        ("out_of_bounds", "IC0502", "Canister trapped: heap out of bounds"),
        ("deep", "IC0502", "Canister trapped: stack overflow"),
        ("bump_and_trap", "IC0502", "Canister trapped: unreachable"),
        ("indirect", "IC0504", "Canister violated contract: function invocation does not match its signature"),
    ],
)
def test_traps_of_wasm(node: SpecNode, method: str, error: str, text: str) -> None:
    """CANISTER_ERROR, named as the replica does."""
    canister = stateful(node)
    outcome = node.ask(canister, b"", method)
    assert outcome.rejected == (5, error)
    assert outcome.message.startswith(f"Error from Canister {canister}: {text}")


def test_successes_after_failures(node: SpecNode) -> None:
    """Failed and finished messages of one round don't mix."""
    canister = node.universal(Program().set_global(b""))
    add = [Program().set_global(get_global().concat(bytes([k]))) for k in range(8)]
    ends = [Program().reply(), Program().trap(b""), Program().unreachable(), Program()]
    messages = [node.message(canister, add[k] + ends[k % 4]) for k in range(8)]
    node.round(*messages)
    kept = bytes(k for k in range(8) if k % 4 in (0, 3))
    assert node.ask(canister, Program().reply(get_global())).replied == kept
