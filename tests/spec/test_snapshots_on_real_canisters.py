"""Snapshots of real canisters: what runs after a load, here and on another canister; globals; logs with limits of their own.

Abstract behaviour, "IC Management Canister: Take canister snapshot", "Load canister snapshot", "Read snapshot metadata",
"Upload canister snapshot data"; "Trimming canister logs".
"""

from __future__ import annotations

from typing import Any

import pytest

from ic_types.candid import decoder
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.lab.universal import Program, argument, get_global, page_byte, reject_message, stable_grow, stable_read
from subnet.management.methods import METHODS
from tests.support.lone_node import example
from tests.support.spec_node import STRANGER, USER, SpecNode, management_arg
from tests.support.wasm_samples import compile_wat, module

pytestmark = pytest.mark.slow
TAKE = pytest.mark.spec("management-take-snapshot")
LOAD = pytest.mark.spec("management-load-snapshot")
METADATA = pytest.mark.spec("management-read-snapshot-metadata")
PIECE = 1_900_000
GLOBALS = compile_wat(
    module(
        """
        (memory 1)
        (global $hidden (mut i64) (i64.const -3))
        (global (export "first") i32 (i32.const 7))
        (global $shown (export "second") (mut f64) (f64.const 0.5))
        (global $plain i32 (i32.const 1))
        (func (export "canister_update bump")
            (global.set $hidden (i64.add (global.get $hidden) (i64.const 1)))
            (global.set $shown (f64.add (global.get $shown) (f64.const 1)))
            (i64.store (i32.const 0) (global.get $hidden))
            (f64.store (i32.const 8) (global.get $shown))
            (call $msg_reply_data_append (i32.const 0) (i32.const 16))
            (call $msg_reply))
        """,
        "msg_reply",
        "msg_reply_data_append",
    )
)


def about(canister: CanisterId, **more: Any) -> dict[str, Any]:
    """An argument."""
    return {"canister_id": canister, **more}


def state_of(node: SpecNode, canister: CanisterId) -> tuple[bytes, bytes, int]:
    """What the universal canister holds in its heap and stable memory."""
    program = Program().append(get_global()).append(stable_read(0, 5)).reply_int(page_byte(3))
    reply = node.ask(canister, program).replied
    return reply[:3], reply[3:8], reply[8]


def fill(node: SpecNode, canister: CanisterId, text: bytes, number: int) -> None:
    """Write heap and stable memory."""
    program = Program().set_global(text).set_page_byte(3, number).stable_write(0, text + b"__").reply()
    node.ask(canister, program).replied  # noqa: B018  raises with the reject


@TAKE
@LOAD
def test_a_canister_is_as_it_was(node: SpecNode) -> None:
    """Heap, stable memory and code of the snapshot run at once; the snapshot stays, whatever happens to the canister."""
    canister = node.universal(Program().drop(stable_grow(1)))
    fill(node, canister, b"one", 11)
    first = node.done("take_canister_snapshot", about(canister))["id"]
    fill(node, canister, b"two", 22)
    second = node.done("take_canister_snapshot", about(canister))["id"]
    node.put(canister, example("counter"), mode="reinstall").replied  # noqa: B018
    for snapshot, expected in (
        (first, (b"one", b"one__", 11)),
        (second, (b"two", b"two__", 22)),
        (first, (b"one", b"one__", 11)),
    ):
        node.done("load_canister_snapshot", about(canister, snapshot_id=snapshot))
        assert state_of(node, canister) == expected
        fill(node, canister, b"bad", 99)
    assert node.query(canister, Program().reply(get_global())).replied == b"bad"


@LOAD
def test_a_canister_with_another_canisters_state(node: SpecNode) -> None:
    """Both go on for themselves."""
    source, target = node.universal(Program().drop(stable_grow(1))), node.create()
    fill(node, source, b"one", 11)
    snapshot = node.done("take_canister_snapshot", about(source))["id"]
    node.done("load_canister_snapshot", about(target, snapshot_id=snapshot))
    fill(node, target, b"two", 22)
    assert (state_of(node, source), state_of(node, target)) == ((b"one", b"one__", 11), (b"two", b"two__", 22))


def transfer(node: SpecNode, source: CanisterId, snapshot: bytes, target: CanisterId) -> bytes:
    """Download a snapshot and upload it to another canister."""
    metadata = node.done("read_canister_snapshot_metadata", about(source, snapshot_id=snapshot))
    sizes = {"wasm_module": "wasm_module_size", "wasm_memory": "wasm_memory_size", "stable_memory": "stable_memory_size"}
    new = {name: metadata[name] for name in metadata if name not in ("source", "taken_at_timestamp", "wasm_chunk_store")}
    del new["canister_version"]
    uploaded: bytes = node.done("upload_canister_snapshot_metadata", about(target, **new))["snapshot_id"]
    for kind, name in sizes.items():
        for offset in range(0, metadata[name], PIECE):
            where = {kind: {"offset": offset, "size": min(PIECE, metadata[name] - offset)}}
            piece = node.done("read_canister_snapshot_data", about(source, snapshot_id=snapshot, kind=where))["chunk"]
            put = {"kind": {kind: {"offset": offset}}, "chunk": piece}
            node.done("upload_canister_snapshot_data", about(target, snapshot_id=uploaded, **put))
    return uploaded


@LOAD
@pytest.mark.spec("management-read-snapshot-data")
@pytest.mark.spec("management-upload-snapshot-data")
def test_a_canister_travels_in_pieces(node: SpecNode) -> None:
    """Read, uploaded and loaded elsewhere: the same memories and the same code."""
    source, target = node.universal(Program().drop(stable_grow(1)).certified_data(b"cert")), node.create()
    fill(node, source, b"one", 11)
    snapshot = node.done("take_canister_snapshot", about(source))["id"]
    node.done("load_canister_snapshot", about(target, snapshot_id=transfer(node, source, snapshot, target)))
    assert state_of(node, target) == (b"one", b"one__", 11)
    assert node.canister(target).certified_data == b"cert"
    old, new = node.canister(source).execution, node.canister(target).execution
    assert old is not None
    assert new is not None
    assert (new.module.module_hash, new.wasm) == (old.module.module_hash, old.wasm)


@METADATA
@LOAD
def test_globals_that_are_exported_or_mutable(node: SpecNode) -> None:
    """Those exported in their order, then the other mutable ones; loading sets the mutable ones."""
    canister = node.create()
    node.put(canister, GLOBALS).replied  # noqa: B018
    assert node.ask(canister, b"", "bump").replied == (-2).to_bytes(8, "little", signed=True) + b"\0\0\0\0\0\0\xf8\x3f"
    snapshot = node.done("take_canister_snapshot", about(canister))["id"]
    metadata = node.done("read_canister_snapshot_metadata", about(canister, snapshot_id=snapshot))
    assert metadata["globals"] == [{"i32": 7}, {"f64": 1.5}, {"i64": -2}]
    node.ask(canister, b"", "bump")
    node.done("load_canister_snapshot", about(canister, snapshot_id=snapshot))
    assert node.ask(canister, b"", "bump").replied[:8] == (-1).to_bytes(8, "little", signed=True)
    other = node.create()
    node.done("load_canister_snapshot", about(other, snapshot_id=transfer(node, canister, snapshot, other)))
    assert node.ask(other, b"", "bump").replied[:8] == (-1).to_bytes(8, "little", signed=True)
    assert node.done("canister_status", about(other))["memory_metrics"]["global_memory_size"] == 8 * 4


@LOAD
def test_a_load_while_a_message_is_paused_waits(node: SpecNode) -> None:
    """It comes after the message."""
    canister = node.universal()
    fill_global = Program().set_global(b"one")
    node.ask(canister, fill_global.reply())
    snapshot = node.done("take_canister_snapshot", about(canister))["id"]
    long = node.submit(canister, Program().set_global(b"two").burn_loop(3 * 10**9).reply())
    assert node.canister(canister).long_execution is not None
    load = node.submit(
        MANAGEMENT_CANISTER, management_arg("load_canister_snapshot", about(canister, snapshot_id=snapshot)),
        "load_canister_snapshot",
    )  # fmt: skip
    assert node.status(load) == "received"
    assert node.outcome(long, 60).reply is not None
    assert node.outcome(load, 60).reply is not None
    assert node.query(canister, Program().reply(get_global())).replied == b"one"


@pytest.mark.spec("trimming-canister-logs")
@pytest.mark.spec("management-fetch-canister-logs")
def test_a_log_with_a_limit_of_its_own(node: SpecNode) -> None:
    """More is kept as soon as the limit is higher, and less as soon as it is lower; queries see what is left."""
    canister = node.universal()

    def lines(sender: Any = USER) -> list[int]:
        reply = node.query(
            MANAGEMENT_CANISTER, management_arg("fetch_canister_logs", about(canister)), "fetch_canister_logs", sender
        )
        return [
            record["idx"]
            for record in decoder.decode(reply.replied, METHODS["fetch_canister_logs"].results)[0]["canister_log_records"]
        ]

    burst = Program()
    for k in range(10):
        burst = burst.print(bytes([65 + k]) * 1000)
    node.ask(canister, burst.reply())
    assert lines() == [7, 8, 9]
    node.done("update_settings", about(canister, settings={"log_memory_limit": 1 << 20}))
    node.ask(canister, burst.reply())
    assert lines() == list(range(7, 20))
    node.done("update_settings", about(canister, settings={"log_memory_limit": 4096}))
    node.round()
    assert lines() == [17, 18, 19]
    denied = node.query(
        MANAGEMENT_CANISTER, management_arg("fetch_canister_logs", about(canister)), "fetch_canister_logs", STRANGER
    )
    assert denied.rejected == (4, "IC0406")
    assert node.query(MANAGEMENT_CANISTER, b"DIDL\0\0", "start_canister").rejected == (5, "IC0536")


@pytest.mark.spec("management-fetch-canister-logs")
def test_logs_are_not_for_replicated_calls(node: SpecNode) -> None:
    """A canister's update call: CANISTER_REJECT, IC0406; a composite query may ask, if the setting lets the canister."""
    canister, reader = node.universal(Program().print(b"line")), node.universal()
    arg = management_arg("fetch_canister_logs", about(canister))
    tell = Program().reply(reject_message())
    ask = Program().call(
        bytes(MANAGEMENT_CANISTER), "fetch_canister_logs", arg, on_reply=Program().reply(argument()), on_reject=tell
    )
    assert node.ask(reader, ask).replied == b"fetch_canister_logs API is only accessible in non-replicated mode"
    text = f"Caller {reader} is not allowed to access canister logs"
    assert node.query(reader, ask, "composite_query").replied.decode().endswith(text)
    node.done("update_settings", about(canister, settings={"log_visibility": {"allowed_viewers": [reader]}}))
    node.round()
    told = decoder.decode(node.query(reader, ask, "composite_query").replied, METHODS["fetch_canister_logs"].results)[0]
    assert [record["content"] for record in told["canister_log_records"]] == [b"line"]
