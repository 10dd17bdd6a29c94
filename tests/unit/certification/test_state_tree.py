"""The certified state tree: paths and values of the spec, updates that leave no trace of history."""

from __future__ import annotations

import cbor2
import pytest

from ic_types import bls
from ic_types.hash_tree import Absent, Found, LookupResult, lookup_path
from ic_types.identity import Ed25519Identity
from ic_types.messages import Refund
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, RejectCode
from ic_types.units import Cycles, TimeNs
from subnet.certification.state_tree import StateTree, SubnetMetrics
from xnet.encoding import encode_header
from xnet.stream import Stream

CANISTER, ALICE, PEER = Principal.canister(1), Principal(b"alice"), Principal(b"peer")
REQUEST = b"r" * 32


def look(tree: StateTree, *path: bytes) -> LookupResult:
    """What the whole tree has at a path."""
    return lookup_path(path, tree.map.tree())


def test_time_and_metadata() -> None:
    """Time is LEB128; metadata chains the roots of the heights."""
    tree = StateTree()
    tree.set_time(TimeNs(300))
    assert look(tree, b"time") == Found(b"\xac\x02")
    tree.set_metadata(None)
    assert look(tree, b"metadata") == Found(b"\xa0")
    tree.set_metadata(b"\x01\x02")
    assert look(tree, b"metadata") == Found(bytes.fromhex("a101820102"))


def test_canister_with_and_without_code() -> None:
    """An empty canister shows its controllers alone; one with code shows hash, certified data and public sections."""
    tree = StateTree()
    tree.set_canister(CANISTER, controllers=[ALICE], module_hash=None)
    empty = tree.root()
    assert look(tree, b"canister", CANISTER, b"controllers") == Found(bytes.fromhex("d9d9f78145") + b"alice")
    assert look(tree, b"canister", CANISTER, b"module_hash") == Absent()
    sections = {"candid:service": b"service {}", "x": b""}
    tree.set_canister(CANISTER, controllers=[ALICE], module_hash=bytes(32), metadata=sections)
    tree.set_certified_data(CANISTER, b"data")
    assert look(tree, b"canister", CANISTER, b"module_hash") == Found(bytes(32))
    assert look(tree, b"canister", CANISTER, b"certified_data") == Found(b"data")
    assert look(tree, b"canister", CANISTER, b"metadata", b"candid:service") == Found(b"service {}")
    tree.set_canister(CANISTER, controllers=[ALICE], module_hash=bytes(32), metadata={"x": b"new"})
    assert look(tree, b"canister", CANISTER, b"metadata", b"candid:service") == Absent()
    assert look(tree, b"canister", CANISTER, b"metadata", b"x") == Found(b"new")
    tree.set_canister(CANISTER, controllers=[ALICE], module_hash=None)
    assert tree.root() == empty
    tree.delete_canister(CANISTER)
    assert tree.root() == StateTree().root()


def test_certified_data_needs_code() -> None:
    """An empty canister can't have certified data."""
    tree = StateTree()
    tree.set_canister(CANISTER, controllers=[], module_hash=None)
    with pytest.raises(AssertionError, match="has no code"):
        tree.set_certified_data(CANISTER, b"")


def test_request_status_in_each_state() -> None:
    """Reply only with `replied`, reject fields only with `rejected`; a new status leaves nothing of the old."""
    tree = StateTree()
    path = (b"request_status", REQUEST)
    for status in ("received", "processing"):
        tree.set_request_status(REQUEST, status)
        assert look(tree, *path, b"status") == Found(status.encode())
        assert look(tree, *path, b"reply") == Absent()
    tree.set_request_status(REQUEST, "replied", reply=b"")
    assert look(tree, *path, b"reply") == Found(b"")
    tree.set_request_status(REQUEST, "done")
    assert look(tree, *path, b"reply") == Absent()
    tree.set_request_status(
        REQUEST, "rejected", reject_code=RejectCode.CANISTER_ERROR, reject_message="é", error_code=ErrorCode.CANISTER_TRAPPED
    )
    assert look(tree, *path, b"status") == Found(b"rejected")
    assert look(tree, *path, b"reject_code") == Found(b"\x05")
    assert look(tree, *path, b"reject_message") == Found("é".encode())
    assert look(tree, *path, b"error_code") == Found(b"IC0502")
    tree.set_request_status(REQUEST, "rejected", reject_code=RejectCode.SYS_FATAL, reject_message="")
    assert look(tree, *path, b"error_code") == Absent()
    tree.delete_request_status(REQUEST)
    assert tree.root() == StateTree().root()


@pytest.mark.parametrize(
    ("status", "fields"),
    [("replied", {}), ("done", {"reply": b""}), ("rejected", {}), ("received", {"reject_code": RejectCode.SYS_FATAL})],
)
def test_statuses_with_wrong_fields_are_bugs(status: str, fields: dict[str, object]) -> None:
    """A reply without its status, or the other way round, must not be certified."""
    with pytest.raises(AssertionError, match=f"status {status}"):
        StateTree().set_request_status(REQUEST, status, **fields)  # type: ignore[arg-type]


def test_streams_follow_their_messages() -> None:
    """Header and messages are certified; pushing to a stream shows once its header is told again."""
    tree, stream = StateTree(), Stream()
    tree.set_stream(PEER, stream)
    before = tree.root()
    stream.push(Refund(recipient=CANISTER, amount=Cycles(1)))
    tree.set_stream(PEER, stream)
    assert tree.root() != before
    assert look(tree, b"streams", PEER, b"header") == Found(encode_header(stream.header()))
    message = look(tree, b"streams", PEER, b"messages", bytes(8))
    assert isinstance(message, Found)
    assert cbor2.loads(message.value) == {2: {0: bytes(CANISTER), 1: {0: 1}}}
    tree.delete_stream(PEER)
    assert tree.root() == StateTree().root()


def test_subnets_nodes_and_metrics() -> None:
    """Keys in DER, type, ranges whole and in shards of five, nodes and metrics of the own subnet."""
    tree = StateTree()
    ranges = [(Principal.canister(10 * k), Principal.canister(10 * k + 9)) for k in range(7)]
    key, node = bls.public_key(bytes(31) + b"\x01"), Ed25519Identity.derive(b"", "node")
    tree.set_subnet(PEER, public_key=key, subnet_type="system", ranges=ranges)
    tree.set_subnet(ALICE, public_key=key, subnet_type="application", ranges=())
    tree.set_node(PEER, node.principal, node.public_key_der)
    tree.set_metrics(
        PEER, SubnetMetrics(canisters=2, canister_state_bytes=3, consumed_cycles=Cycles((1 << 64) + 5), update_transactions=7)
    )
    rows = [[bytes(first), bytes(last)] for first, last in ranges]
    assert look(tree, b"subnet", PEER, b"public_key") == Found(bls.to_der(key))
    assert look(tree, b"subnet", PEER, b"type") == Found(b"system")
    assert look(tree, b"subnet", PEER, b"canister_ranges") == Found(b"\xd9\xd9\xf7" + cbor2.dumps(rows))
    assert look(tree, b"canister_ranges", PEER, bytes(ranges[0][0])) == Found(b"\xd9\xd9\xf7" + cbor2.dumps(rows[:5]))
    assert look(tree, b"canister_ranges", PEER, bytes(ranges[5][0])) == Found(b"\xd9\xd9\xf7" + cbor2.dumps(rows[5:]))
    assert look(tree, b"canister_ranges", ALICE, Principal.canister(0)) == Found(b"\xd9\xd9\xf7\x80")
    assert look(tree, b"subnet", PEER, b"node", node.principal, b"public_key") == Found(node.public_key_der)
    metrics = look(tree, b"subnet", PEER, b"metrics")
    assert isinstance(metrics, Found)
    assert cbor2.loads(metrics.value) == {0: 2, 1: 3, 2: {0: 5, 1: 1}, 3: 7}
    tree.set_subnet(PEER, public_key=key, subnet_type="system", ranges=ranges[:1])
    assert look(tree, b"canister_ranges", PEER, bytes(ranges[5][0])) == Absent()


def test_updates_leave_no_trace_of_history() -> None:
    """Two trees with the same content have the same root, however they came to it."""
    one, other = StateTree(), StateTree()
    ids = [bytes([k]) * 32 for k in range(20)]
    for message_id in ids:
        one.set_request_status(message_id, "received")
        one.root()
        one.set_request_status(message_id, "replied", reply=message_id)
    for message_id in ids[::2]:
        one.delete_request_status(message_id)
    for message_id in reversed(ids[1::2]):
        other.set_request_status(message_id, "replied", reply=message_id)
    assert one.root() == other.root()
