"""What a canister learns about itself: ids, status, version, controllers, environment variables, mode of execution.

Canister interface, "Self-identification", "Canister status", "Canister version", "Controller check", "Replicated execution
check", "Environment Variables".
"""

from __future__ import annotations

import pytest

from ic_types.principal import Principal
from subnet.lab.universal import (
    Blob,
    Int,
    Program,
    blob,
    canister_status,
    canister_version,
    env_var_count,
    env_var_value,
    get_global,
    in_replicated_execution,
    integer,
    is_controller,
    self_id,
    set_timer,
    subnet_self,
)
from tests.support.lone_node import example
from tests.support.spec_node import STRANGER, USER, SpecNode

pytestmark = pytest.mark.slow
VERSION = Program().reply_int(canister_version())


def version(node: SpecNode, canister: Principal) -> int:
    """The canister's version, asked without changing it."""
    return node.query(canister, VERSION).number


@pytest.mark.spec("ic0.canister_self_size")
@pytest.mark.spec("ic0.canister_self_copy")
@pytest.mark.spec("ic0.subnet_self_size")
@pytest.mark.spec("ic0.subnet_self_copy")
def test_ids(node: SpecNode) -> None:
    """Of the canister and of its subnet."""
    canister = node.universal()
    assert node.ask(canister, Program().reply(self_id())).replied == bytes(canister)
    assert node.ask(canister, Program().reply(subnet_self())).replied == bytes(node.record.subnet_id)


@pytest.mark.spec("ic0.is_controller")
def test_controllers(node: SpecNode) -> None:
    """1 for every controller, 0 for others; more than 29 bytes trap."""
    canister = node.universal(controllers=[USER, Principal.canister(5)])
    asked = [USER, Principal.canister(5), STRANGER, canister, Principal(b"")]
    program = Program()
    for principal in asked:
        program = program.append(is_controller(principal).to_blob().slice(0, 1))
    assert node.ask(canister, program.send_reply()).replied == bytes([1, 1, 0, 0, 0])
    assert node.ask(canister, Program().reply_int(is_controller(bytes(30)))).rejected == (5, "IC0504")
    node.done("update_settings", {"canister_id": canister, "settings": {"controllers": [STRANGER]}})
    assert node.ask(canister, program.send_reply()).replied == bytes([0, 0, 1, 0, 0])


@pytest.mark.spec("ic0.in_replicated_execution")
def test_mode_of_execution(node: SpecNode) -> None:
    """Replicated: updates, callbacks, and queries called as updates; not: query calls."""
    canister = node.universal()
    program = Program().reply_int(in_replicated_execution())
    assert node.ask(canister, program).number == 1
    assert node.ask(canister, program, "query").number == 1
    assert node.ask(canister, Program().call(canister, "query", Program().reply(), on_reply=program)).number == 1
    assert node.query(canister, program).number == 0
    assert node.query(canister, program, "composite_query").number == 0


@pytest.mark.spec("ic0.canister_status")
def test_status(node: SpecNode) -> None:
    """1 running, 2 stopping, 3 stopped."""
    note = Program().set_global(canister_status().to_blob())
    canister = node.universal(note)
    assert node.query(canister, Program().reply(get_global())).number == 1
    message = node.submit(canister, Program().call(b"", "raw_rand", b"DIDL\0\0", on_reply=note.reply()))
    node.stop(canister)
    assert node.outcome(message).replied == b""
    node.put(canister, example("universal"), Program().stable_write(0, b"").set_global(canister_status().to_blob()), "upgrade")
    node.done("start_canister", {"canister_id": canister})
    assert node.query(canister, Program().reply(get_global())).number == 3


@pytest.mark.spec("ic0.canister_status")
def test_stopping_status_in_a_callback(node: SpecNode) -> None:
    """Callbacks of a stopping canister see 2."""
    canister = node.universal()
    seen = Program().reply_int(canister_status())
    message = node.submit(canister, Program().call(b"", "raw_rand", b"DIDL\0\0", on_reply=seen))
    node.stop(canister)
    assert node.outcome(message).number == 2


@pytest.mark.spec("ic0.canister_version")
@pytest.mark.spec("time-progressing")
def test_version_counts_changes(node: SpecNode) -> None:
    """Every message that may change the canister adds one, as does every management call that changes it."""
    canister = node.create()
    assert node.canister(canister).version == 0
    node.put(canister, example("universal"), Program().set_global(canister_version().to_blob())).replied  # noqa: B018
    assert version(node, canister) == 1
    assert node.query(canister, Program().reply(get_global())).number == 1  # init sees the version after the install
    assert node.ask(canister, VERSION).number == 1  # an update sees the version before it
    assert version(node, canister) == 2
    node.ask(canister, Program().call(canister, "query", Program().reply(), on_reply=VERSION))
    assert version(node, canister) == 4
    node.ask(canister, VERSION, "query")
    node.ask(canister, Program().trap(b""))
    node.ask(canister, Program().reply(), "missing")
    assert version(node, canister) == 4
    node.ask(canister, Program().drop(set_timer(1)).reply())
    node.rounds(2)
    assert version(node, canister) == 6
    node.done("update_settings", {"canister_id": canister, "settings": {}})
    assert version(node, canister) == 7
    node.stop(canister)
    assert node.canister(canister).version == 9  # stopping, stopped
    node.stop(canister)
    assert node.canister(canister).version == 10
    node.done("start_canister", {"canister_id": canister})
    node.done("start_canister", {"canister_id": canister})
    assert version(node, canister) == 12
    node.done("canister_status", {"canister_id": canister})
    assert version(node, canister) == 12
    node.done("uninstall_code", {"canister_id": canister})
    assert node.canister(canister).version == 13


@pytest.mark.spec("ic0.canister_version")
@pytest.mark.spec("management-upgrade-code")
def test_version_during_an_upgrade(node: SpecNode) -> None:
    """pre_upgrade sees the old one, post_upgrade the new one; a failed upgrade leaves it."""
    keep = Program().drop(Int(integer(1).code + b"\x13")).stable_write(0, canister_version().to_blob())
    canister = node.universal(Program().on_pre_upgrade(keep))
    before = version(node, canister)
    node.put(canister, example("universal"), Program().trap(b"no"), "upgrade")
    assert version(node, canister) == before
    post = Program().set_global(Blob(integer(0).code + integer(8).code + b"\x14").concat(canister_version().to_blob()))
    node.put(canister, example("universal"), post, "upgrade").replied  # noqa: B018
    seen = node.query(canister, Program().reply(get_global())).replied
    assert [int.from_bytes(seen[:8], "little"), int.from_bytes(seen[8:], "little")] == [before, before + 1]


def name_at(index: int) -> Blob:
    """ic0.env_var_name."""
    return Blob(integer(index).code + b"\x4f")


def exists(name: bytes) -> Int:
    """ic0.env_var_name_exists."""
    return Int(blob(name).code + b"\x50")


@pytest.mark.spec("ic0.env_var_count")
@pytest.mark.spec("ic0.env_var_name_size")
@pytest.mark.spec("ic0.env_var_name_copy")
@pytest.mark.spec("ic0.env_var_name_exists")
@pytest.mark.spec("ic0.env_var_value_size")
@pytest.mark.spec("ic0.env_var_value_copy")
def test_environment_variables(node: SpecNode) -> None:
    """Names in lexicographic order, values by name; what isn't there traps."""
    pairs = [{"name": "zeta", "value": "last"}, {"name": "ALPHA", "value": ""}, {"name": "äther", "value": "ü"}]
    canister = node.universal(environment_variables=pairs)
    assert node.ask(canister, Program().reply_int(env_var_count())).number == 3
    names = Program().append(name_at(0)).append(b" ").append(name_at(1)).append(b" ").append(name_at(2)).send_reply()
    assert node.ask(canister, names).replied == "ALPHA zeta äther".encode()
    assert node.ask(canister, Program().reply(env_var_value("äther"))).replied == "ü".encode()
    assert node.ask(canister, Program().reply(env_var_value("ALPHA"))).replied == b""
    assert [node.ask(canister, Program().reply_int(exists(n))).number for n in (b"zeta", b"ZETA")] == [1, 0]
    for program in (
        Program().reply(name_at(3)),
        Program().reply(env_var_value("none")),
        Program().reply_int(exists(b"x" * 129)),
        Program().reply_int(exists(b"\xff")),
    ):
        assert node.ask(canister, program).rejected == (5, "IC0504")
    node.done("update_settings", {"canister_id": canister, "settings": {"environment_variables": []}})
    assert node.ask(canister, Program().reply_int(env_var_count())).number == 0


@pytest.mark.spec("ic0.debug_print")
@pytest.mark.spec("rule-message-execution")
def test_logs(node: SpecNode) -> None:
    """Numbered without gaps, with the time of the message; printing in a query leaves nothing."""
    canister = node.universal(Program().print(b"init"))
    started = node.now
    node.ask(canister, Program().print(b"one").print(b"two").reply())
    node.query(canister, Program().print(b"quiet").reply())
    logs = node.canister(canister).logs
    assert [(r.index, r.content) for r in logs] == [(0, b"init"), (1, b"one"), (2, b"two")]
    assert [r.time for r in logs] == [started, node.now, node.now]


@pytest.mark.spec("ic0.debug_print")
@pytest.mark.spec("management-update-settings")
def test_a_changed_log_limit_counts_at_once(node: SpecNode) -> None:
    """For sandboxes that run already as for new ones: in what is kept of a line, and in what printing it costs."""
    canister, line = node.universal(), b"x" * 5000

    def cost() -> int:
        before = node.canister(canister).metrics.instructions
        assert node.ask(canister, Program().print(line).reply()).replied == b""
        return node.canister(canister).metrics.instructions - before

    small = [cost() for _ in range(2)][-1]  # the first writes more pages
    assert len(node.canister(canister).logs[-1].content) < 4096
    node.done("update_settings", {"canister_id": canister, "settings": {"log_memory_limit": 1 << 20}})
    large = cost()
    assert node.canister(canister).logs[-1].content == line
    assert large - small == (2 + 50) * (5000 - 4096)
    node.replica.driver.drop_sandboxes(node.canister(canister).execution)
    assert cost() == large
