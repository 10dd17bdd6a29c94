"""Which calls of users a node lets into the pool, on real canisters. Abstract behaviour, "API Request submission"."""

from __future__ import annotations

from typing import Any

import pytest

from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.lab.universal import (
    Program,
    argument,
    caller,
    canister_status,
    certificate_present,
    cycles_accept,
    get_global,
    in_replicated_execution,
    method_name,
    set_timer,
    time,
)
from subnet.protocol import AcceptanceRequest
from tests.support.lone_node import SECOND
from tests.support.spec_node import FEES, NOBODY, STRANGER, USER, Outcome, SpecNode, management_arg

pytestmark = [pytest.mark.slow, pytest.mark.spec("api-request-submission")]
FOREVER = 10**13
"""A freezing threshold in seconds that no balance reaches."""


def refused(found: Outcome | None) -> tuple[int, str, str]:
    """Reject code, error code and text of a refusal."""
    assert found is not None, "accepted"
    return found.code, found.error, found.message


# --- calls of canisters


@pytest.mark.spec("api-request-submission", condition=12)
def test_an_accepted_call_changes_nothing(node: SpecNode) -> None:
    """The canister may write while it decides; no state, balance or version shows it, and nothing is charged."""
    canister = node.universal(Program().on_inspect(Program().set_global(b"seen").burn_loop(10_000).accept()))
    before = node.round().state_hash, node.balance(canister), node.canister(canister).version
    assert node.inspect(canister, "update") is None
    assert (node.balance(canister), node.canister(canister).version) == before[1:]
    assert node.query(canister, Program().reply(get_global())).replied == b""
    assert node.ask(canister, Program().reply(get_global())).replied == b""


@pytest.mark.spec("api-request-submission", condition=10)
def test_without_the_hook_everything_is_accepted(node: SpecNode) -> None:
    """A module without canister_inspect_message, whatever the method."""
    canister = node.create()
    assert node.put(canister, b"\0asm\1\0\0\0").replied == b"DIDL\0\0"
    assert node.inspect(canister, "no such method") is None


@pytest.mark.spec("ic0.accept_message")
@pytest.mark.spec("ic0.msg_caller_copy")
@pytest.mark.spec("ic0.msg_arg_data_copy")
@pytest.mark.spec("ic0.msg_method_name_copy")
@pytest.mark.spec("api-request-submission", condition=12)
@pytest.mark.spec("ic0.msg_method_name_size")
def test_what_the_hook_learns(node: SpecNode) -> None:
    """Caller, argument, method, time of the certified state; not replicated, no certificate."""
    told = (
        caller()
        .concat(method_name())
        .concat(argument())
        .concat(in_replicated_execution().to_blob())
        .concat(certificate_present().to_blob())
        .concat(canister_status().to_blob())
    )
    at_time = Program().if_(time().equals(node.now + 3 * SECOND), Program().trap(told))
    canister = node.universal(Program().on_inspect(at_time))
    node.round()
    assert node.now == node.replica.certified.time
    numbers = b"".join(number.to_bytes(8, "little") for number in (0, 0, 1))
    code, error, text = refused(node.inspect(canister, "foo", b"argument", sender=STRANGER))
    assert (code, error) == (5, "IC0503")
    expected = (bytes(STRANGER) + b"foo" + b"argument" + numbers).decode()
    assert expected in text


@pytest.mark.spec("ic0.accept_message")
@pytest.mark.spec("api-request-submission", condition=10)
def test_a_canister_that_does_not_accept(node: SpecNode) -> None:
    """CANISTER_REJECT, IC0406; a trap keeps the call out too, even after accept_message."""
    by_method = Program().if_(method_name().size().equals(6), Program().accept())
    canister = node.universal(Program().on_inspect(by_method))
    assert node.inspect(canister, "update") is None
    text = f"Error from Canister {canister}: Canister rejected the message"
    assert refused(node.inspect(canister, "other")) == (4, "IC0406", text)
    fickle = node.universal(Program().on_inspect(Program().accept().trap(b"after all, no")))
    code, error, text = refused(node.inspect(fickle, "update"))
    assert (code, error) == (5, "IC0503")
    assert "after all, no" in text
    twice = node.universal(Program().on_inspect(Program().accept().accept()))
    assert refused(node.inspect(twice, "update"))[:2] == (5, "IC0504")


@pytest.mark.parametrize(
    "forbidden",
    [
        Program().reply(b"no"),
        Program().reject(b"no"),
        Program().drop(cycles_accept(1)),
        Program().drop(set_timer(1)),
        Program().certified_data(b"x"),
        Program().call(b"", "raw_rand"),
    ],
)
def test_functions_that_the_hook_lacks(node: SpecNode, forbidden: Program) -> None:
    """IC0504: it can neither answer nor call nor change anything."""
    canister = node.universal(Program().on_inspect(forbidden.accept()))
    code, error, text = refused(node.inspect(canister, "update"))
    assert (code, error) == (5, "IC0504")
    assert "cannot be executed in inspect message mode" in text


@pytest.mark.spec("api-request-submission", condition=11)
def test_the_hook_has_200_million_instructions(node: SpecNode) -> None:
    """IC0522 beyond them."""
    canister = node.universal(Program().on_inspect(Program().burn_loop(40_000_000).accept()))
    code, error, text = refused(node.inspect(canister, "update"))
    assert (code, error) == (5, "IC0522")
    assert "200000000" in text.replace("_", "")


@pytest.mark.spec("api-request-submission", condition=(5, 7, 8, 9))
def test_canisters_that_cannot_take_calls(node: SpecNode) -> None:
    """Unknown, empty, stopped, stopping; composite queries."""
    canister, empty = node.universal(), node.create()
    assert refused(node.inspect(NOBODY, "update")) == (3, "IC0301", f"Canister {NOBODY} not found")
    assert refused(node.inspect(empty, "update")) == (5, "IC0537", "Requested canister has no wasm module")
    text = "Composite query cannot be called in replicated mode"
    assert refused(node.inspect(canister, "composite_query")) == (5, "IC0527", text)
    assert node.inspect(canister, "query") is None, "a query may be called replicated"
    node.submit(canister, Program().call(bytes(MANAGEMENT_CANISTER), b"raw_rand", b"DIDL\0\0"))
    stop = management_arg("stop_canister", {"canister_id": canister})
    node.submit(MANAGEMENT_CANISTER, stop, "stop_canister")
    assert refused(node.inspect(canister, "update")) == (5, "IC0509", f"Canister {canister} is stopping")
    node.rounds(3)
    assert refused(node.inspect(canister, "update")) == (5, "IC0508", f"Canister {canister} is stopped")


@pytest.mark.spec("calls-to-frozen-canisters-are-rejected")
@pytest.mark.spec("api-request-submission", condition=6)
def test_frozen_canister(node: SpecNode) -> None:
    """IC0207 before the canister is asked; only controllers are told how much is missing."""
    canister = node.universal(Program().on_inspect(Program().trap(b"never asked")))
    node.done("update_settings", {"canister_id": canister, "settings": {"freezing_threshold": FOREVER}})
    stranger = node.inspect(canister, "update", sender=STRANGER)
    assert refused(stranger) == (2, "IC0207", f"Canister {canister} is out of cycles")
    code, error, text = refused(node.inspect(canister, "update"))
    assert (code, error) == (2, "IC0207")
    assert text.startswith(f"Canister {canister} is out of cycles: please top up the canister with at least ")


@pytest.mark.spec("api-request-submission", condition=6)
def test_the_fee_of_induction_must_be_there(node: SpecNode) -> None:
    """A canister with a cycle less than the envelope costs is out of cycles; nothing is taken by asking."""
    canister = node.universal(freezing_threshold=0)
    message = node.message(canister, b"", "update")
    record = node.replica.certified.canister(canister)
    assert record is not None
    enough, record.balance = record.balance, type(record.balance)(FEES.ingress(message.raw_bytes))
    request = AcceptanceRequest(cookie=0, calls=(message,))
    assert node.answer_of(node.replica.accept(request)).refusals == (None,)
    record.balance = type(record.balance)(record.balance - 1)
    refusal = node.answer_of(node.replica.accept(request)).refusals[0]
    assert refusal is not None
    assert refusal.error_code == "IC0207"
    assert refusal.reject_message.endswith(" with at least 1 additional cycles")
    record.balance = enough


@pytest.mark.spec("api-request-submission", condition=6)
def test_what_is_owed_counts(node: SpecNode) -> None:
    """A canister that nothing touches pays for its memory when it is touched; the check takes that off before."""
    canister = node.universal(Program().on_inspect(Program().trap(b"asked")), freezing_threshold=0)
    node.rounds(2)
    node.round(seconds=3600)
    node.round(seconds=3600)
    seen, held = node.replica.certified.canister(canister), node.balance(canister)
    assert seen is not None
    assert seen.balance < held, "charges that aren't due by the record"
    node.ask(canister, Program().reply())
    assert node.canister(canister).metrics.cycles_burned >= held - seen.balance


# --- calls of the management canister


@pytest.mark.parametrize("method", ["create_canister", "deposit_cycles", "raw_rand"])
@pytest.mark.spec("api-request-submission", condition=13)
def test_management_methods_for_canisters_alone(node: SpecNode, method: str) -> None:
    """CANISTER_REJECT, IC0406."""
    text = f"ic00 method {method} can not be called via ingress messages"
    assert refused(node.inspect(MANAGEMENT_CANISTER, method, b"DIDL\0\0")) == (4, "IC0406", text)


def test_management_methods_that_do_not_exist(node: SpecNode) -> None:
    """CANISTER_ERROR, IC0536."""
    text = "ic00 interface does not expose method no_such_method"
    assert refused(node.inspect(MANAGEMENT_CANISTER, "no_such_method", b"DIDL\0\0")) == (5, "IC0536", text)


@pytest.mark.spec("api-request-submission", condition=13)
def test_broken_management_arguments(node: SpecNode) -> None:
    """CANISTER_REJECT, IC0408."""
    code, error, text = refused(node.inspect(MANAGEMENT_CANISTER, "start_canister", b"DIDL\0\0"))
    assert (code, error) == (4, "IC0408")
    assert text.startswith("Failed to parse payload for ic00 method start_canister: ")


def controlled_calls(canister: CanisterId) -> list[tuple[str, Any]]:
    """Calls that only a controller may make."""
    code = {"mode": {"install": None}, "canister_id": canister, "wasm_module": b"\0asm", "arg": b""}
    calls: list[tuple[str, Any]] = [("install_code", code), ("update_settings", {"canister_id": canister, "settings": {}})]
    simple = ("start_canister", "stop_canister", "uninstall_code", "delete_canister", "canister_metrics")
    return calls + [(method, {"canister_id": canister}) for method in simple]


@pytest.mark.spec("effective-canister-ids")
@pytest.mark.spec("api-request-submission", condition=14)
def test_controllers_alone_manage(node: SpecNode) -> None:
    """IC0512 for everyone else, IC0301 for a canister that isn't there; also of empty, stopped canisters."""
    canister = node.create()
    node.stop(canister)
    for method, value in controlled_calls(canister):
        assert node.inspect(MANAGEMENT_CANISTER, method, management_arg(method, value)) is None
        stranger = node.inspect(MANAGEMENT_CANISTER, method, management_arg(method, value), sender=STRANGER)
        text = f"Only controllers of canister {canister} can call ic00 method {method}"
        assert refused(stranger) == (5, "IC0512", text)
    for method, value in controlled_calls(NOBODY):
        missing = node.inspect(MANAGEMENT_CANISTER, method, management_arg(method, value))
        assert refused(missing) == (3, "IC0301", f"Canister {NOBODY} not found")


@pytest.mark.spec("api-request-submission")
def test_readers_are_admitted_as_the_settings_say(node: SpecNode) -> None:
    """Status and snapshots, by their own visibility; CANISTER_ERROR, IC0542, and CANISTER_REJECT, IC0406, for the others."""
    canister = node.create()
    value = {"canister_id": canister}
    for method, setting, expected in (
        (
            "canister_status",
            "status_visibility",
            (5, "IC0542", f"Caller {STRANGER} is not allowed to read the canister status"),
        ),
        ("list_canister_snapshots", "snapshot_visibility", (4, "IC0406", f"Caller {STRANGER} is not allowed to call {{}}")),
    ):
        arg = management_arg(method, value)
        text = expected[2].format(method)
        stranger = node.inspect(MANAGEMENT_CANISTER, method, arg, sender=STRANGER)
        assert refused(stranger) == (*expected[:2], text)
        node.done("update_settings", {"canister_id": canister, "settings": {setting: {"allowed_viewers": [STRANGER]}}})
        assert node.inspect(MANAGEMENT_CANISTER, method, arg, sender=STRANGER) is None


@pytest.mark.spec("api-request-submission", condition=14)
def test_provisional_methods_are_for_everyone(node: SpecNode) -> None:
    """Creating out of nothing and topping up anybody's canister."""
    canister = node.create()
    for method, value in (
        ("provisional_create_canister_with_cycles", {"amount": 1}),
        ("provisional_top_up_canister", {"canister_id": canister, "amount": 1}),
    ):
        assert node.inspect(MANAGEMENT_CANISTER, method, management_arg(method, value), sender=STRANGER) is None


def test_frozen_canister_is_managed_for_free_only(node: SpecNode) -> None:
    """The effective canister pays, so its controllers can do nothing but a short update_settings, which is free."""
    canister = node.create()
    node.done("update_settings", {"canister_id": canister, "settings": {"memory_allocation": 1}})
    node.done("update_settings", {"canister_id": canister, "settings": {"freezing_threshold": FOREVER}})
    start = node.inspect(MANAGEMENT_CANISTER, "start_canister", management_arg("start_canister", {"canister_id": canister}))
    assert refused(start)[:2] == (2, "IC0207")
    thaw = management_arg("update_settings", {"canister_id": canister, "settings": {"freezing_threshold": 0}})
    assert node.inspect(MANAGEMENT_CANISTER, "update_settings", thaw) is None
    assert USER in node.canister(canister).settings.controllers


def test_many_calls_in_one_question(node: SpecNode) -> None:
    """Each call gets its own answer, in order, from this node at this height."""
    canister = node.universal(Program().on_inspect(Program().if_(method_name().size().equals(6), Program().accept())))
    calls = tuple(node.message(canister, b"", method) for method in ("update", "no", "update", "neither"))
    found = node.answer_of(node.replica.accept(AcceptanceRequest(cookie=7, calls=calls)))
    assert [refusal is None for refusal in found.refusals] == [True, False, True, False]
    assert (found.cookie, found.node_index, found.height) == (7, 1, node.replica.state.height)
