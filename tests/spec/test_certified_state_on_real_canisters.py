"""What certificates say about real canisters and messages.

Abstract behaviour, "Certified state reads"; canister interface, "Certified data"; interface spec, "The system state tree".
"""

from __future__ import annotations

import cbor2
import pytest

from ic_types.hash_tree import Absent, Found
from ic_types.leb128 import encode_nat
from ic_types.principal import CanisterId
from subnet.certification.certificate import Certificate, verify_certificate
from subnet.lab.universal import Program, certificate, certificate_present, root_key
from tests.support.lone_node import example
from tests.support.spec_node import USER, SpecNode
from tests.support.wasm_samples import COUNTER, compile_wat, custom_section

pytestmark = [pytest.mark.slow, pytest.mark.spec("certified-state-reads")]


def verified(node: SpecNode, raw: bytes) -> Certificate:
    """A certificate that the subnet's key has signed."""
    return verify_certificate(raw, node.record.public_key)


def value_at(node: SpecNode, *path: bytes) -> bytes | None:
    """What the newest certificate says about a path; None if it is proven to be absent."""
    found = verified(node, node.replica.read_state(path)).lookup(*path)
    if isinstance(found, Found):
        return found.value
    assert isinstance(found, Absent), found
    return None


def of_canister(node: SpecNode, canister: CanisterId, name: bytes) -> bytes | None:
    """A field of /canister/<id>."""
    return value_at(node, b"canister", bytes(canister), name)


@pytest.mark.spec("ic0.certified_data_set")
def test_certified_data_is_in_the_tree(node: SpecNode) -> None:
    """The value last set, from the round on in which it was; empty at first, absent without code."""
    canister = node.create()
    assert of_canister(node, canister, b"certified_data") is None
    node.put(canister, example("universal")).replied  # noqa: B018
    assert of_canister(node, canister, b"certified_data") == b""
    node.ask(canister, Program().certified_data(b"first").certified_data(b"second").reply())
    assert of_canister(node, canister, b"certified_data") == b"second"
    node.done("uninstall_code", {"canister_id": canister})
    assert of_canister(node, canister, b"certified_data") is None


@pytest.mark.spec("ic0.certified_data_set")
def test_certified_data_has_at_most_32_bytes(node: SpecNode) -> None:
    """More traps with IC0504."""
    canister = node.universal(Program().certified_data(bytes(32)))
    outcome = node.ask(canister, Program().certified_data(bytes(33)).reply())
    assert outcome.rejected == (5, "IC0504")
    assert "no larger than 32 bytes. Found 33 bytes" in outcome.message
    assert of_canister(node, canister, b"certified_data") == bytes(32)


@pytest.mark.spec("ic0.certified_data_set")
@pytest.mark.spec("management-upgrade-code")
@pytest.mark.spec("management-install-code")
def test_certified_data_and_new_code(node: SpecNode) -> None:
    """An upgrade keeps it, or takes what pre_upgrade or post_upgrade set; a reinstall empties it."""
    universal = example("universal")
    canister = node.universal(Program().certified_data(b"old"))
    for pre, post, expected in ((b"", b"", b"old"), (b"pre", b"", b"pre"), (b"pre", b"post", b"post")):
        node.ask(canister, Program().certified_data(b"old").reply())
        node.ask(canister, Program().on_pre_upgrade(Program().certified_data(pre) if pre else Program()).reply())
        node.put(canister, universal, Program().certified_data(post) if post else b"", "upgrade").replied  # noqa: B018
        assert of_canister(node, canister, b"certified_data") == expected
    node.put(canister, universal, mode="reinstall").replied  # noqa: B018
    assert of_canister(node, canister, b"certified_data") == b""


@pytest.mark.spec("ic0.data_certificate_present")
@pytest.mark.spec("ic0.data_certificate_size")
@pytest.mark.spec("ic0.data_certificate_copy")
@pytest.mark.spec("query-call")
def test_query_gets_a_certificate_of_its_data(node: SpecNode) -> None:
    """It verifies, covers the canister's certified data and the time; updates have none."""
    canister = node.universal(Program().certified_data(b"witness"))
    for method in ("query", "composite_query"):
        raw = node.query(canister, Program().reply(certificate()), method).replied
        found = verified(node, raw)
        assert found.lookup(b"canister", bytes(canister), b"certified_data") == Found(b"witness")
        assert found.time() == node.now
    present = Program().reply_int(certificate_present())
    assert node.query(canister, present).number == 1
    assert node.ask(canister, present).number == 0
    assert node.ask(canister, present, "query").number == 0
    assert node.ask(canister, Program().reply(certificate())).rejected == (5, "IC0504")


@pytest.mark.spec("ic0.root_key_size")
@pytest.mark.spec("ic0.root_key_copy")
def test_root_key(node: SpecNode) -> None:
    """DER of the root subnet's key, in replicated execution only."""
    canister = node.universal()
    program = Program().reply(root_key())
    assert node.ask(canister, program).replied == node.replica.state.root_key_der
    assert node.ask(canister, program, "query").replied == node.replica.state.root_key_der
    outcome = node.query(canister, program)
    assert outcome.rejected == (5, "IC0504")
    assert "cannot be executed in non replicated query mode" in outcome.message


def test_controllers_and_module_hash(node: SpecNode) -> None:
    """Controllers as CBOR, always; the module hash only while there is code."""
    canister = node.create()
    assert cbor2.loads(of_canister(node, canister, b"controllers") or b"") == (bytes(USER),)
    assert of_canister(node, canister, b"module_hash") is None
    node.put(canister, example("universal")).replied  # noqa: B018
    execution = node.canister(canister).execution
    assert execution is not None
    assert of_canister(node, canister, b"module_hash") == execution.module.module_hash
    node.done("update_settings", {"canister_id": canister, "settings": {"controllers": [USER, canister]}})
    assert cbor2.loads(of_canister(node, canister, b"controllers") or b"") == tuple(sorted([bytes(USER), bytes(canister)]))
    node.stop(canister)
    node.done("delete_canister", {"canister_id": canister})
    assert of_canister(node, canister, b"controllers") is None


def test_custom_sections(node: SpecNode) -> None:
    """/canister/<id>/metadata/<name>, public and private ones; other sections aren't there."""
    wasm = compile_wat(COUNTER) + custom_section("icp:public a", b"open") + custom_section("icp:private b", b"closed")
    canister = node.create()
    node.put(canister, wasm + custom_section("name of mine", b"x")).replied  # noqa: B018
    path = (b"canister", bytes(canister), b"metadata")
    assert value_at(node, *path, b"a") == b"open"
    assert value_at(node, *path, b"b") == b"closed"
    assert value_at(node, *path, b"name of mine") is None


@pytest.mark.spec("respond-to-user-request")
@pytest.mark.spec("update-call-request-clean-up")
def test_request_status(node: SpecNode) -> None:
    """Status and reply, or reject code, message and error code; nothing once the message is forgotten."""
    canister = node.universal()
    replied = node.submit(canister, Program().reply(b"yes"))
    rejected = node.submit(canister, Program().reject(b"no"))
    trapped = node.submit(canister, Program().trap(b"ouch"))
    opened = node.submit(canister, Program().call(b"", "raw_rand", b"DIDL\0\0"))

    def status(message: bytes, field: bytes) -> bytes | None:
        return value_at(node, b"request_status", message, field)

    assert status(opened.message_id, b"status") == b"processing"
    assert (status(replied.message_id, b"status"), status(replied.message_id, b"reply")) == (b"replied", b"yes")
    expected = {b"status": b"rejected", b"reject_code": encode_nat(4), b"reject_message": b"no", b"error_code": b"IC0406"}
    assert {field: status(rejected.message_id, field) for field in expected} == expected
    assert status(trapped.message_id, b"error_code") == b"IC0503"
    node.rounds(3)
    node.round(seconds=301)
    assert status(replied.message_id, b"status") is None


@pytest.mark.spec("time-progressing")
def test_time_and_ranges(node: SpecNode) -> None:
    """/time is that of the batch; the subnet's key and canister ranges are there."""
    node.round()
    own = bytes(node.record.subnet_id)
    assert value_at(node, b"time") == encode_nat(node.now)
    assert (value_at(node, b"subnet", own, b"public_key") or b"").endswith(node.record.public_key)
    ranges = cbor2.loads(value_at(node, b"subnet", own, b"canister_ranges") or b"")
    assert [[bytes(low), bytes(high)] for low, high in ranges] == [
        [bytes(node.record.range_start), bytes(node.record.range_end)]
    ]
