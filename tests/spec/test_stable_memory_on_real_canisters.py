"""Stable memory on real canisters. Canister interface, "Stable memory"; abstract behaviour, "System imports"."""

from __future__ import annotations

import pytest

from configs.limits import SubnetLimits
from ic_types.principal import Principal
from subnet.lab.universal import Program, stable_grow, stable_read, stable_size
from tests.support.lone_node import example
from tests.support.spec_node import SpecNode
from tests.support.wasm_samples import REPLY_WORD, compile_wat

pytestmark = pytest.mark.slow
PAGE = 65536
MINUS_ONE = (1 << 64) - 1
LIMIT_PAGES = SubnetLimits().max_stable_memory // PAGE

NARROW = compile_wat(
    """(module
  (import "ic0" "msg_reply" (func $msg_reply))
  (import "ic0" "msg_reply_data_append" (func $msg_reply_data_append (param i32 i32)))
  (import "ic0" "stable_size" (func $size (result i32)))
  (import "ic0" "stable_grow" (func $grow (param i32) (result i32)))
  (import "ic0" "stable_write" (func $write (param i32 i32 i32)))
  (import "ic0" "stable_read" (func $read (param i32 i32 i32)))
  (import "ic0" "stable64_grow" (func $grow64 (param i64) (result i64)))
  (memory 1)
  (data (i32.const 100) "word")
  (func (export "canister_update size") (call $reply_word (call $size)))
  (func (export "canister_update grow") (call $reply_word (call $grow (i32.const 1))))
  (func (export "canister_update grow_all") (call $reply_word (call $grow (i32.const 65536))))
  (func (export "canister_update grow_wide") (call $reply_word (i32.wrap_i64 (call $grow64 (i64.const 65536)))))
  (func (export "canister_update write") (call $write (i32.const 65532) (i32.const 100) (i32.const 4)) (call $msg_reply))
  (func (export "canister_update write_outside")
    (call $write (i32.const 65533) (i32.const 100) (i32.const 4)) (call $msg_reply))
  (func (export "canister_update read") (call $read (i32.const 200) (i32.const 65532) (i32.const 4))
    (call $reply_word (i32.load (i32.const 200))))
  (func (export "canister_update read_to_nowhere")
    (call $read (i32.const 65533) (i32.const 0) (i32.const 4)) (call $msg_reply))"""
    + REPLY_WORD
    + ")"
)


@pytest.mark.spec("ic0.stable64_size")
@pytest.mark.spec("ic0.stable64_grow")
def test_starts_empty_and_grows(node: SpecNode) -> None:
    """stable64_grow returns the size before, in Wasm pages."""
    canister = node.universal()
    program = Program().append(stable_size().to_blob()).append(stable_grow(3).to_blob()).append(stable_grow(0).to_blob())
    seen = node.ask(canister, program.append(stable_size().to_blob()).send_reply()).replied
    assert [int.from_bytes(seen[k : k + 8], "little") for k in (0, 8, 16, 24)] == [0, 0, 3, 3]
    assert node.ask(canister, Program().reply_int(stable_size())).number == 3


@pytest.mark.spec("ic0.stable64_grow")
@pytest.mark.parametrize("pages", [LIMIT_PAGES + 1, 1 << 40, MINUS_ONE])
def test_cannot_grow_beyond_the_limit(node: SpecNode, pages: int) -> None:
    """-1, and the size stays."""
    canister = node.universal(Program().drop(stable_grow(1)))
    program = Program().append(stable_grow(pages).to_blob()).append(stable_size().to_blob()).send_reply()
    seen = node.ask(canister, program).replied
    assert seen == MINUS_ONE.to_bytes(8, "little") + (1).to_bytes(8, "little")


@pytest.mark.spec("ic0.stable64_write")
@pytest.mark.spec("ic0.stable64_read")
def test_write_and_read(node: SpecNode) -> None:
    """Over page borders, within one message and in the next; what was never written is zero."""
    canister = node.universal(Program().drop(stable_grow(2)))
    data = bytes(range(256)) * 40
    program = Program().stable_write(PAGE - 5000, data).reply(stable_read(PAGE - 5001, len(data) + 2))
    assert node.ask(canister, program).replied == b"\0" + data + b"\0"
    assert node.ask(canister, Program().reply(stable_read(PAGE - 5000, len(data)))).replied == data
    assert node.query(canister, Program().reply(stable_read(PAGE - 5000, len(data)))).replied == data


@pytest.mark.spec("ic0.stable64_write")
@pytest.mark.spec("ic0.stable64_read")
@pytest.mark.parametrize(
    "program",
    [
        Program().stable_write(PAGE - 1, b"ab"),
        Program().stable_write(PAGE, b"a"),
        Program().stable_write(MINUS_ONE, b"a"),
        Program().reply(stable_read(PAGE - 1, 2)),
        Program().reply(stable_read(MINUS_ONE, 1)),
    ],
)
def test_outside_of_stable_memory(node: SpecNode, program: Program) -> None:
    """IC0502."""
    canister = node.universal(Program().drop(stable_grow(1)))
    outcome = node.ask(canister, program)
    assert outcome.rejected == (5, "IC0502")
    assert outcome.message.startswith(f"Error from Canister {canister}: Canister trapped: stable memory out of bounds")


@pytest.mark.spec("ic0.stable64_write")
def test_nothing_is_written_anywhere(node: SpecNode) -> None:
    """Zero bytes need no room."""
    assert node.ask(node.universal(), Program().stable_write(10**9, b"").reply(b"fine")).replied == b"fine"


@pytest.mark.spec("rule-message-execution")
def test_queries_forget_what_they_write(node: SpecNode) -> None:
    """Replicated or not; growing is forgotten, too."""
    canister = node.universal(Program().drop(stable_grow(1)).stable_write(0, b"old"))
    program = Program().drop(stable_grow(1)).stable_write(0, b"new").append(stable_read(0, 3)).append(stable_size().to_blob())
    assert node.ask(canister, program.send_reply(), "query").replied == b"new" + (2).to_bytes(8, "little")
    assert node.query(canister, program.send_reply()).replied == b"new" + (2).to_bytes(8, "little")
    show = Program().append(stable_read(0, 3)).append(stable_size().to_blob()).send_reply()
    assert node.query(canister, show).replied == b"old" + (1).to_bytes(8, "little")


@pytest.mark.spec("management-upgrade-code")
def test_survives_upgrades_and_no_reinstall(node: SpecNode) -> None:
    """Upgrades keep it, with what pre_upgrade wrote; a reinstall starts with none."""
    program = Program().drop(stable_grow(1)).on_pre_upgrade(Program().stable_write(3, b"pre"))
    canister = node.universal(program.stable_write(0, b"old"))
    node.put(canister, example("universal"), mode="upgrade").replied  # noqa: B018
    assert node.ask(canister, Program().reply(stable_read(0, 6))).replied == b"oldpre"
    node.put(canister, example("universal"), mode="reinstall").replied  # noqa: B018
    assert node.ask(canister, Program().reply_int(stable_size())).number == 0


@pytest.fixture
def narrow(node: SpecNode) -> Principal:
    """A canister that uses the 32-bit functions."""
    canister = node.create()
    node.put(canister, NARROW).replied  # noqa: B018
    return canister


@pytest.mark.spec("ic0.stable_size")
@pytest.mark.spec("ic0.stable_grow")
@pytest.mark.spec("ic0.stable_write")
@pytest.mark.spec("ic0.stable_read")
def test_functions_with_32_bits(node: SpecNode, narrow: Principal) -> None:
    """The same memory, seen through the old functions."""
    assert [node.ask(narrow, b"", method).number for method in ("size", "grow", "size")] == [0, 0, 1]
    node.ask(narrow, b"", "write").replied  # noqa: B018
    assert node.ask(narrow, b"", "read").replied == b"word"
    for method, text in (("write_outside", "stable memory out of bounds"), ("read_to_nowhere", "heap out of bounds")):
        outcome = node.ask(narrow, b"", method)
        assert outcome.rejected == (5, "IC0502")
        assert text in outcome.message


@pytest.mark.spec("ic0.stable_size")
@pytest.mark.spec("ic0.stable_grow")
@pytest.mark.spec("ic0.stable_write")
@pytest.mark.spec("ic0.stable_read")
def test_functions_with_32_bits_beyond_4_gib(node: SpecNode, narrow: Principal) -> None:
    """They can't grow it beyond 4 GiB, and trap once the 64-bit functions have."""
    node.ask(narrow, b"", "grow").replied  # noqa: B018
    assert node.ask(narrow, b"", "grow_all").number == (1 << 32) - 1
    assert node.ask(narrow, b"", "grow_wide").number == 1
    for method in ("size", "grow", "write", "read"):
        outcome = node.ask(narrow, b"", method)
        assert outcome.rejected == (5, "IC0502")
        assert "32 bit stable memory api used on a memory larger than 4GB" in outcome.message
