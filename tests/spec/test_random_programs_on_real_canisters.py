"""Random traffic on real canisters: invariants after every round, every cycle accounted for, and results that don't depend on
how messages are batched, whether instances are reused or how many sandboxes there may be.

Abstract behaviour, "Invariants"; the rest isn't in the specification, whose transitions know nothing of batches or sandboxes.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from configs.limits import SubnetLimits
from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.lab.universal import Program
from tests.support.lone_node import example
from tests.support.random_programs import random_program
from tests.support.spec_node import SpecNode, management_arg

pytestmark = [pytest.mark.slow, pytest.mark.spec("rule-message-execution")]
M = 1_000_000
LIMITS = SubnetLimits(
    instructions_per_message=30 * M,
    instructions_per_query=5 * M,
    instructions_per_slice=2 * M,
    instructions_per_install_slice=2 * M,
    instructions_per_round=8 * M,
    instruction_overhead_per_execution=2000,
    instruction_overhead_per_canister=8000,
    instruction_overhead_per_canister_finalization=12,
    queue_capacity=20,
)
ROUNDS = 50


def random_management(r: Random, peers: list[CanisterId]) -> tuple[str, Any]:
    """A management call about one of the canisters; some restart what others stopped."""
    canister = r.choice(peers)
    method = r.choice(
        ["stop_canister", "start_canister", "start_canister", "install_code", "update_settings", "uninstall_code"]
    )
    if method == "update_settings":
        return method, {"canister_id": canister, "settings": {"freezing_threshold": r.choice([0, 0, 10**13])}}
    if method == "install_code":
        mode, arg = {r.choice(["upgrade", "reinstall", "install"]): None}, bytes(random_program(r, peers, 1))
        return method, {"mode": mode, "canister_id": canister, "wasm_module": example("universal"), "arg": arg}
    return method, {"canister_id": canister}


def random_messages(r: Random, node: SpecNode, peers: list[CanisterId]) -> list[Ingress]:
    """What users send in one round."""
    methods = ["update"] * 4 + ["query"]
    sent = [node.message(r.choice(peers), random_program(r, peers), r.choice(methods)) for _ in range(r.randrange(6))]
    if r.random() < 0.2:
        method, value = random_management(r, peers)
        sent.append(node.message(MANAGEMENT_CANISTER, management_arg(method, value), method))
    return sent


def state_hashes(sockets: Path, seed: int, **options: Any) -> list[bytes]:
    """Hashes of all rounds under traffic from this seed, everything checked after each."""
    r = Random(seed)
    node = SpecNode(sockets, limits=LIMITS, **options)
    try:
        peers = [node.universal() for _ in range(4)]
        beating = node.create()
        node.put(beating, example("universal_heartbeat"), Program().on_heartbeat(random_program(r, peers, 2)))
        peers.append(beating)
        hashes = []
        for _ in range(ROUNDS):
            messages = random_messages(r, node, peers)
            pause, checkpoint = r.choice([1, 1, 1, 20, 400]), r.random() < 0.05
            hashes.append(node.round(*messages, checkpoint=checkpoint, seconds=pause).state_hash)
            node.check()
        assert node.replica.state.messages_executed > ROUNDS
        return hashes
    finally:
        node.close()


@pytest.mark.parametrize("seed", range(4))
def test_random_traffic(sockets: Path, seed: int) -> None:
    """Batches of 1, 7 and 100, instances reused or not, two sandboxes for five canisters: the same hash at every height."""
    expected = state_hashes(sockets, seed)
    assert state_hashes(sockets, seed, batch_size=1) == expected
    assert state_hashes(sockets, seed, batch_size=7, reuse_instances=False, max_sandboxes=2) == expected
