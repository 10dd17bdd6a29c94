"""One traced ingress message passes the twelve steps of ARCHITECTURE.md in their order."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from configs.loader import load_topology
from ic_types import wire
from ic_types.envelope import build_call
from ic_types.principal import Principal
from ic_types.units import TimeNs
from subnet.coordinator.plan_reader import read_plan
from subnet.identities import identity_named
from subnet.launch import start_network
from subnet.network_config import CoordinatorConfig
from tests.support.twelve_steps import TRACE_NAMES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_traced_message_passes_the_twelve_steps_in_order(tmp_path: Path) -> None:
    """Coordinator, node and sandbox leave the events of the page, in its order, for a single call."""
    topology = load_topology(ROOT / "configs" / "counter.toml")
    config = CoordinatorConfig(
        name="traced",
        plan=wire.encode(read_plan(topology)),
        socket_dir="",
        cache_dir=str(ROOT / ".icsim" / "cache"),
        out_dir=str(tmp_path),
        trace=True,
    )
    network = start_network(config)
    try:
        client = network.client
        client.advance(until_installed=True)
        status = client.status()
        call = build_call(
            identity_named(topology.identity_seed, topology.identities[0]),
            canister_id=Principal.canister(0),
            method="inc",
            arg=(1).to_bytes(8, "little"),
            expiry=TimeNs(status.time_ns + 200_000_000_000),
        )
        (result,) = client.submit(call)
        assert not result.problem
        client.advance(until_answered=(result.message_id,))
    finally:
        network.stop()
    with sqlite3.connect(tmp_path / "events.sqlite") as database:
        rows = database.execute("SELECT fields FROM events WHERE kind = 'trace' ORDER BY rowid").fetchall()
    events = [json.loads(row[0]) for row in rows]
    first = next(k for k, e in enumerate(events) if e["step"] == TRACE_NAMES[0] and e["subject"] == result.message_id.hex())
    steps = iter(event["step"] for event in events[first:])
    assert [name for name in TRACE_NAMES if name in steps] == TRACE_NAMES
