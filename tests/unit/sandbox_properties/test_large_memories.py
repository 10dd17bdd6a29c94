"""Heaps and stable memories of the largest size, sparsely used: whatever the detector, only written pages cost anything."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from ic_types.reject import ErrorCode
from sandbox.dirty_pages import PrivatePages, WriteProtection
from sandbox.protocol import ExecutionContext, Finished, ReplyData, Trapped
from tests.support.random_runs import opened
from tests.unit.sandbox_process.sandbox_harness import contents, message

GIB = 1 << 30
DETECTORS = [WriteProtection, PrivatePages]
STABLE_PAGES = 500 * GIB // 65536


def _detector(kind: Any) -> Any:
    return lambda: kind(os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))


def _module(width: str, pages: int, addresses: tuple[int, ...]) -> bytes:
    """`touch` adds one at each address and replies with the sum of what is there, `far` reads beyond the end;
    `stable` and `more` grow stable memory.
    """
    adds = "".join(
        f"(i64.store ({width}.const {at}) (i64.add (i64.load ({width}.const {at})) (i64.const 1)))"
        f"(local.set $sum (i64.add (local.get $sum) (i64.load ({width}.const {at}))))"
        for at in addresses
    )
    shown = "i64 " if width == "i64" else ""
    return bytes(
        wasmtime.wat2wasm(
            f"""(module
  (import "ic0" "msg_reply_data_append" (func $append (param {width} {width})))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (memory {shown}{pages})
  (func (export "canister_update touch") (local $sum i64) {adds}
    (i64.store ({width}.const 64) (local.get $sum)) (call $append ({width}.const 64) ({width}.const 8)) (call $reply))
  (func (export "canister_update far") (drop (i64.load ({width}.const {(pages << 16) - 4}))))
  (func (export "canister_update stable")
    (drop (call $grow (i64.const {STABLE_PAGES})))
    (i64.store ({width}.const 64) (i64.const 7))
    (call $write (i64.const {500 * GIB - 8}) (i64.const 64) (i64.const 8))
    (call $read (i64.const 72) (i64.const {500 * GIB - 8}) (i64.const 8))
    (call $read (i64.const 80) (i64.const {250 * GIB}) (i64.const 8))
    (call $append ({width}.const 72) ({width}.const 16)) (call $reply))
  (func (export "canister_update more")
    (i64.store ({width}.const 64) (call $grow (i64.const 1)))
    (call $append ({width}.const 64) ({width}.const 8)) (call $reply)))"""
        )
    )


def _reply(answer: Any) -> bytes:
    assert isinstance(answer, Finished), answer
    assert isinstance(answer.response, ReplyData)
    return answer.response.data


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) << 10


@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize(("width", "pages"), [("i32", 65536), ("i64", 6 * GIB // 65536)])
def test_largest_heaps(kind: Any, width: str, pages: int) -> None:
    """A heap of 4 GiB, and one of 6 GiB with 64-bit addresses: first, middle and last page over several messages."""
    size = pages << 16
    addresses = (4096, size // 2, size - 8)
    before = _resident()
    with opened(_module(width, pages, addresses), detector=_detector(kind)) as box:
        for turn in range(1, 4):
            assert _reply(box.one(message("touch"))) == (3 * turn).to_bytes(8, "little")
        assert sorted(contents(box.heap)) == [0, 1, size // 2 // 4096, size // 4096 - 1]
        trapped = box.one(message("far"))
        assert isinstance(trapped, Trapped)
        assert trapped.error_code == ErrorCode.CANISTER_TRAPPED
        box.reset()
        assert _reply(box.one(message("touch"))) == (12).to_bytes(8, "little")
        assert _resident() - before < 256 << 20


def test_largest_stable_memory() -> None:
    """500 GiB grown at once, written at its end, read where nothing was ever written; and not a page more."""
    before = _resident()
    with opened(_module("i64", 1, (4096,))) as box:
        rich = ExecutionContext(balance=10**18)  # so much storage on one core's share of a subnet has cycles set aside
        assert _reply(box.one(message("stable"), context=rich)) == (7).to_bytes(8, "little") + bytes(8)
        assert sorted(contents(box.stable)) == [500 * GIB // 4096 - 1]
        assert box.stable.wasm_pages == STABLE_PAGES
        assert _reply(box.one(message("more"))) == b"\xff" * 8
        assert _resident() - before < 256 << 20
