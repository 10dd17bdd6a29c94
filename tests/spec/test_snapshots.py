"""Snapshots: taking, loading, listing, deleting, down- and uploading them, with every condition and price.

Abstract behaviour, "IC Management Canister: Take canister snapshot" and the seven headings about snapshots that follow it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.reject import ErrorCode, Reject
from ic_types.units import NumBytes, NumInstructions, TimeNs
from sandbox.memory_bytes import read_bytes, write_bytes
from sandbox.paged_memory import PagedMemory
from scheduler.canister import Canister
from scheduler.snapshots import LowMemoryHook, snapshot_id
from subnet.management.resources import threshold_at
from subnet.state.state_hash import canister_parts
from tests.support.fake_executor import certify, dirty, log, set_timer
from tests.support.management_world import OTHER, USER, ManagedSubnet, module
from tests.support.routing_world import canister_id

TAKE = pytest.mark.spec("management-take-snapshot")
LOAD = pytest.mark.spec("management-load-snapshot")
READ_METADATA = pytest.mark.spec("management-read-snapshot-metadata")
READ_DATA = pytest.mark.spec("management-read-snapshot-data")
UPLOAD_METADATA = pytest.mark.spec("management-upload-snapshot-metadata")
UPLOAD_DATA = pytest.mark.spec("management-upload-snapshot-data")
LIST = pytest.mark.spec("management-list-snapshots")
DELETE = pytest.mark.spec("management-delete-snapshot")
WASM = module({"init": [dirty(3, 2), certify(b"cert"), set_timer(99), log(b"line")]}, heap_pages=2)
NEXT = module({"post_upgrade": [dirty(1)]}, operators=10, heap_pages=3)
LIMITS = SubnetLimits(instructions_per_install=10**6, max_snapshots=3)
PAGE = 1 << 16


@pytest.fixture
def subnet() -> ManagedSubnet:
    """Mainnet's prices; at most three snapshots."""
    return ManagedSubnet(fees=CyclesCostSchedule(), limits=LIMITS)


def installed(subnet: ManagedSubnet, **settings: Any) -> Canister:
    """A canister with code, memories, a chunk, certified data and a timer."""
    canister = subnet.create(**settings)
    assert subnet.install(canister, WASM) is None
    canister.install_debit = NumInstructions(0)
    call(subnet, canister, "upload_chunk", chunk=b"chunk")
    return canister


def call(subnet: ManagedSubnet, canister: Canister, method: str, **args: Any) -> Any:
    """A call by USER about a canister, or by another sender."""
    sender = args.pop("sender", USER)
    return subnet.user_call(method, {"canister_id": canister.canister_id, **args}, sender=sender)


def take(subnet: ManagedSubnet, canister: Canister, **args: Any) -> Any:
    """The id of a new snapshot, or the reject."""
    result = call(subnet, canister, "take_canister_snapshot", **args)
    return result if isinstance(result, Reject) else result["id"]


def refused(result: object) -> tuple[ErrorCode | None, str]:
    """Code and text of a reject."""
    assert isinstance(result, Reject), result
    return result.error_code, result.message


def shape(canister: Canister) -> dict[bytes, bytes]:
    """Digests of what a snapshot holds."""
    parts = canister_parts(canister)
    return {label: parts[label] for label in (b"code", b"heap", b"stable")}


# --- taking


@TAKE
@LIST
def test_a_snapshot_is_billed_as_large_as_it_is(subnet: ManagedSubnet) -> None:
    """Memories, module, globals, chunks, certified data; instructions for the baseline and every byte."""
    canister = installed(subnet)
    used, before, version = canister.memory_usage(), canister.balance, canister.version
    result = call(subnet, canister, "take_canister_snapshot")
    size = 2 * PAGE + 8 + len(WASM) + (1 << 20) + len(b"cert")
    assert result == {"id": snapshot_id(canister.canister_id, 0), "taken_at_timestamp": subnet.time, "total_size": size}
    assert before - canister.balance == subnet.fees.execution(LIMITS.snapshot_instructions + size)
    assert canister.memory_usage() == used + size
    assert canister.version == version
    assert call(subnet, canister, "list_canister_snapshots") == [result]
    metrics = call(subnet, canister, "canister_status")["memory_metrics"]
    assert metrics["snapshots_size"] == size
    assert subnet.everything() == 0


@TAKE
def test_a_snapshot_takes_memory_for_what_differs(subnet: ManagedSubnet) -> None:
    """Ten snapshots of the same memory share its pages."""
    canister = installed(subnet)
    assert canister.execution is not None
    file = canister.execution.heap._file
    held = file.used_bytes
    for _ in range(3):
        take(subnet, canister)
    assert file.used_bytes == held
    write_bytes(canister.execution.heap, 0, b"changed")
    assert file.used_bytes == held + 4096


@TAKE
@pytest.mark.spec("management-take-snapshot", condition=(1, 2))
def test_number_of_snapshots(subnet: ManagedSubnet) -> None:
    """At most so many; one may be replaced; ids aren't used again."""
    canister = installed(subnet)
    ids = [take(subnet, canister) for _ in range(3)]
    text = f"Canister {canister.canister_id} has reached the maximum number of snapshots allowed: 3."
    assert refused(take(subnet, canister)) == (ErrorCode.CANISTER_REJECTED_MESSAGE, text)
    new = take(subnet, canister, replace_snapshot=ids[1])
    assert new == snapshot_id(canister.canister_id, 3)
    assert list(canister.snapshots) == [ids[0], ids[2], new]
    missing = f"Could not find the snapshot ID {ids[1].hex()} for canister {canister.canister_id}."
    assert refused(take(subnet, canister, replace_snapshot=ids[1])) == (ErrorCode.CANISTER_SNAPSHOT_NOT_FOUND, missing)
    other = installed(subnet)
    foreign = f"The snapshot {new.hex()} does not belong to canister {other.canister_id}."
    assert refused(take(subnet, other, replace_snapshot=new)) == (ErrorCode.CANISTER_REJECTED_MESSAGE, foreign)


@TAKE
@pytest.mark.spec("management-take-snapshot", condition=(3, 4))
def test_when_no_snapshot_can_be_taken(subnet: ManagedSubnet) -> None:
    """Of an empty canister, after too much heap delta, without cycles for instructions or for the memory."""
    empty = subnet.create()
    text = f"Failed to create snapshot for empty canister {empty.canister_id}:"
    assert refused(take(subnet, empty)) == (ErrorCode.CANISTER_REJECTED_MESSAGE, text)
    canister = installed(subnet)
    canister.heap_delta_debit = NumBytes(LIMITS.heap_delta_rate_limit)
    code, text = refused(take(subnet, canister))
    assert code is ErrorCode.CANISTER_HEAP_DELTA_RATE_LIMITED
    assert text.endswith(f"current delta debit is {canister.heap_delta_debit}, but limit is {LIMITS.heap_delta_rate_limit}.")
    canister.heap_delta_debit = NumBytes(0)
    subnet.minted -= canister.balance - 10**9
    canister.balance = type(canister.balance)(10**9)
    assert refused(take(subnet, canister))[0] is ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW
    canister.settings.freezing_threshold_s = 0
    code, text = refused(take(subnet, canister))
    assert code is ErrorCode.CANISTER_OUT_OF_CYCLES
    assert text.startswith(f"Canister snapshotting failed with: `Canister {canister.canister_id} is out of cycles")
    assert (canister.balance, len(canister.snapshots)) == (10**9, 0)
    assert subnet.everything() == 0


@TAKE
@pytest.mark.spec("rule-uninstall")
def test_taking_a_snapshot_and_uninstalling(subnet: ManagedSubnet) -> None:
    """At once, so that the memory is needed only once; history, version and logs are those of uninstall_code."""
    canister = installed(subnet)
    before, version = canister.memory_usage(), canister.version
    taken = take(subnet, canister, uninstall_code=True)
    assert (canister.execution, canister.certified_data, canister.global_timer, len(canister.logs)) == (None, b"", 0, 0)
    assert (canister.version, canister.history.total, canister.chunk_store.memory_bytes) == (version + 1, 3, 0)
    assert canister.memory_usage() <= before + len(b"cert") + canister.history.memory_bytes
    assert call(subnet, canister, "load_canister_snapshot", snapshot_id=taken) is None
    assert canister.execution is not None
    assert canister.certified_data == b"cert"


# --- loading


@LOAD
def test_loading_brings_everything_back(subnet: ManagedSubnet) -> None:
    """Code, memories, globals, chunks, certified data; the timer and logs stay; version, history and install time go on."""
    canister = installed(subnet)
    then, taken = shape(canister), take(subnet, canister)
    assert subnet.install(canister, NEXT, {"upgrade": None}) is None
    call(subnet, canister, "clear_chunk_store")
    canister.certified_data, canister.global_timer = b"new", TimeNs(5)
    subnet.next_round()
    assert shape(canister) != then
    before, version = canister.balance, canister.version
    assert call(subnet, canister, "load_canister_snapshot", snapshot_id=taken) is None
    assert shape(canister) == then
    assert (list(canister.chunk_store.chunks), canister.certified_data) == ([hashlib.sha256(b"chunk").digest()], b"cert")
    assert (canister.global_timer, canister.version, canister.last_install) == (5, version + 1, subnet.time)
    size = canister.snapshots[taken].memory_bytes
    assert before - canister.balance == subnet.fees.instructions(LIMITS.snapshot_instructions) + subnet.fees.execution(size)
    change = canister.history.changes[-1]
    assert change.version == version + 1
    result, _ = subnet.canister_call(
        canister_id(0, 9), "canister_info", {"canister_id": canister.canister_id, "num_requested_changes": 1}
    )
    assert result["recent_changes"][0]["details"] == {
        "load_snapshot": {
            "from_canister_id": None,
            "snapshot_id": taken,
            "canister_version": 1,
            "taken_at_timestamp": subnet.time - subnet.interval_ns,
            "source": {"taken_from_canister": None},
        }
    }
    assert subnet.everything() == 0


@LOAD
def test_a_snapshot_can_be_loaded_again_and_again(subnet: ManagedSubnet) -> None:
    """What happens after a load leaves the snapshot as it was."""
    canister = installed(subnet)
    then, taken = shape(canister), take(subnet, canister)
    for k in range(3):
        assert call(subnet, canister, "load_canister_snapshot", snapshot_id=taken) is None
        assert canister.execution is not None
        assert shape(canister) == then
        write_bytes(canister.execution.heap, 5000 * k, b"scribble")
        write_bytes(canister.execution.stable, 4096 * k, b"scribble")
        assert shape(canister) != then


@LOAD
@pytest.mark.spec("management-load-snapshot", condition=2)
def test_loading_the_snapshot_of_another_canister(subnet: ManagedSubnet) -> None:
    """By who controls both; no page is shared, and the history names the owner."""
    source, target = installed(subnet, controllers=[USER, OTHER]), subnet.create(controllers=[USER, OTHER])
    taken = take(subnet, source)
    call(subnet, source, "update_settings", settings={"controllers": [USER]})
    denied = call(subnet, target, "load_canister_snapshot", snapshot_id=taken, sender=OTHER)
    text = f"Only a controller of the canister that snapshot {taken.hex()} belongs to can load it on canister "
    assert refused(denied) == (ErrorCode.CANISTER_REJECTED_MESSAGE, f"{text}{target.canister_id}. Sender: {OTHER}.")
    assert call(subnet, target, "load_canister_snapshot", snapshot_id=taken) is None
    assert shape(target) == shape(source)
    assert target.execution is not None
    assert source.execution is not None
    assert target.execution.heap._file is not source.execution.heap._file
    change: Any = target.history.changes[-1].details
    assert change.from_canister == source.canister_id


@LOAD
@pytest.mark.spec("management-load-snapshot", condition=1)
def test_when_no_snapshot_can_be_loaded(subnet: ManagedSubnet) -> None:
    """An unknown id, too much heap delta, too few cycles: nothing changes, nothing is charged."""
    canister = installed(subnet)
    taken = take(subnet, canister)
    for unknown in (snapshot_id(canister.canister_id, 7), b"", b"x", bytes(60), snapshot_id(canister_id(0, 77), 0)):
        code, text = refused(call(subnet, canister, "load_canister_snapshot", snapshot_id=unknown))
        assert code is ErrorCode.CANISTER_SNAPSHOT_NOT_FOUND
        assert text == f"Could not find the snapshot ID {unknown.hex()} for canister {canister.canister_id}."
    canister.heap_delta_debit = NumBytes(LIMITS.heap_delta_rate_limit)
    limited = call(subnet, canister, "load_canister_snapshot", snapshot_id=taken)
    assert refused(limited)[0] is ErrorCode.CANISTER_HEAP_DELTA_RATE_LIMITED
    canister.heap_delta_debit = NumBytes(0)
    subnet.minted -= canister.balance - 10**9
    canister.balance, canister.settings.freezing_threshold_s = type(canister.balance)(10**9), 0
    poor = call(subnet, canister, "load_canister_snapshot", snapshot_id=taken)
    assert refused(poor)[0] is ErrorCode.CANISTER_OUT_OF_CYCLES
    assert (canister.balance, canister.version) == (10**9, 1)
    assert subnet.everything() == 0


@LOAD
@pytest.mark.spec("management-load-snapshot", condition=8)
def test_what_is_loaded_must_be_affordable(subnet: ManagedSubnet) -> None:
    """IC0532 when the freezing threshold with the larger memories isn't covered: nothing changes, nothing is charged."""
    canister = installed(subnet)
    taken = take(subnet, canister)
    call(subnet, canister, "uninstall_code")
    canister.settings.freezing_threshold_s = 10**9
    loaded = canister.memory_usage() + canister.snapshots[taken].memory_bytes
    threshold = threshold_at(subnet, canister, loaded)
    canister.balance = type(canister.balance)(threshold - 10**9)
    before = canister.balance, canister.version, canister.execution
    code, text = refused(call(subnet, canister, "load_canister_snapshot", snapshot_id=taken))
    assert code is ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW, text
    assert before == (canister.balance, canister.version, canister.execution)
    price = subnet.fees.instructions(LIMITS.snapshot_instructions) + subnet.fees.execution(
        canister.snapshots[taken].memory_bytes
    )
    canister.balance = type(canister.balance)(threshold + price)
    assert call(subnet, canister, "load_canister_snapshot", snapshot_id=taken) is None


# --- deleting


@DELETE
@pytest.mark.spec("management-delete-snapshot", condition=2)
def test_deleting_frees_the_memory(subnet: ManagedSubnet) -> None:
    """And the snapshot can't be found any more; nor can another canister's be deleted."""
    canister, other = installed(subnet), installed(subnet)
    used, taken = canister.memory_usage(), take(subnet, canister)
    foreign = call(subnet, other, "delete_canister_snapshot", snapshot_id=taken)
    assert refused(foreign)[0] is ErrorCode.CANISTER_REJECTED_MESSAGE
    assert call(subnet, canister, "delete_canister_snapshot", snapshot_id=taken) is None
    assert canister.memory_usage() == used
    for method in ("delete_canister_snapshot", "load_canister_snapshot", "read_canister_snapshot_metadata"):
        assert refused(call(subnet, canister, method, snapshot_id=taken))[0] is ErrorCode.CANISTER_SNAPSHOT_NOT_FOUND
    assert call(subnet, canister, "list_canister_snapshots") == []


@pytest.mark.spec("management-list-snapshots", condition=1)
@pytest.mark.spec("management-read-snapshot-metadata", condition=1)
@pytest.mark.spec("management-read-snapshot-data", condition=1)
@pytest.mark.parametrize(
    "method", ["list_canister_snapshots", "read_canister_snapshot_metadata", "read_canister_snapshot_data"]
)
def test_who_may_read_snapshots(subnet: ManagedSubnet, method: str) -> None:
    """Controllers, allowed viewers, everybody, as the setting says; the canister itself is nobody special."""
    canister = installed(subnet)
    kind = {"wasm_module": {"offset": 0, "size": 1}}
    args: dict[str, Any] = {} if method == "list_canister_snapshots" else {"snapshot_id": take(subnet, canister)}
    if method == "read_canister_snapshot_data":
        args["kind"] = kind

    def seen(sender: Any) -> bool:
        result = call(subnet, canister, method, sender=sender, **args)
        if isinstance(result, Reject):
            text = f"Caller {sender} is not allowed to call {method}"
            assert refused(result) == (ErrorCode.CANISTER_REJECTED_MESSAGE, text)
        return not isinstance(result, Reject)

    assert [seen(one) for one in (USER, OTHER, canister.canister_id)] == [True, False, False]
    call(subnet, canister, "update_settings", settings={"snapshot_visibility": {"allowed_viewers": [OTHER]}})
    assert [seen(one) for one in (USER, OTHER, canister.canister_id)] == [True, True, False]
    call(subnet, canister, "update_settings", settings={"snapshot_visibility": {"public": None}})
    assert [seen(one) for one in (USER, OTHER, canister.canister_id)] == [True, True, True]


# --- reading


@pytest.mark.spec("management-read-snapshot-metadata", condition=2)
@pytest.mark.spec("management-read-snapshot-data", condition=2)
@pytest.mark.spec("management-upload-snapshot-metadata", condition=3)
@pytest.mark.spec("management-upload-snapshot-data", condition=2)
@pytest.mark.spec("management-delete-snapshot", condition=2)
@pytest.mark.parametrize("whose", ["nobody's", "another canister's"])
def test_snapshots_of_others(subnet: ManagedSubnet, whose: str) -> None:
    """Can't be read, written to or replaced by way of a canister that doesn't have them, even by who controls both."""
    canister, other = subnet.create(), subnet.create()
    foreign = call(subnet, other, "upload_canister_snapshot_metadata", **GOOD)["snapshot_id"]
    wanted = foreign if whose == "another canister's" else snapshot_id(canister.canister_id, 7)
    missing = f"Could not find the snapshot ID {wanted.hex()} for canister {canister.canister_id}."
    not_own = f"The snapshot {wanted.hex()} does not belong to canister {canister.canister_id}."
    expected = (
        (ErrorCode.CANISTER_REJECTED_MESSAGE, not_own)
        if wanted == foreign
        else (ErrorCode.CANISTER_SNAPSHOT_NOT_FOUND, missing)
    )
    calls: dict[str, dict[str, Any]] = {
        "read_canister_snapshot_metadata": {"snapshot_id": wanted},
        "read_canister_snapshot_data": {"snapshot_id": wanted, "kind": {"wasm_module": {"offset": 0, "size": 1}}},
        "upload_canister_snapshot_metadata": {**GOOD, "replace_snapshot": wanted},
        "upload_canister_snapshot_data": {"snapshot_id": wanted, "kind": {"wasm_module": {"offset": 0}}, "chunk": b"x"},
        "delete_canister_snapshot": {"snapshot_id": wanted},
    }
    before = canister.balance, canister.snapshots, other.snapshots
    for method, args in calls.items():
        assert refused(call(subnet, canister, method, **args)) == expected, method
    assert before == (canister.balance, canister.snapshots, other.snapshots)


@READ_METADATA
def test_metadata_of_a_taken_snapshot(subnet: ManagedSubnet) -> None:
    """All fields."""
    canister = installed(subnet)
    taken = take(subnet, canister)
    assert call(subnet, canister, "read_canister_snapshot_metadata", snapshot_id=taken) == {
        "source": {"taken_from_canister": None},
        "taken_at_timestamp": subnet.time,
        "wasm_module_size": len(WASM),
        "globals": [],
        "wasm_memory_size": 2 * PAGE,
        "stable_memory_size": 0,
        "wasm_chunk_store": [{"hash": hashlib.sha256(b"chunk").digest()}],
        "canister_version": 1,
        "certified_data": b"cert",
        "global_timer": {"active": 99},
        "on_low_wasm_memory_hook_status": {"condition_not_satisfied": None},
    }


@pytest.mark.spec("management-read-snapshot-data", condition=(3, 4))
def test_pieces_of_a_taken_snapshot(subnet: ManagedSubnet) -> None:
    """Module, memories and chunks; each piece costs its bytes and the baseline, a chunk as many as the largest."""
    canister = installed(subnet)
    assert canister.execution is not None
    canister.execution.stable.wasm_pages = 1
    taken = take(subnet, canister)

    def read(kind: str, **where: Any) -> Any:
        before = canister.balance
        result = call(subnet, canister, "read_canister_snapshot_data", snapshot_id=taken, kind={kind: where})
        return result, before - canister.balance

    def price(size: int) -> int:
        return subnet.fees.instructions(LIMITS.snapshot_data_instructions + size)

    assert read("wasm_module", offset=2, size=9) == ({"chunk": WASM[2:11]}, price(9))
    memories = {"wasm_memory": canister.execution.heap, "stable_memory": canister.execution.stable}
    for kind, memory in memories.items():
        for offset, size in ((0, 5000), (4000, 200), (PAGE - 1, 1), (7, 0)):
            assert read(kind, offset=offset, size=size) == ({"chunk": read_bytes(memory, offset, size)}, price(size))
    assert read("wasm_chunk", hash=hashlib.sha256(b"chunk").digest()) == ({"chunk": b"chunk"}, price(1 << 20))
    for kind, size in (("wasm_module", len(WASM)), ("wasm_memory", 2 * PAGE), ("stable_memory", PAGE)):
        assert not isinstance(read(kind, offset=size, size=0)[0], Reject)
        for offset, count in ((size, 1), (0, size + 1), ((1 << 64) - 1, 2)):
            result, paid = read(kind, offset=offset, size=count)
            text = f"Invalid subslice into wasm module / main memory / stable memory: offset: {offset}, size: {count}"
            assert (refused(result), paid) == ((ErrorCode.INVALID_MANAGEMENT_PAYLOAD, text), price(count))
    result, paid = read("wasm_memory", offset=0, size=2_000_001)
    assert (refused(result), paid) == (
        (ErrorCode.INVALID_MANAGEMENT_PAYLOAD, "Requested slice too large: 2000001 > 2000000"),
        0,
    )
    assert refused(read("wasm_chunk", hash=bytes(32))[0])[0] is ErrorCode.CANISTER_CONTRACT_VIOLATION
    assert "are not a valid WasmChunkHash" in refused(read("wasm_chunk", hash=b"short")[0])[1]
    assert subnet.everything() == 0


# --- uploading


def metadata_of(subnet: ManagedSubnet, canister: Canister, taken: bytes, **changes: Any) -> dict[str, Any]:
    """Metadata to upload, as they were read."""
    found = call(subnet, canister, "read_canister_snapshot_metadata", snapshot_id=taken)
    for name in ("source", "taken_at_timestamp", "wasm_chunk_store", "canister_version"):
        del found[name]
    return {**found, **changes}


def transfer(subnet: ManagedSubnet, source: Canister, taken: bytes, target: Canister, **changes: Any) -> bytes:
    """Download a snapshot and upload it as one of another canister, in pieces of odd sizes."""
    metadata = metadata_of(subnet, source, taken, **changes)
    uploaded: bytes = call(subnet, target, "upload_canister_snapshot_metadata", **metadata)["snapshot_id"]
    sizes = {"wasm_module": "wasm_module_size", "wasm_memory": "wasm_memory_size", "stable_memory": "stable_memory_size"}
    for kind, name in sizes.items():
        for offset in range(0, metadata[name], 30_000):
            size = min(30_000, metadata[name] - offset)
            where = {kind: {"offset": offset, "size": size}}
            piece = call(subnet, source, "read_canister_snapshot_data", snapshot_id=taken, kind=where)["chunk"]
            put = {kind: {"offset": offset}}
            assert call(subnet, target, "upload_canister_snapshot_data", snapshot_id=uploaded, kind=put, chunk=piece) is None
    for item in call(subnet, source, "read_canister_snapshot_metadata", snapshot_id=taken)["wasm_chunk_store"]:
        piece = call(subnet, source, "read_canister_snapshot_data", snapshot_id=taken, kind={"wasm_chunk": item})["chunk"]
        put_chunk = {"snapshot_id": uploaded, "kind": {"wasm_chunk": None}, "chunk": piece}
        assert call(subnet, target, "upload_canister_snapshot_data", **put_chunk) is None
    return uploaded


@UPLOAD_METADATA
@UPLOAD_DATA
@LOAD
def test_a_snapshot_moves_to_another_canister(subnet: ManagedSubnet) -> None:
    """Read in pieces, uploaded in pieces, loaded: the same canister; timer and hook are those of the metadata."""
    source, target = installed(subnet), subnet.create()
    assert source.execution is not None
    source.execution.stable.wasm_pages = 1
    taken = take(subnet, source)
    uploaded = transfer(subnet, source, taken, target)
    assert target.snapshots[uploaded].memory_bytes == source.snapshots[taken].memory_bytes - 8
    assert call(subnet, target, "load_canister_snapshot", snapshot_id=uploaded) is None
    assert shape(target) == shape(source)
    assert (target.global_timer, target.certified_data, target.chunk_store) == (99, b"cert", source.chunk_store)
    change: Any = target.history.changes[-1].details
    assert (change.uploaded, change.from_canister) == (True, None)
    assert subnet.everything() == 0


@UPLOAD_METADATA
def test_uploaded_metadata_are_billed_at_once(subnet: ManagedSubnet) -> None:
    """As a snapshot of that size would be; nothing but zeros so far."""
    canister = subnet.create()
    used, before = canister.memory_usage(), canister.balance
    metadata = {
        "wasm_module_size": 1000,
        "globals": [{"i32": -1}, {"i64": 1 << 40}, {"f32": 1.5}, {"f64": -0.5}, {"v128": (1 << 128) - 1}],
        "wasm_memory_size": 3 * PAGE,
        "stable_memory_size": PAGE,
        "certified_data": bytes(32),
    }
    uploaded = call(subnet, canister, "upload_canister_snapshot_metadata", **metadata)["snapshot_id"]
    size = 1000 + 5 * 32 + 4 * PAGE + 32
    assert canister.memory_usage() == used + size
    assert before - canister.balance == subnet.fees.execution(LIMITS.snapshot_instructions + size)
    told = call(subnet, canister, "read_canister_snapshot_metadata", snapshot_id=uploaded)
    assert {name: told[name] for name in metadata} == metadata
    assert (told["source"], told["global_timer"], told["on_low_wasm_memory_hook_status"]) == (
        {"metadata_upload": None},
        None,
        None,
    )
    piece = call(
        subnet, canister, "read_canister_snapshot_data", snapshot_id=uploaded, kind={"wasm_module": {"offset": 0, "size": 1000}}
    )
    assert piece == {"chunk": bytes(1000)}


WRONG = {
    "WasmModuleEmpty": {"wasm_module_size": 0},
    "WasmModuleTooLarge": {"wasm_module_size": (100 << 20) + 1},
    "WasmMemoryNotPageAligned": {"wasm_memory_size": PAGE + 1},
    "WasmMemoryTooLarge": {"wasm_memory_size": (4 << 30) + PAGE},
    "StableMemoryNotPageAligned": {"stable_memory_size": 1},
    "StableMemoryTooLarge": {"stable_memory_size": (500 << 30) + PAGE},
    "ExportedGlobalsTooLarge": {"globals": [{"i32": 0}] * 1001},
    "CertifiedDataTooLarge": {"certified_data": bytes(33)},
}
GOOD = {"wasm_module_size": 8, "globals": [], "wasm_memory_size": PAGE, "stable_memory_size": 0, "certified_data": b""}


@UPLOAD_METADATA
@pytest.mark.parametrize("what", WRONG)
def test_metadata_that_no_canister_can_have(subnet: ManagedSubnet, what: str) -> None:
    """IC0408, naming what is wrong."""
    canister = subnet.create()
    result = call(subnet, canister, "upload_canister_snapshot_metadata", **{**GOOD, **WRONG[what]})
    assert refused(result) == (ErrorCode.INVALID_MANAGEMENT_PAYLOAD, f"Snapshot Metadata contains invalid data: {what}")
    assert len(canister.snapshots) == 0


@pytest.mark.spec("management-upload-snapshot-metadata", condition=(2, 3, 5))
def test_uploading_metadata_has_the_conditions_of_taking(subnet: ManagedSubnet) -> None:
    """Number of snapshots, replacement, heap delta, cycles."""
    canister = subnet.create()
    upload = "upload_canister_snapshot_metadata"
    ids = [call(subnet, canister, upload, **GOOD)["snapshot_id"] for _ in range(3)]
    assert refused(call(subnet, canister, upload, **GOOD))[0] is ErrorCode.CANISTER_REJECTED_MESSAGE
    replaced = call(subnet, canister, upload, **GOOD, replace_snapshot=ids[0])["snapshot_id"]
    assert list(canister.snapshots) == [ids[1], ids[2], replaced]
    gone = call(subnet, canister, upload, **GOOD, replace_snapshot=ids[0])
    assert refused(gone)[0] is ErrorCode.CANISTER_SNAPSHOT_NOT_FOUND
    canister.heap_delta_debit = NumBytes(LIMITS.heap_delta_rate_limit)
    limited = call(subnet, canister, upload, **GOOD, replace_snapshot=replaced)
    assert refused(limited)[0] is ErrorCode.CANISTER_HEAP_DELTA_RATE_LIMITED
    canister.heap_delta_debit = NumBytes(0)
    canister.settings.freezing_threshold_s = 10**12
    frozen = call(subnet, canister, upload, **GOOD, replace_snapshot=replaced)
    assert refused(frozen)[0] is ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW


@pytest.mark.spec("management-upload-snapshot-data", condition=(2, 3, 4))
def test_what_data_can_be_uploaded(subnet: ManagedSubnet) -> None:
    """Only to uploaded snapshots, only within their sizes; paid for by the byte, chunks as whole ones, fitting or not."""
    canister = installed(subnet)
    taken = take(subnet, canister)
    uploaded = call(subnet, canister, "upload_canister_snapshot_metadata", **GOOD)["snapshot_id"]

    def upload(kind: str, chunk: bytes, which: bytes = uploaded, **where: Any) -> Any:
        before = canister.balance
        kinds = {kind: where or None}
        result = call(subnet, canister, "upload_canister_snapshot_data", snapshot_id=which, kind=kinds, chunk=chunk)
        return result, before - canister.balance

    result, paid = upload("wasm_module", b"x", taken, offset=0)
    text = "Only canister snapshots created by metadata upload can be mutated."
    assert (refused(result), paid) == ((ErrorCode.CANISTER_SNAPSHOT_IMMUTABLE, text), 0)
    assert refused(upload("wasm_module", b"x", b"nothing", offset=0)[0])[0] is ErrorCode.CANISTER_SNAPSHOT_NOT_FOUND
    for kind, size in (("wasm_module", 8), ("wasm_memory", PAGE), ("stable_memory", 0)):
        text = f"Invalid subslice into wasm module / main memory / stable memory: offset: {size}, size: 3"
        outside = upload(kind, b"abc", offset=size)
        assert (refused(outside[0]), outside[1]) == ((ErrorCode.INVALID_MANAGEMENT_PAYLOAD, text), subnet.fees.instructions(3))
    assert upload("wasm_memory", b"abc", offset=PAGE - 3) == (None, subnet.fees.instructions(3))
    used, delta = canister.memory_usage(), canister.heap_delta_debit
    assert upload("wasm_chunk", b"abc") == (None, subnet.fees.instructions(1 << 20))
    assert (canister.memory_usage() - used, canister.heap_delta_debit - delta) == (1 << 20, 1 << 20)
    assert upload("wasm_chunk", b"abc") == (None, subnet.fees.instructions(1 << 20))
    assert canister.memory_usage() - used == 1 << 20
    too_long = upload("wasm_chunk", bytes((1 << 20) + 1))[0]
    assert "exceeds the maximum chunk size" in refused(too_long)[1]
    canister.heap_delta_debit = NumBytes(LIMITS.heap_delta_rate_limit)
    assert refused(upload("wasm_chunk", b"more")[0])[0] is ErrorCode.CANISTER_CONTRACT_VIOLATION
    assert subnet.everything() == 0


@pytest.mark.spec("management-upload-snapshot-data", condition=5)
def test_the_chunk_store_of_a_snapshot_has_a_limit() -> None:
    """So many chunks; one that is there needs no room."""
    subnet = ManagedSubnet(fees=CyclesCostSchedule(), limits=SubnetLimits(chunk_store_bytes=2 << 20))
    canister = subnet.create()
    uploaded = call(subnet, canister, "upload_canister_snapshot_metadata", **GOOD)["snapshot_id"]

    def upload(chunk: bytes) -> Any:
        where = {"snapshot_id": uploaded, "kind": {"wasm_chunk": None}, "chunk": chunk}
        return call(subnet, canister, "upload_canister_snapshot_data", **where)

    assert [upload(chunk) for chunk in (b"1", b"2")] == [None, None]
    code, text = refused(upload(b"3"))
    assert code is ErrorCode.CANISTER_CONTRACT_VIOLATION
    assert "has already reached maximum capacity of 2097152 bytes or the maximum number of entries, 2." in text
    assert upload(b"2") is None
    assert len(canister.snapshots[uploaded].chunk_store.chunks) == 2


@pytest.mark.spec("management-upload-snapshot-data", condition=7)
def test_a_chunk_of_a_snapshot_must_be_affordable(subnet: ManagedSubnet) -> None:
    """IC0532 when what is left after the price doesn't cover the new freezing threshold; the price is paid."""
    canister = subnet.create()
    uploaded = call(subnet, canister, "upload_canister_snapshot_metadata", **GOOD)["snapshot_id"]
    price = subnet.fees.instructions(1 << 20)
    left = threshold_at(subnet, canister, canister.memory_usage() + (1 << 20)) - 1
    where = {"snapshot_id": uploaded, "kind": {"wasm_chunk": None}, "chunk": b"x"}
    canister.balance = type(canister.balance)(left + price)
    code, text = refused(call(subnet, canister, "upload_canister_snapshot_data", **where))
    assert code is ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW
    assert text.endswith("At least 1 additional cycles are required.")
    assert (canister.balance, len(canister.snapshots[uploaded].chunk_store.chunks)) == (left, 0)
    canister.balance = type(canister.balance)(left + price + 1)
    assert call(subnet, canister, "upload_canister_snapshot_data", **where) is None


@LOAD
@UPLOAD_DATA
@pytest.mark.spec("management-load-snapshot", condition=(3, 4, 6))
def test_an_uploaded_snapshot_must_make_sense(subnet: ManagedSubnet) -> None:
    """Another number of globals, a broken module, a hook that the settings rule out: nothing changes."""
    source, target = installed(subnet), subnet.create()
    taken = take(subnet, source)
    globals_differ = transfer(subnet, source, taken, target, globals=[{"i32": 0}])
    result = call(subnet, target, "load_canister_snapshot", snapshot_id=globals_differ)
    text = "Wasm exported globals of canister module and snapshot metadata do not match."
    assert refused(result) == (ErrorCode.INVALID_MANAGEMENT_PAYLOAD, text)
    hook = transfer(subnet, source, taken, target, on_low_wasm_memory_hook_status={"ready": None})
    text = "Hook status (Some(Ready)) of uploaded snapshot is inconsistent with the canister's state "
    text += "(hook condition satisfied: false)."
    result = call(subnet, target, "load_canister_snapshot", snapshot_id=hook)
    assert refused(result) == (ErrorCode.INVALID_MANAGEMENT_PAYLOAD, text)
    call(subnet, target, "update_settings", settings={"wasm_memory_limit": PAGE, "wasm_memory_threshold": PAGE})
    assert call(subnet, target, "load_canister_snapshot", snapshot_id=hook) is None
    assert target.low_memory_hook is LowMemoryHook.READY
    call(subnet, target, "uninstall_code")
    broken = module(invalid="no module")
    metadata = {**GOOD, "wasm_module_size": len(broken)}
    bad = call(subnet, target, "upload_canister_snapshot_metadata", **metadata)["snapshot_id"]
    put = {"snapshot_id": bad, "kind": {"wasm_module": {"offset": 0}}, "chunk": broken}
    assert call(subnet, target, "upload_canister_snapshot_data", **put) is None
    version, balance = target.version, target.balance
    assert refused(call(subnet, target, "load_canister_snapshot", snapshot_id=bad))[0] is ErrorCode.CANISTER_INVALID_WASM
    assert (target.execution, target.version, target.balance) == (None, version, balance)


def test_snapshots_are_in_the_state_hash(subnet: ManagedSubnet) -> None:
    """Taking, writing to and deleting one each show in the part `stored` alone."""
    canister = installed(subnet)
    seen = [canister_parts(canister)]
    uploaded = call(subnet, canister, "upload_canister_snapshot_metadata", **GOOD)["snapshot_id"]
    seen.append(canister_parts(canister))
    put = {"snapshot_id": uploaded, "kind": {"wasm_memory": {"offset": 5}}, "chunk": b"bytes"}
    call(subnet, canister, "upload_canister_snapshot_data", **put)
    seen.append(canister_parts(canister))
    call(subnet, canister, "delete_canister_snapshot", snapshot_id=uploaded)
    seen.append(canister_parts(canister))
    assert len({parts[b"stored"] for parts in seen}) == 4
    for label in (b"code", b"heap", b"stable", b"history", b"running"):
        assert len({parts[label] for parts in seen}) == 1, label


@pytest.mark.spec("management-delete-canister")
@pytest.mark.spec("canister-out-of-cycles")
def test_snapshots_go_with_their_canister(subnet: ManagedSubnet) -> None:
    """When it is deleted."""
    canister, other = installed(subnet), subnet.create()
    taken = take(subnet, canister)
    canister.status = type(canister.status).STOPPED
    assert call(subnet, canister, "delete_canister") is None
    gone = call(subnet, other, "load_canister_snapshot", snapshot_id=taken)
    assert refused(gone)[0] is ErrorCode.CANISTER_SNAPSHOT_NOT_FOUND


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 10_000])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 20_000])
def test_bytes_of_a_memory(offset: int, size: int) -> None:
    """Written anywhere, read anywhere; the rest stays."""
    memory, model = PagedMemory.new(1), bytearray(PAGE)
    for start, content in ((3, b"before"), (offset, bytes(range(256)) * (size // 256 + 1))):
        piece = content[:size] if start == offset else content
        write_bytes(memory, start, piece)
        model[start : start + len(piece)] = piece
    for at, count in ((0, PAGE), (offset, size), (4090, 20)):
        assert read_bytes(memory, at, count) == bytes(model[at : at + count])
