"""Chunks: uploading, listing, clearing, and installing a module that is made of them.

Abstract behaviour, "IC Management Canister: Upload Chunk", "Clear chunk store", "List stored chunks", "Install chunked code".
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.reject import ErrorCode, Reject
from ic_types.units import NumBytes, NumInstructions
from scheduler.canister import Canister
from scheduler.chunk_store import CHUNK_BYTES
from subnet.management.wasm_kind import is_wasm64
from tests.support.fake_executor import trap
from tests.support.management_world import OTHER, USER, ManagedSubnet, module
from tests.support.wasm_samples import compile_wat

UPLOAD = pytest.mark.spec("management-upload-chunk")
INSTALL = pytest.mark.spec("management-install-chunked-code")
pytestmark = [
    pytest.mark.spec("ic-upload_chunk"),
    pytest.mark.spec("ic-stored_chunks"),
    pytest.mark.spec("ic-clear_chunk_store"),
    pytest.mark.spec("ic-install_chunked_code"),
]
WASM = module({"init": []}, sections=(("large", True),))
HALVES = [WASM[:20], WASM[20:]]
UPLOAD_INSTRUCTIONS = SubnetLimits().upload_chunk_instructions


@pytest.fixture
def subnet() -> ManagedSubnet:
    """Mainnet's prices; a store of three chunks."""
    limits = SubnetLimits(chunk_store_bytes=3 * CHUNK_BYTES, instructions_per_install=10**8)
    return ManagedSubnet(fees=CyclesCostSchedule(), limits=limits)


def sha(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


def upload(subnet: ManagedSubnet, canister: Canister, chunk: bytes, **fields: Any) -> Any:
    """Upload as USER: the hash or the reject."""
    result = subnet.user_call("upload_chunk", {"canister_id": canister.canister_id, "chunk": chunk}, **fields)
    return result["hash"] if isinstance(result, dict) else result


def stored(subnet: ManagedSubnet, canister: Canister) -> list[bytes]:
    """The hashes in the store."""
    return [item["hash"] for item in subnet.user_call("stored_chunks", {"canister_id": canister.canister_id})]


def install(subnet: ManagedSubnet, target: Canister, hashes: list[bytes], wanted: bytes, **fields: Any) -> Any:
    """Install a module of these chunks as USER."""
    sender = fields.pop("sender", USER)
    args = {
        "mode": {"install": None},
        "target_canister": target.canister_id,
        "chunk_hashes_list": [{"hash": one} for one in hashes],
        "wasm_module_hash": wanted,
        "arg": b"",
        **fields,
    }
    return subnet.user_call("install_chunked_code", args, sender=sender)


def refused(result: object) -> tuple[ErrorCode | None, str]:
    """Code and text of a reject."""
    assert isinstance(result, Reject), result
    return result.error_code, result.message


@UPLOAD
@pytest.mark.spec("management-stored-chunks")
@pytest.mark.spec("management-clear-chunk-store")
def test_chunks_are_kept_by_their_hash(subnet: ManagedSubnet) -> None:
    """Listed in the order of their hashes, a MiB billed for each; the same chunk again changes nothing; clearing frees all."""
    canister = subnet.create()
    used = canister.memory_usage()
    chunks = [b"one", b"two" * 1000, b""]
    for chunk in chunks:
        assert upload(subnet, canister, chunk) == sha(chunk)
    assert upload(subnet, canister, b"one") == sha(b"one")
    assert stored(subnet, canister) == sorted(map(sha, chunks))
    assert canister.memory_usage() == used + 3 * CHUNK_BYTES
    assert canister.heap_delta_debit == 3 * CHUNK_BYTES
    status = subnet.user_call("canister_status", {"canister_id": canister.canister_id})
    assert status["memory_metrics"]["wasm_chunk_store_size"] == 3 * CHUNK_BYTES
    assert subnet.user_call("clear_chunk_store", {"canister_id": canister.canister_id}) is None
    assert (stored(subnet, canister), canister.memory_usage()) == ([], used)
    assert canister.version == 0
    assert subnet.everything() == 0


@UPLOAD
def test_uploading_costs_instructions(subnet: ManagedSubnet) -> None:
    """Also of a chunk that is there already, or too long; not if the canister can't pay."""
    canister = subnet.create(10**12)
    price = subnet.fees.instructions(UPLOAD_INSTRUCTIONS)
    for chunk in (b"a", b"a", bytes(CHUNK_BYTES + 1)):
        before = canister.balance
        upload(subnet, canister, chunk)
        assert before - canister.balance == price
    poor = subnet.create(price, freezing_threshold=0)
    poor.balance = type(poor.balance)(price - 1)
    subnet.minted -= 1
    code, text = refused(upload(subnet, poor, b"a"))
    assert code is ErrorCode.CANISTER_CONTRACT_VIOLATION
    assert text == (
        f"Error from Wasm chunk store: Error charging for 'upload_chunk': Canister {poor.canister_id} is out of cycles: "
        "please top up the canister with at least 1 additional cycles."
    )
    assert subnet.everything() == 0


@UPLOAD
@pytest.mark.spec("management-upload-chunk", condition=(2, 3))
def test_chunks_and_stores_have_limits(subnet: ManagedSubnet) -> None:
    """A MiB each, so many per canister; a chunk that is there needs no room."""
    canister = subnet.create()
    text = f"Error from Wasm chunk store: Wasm chunk size {CHUNK_BYTES + 1} exceeds the maximum chunk size of {CHUNK_BYTES}."
    assert refused(upload(subnet, canister, bytes(CHUNK_BYTES + 1))) == (ErrorCode.CANISTER_CONTRACT_VIOLATION, text)
    for k in range(3):
        assert upload(subnet, canister, bytes([k]) * CHUNK_BYTES) == sha(bytes([k]) * CHUNK_BYTES)
    code, text = refused(upload(subnet, canister, b"more"))
    assert code is ErrorCode.CANISTER_CONTRACT_VIOLATION
    assert "has already reached maximum capacity of 3145728 bytes or the maximum number of entries, 3." in text
    assert upload(subnet, canister, bytes(CHUNK_BYTES)) == sha(bytes(CHUNK_BYTES))


@UPLOAD
@pytest.mark.spec("management-upload-chunk", condition=4)
def test_uploading_is_rate_limited_and_must_be_affordable(subnet: ManagedSubnet) -> None:
    """IC0504 after too much heap delta; IC0532 when the canister would freeze."""
    canister = subnet.create()
    canister.heap_delta_debit = NumBytes(subnet.limits.heap_delta_rate_limit)
    code, text = refused(upload(subnet, canister, b"x"))
    assert (code, text.startswith("Error from Wasm chunk store: Canister is heap delta rate limited. ")) == (
        ErrorCode.CANISTER_CONTRACT_VIOLATION,
        True,
    )
    frozen = subnet.create(10**13 + 10**11, freezing_threshold=10**9)
    assert refused(upload(subnet, frozen, b"x"))[0] is ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW
    assert stored(subnet, frozen) == []


@INSTALL
@pytest.mark.parametrize("elsewhere", [False, True], ids=["own store", "store of another canister"])
def test_a_module_of_chunks_is_installed(subnet: ManagedSubnet, elsewhere: bool) -> None:
    """In the order that the call names; every chunk costs an instruction per byte of a whole one."""
    target, other = subnet.create(), subnet.create()
    store = other if elsewhere else target
    hashes = [upload(subnet, store, half) for half in HALVES]
    where = {"store_canister": other.canister_id} if elsewhere else {}
    assert install(subnet, target, hashes, sha(WASM), **where) is None
    assert target.execution is not None
    assert (target.execution.module.module_hash, target.execution.wasm) == (sha(WASM), WASM)
    assert target.install_debit == 2 * CHUNK_BYTES
    assert target.history.total == 2
    assert subnet.everything() == 0


@INSTALL
@pytest.mark.spec("management-install-chunked-code", condition=(4, 5))
def test_what_can_be_wrong_with_chunks(subnet: ManagedSubnet) -> None:
    """A hash that isn't stored or is none, another module's hash, too many chunks: nothing is installed."""
    target = subnet.create()
    hashes = [upload(subnet, target, half) for half in HALVES]
    wrong: list[tuple[list[bytes], bytes, ErrorCode, str]] = [
        ([bytes(32)], sha(WASM), ErrorCode.CANISTER_CONTRACT_VIOLATION, f"Chunk hash {[0] * 32} was not found."),
        ([b"short"], sha(WASM), ErrorCode.CANISTER_CONTRACT_VIOLATION, "Chunk hash is invalid. The length is not 32."),
        (hashes[::-1], sha(WASM), ErrorCode.CANISTER_CONTRACT_VIOLATION, "does not match given hash WasmHash("),
        (hashes, b"short", ErrorCode.CANISTER_CONTRACT_VIOLATION, "Invalid wasm hash [115, 104, 111, 114, 116]"),
        (
            hashes * 2,
            sha(WASM),
            ErrorCode.INVALID_MANAGEMENT_PAYLOAD,
            "The number of elements exceeds maximum allowed 3, got 4",
        ),
    ]
    for chunks, wanted, expected, text in wrong:
        target.install_debit = NumInstructions(0)
        code, found = refused(install(subnet, target, chunks, wanted))
        assert code is expected
        assert text in found
        assert target.execution is None
    assert subnet.everything() == 0


@INSTALL
@pytest.mark.spec("management-install-chunked-code", condition=(2, 3))
def test_who_may_use_a_store(subnet: ManagedSubnet) -> None:
    """Who controls it, or the store canister itself; it must be on the subnet."""
    target, store = subnet.create(controllers=[USER, OTHER]), subnet.create()
    hashes = [upload(subnet, store, WASM)]
    where = {"store_canister": store.canister_id}
    denied = refused(install(subnet, target, hashes, sha(WASM), **where, sender=OTHER))
    assert denied[0] is ErrorCode.CANISTER_INVALID_CONTROLLER
    gone = type(store.canister_id).canister(77)
    text = f"InstallChunkedCode Error: Store canister {gone} was not found on subnet {subnet.own_subnet} of target canister "
    missing = install(subnet, target, hashes, sha(WASM), store_canister=gone)
    assert refused(missing) == (ErrorCode.CANISTER_CONTRACT_VIOLATION, f"{text}{target.canister_id}")
    args = {"canister_id": target.canister_id, "settings": {"controllers": [store.canister_id]}}
    assert subnet.user_call("update_settings", args) is None
    call = {
        **where,
        "mode": {"install": None},
        "target_canister": target.canister_id,
        "chunk_hashes_list": [{"hash": one} for one in hashes],
        "wasm_module_hash": sha(WASM),
        "arg": b"",
    }
    result, _ = subnet.canister_call(store.canister_id, "install_chunked_code", call)
    assert result is None
    assert target.execution is not None


@INSTALL
def test_a_chunked_install_that_fails_is_paid_for(subnet: ManagedSubnet) -> None:
    """As every other: the canister stays empty."""
    target = subnet.create()
    broken = module({"init": [trap("no")]})
    hashes = [upload(subnet, target, broken)]
    before = target.balance
    assert refused(install(subnet, target, hashes, sha(broken)))[0] is ErrorCode.CANISTER_CALLED_TRAP
    assert (target.execution, before - target.balance) == (None, subnet.fees.execution(CHUNK_BYTES))


@pytest.mark.spec("rule-uninstall", condition=2)
def test_uninstalling_clears_the_store(subnet: ManagedSubnet) -> None:
    """Chunks go with the code."""
    canister = subnet.create()
    upload(subnet, canister, b"x")
    subnet.user_call("uninstall_code", {"canister_id": canister.canister_id})
    assert stored(subnet, canister) == []


@pytest.mark.parametrize("packed", [False, True])
def test_modules_with_a_64_bit_heap_are_told_apart(packed: bool) -> None:
    """Before they are compiled, also when they are compressed; what is no module counts as 32-bit."""
    import gzip

    pack = gzip.compress if packed else bytes
    assert is_wasm64(pack(compile_wat("(module (memory i64 1))")))
    assert not is_wasm64(pack(compile_wat("(module (memory 1))")))
    assert not is_wasm64(pack(compile_wat("(module)")))
    for broken in (b"", b"\0asm", b"\0asm\1\0\0\0\5", b"\0asm\1\0\0\0\5\xff\xff\xff\xff\xff\xff", b"\x1f\x8b\x08broken"):
        assert not is_wasm64(broken)
