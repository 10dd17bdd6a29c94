"""Creating, controlling, stopping and deleting real canisters, cycles and randomness.

Abstract behaviour, "IC Management Canister: ..."; interface spec, "The IC management canister".
"""

from __future__ import annotations

from typing import Any

import pytest

from ic_types.candid import decoder, encoder
from ic_types.candid.types import Type, blob, nat, opt, record
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal
from scheduler.canister import RunStatus
from subnet.lab.universal import (
    Program,
    argument,
    caller,
    canister_version,
    cycles_accept,
    cycles_available,
    cycles_refunded,
    get_global,
    memory_size,
    reject_code,
    reject_message,
)
from subnet.management.methods import METHODS
from tests.support.lone_node import example
from tests.support.spec_node import FEES, LIMITS, NOBODY, STRANGER, USER, SpecNode, management_arg

pytestmark = pytest.mark.slow
CREATE = pytest.mark.spec("management-create-canister")
SETTINGS = pytest.mark.spec("management-update-settings")
STATUS = pytest.mark.spec("management-canister-status")
STOP = pytest.mark.spec("management-stop-canister")
START = pytest.mark.spec("management-start-canister")
DELETE = pytest.mark.spec("management-delete-canister")
DEPOSIT = pytest.mark.spec("management-deposit-cycles")
RANDOM = pytest.mark.spec("management-raw-rand")
PROVISIONAL = pytest.mark.spec("management-provisional-create-canister")
TOP_UP = pytest.mark.spec("management-provisional-top-up-canister")
IC = bytes(MANAGEMENT_CANISTER)
EMPTY = b"DIDL\0\0"
TOLD = Program().append(reject_code().to_blob()).append(cycles_refunded()).append(reject_message()).send_reply()


def by_canister(node: SpecNode, canister: CanisterId, method: str, value: Any = None, cycles: int = 0) -> Any:
    """A canister's management call: the decoded result and the refund, or (reject code, refund, message)."""
    arg = management_arg(method, value)
    on_reply = Program().append(b"ok").append(cycles_refunded()).append(argument()).send_reply()
    reply = node.ask(canister, Program().call(IC, method, arg, cycles=cycles, on_reply=on_reply, on_reject=TOLD)).replied
    if not reply.startswith(b"ok"):
        return reply[0], int.from_bytes(reply[8:24], "little"), reply[24:].decode()
    values = decoder.decode(reply[18:], METHODS[method].results)
    return (values[0] if values else None), int.from_bytes(reply[2:18], "little")


def settings_of(node: SpecNode, canister: CanisterId) -> Any:
    """The settings that canister_status shows."""
    return node.done("canister_status", {"canister_id": canister})["settings"]


def update(node: SpecNode, canister: CanisterId, **settings: Any) -> None:
    """Change settings as USER."""
    node.done("update_settings", {"canister_id": canister, "settings": settings})


# --- creation


@CREATE
@PROVISIONAL
def test_defaults_of_a_new_canister(node: SpecNode) -> None:
    """Running, empty, version 0, controlled by its creator, with the settings of the specification and the network's cycles."""
    canister = node.done("provisional_create_canister_with_cycles", {})["canister_id"]
    assert node.balance(canister) == LIMITS.default_provisional_cycles
    status = node.done("canister_status", {"canister_id": canister})
    assert (status["status"], status["module_hash"], status["version"]) == ({"running": None}, None, 0)
    assert (status["memory_size"], status["reserved_cycles"]) == (status["memory_metrics"]["canister_history_size"], 0)
    assert status["idle_cycles_burned_per_day"] == FEES.idle_per_day(
        memory_usage=status["memory_size"], message_memory=0, compute_allocation=0
    )
    settings = status["settings"]
    assert settings["controllers"] == [USER]
    assert settings["environment_variables"] == []
    zero = ("compute_allocation", "memory_allocation", "minimum_incoming_canister_call_cycles", "wasm_memory_threshold")
    assert [settings[name] for name in zero] == [0, 0, 0, 0]
    assert settings["freezing_threshold"] == 2_592_000
    assert settings["reserved_cycles_limit"] == 5_000_000_000_000
    assert settings["wasm_memory_limit"] == LIMITS.default_wasm_memory_limit
    for name in ("log_visibility", "snapshot_visibility", "status_visibility"):
        assert settings[name] == {"controllers": None}


@PROVISIONAL
@pytest.mark.parametrize("amount", [0, 1, 10**13, (1 << 128) - 1])
def test_amount_of_a_provisional_canister(node: SpecNode, amount: int) -> None:
    """All of it is the balance."""
    assert node.balance(node.create(amount)) == amount


@PROVISIONAL
def test_specified_id(node: SpecNode) -> None:
    """It may be asked for, once, and only in the subnet's range."""
    wanted = Principal.canister(700_000)
    value = {"amount": 10**12, "specified_id": wanted}
    assert node.done("provisional_create_canister_with_cycles", value)["canister_id"] == wanted
    assert node.managed("provisional_create_canister_with_cycles", value).rejected == (5, "IC0538")
    elsewhere = {"amount": 10**12, "specified_id": Principal.canister(1 << 21)}
    assert node.managed("provisional_create_canister_with_cycles", elsewhere).rejected == (4, "IC0405")


@CREATE
@pytest.mark.spec("ic0.cost_create_canister")
def test_canister_created_by_a_canister(node: SpecNode) -> None:
    """The attached cycles less the fee are its balance, nothing is refunded, the creator controls it."""
    parent = node.universal()
    result, refund = by_canister(node, parent, "create_canister", {}, cycles=FEES.canister_creation + 5)
    child = result["canister_id"]
    assert (node.balance(child), refund) == (5, 0)
    assert node.canister(child).settings.controllers == (parent,)


@CREATE
def test_too_few_cycles_for_a_new_canister(node: SpecNode) -> None:
    """CANISTER_REJECT (IC0403) with everything back."""
    parent = node.universal()
    sent = FEES.canister_creation - 1
    code, refund, message = by_canister(node, parent, "create_canister", {}, cycles=sent)
    assert (code, refund) == (4, sent)
    assert message.startswith(f"Creating a canister requires a fee of {FEES.canister_creation} ")


@CREATE
@SETTINGS
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"compute_allocation": 101}, "IC0504"),
        ({"memory_allocation": (1 << 48) + 1}, "IC0504"),
        ({"freezing_threshold": 1 << 64}, "IC0504"),
        ({"reserved_cycles_limit": 1 << 128}, "IC0504"),
        ({"minimum_incoming_canister_call_cycles": 1 << 128}, "IC0504"),
        ({"wasm_memory_limit": (1 << 48) + 1}, "IC0504"),
        ({"wasm_memory_threshold": (1 << 48) + 1}, "IC0504"),
        ({"controllers": [Principal.canister(k) for k in range(11)]}, "IC0408"),
        ({"log_visibility": {"allowed_viewers": [Principal.canister(k) for k in range(11)]}}, "IC0408"),
        ({"environment_variables": [{"name": "n" * 129, "value": ""}]}, None),
        ({"environment_variables": [{"name": "n", "value": "v" * 129}]}, None),
        ({"environment_variables": [{"name": f"{k}", "value": ""} for k in range(21)]}, None),
        ({"environment_variables": [{"name": "n", "value": ""}] * 2}, None),
        ({"compute_allocation": 100}, "IC0530"),
    ],
)
def test_settings_out_of_range(node: SpecNode, settings: dict[str, Any], error: str | None) -> None:
    """Refused at creation and afterwards, without any change."""
    canister = node.create(10**12)
    before = settings_of(node, canister)
    for outcome in (
        node.managed("update_settings", {"canister_id": canister, "settings": settings}),
        node.managed("provisional_create_canister_with_cycles", {"amount": 10**12, "settings": settings}),
    ):
        assert outcome.reply is None
        assert error in (None, outcome.error)
    assert settings_of(node, canister) == before


# --- settings and status


@SETTINGS
@STATUS
def test_settings_change_one_by_one(node: SpecNode) -> None:
    """What isn't named stays; the version goes up; allocations can be taken back."""
    canister = node.create()
    changes: list[tuple[str, Any]] = [
        ("freezing_threshold", 7),
        ("reserved_cycles_limit", 9),
        ("minimum_incoming_canister_call_cycles", 11),
        ("wasm_memory_limit", 1 << 30),
        ("wasm_memory_threshold", 13),
        ("memory_allocation", 1 << 20),
        ("compute_allocation", 1),
        ("log_visibility", {"public": None}),
        ("snapshot_visibility", {"allowed_viewers": [STRANGER]}),
        ("status_visibility", {"public": None}),
        ("environment_variables", [{"name": "a", "value": "b"}]),
        ("controllers", sorted([USER, STRANGER])),
        ("memory_allocation", 0),
        ("compute_allocation", 0),
    ]
    expected = settings_of(node, canister)
    version = node.canister(canister).version
    for name, value in changes:
        update(node, canister, **{name: value})
        expected = {**expected, name: value}
        version += 1
        assert settings_of(node, canister) == expected
        assert node.canister(canister).version == version


@SETTINGS
def test_only_controllers_change_settings(node: SpecNode) -> None:
    """Not the canister itself, unless it is one; a canister may have no controllers at all."""
    canister = node.universal()
    value = {"canister_id": canister, "settings": {"freezing_threshold": 1}}
    assert node.managed("update_settings", value, STRANGER).rejected == (5, "IC0512")
    code, refund, message = by_canister(node, canister, "update_settings", value, cycles=3)
    assert (code, refund, message[:21]) == (5, 3, "Only the controllers ")
    update(node, canister, controllers=[USER, canister])
    assert by_canister(node, canister, "update_settings", value, cycles=3) == (None, 3)
    update(node, canister, controllers=[])
    assert node.managed("update_settings", value).rejected == (5, "IC0512")


@SETTINGS
def test_wasm_memory_limit_below_the_heap(node: SpecNode) -> None:
    """Refused: |wasm_memory| <= New_wasm_memory_limit; zero is no limit."""
    canister = node.universal()
    size = node.ask(canister, Program().reply_int(memory_size())).number << 16
    low = {"canister_id": canister, "settings": {"wasm_memory_limit": size - 1}}
    assert node.managed("update_settings", low).rejected == (5, "IC0504")
    update(node, canister, wasm_memory_limit=size)
    update(node, canister, wasm_memory_limit=0)


@SETTINGS
@pytest.mark.spec("rule-message-execution")
@pytest.mark.parametrize("method", ["update_settings", "create_canister", "install_code", "uninstall_code"])
def test_version_of_the_sender(node: SpecNode, method: str) -> None:
    """A canister that names another version than its own is refused with IC0504; users may say what they like."""
    canister = node.universal(controllers=[USER])
    child = node.create(controllers=[canister, USER])
    value: dict[str, Any] = {"canister_id": child}
    if method == "update_settings":
        value = {"canister_id": child, "settings": {}}
    if method == "create_canister":
        value = {}
    elif method == "install_code":
        value = {"canister_id": child, "mode": {"reinstall": None}, "wasm_module": example("universal"), "arg": b""}
    own = node.ask(canister, Program().reply_int(canister_version()), "query").number
    wrong = {**value, "sender_canister_version": own + 1}
    code, refund, message = by_canister(node, canister, method, wrong, cycles=FEES.canister_creation)
    assert (code, refund) == (5, FEES.canister_creation)
    told, actual = own + 1, own
    text = "Management canister call payload includes sender canister version"
    assert message == f"IC0504: {text} {told} that does not match the actual sender canister version {actual}."
    own = node.ask(canister, Program().reply_int(canister_version()), "query").number
    right = {**value, "sender_canister_version": own}
    assert len(by_canister(node, canister, method, right, cycles=FEES.canister_creation)) == 2


@STATUS
def test_who_may_see_the_status(node: SpecNode) -> None:
    """Controllers and the canister itself; with status_visibility also viewers, or everybody."""
    canister, other = node.universal(), node.universal()
    value = {"canister_id": canister}
    assert node.managed("canister_status", value, STRANGER).rejected == (5, "IC0542")
    assert by_canister(node, other, "canister_status", value)[0] == 5
    own, refund = by_canister(node, canister, "canister_status", value, cycles=9)
    assert (own["status"], refund) == ({"running": None}, 9)
    update(node, canister, status_visibility={"allowed_viewers": [STRANGER]})
    node.done("canister_status", value, STRANGER)
    assert by_canister(node, other, "canister_status", value)[0] == 5
    node.done("canister_status", value)
    update(node, canister, status_visibility={"public": None})
    assert by_canister(node, other, "canister_status", value)[1] == 0


@STATUS
def test_status_of_a_canister_with_code(node: SpecNode) -> None:
    """Memory by kind adds up; cycles are the balance; an idle day costs what the fees say."""
    canister = node.universal()
    status = node.done("canister_status", {"canister_id": canister})
    metrics = status["memory_metrics"]
    assert sum(metrics.values()) == status["memory_size"]
    assert status["cycles"] == node.balance(canister)
    pages = node.ask(canister, Program().reply_int(memory_size())).number
    assert metrics["wasm_memory_size"] == pages << 16
    idle = FEES.idle_per_day(memory_usage=status["memory_size"], message_memory=0, compute_allocation=0)
    assert status["idle_cycles_burned_per_day"] == idle


# --- stopping and starting


@STOP
@START
def test_stop_and_start(node: SpecNode) -> None:
    """Without open calls a canister stops at once; stopping and starting again and again is fine."""
    canister = node.universal()
    for _ in range(2):
        node.stop(canister)
        assert node.canister(canister).status is RunStatus.STOPPED
    for _ in range(2):
        node.done("start_canister", {"canister_id": canister})
        assert node.ask(canister, Program().reply(b"up")).replied == b"up"
    for method in ("stop_canister", "start_canister"):
        assert node.managed(method, {"canister_id": canister}, STRANGER).rejected == (5, "IC0512")


@STOP
def test_stopping_waits_for_open_calls(node: SpecNode) -> None:
    """All who asked are answered when the last call context is gone; callbacks may make further calls meanwhile."""
    canister = node.universal()
    again = Program().call(IC, "raw_rand", EMPTY, on_reply=Program().reply(b"done"))
    opened = node.submit(canister, Program().call(IC, "raw_rand", EMPTY, on_reply=again))
    arg = management_arg("stop_canister", {"canister_id": canister})
    stops = [node.message(MANAGEMENT_CANISTER, arg, "stop_canister") for _ in range(2)]
    node.round(*stops)
    assert node.canister(canister).status is RunStatus.STOPPING
    assert [node.status(stop) for stop in stops] == ["processing", "processing"]
    assert node.outcome(opened).replied == b"done"
    assert [node.outcome(stop).replied for stop in stops] == [EMPTY, EMPTY]
    assert node.canister(canister).status is RunStatus.STOPPED


@STOP
@START
def test_starting_a_stopping_canister(node: SpecNode) -> None:
    """Running again; those who wait for it to stop are rejected with CANISTER_ERROR, IC0511."""
    canister = node.universal()
    opened = node.submit(canister, Program().call(IC, "raw_rand", EMPTY, on_reply=Program().reply(b"done")))
    stop = node.submit(MANAGEMENT_CANISTER, management_arg("stop_canister", {"canister_id": canister}), "stop_canister")
    node.done("start_canister", {"canister_id": canister})
    outcome = node.outcome(stop)
    assert (outcome.rejected, outcome.message) == ((5, "IC0511"), f"Canister {canister}'s stop request was cancelled.")
    assert node.outcome(opened).replied == b"done"
    assert node.canister(canister).status is RunStatus.RUNNING


@STOP
def test_stop_call_of_a_canister_that_calls_itself(node: SpecNode) -> None:
    """It waits for its own answer until the call times out: SYS_TRANSIENT, IC0206, and stays stopping."""
    canister = node.universal()
    update(node, canister, controllers=[USER, canister])
    arg = management_arg("stop_canister", {"canister_id": canister})
    message = node.submit(canister, Program().call(IC, "stop_canister", arg, cycles=5, on_reject=TOLD))
    node.rounds(3)
    assert node.status(message) == "processing"
    node.round(seconds=LIMITS.stop_timeout_s)
    reply = node.outcome(message).replied
    assert (reply[0], int.from_bytes(reply[8:24], "little")) == (2, 5)
    assert reply[24:] == b"Stop canister request timed out"
    assert node.canister(canister).status in (RunStatus.STOPPING, RunStatus.STOPPED)


# --- deletion


@DELETE
def test_only_stopped_canisters_are_deleted(node: SpecNode) -> None:
    """IC0510 before; afterwards everything about it is gone and its cycles are burned."""
    canister = node.universal()
    assert node.managed("delete_canister", {"canister_id": canister}).rejected == (5, "IC0510")
    node.stop(canister)
    assert node.managed("delete_canister", {"canister_id": canister}, STRANGER).rejected == (5, "IC0512")
    burned, left = node.replica.state.burned(), node.balance(canister)
    node.done("delete_canister", {"canister_id": canister})
    assert canister not in node.replica.state.canisters
    assert node.replica.state.burned() >= burned + left - FEES.ingress(1000)
    assert node.ask(canister, Program().reply()).rejected == (3, "IC0301")
    assert node.managed("canister_status", {"canister_id": canister}).rejected == (3, "IC0301")


@DELETE
def test_canister_cannot_delete_itself(node: SpecNode) -> None:
    """CANISTER_ERROR with IC0510 while it runs (it can't call when it is stopped)."""
    canister = node.universal()
    update(node, canister, controllers=[USER, canister])
    code, _, message = by_canister(node, canister, "delete_canister", {"canister_id": canister})
    assert code == 5
    assert message.startswith(f"Canister {canister} cannot delete itself.")


# --- cycles


@DEPOSIT
def test_deposit(node: SpecNode) -> None:
    """Anyone may give; the cycles move whole, to an empty or stopped canister, too."""
    giver, taker = node.universal(), node.create(10**12)
    before = node.balance(taker)
    assert by_canister(node, giver, "deposit_cycles", {"canister_id": taker}, cycles=12345) == (None, 0)
    assert node.balance(taker) == before + 12345
    node.stop(taker)
    before = node.balance(taker)
    assert by_canister(node, giver, "deposit_cycles", {"canister_id": taker}, cycles=55) == (None, 0)
    assert node.balance(taker) == before + 55


@DEPOSIT
def test_deposit_to_nobody(node: SpecNode) -> None:
    """DESTINATION_INVALID and everything back."""
    giver = node.universal()
    code, refund, message = by_canister(node, giver, "deposit_cycles", {"canister_id": NOBODY}, cycles=12345)
    assert (code, refund) == (3, 12345)
    assert message.startswith(f"Canister {NOBODY} not found")


@TOP_UP
def test_top_up(node: SpecNode) -> None:
    """The amount comes out of nothing; attached cycles go back."""
    canister = node.universal()
    minted, before = node.replica.state.minted, node.balance(canister)
    message = node.message(
        MANAGEMENT_CANISTER,
        management_arg("provisional_top_up_canister", {"canister_id": canister, "amount": 10**12}),
        "provisional_top_up_canister",
    )
    node.round(message, seconds=0.001)
    assert node.balance(canister) == before + 10**12 - FEES.ingress(message.raw_bytes)
    assert node.replica.state.minted == minted + 10**12
    _, refund = by_canister(node, canister, "provisional_top_up_canister", {"canister_id": canister, "amount": 1}, cycles=7)
    assert refund == 7
    assert node.managed("provisional_top_up_canister", {"canister_id": NOBODY, "amount": 1}).rejected == (3, "IC0301")


# --- randomness


@RANDOM
def test_random_bytes(node: SpecNode) -> None:
    """32 bytes, fresh in every call of one message and of different rounds, from the tape of a later round."""
    canister = node.universal()
    keep = Program().set_global(get_global().concat(argument().slice(10, 32)))
    one = Program().call(IC, "raw_rand", EMPTY, cycles=3, on_reply=keep)
    for _ in range(2):
        node.ask(canister, (one + one).reply())
        node.rounds(3)
    drawn = node.ask(canister, Program().reply(get_global())).replied
    values = {drawn[k : k + 32] for k in range(0, len(drawn), 32)}
    assert (len(drawn), len(values)) == (4 * 32, 4)
    kind: Type = blob
    whole = node.ask(canister, Program().call(IC, "raw_rand", EMPTY)).replied
    assert len(decoder.decode(whole, [kind])[0]) == 32


@RANDOM
def test_random_bytes_come_in_a_later_round(node: SpecNode) -> None:
    """A canister can't know them when it asks."""
    canister = node.universal()
    message = node.submit(canister, Program().call(IC, "raw_rand", EMPTY))
    assert node.status(message) == "processing"
    asked_in = node.replica.state.randomness
    node.outcome(message)
    assert node.replica.state.randomness != asked_in


@RANDOM
def test_refund_of_raw_rand(node: SpecNode) -> None:
    """All attached cycles come back; it has no argument to decode."""
    canister = node.universal()
    program = Program().call(IC, "raw_rand", EMPTY, cycles=77, on_reply=Program().reply(cycles_refunded()))
    assert node.ask(canister, program).number == 77
    wrong = encoder.encode([record({"a": opt(nat)})], [{"a": 5}])
    assert len(node.ask(canister, Program().call(IC, "raw_rand", wrong)).replied) == 10 + 32


# --- calls of methods that don't exist


@pytest.mark.spec("request-rejection")
@pytest.mark.parametrize(
    ("method", "arg", "code", "text"),
    [
        ("no_such_method", EMPTY, 5, "IC0536: Management canister has no method 'no_such_method'"),
        ("start_canister", b"no Candid", 3, "Unable to route management canister request start_canister: "),
        ("start_canister", EMPTY, 3, "Unable to route management canister request start_canister: "),
    ],
)
def test_broken_calls_by_canisters(node: SpecNode, method: str, arg: bytes, code: int, text: str) -> None:
    """Rejected with all cycles."""
    canister = node.universal()
    reply = node.ask(canister, Program().call(IC, method, arg, cycles=31, on_reject=TOLD)).replied
    assert (reply[0], int.from_bytes(reply[8:24], "little")) == (code, 31)
    assert reply[24:].decode().startswith(text)


@pytest.mark.spec("calls-with-insufficient-cycles-are-rejected")
def test_minimum_of_cycles_per_call(node: SpecNode) -> None:
    """Fewer attached cycles are refunded with CANISTER_ERROR; users and the canister itself need none."""
    caller_, callee = node.universal(), node.universal()
    update(node, callee, minimum_incoming_canister_call_cycles=100)
    inner = Program().drop(cycles_accept(40)).reply(cycles_available())
    for sent, answer in ((99, None), (100, 60)):
        reply = node.ask(caller_, Program().call(callee, "update", inner, cycles=sent, on_reject=TOLD)).replied
        if answer is None:
            assert (reply[0], int.from_bytes(reply[8:24], "little")) == (5, sent)
        else:
            assert int.from_bytes(reply, "little") == answer
    assert node.ask(callee, Program().reply(caller())).replied == bytes(USER)
    assert node.ask(callee, Program().call(callee, "query", Program().reply(b"self"))).replied == b"self"
