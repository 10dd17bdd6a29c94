"""install_code in all its modes, and uninstall_code, on real canisters.

Abstract behaviour, "IC Management Canister: Code installation", "... Code upgrade", "... Code uninstallation"; canister
interface, "Canister initialization" and "Canister upgrades".
"""

from __future__ import annotations

import gzip
import hashlib
from typing import Any

import pytest

from configs.limits import SubnetLimits
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.lab.universal import (
    Program,
    argument,
    caller,
    cycles_refunded,
    get_global,
    memory_grow,
    memory_size,
    reject_code,
    reject_message,
    stable_grow,
    stable_read,
    time,
)
from tests.support.lone_node import example
from tests.support.spec_node import FEES, NOBODY, STRANGER, USER, SpecNode, management_arg
from tests.support.wasm_samples import COUNTER, HEAP_COUNTER, LIFECYCLE, TRAP, compile_wat, custom_section

pytestmark = pytest.mark.slow
INSTALL = pytest.mark.spec("management-install-code")
UPGRADE = pytest.mark.spec("management-upgrade-code")
UNINSTALL = pytest.mark.spec("rule-uninstall")
UNIVERSAL = example("universal")
PERSISTENT = custom_section("icp:private enhanced-orthogonal-persistence", b"")
OPEN_CALL = Program().call(bytes(MANAGEMENT_CANISTER), "raw_rand", b"DIDL\0\0", on_reply=Program().reply(b"late"))


def seen(node: SpecNode, canister: CanisterId) -> bytes:
    """The universal canister's global blob."""
    return node.query(canister, Program().reply(get_global())).replied


def upgrade(**options: Any) -> dict[str, Any]:
    """An install mode with upgrade options."""
    return {"upgrade": {"skip_pre_upgrade": None, "wasm_memory_persistence": None, **options}}


@INSTALL
@pytest.mark.spec("concrete-canister-module")
def test_start_and_init_run_in_this_order(node: SpecNode) -> None:
    """Start, then init; post_upgrade doesn't run."""
    canister = node.create()
    node.put(canister, compile_wat(LIFECYCLE)).replied  # noqa: B018
    assert node.query(canister, b"", "steps").number == 12


@INSTALL
@pytest.mark.spec("ic0.msg_arg_data_copy")
@pytest.mark.spec("ic0.msg_caller_copy")
def test_init_sees_argument_caller_and_time(node: SpecNode) -> None:
    """`Mod.init(A.canister_id, A.arg, M.caller, Env)`."""
    program = Program().set_global(argument().size().to_blob().concat(caller()).concat(time().to_blob()))
    canister = node.universal(program)
    expected = len(bytes(program)).to_bytes(8, "little") + bytes(USER) + node.now.to_bytes(8, "little")
    assert seen(node, canister) == expected


@INSTALL
def test_install_needs_an_empty_canister(node: SpecNode) -> None:
    """IC0514 in mode install; reinstall replaces code and state, and works on an empty canister, too."""
    canister = node.universal(Program().set_global(b"old").drop(stable_grow(1)))
    outcome = node.put(canister, UNIVERSAL)
    assert outcome.rejected == (5, "IC0514")
    assert outcome.message.startswith(f"Canister {canister} cannot be installed because the canister is not empty.")
    assert seen(node, canister) == b"old"
    node.put(canister, UNIVERSAL, mode="reinstall").replied  # noqa: B018
    assert seen(node, canister) == b""
    empty = node.create()
    node.put(empty, UNIVERSAL, Program().set_global(b"new"), "reinstall").replied  # noqa: B018
    assert seen(node, empty) == b"new"


@INSTALL
@pytest.mark.parametrize("mode", ["install", "reinstall", "upgrade"])
def test_only_controllers_install(node: SpecNode, mode: str) -> None:
    """IC0512 naming controllers and sender."""
    canister = node.create() if mode == "install" else node.universal()
    value = {"mode": {mode: None}, "canister_id": canister, "wasm_module": UNIVERSAL, "arg": b""}
    outcome = node.managed("install_code", value, STRANGER)
    assert outcome.rejected == (5, "IC0512")
    assert outcome.message.splitlines() == [
        f"Only the controllers of the canister {canister} can control it.",
        f"Canister's controllers: {USER}",
        f"Sender's ID: {STRANGER}",
    ]


@INSTALL
@pytest.mark.parametrize("mode", ["install", "reinstall"])
def test_init_that_traps(node: SpecNode, mode: str) -> None:
    """The canister stays as it was; what was executed is paid."""
    canister = node.create() if mode == "install" else node.universal(Program().set_global(b"old"))
    before = node.canister(canister).version, node.balance(canister)
    outcome = node.put(canister, UNIVERSAL, Program().trap(b"bad start"), mode)
    assert outcome.rejected == (5, "IC0503")
    assert f"Error from Canister {canister}: Canister called `ic0.trap` with message: 'bad start'" in outcome.message
    assert node.canister(canister).version == before[0]
    assert node.balance(canister) < before[1] - FEES.execution(0)
    if mode == "install":
        assert node.canister(canister).execution is None
    else:
        assert seen(node, canister) == b"old"


@INSTALL
@pytest.mark.parametrize("broken", [b"", b"\0asm\1\0\0\0\xff", b"no module", gzip.compress(b"no module", mtime=0)])
def test_module_that_is_none(node: SpecNode, broken: bytes) -> None:
    """IC0505."""
    canister = node.create()
    outcome = node.put(canister, broken)
    assert outcome.rejected == (5, "IC0505")
    assert outcome.message.startswith(f"Error from Canister {canister}: Canister's Wasm module is not valid: ")


@INSTALL
def test_compressed_module(node: SpecNode) -> None:
    """A gzip stream is unpacked; the module hash is that of the bytes as they were given."""
    canister = node.create()
    packed = gzip.compress(compile_wat(COUNTER), mtime=0)
    node.put(canister, packed).replied  # noqa: B018
    assert node.ask(canister, b"", "inc").number == 1
    assert node.done("canister_status", {"canister_id": canister})["module_hash"] == hashlib.sha256(packed).digest()


@INSTALL
def test_install_needs_cycles_for_its_limit(node: SpecNode) -> None:
    """IC0207: liquid_balance >= MAX_CYCLES_PER_MESSAGE, which is the price of 300 B instructions."""
    canister = node.create(10**11)
    outcome = node.put(canister, UNIVERSAL)
    assert outcome.rejected == (2, "IC0207")
    text = f"Canister installation failed with `Canister {canister} is out of cycles: please top up the canister with at least "
    assert outcome.message.startswith(text)


@INSTALL
def test_installs_are_rate_limited(node: SpecNode) -> None:
    """IC0209 until the instructions of the last install are worked off."""
    canister = node.create()
    node.put(canister, UNIVERSAL).replied  # noqa: B018
    node.canister(canister).install_debit = type(node.canister(canister).install_debit)(10**10)
    value = {"mode": {"upgrade": None}, "canister_id": canister, "wasm_module": UNIVERSAL, "arg": b""}
    outcome = node.managed("install_code", value)
    assert outcome.rejected == (2, "IC0209")
    node.rounds(10**10 // SubnetLimits().install_code_rate_limit)
    node.done("install_code", value)


@INSTALL
def test_install_of_an_unknown_canister(node: SpecNode) -> None:
    """IC0301."""
    value = {"mode": {"install": None}, "canister_id": NOBODY, "wasm_module": UNIVERSAL, "arg": b""}
    assert node.managed("install_code", value).rejected == (3, "IC0301")


@INSTALL
@UPGRADE
def test_install_by_a_canister(node: SpecNode) -> None:
    """A canister that controls another installs code there; the new code sees it as its caller."""
    parent = node.universal()
    child = node.create(controllers=[parent])
    value = {"mode": {"install": None}, "canister_id": child, "wasm_module": UNIVERSAL}
    arg = management_arg("install_code", {**value, "arg": bytes(Program().set_global(caller()))})
    reply = node.ask(parent, Program().call(bytes(MANAGEMENT_CANISTER), "install_code", arg, cycles=5)).replied
    assert reply == b"DIDL\0\0"
    assert seen(node, child) == bytes(parent)


@UPGRADE
@pytest.mark.spec("concrete-canister-module")
def test_upgrade_runs_pre_upgrade_start_and_post_upgrade(node: SpecNode) -> None:
    """Not init; the heap is discarded, stable memory kept; callers are seen by both hooks."""
    canister = node.universal(
        Program().set_global(b"old").drop(stable_grow(1)).on_pre_upgrade(Program().stable_write(0, caller()))
    )
    node.put(canister, UNIVERSAL, Program().set_global(stable_read(0, len(USER)).concat(argument())), "upgrade").replied  # noqa: B018
    assert seen(node, canister).startswith(bytes(USER))
    node.put(canister, compile_wat(LIFECYCLE), mode="upgrade").replied  # noqa: B018
    assert node.query(canister, b"", "steps").number == 14


@UPGRADE
def test_upgrade_of_an_empty_canister(node: SpecNode) -> None:
    """IC0537."""
    canister = node.create()
    assert node.put(canister, UNIVERSAL, mode="upgrade").rejected == (5, "IC0537")


@UPGRADE
@pytest.mark.parametrize("where", ["pre", "post"])
def test_hook_that_traps_rolls_everything_back(node: SpecNode, where: str) -> None:
    """The old code goes on with the old heap and stable memory; only the price is paid."""
    pre = Program().stable_write(0, b"new").set_global(b"new")
    canister = node.universal(
        Program()
        .set_global(b"old")
        .drop(stable_grow(1))
        .stable_write(0, b"old")
        .on_pre_upgrade(pre.trap(b"pre") if where == "pre" else pre)
    )
    version, hash_before = (
        node.canister(canister).version,
        node.done("canister_status", {"canister_id": canister})["module_hash"],
    )
    post = Program().drop(stable_grow(3)).stable_write(0, b"NEW").trap(b"post")
    outcome = node.put(canister, example("universal_heartbeat"), post, "upgrade")
    assert outcome.rejected == (5, "IC0503")
    assert f"message: '{where}'" in outcome.message
    assert node.canister(canister).version == version
    assert node.done("canister_status", {"canister_id": canister})["module_hash"] == hash_before
    assert node.query(canister, Program().append(get_global()).append(stable_read(0, 3)).send_reply()).replied == b"oldold"
    assert node.ask(canister, Program().reply_int(stable_grow(0))).number == 1


@UPGRADE
def test_skipping_pre_upgrade(node: SpecNode) -> None:
    """A hook that always traps can be passed over."""
    canister = node.universal(Program().drop(stable_grow(1)).on_pre_upgrade(Program().trap(b"never")))
    assert node.put(canister, UNIVERSAL, mode="upgrade").rejected == (5, "IC0503")
    assert node.put(canister, UNIVERSAL, mode=upgrade(skip_pre_upgrade=False)).rejected == (5, "IC0503")
    node.put(canister, UNIVERSAL, Program().set_global(b"new"), upgrade(skip_pre_upgrade=True)).replied  # noqa: B018
    assert seen(node, canister) == b"new"


@UPGRADE
def test_keeping_the_heap(node: SpecNode) -> None:
    """wasm_memory_persistence = keep keeps it, if the new module knows how to; replace discards it; null is refused."""
    module = compile_wat(HEAP_COUNTER) + PERSISTENT
    canister = node.create()
    node.put(canister, module).replied  # noqa: B018
    assert [node.ask(canister, b"", "inc").number for _ in range(2)] == [6, 7]
    node.put(canister, module, mode=upgrade(wasm_memory_persistence={"keep": None})).replied  # noqa: B018
    assert node.ask(canister, b"", "inc").number == 8
    refused = node.put(canister, module, mode="upgrade")
    assert refused.rejected == (5, "IC0504")
    assert refused.message.startswith("Missing upgrade option: ")
    unable = node.put(canister, compile_wat(HEAP_COUNTER), mode=upgrade(wasm_memory_persistence={"keep": None}))
    assert unable.rejected == (5, "IC0504")
    assert unable.message.startswith("Invalid upgrade option: ")
    node.put(canister, module, mode=upgrade(wasm_memory_persistence={"replace": None})).replied  # noqa: B018
    assert node.ask(canister, b"", "inc").number == 6


@UPGRADE
def test_open_calls_survive_an_upgrade(node: SpecNode) -> None:
    """The callback of the old code's call runs on the new code (here: unable to find its function)."""
    canister = node.universal()
    message = node.submit(canister, OPEN_CALL)
    node.put(canister, compile_wat(COUNTER), mode="upgrade").replied  # noqa: B018
    outcome = node.outcome(message)
    assert outcome.rejected == (5, "IC0513")
    assert "non-existent Wasm function" in outcome.message


@INSTALL
@pytest.mark.spec("concrete-canister-module")
def test_wasm_memory_limit_holds_for_init_and_updates(node: SpecNode) -> None:
    """IC0539 there; callbacks may grow beyond."""
    canister = node.universal()
    pages = node.ask(canister, Program().reply_int(memory_size())).number
    settings = {"wasm_memory_limit": (pages + 1) << 16}
    node.done("update_settings", {"canister_id": canister, "settings": settings})
    grow = Program().drop(memory_grow(2)).reply_int(memory_size())
    assert node.ask(canister, grow).rejected == (5, "IC0539")
    first = node.message(canister, Program().call(canister, "query", Program().reply(), on_reply=grow))
    second = node.message(canister, Program().reply(b"too late"))
    node.round(first)
    assert node.outcomes[first.message_id].number == pages + 2
    assert node.ask(canister, Program().reply(b"no update any more")).rejected == (5, "IC0539")
    assert node.ask(canister, Program().reply(b"a query"), "query").replied == b"a query"
    node.round(second)
    assert node.outcomes[second.message_id].error == "IC0539"
    for arg in (b"", Program().drop(memory_grow(2))):
        outcome = node.put(node.create(wasm_memory_limit=1 << 16), UNIVERSAL, arg)
        assert outcome.rejected == (5, "IC0539")


@UNINSTALL
def test_uninstalled_canister_is_empty(node: SpecNode) -> None:
    """No code, no state, version + 1; balance, controllers and status stay."""
    canister = node.universal(Program().set_global(b"x").print(b"logged"))
    version = node.canister(canister).version
    node.done("uninstall_code", {"canister_id": canister})
    record = node.canister(canister)
    assert (record.execution, list(record.logs), record.version) == (None, [], version + 1)
    status = node.done("canister_status", {"canister_id": canister})
    assert (status["module_hash"], status["memory_size"]) == (None, status["memory_metrics"]["canister_history_size"])
    assert node.ask(canister, Program().reply()).rejected == (5, "IC0537")
    assert node.managed("uninstall_code", {"canister_id": canister}, STRANGER).rejected == (5, "IC0512")
    node.put(canister, UNIVERSAL).replied  # noqa: B018
    assert seen(node, canister) == b""


@UNINSTALL
def test_open_calls_are_rejected(node: SpecNode) -> None:
    """CANISTER_REJECT to users and canisters, with all available cycles; late responses run nothing."""
    canister, peer = node.universal(), node.universal()
    told = Program().append(reject_code().to_blob()).append(cycles_refunded()).append(reject_message()).send_reply()
    by_user = node.message(canister, OPEN_CALL)
    by_canister = node.message(peer, Program().call(canister, "update", OPEN_CALL, cycles=77, on_reject=told))
    node.round(by_user, by_canister)
    arg = management_arg("uninstall_code", {"canister_id": canister})
    node.submit(MANAGEMENT_CANISTER, arg, "uninstall_code")
    assert node.outcome(by_user).rejected == (4, "IC0406")
    assert node.outcome(by_user).message == "Canister has been uninstalled."
    reply = node.outcome(by_canister).replied
    assert (reply[0], int.from_bytes(reply[8:24], "little")) == (4, 77)
    assert reply[24:].decode() == "Canister has been uninstalled."
    node.put(canister, UNIVERSAL).replied  # noqa: B018
    node.rounds(3)
    assert not node.canister(canister).contexts
    assert not node.canister(canister).callbacks


@UNINSTALL
def test_queued_messages_are_rejected(node: SpecNode) -> None:
    """Messages that come after it find no code: IC0537; TRAP is another module."""
    canister = node.create()
    node.put(canister, compile_wat(TRAP)).replied  # noqa: B018
    arg = management_arg("uninstall_code", {"canister_id": canister})
    uninstall = node.message(MANAGEMENT_CANISTER, arg, "uninstall_code")
    late = node.message(canister, b"", "say")
    node.round(uninstall, late)
    assert node.outcome(late).rejected == (5, "IC0537")
