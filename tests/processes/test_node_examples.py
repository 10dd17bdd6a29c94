"""The example canisters on one node with real sandboxes: a Motoko ledger through its upgrades, a clock, a long computation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.limits import SubnetLimits
from ic_types.candid import text
from ic_types.principal import ANONYMOUS, CanisterId, Principal
from subnet.management import candid_types
from subnet.protocol import IngressOutcome, QueryReply, QueryRequest
from tests.support.lone_node import LoneNode, example, helpers, network_record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
LIMITS = dataclasses.replace(
    SubnetLimits(),
    instructions_per_slice=5_000_000,
    instructions_per_install_slice=30_000,
    instructions_per_round=35_000_000,
    instruction_overhead_per_execution=20_000,
    instruction_overhead_per_canister=80_000,
)
INIT = '(record { symbol = "GOLD"; minter = principal "2vxsx-fae" })'
HOLDERS = [Principal(bytes([n, 5])) for n in range(30)]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Launcher and compiler."""
    with helpers() as made:
        yield made


@pytest.fixture
def node(folder: Path) -> Iterator[LoneNode]:
    """A node whose installs and messages take several rounds."""
    network, shares = network_record()
    made = LoneNode(folder, network, "app", shares["app"][0], limits=LIMITS)
    yield made
    made.check()
    made.close()


def ask(node: LoneNode, canister: CanisterId, method: str, arg: bytes) -> QueryReply:
    """A query on the last certified height."""
    replies: list[QueryReply] = []
    request = QueryRequest(cookie=1, sender=ANONYMOUS, receiver=canister, method=method, arg=arg)
    node.driver.start_query(node.replica.query(request), replies.append)
    while not replies:
        node.driver.step(50)
    return replies[0]


def number(reply: QueryReply) -> int:
    """A little-endian number."""
    assert reply.status == "replied", reply
    return int.from_bytes(reply.reply, "little")


def balances(node: LoneNode, ledger: CanisterId) -> list[str]:
    """What every holder has, and the ledger's own audit."""
    found = [ask(node, ledger, "balance_of", text.encode_text(f'(principal "{holder}")')) for holder in HOLDERS]
    found.append(ask(node, ledger, "audit", text.encode_text("()")))
    assert all(reply.status == "replied" for reply in found), found
    return [text.to_text(reply.reply) for reply in found]


def install_again(node: LoneNode, ledger: CanisterId, mode: Any, wasm: bytes, arg: str = INIT) -> bytes:
    """Install other code. Raises: AssertionError with the reject."""
    value = {"mode": mode, "canister_id": ledger, "wasm_module": wasm, "arg": text.encode_text(arg)}
    return node.manage("install_code", candid_types.INSTALL_CODE, value)


def test_ledger_keeps_its_balances_through_upgrades(node: LoneNode) -> None:
    """Installing takes several rounds; upgrades keep what everybody has, failed ones and refused ones change nothing."""
    before = node.replica.state.height
    ledger = node.install(example("ledger"), text.encode_text(INIT))
    assert node.replica.state.height > before + 3, "the install is sliced"
    for k, holder in enumerate(HOLDERS):
        node.call(ledger, "mint", text.encode_text(f'(principal "{holder}", {1000 + k} : nat)'))
    there = text.encode_text(f'(principal "{HOLDERS[0]}", 7 : nat)')
    node.round(*(node.ingress(ledger, "transfer", there, sender=holder) for holder in HOLDERS[1:]))
    kept = balances(node, ledger)
    assert kept[0] == f"({1000 + 7 * 29} : nat)"
    keep = {"upgrade": {"wasm_memory_persistence": {"keep": None}, "skip_pre_upgrade": None}}
    install_again(node, ledger, keep, example("ledger"))
    assert balances(node, ledger) == kept
    with pytest.raises(AssertionError, match=r"rejected|trap|IC0"):
        install_again(node, ledger, keep, example("ledger"), '("no such argument")')
    with pytest.raises(AssertionError, match="IC0"):
        install_again(node, ledger, {"upgrade": None}, example("ledger"))
    with pytest.raises(AssertionError, match="IC0"):
        install_again(node, ledger, keep, b"\0asm\1\0\0\0 no module")
    assert balances(node, ledger) == kept
    node.call(ledger, "mint", text.encode_text(f'(principal "{HOLDERS[0]}", 1 : nat)'))
    node.manage("stop_canister", candid_types.CANISTER_ID, {"canister_id": ledger})
    with pytest.raises(AssertionError, match="stopped"):
        node.call(ledger, "mint", there)
    install_again(node, ledger, keep, example("ledger"))
    node.manage("start_canister", candid_types.CANISTER_ID, {"canister_id": ledger})
    assert balances(node, ledger)[1:30] == kept[1:30]
    install_again(node, ledger, {"reinstall": None}, example("ledger"))
    assert set(balances(node, ledger)[:30]) == {"(0 : nat)"}


def test_clock_ticks_every_second(node: LoneNode) -> None:
    """A timer per second of virtual time, from init on, until it is stopped; other messages don't disturb it."""
    clock = node.install(example("timer"))
    begun = number(ask(node, clock, "ticks", b""))
    for _ in range(10):
        node.round()
    assert number(ask(node, clock, "ticks", b"")) == begun + 10
    node.call(clock, "stop", b"")
    stopped = number(ask(node, clock, "ticks", b""))
    for _ in range(4):
        result = node.round()
    assert number(ask(node, clock, "ticks", b"")) == stopped
    assert not result.has_work
    assert result.next_due_ns == 0


def test_long_computation_lets_others_pass(node: LoneNode) -> None:
    """A message of many slices over several rounds; the canisters beside it answer meanwhile, its own later calls wait."""
    compute, counter = node.install(example("compute")), node.install(example("counter"))
    long = node.ingress(compute, "primes", (140_000).to_bytes(8, "little"))
    after = node.ingress(compute, "primes", (100).to_bytes(8, "little"))
    results = [node.round(long, after)]
    outcomes: dict[bytes, IngressOutcome] = {}
    while after.message_id not in outcomes:
        assert len(results) < 40
        quick = node.ingress(counter, "inc", (1).to_bytes(8, "little"))
        results.append(node.round(quick))
        new = {outcome.message_id: outcome for outcome in results[-1].outcomes}
        assert new[quick.message_id].status == "replied", "answered in its round"
        outcomes |= new
    assert len(results) > 3
    assert int.from_bytes(outcomes[long.message_id].reply, "little") == 13_010
    assert int.from_bytes(outcomes[after.message_id].reply, "little") == 25
    assert sum(result.stats["slices"] for result in results) > 15


def test_candid_of_the_ledger_is_public(node: LoneNode) -> None:
    """The module brings its own service description, certified like any metadata."""
    ledger = node.install(example("ledger"), text.encode_text(INIT))
    path = (b"canister", bytes(ledger), b"metadata", b"candid:service")
    assert b"transfer_from" in node.replica.read_state(path)
