"""Rounds of a coordinator with fake nodes: agreement, certification, streams, recovery, replay."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types import bls
from ic_types.principal import Principal
from subnet import control_protocol as cp
from subnet.coordinator import ingress_pool
from subnet.coordinator.network_plan import CanisterPlan, NetworkPlan
from subnet.coordinator.network_state import NodePhase
from tests.support.fake_network import CLIENT, FakeNetwork
from tests.support.fake_node import REJECTED
from tests.support.plans import small_plan


def open_network(folder: Path, *nodes: int, **settings: object) -> FakeNetwork:
    """A network whose nodes have introduced themselves."""
    network = FakeNetwork(small_plan(*nodes), folder, **settings)
    network.settle()
    return network


def test_rounds_are_made_as_asked_and_certified(tmp_path: Path) -> None:
    """After five rounds every subnet stands at height 5 with a signature of its key over its root."""
    network = open_network(tmp_path, 4, 1)
    assert network.rounds(5) == cp.Advanced(height=5, time_ns=network.coordinator.network.now, idle=True)
    for subnet in network.coordinator.network.subnets:
        assert subnet.height == 5
        message = bls.with_domain(bls.STATE_ROOT, subnet.root_hash)
        assert bls.verify(subnet.record.public_key, message, subnet.signature)


def test_no_round_before_all_nodes_are_there(tmp_path: Path) -> None:
    """A goal that comes while nodes start is reached once they have."""
    network = FakeNetwork(small_plan(4), tmp_path)
    network.desk.serve(CLIENT, cp.Advance(rounds=1))
    assert network.desk.status().phase == "starting"
    network.settle()
    assert network.coordinator.network.height == 1


def test_every_node_gets_the_same_batches(tmp_path: Path) -> None:
    """Ingress messages arrive in the order they came in, at each node of their subnet alone."""
    network = open_network(tmp_path, 4, 2)
    for number in range(3):
        network.submit("set", bytes([number]), nonce=bytes([number]))
    network.submit("other", subnet=1)
    network.rounds(2)
    for process in network.ports.processes.values():
        replica = process.replica
        first = replica.batches[0]
        if replica.config.subnet_name == "nns":
            assert [one.arg for one in first.ingress] == [b"\0", b"\1", b"\2"]
        else:
            assert [one.method for one in first.ingress] == ["other"]
        assert first.time_ns == network.plan.genesis_time_ns + network.plan.block_interval_ns
        assert not replica.batches[1].ingress


def test_outcomes_are_told_with_their_heights(tmp_path: Path) -> None:
    """A call submitted at height 2 and answered at height 3 took one round."""
    network = open_network(tmp_path, 1)
    network.rounds(2)
    message_id = network.submit("set", b"x")
    (before,) = network.ask(cp.GetRequests(message_ids=(message_id,))).requests  # type: ignore[attr-defined]
    assert before.status == "received"
    network.ask(cp.Advance(until_answered=(message_id,)))
    (after,) = network.ask(cp.GetRequests(message_ids=(message_id,))).requests  # type: ignore[attr-defined]
    assert (after.status, after.reply, after.submitted_height, after.answered_height) == ("replied", b"x", 2, 3)
    assert network.coordinator.book.percentiles(50, 100) == (1, 1)


def test_stream_messages_cross_as_slices_and_are_acknowledged(tmp_path: Path) -> None:
    """A message sent in round 1 is inducted by the next subnet in round 2, its signal comes back in round 3."""
    network = open_network(tmp_path, 1, 1)
    network.submit("send")
    network.rounds(1)
    sender, receiver = network.coordinator.network.subnets
    assert sender.heads[receiver.record.subnet_id].end == 1
    assert not network.coordinator.is_idle()
    network.rounds(1)
    assert receiver.heads[sender.record.subnet_id].signals_end == 1
    network.rounds(1)
    assert sender.heads[receiver.record.subnet_id].begin == 1
    assert network.coordinator.is_idle()


def test_until_idle_stops_when_all_is_delivered(tmp_path: Path) -> None:
    """Rounds go on exactly until the last signal is home."""
    network = open_network(tmp_path, 1, 1, 1)
    network.submit("send")
    reply = network.ask(cp.Advance(until_idle=True))
    assert isinstance(reply, cp.Advanced)
    assert (reply.height, reply.idle) == (3, True)


def test_a_difference_is_walked_down_and_the_minority_named(tmp_path: Path) -> None:
    """One node that differs is named with the page; no further round is made."""
    network = open_network(tmp_path, 4)
    network.submit("set", b"v")
    network.submit("diverge", bytes([3]))
    reply = network.rounds(3)
    assert isinstance(reply, cp.Refused)
    assert reply.exit_code == 3
    assert "divergence on subnet nns at height 1, in the minority: node 3" in reply.message
    assert "pages/page 7: nodes 1, 2, 4 has none; node 3 has " in reply.message
    assert network.desk.status().phase == "failed"
    assert isinstance(network.rounds(1), cp.Refused)


def test_a_tie_names_both_sides(tmp_path: Path) -> None:
    """With two nodes nobody is in the minority."""
    network = open_network(tmp_path, 2)
    network.submit("diverge", bytes([2]))
    reply = network.rounds(1)
    assert isinstance(reply, cp.Refused)
    assert "a tie: node 1 against node 2" in reply.message


def test_a_wrong_share_that_is_not_needed_is_found_in_time(tmp_path: Path) -> None:
    """The last of four nodes signs something else; within eight rounds per node it is named in the events."""
    network = open_network(tmp_path, 4)
    network.submit("wrong_share", bytes([4]))
    network.rounds(33)
    network.coordinator.events.commit(now=True)
    with closing(sqlite3.connect(tmp_path / "run" / "events.sqlite")) as db:
        rows = db.execute("SELECT * FROM events WHERE kind = 'wrong_share'").fetchall()
    assert rows
    assert all("nns/4" in str(row) for row in rows)
    assert network.coordinator.failure is None
    network.close()


def test_a_wrong_share_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node that signs something else doesn't stop the subnet, and is named."""
    network = open_network(tmp_path, 4)
    network.submit("wrong_share", bytes([2]))
    network.rounds(2)
    subnet = network.coordinator.network.subnets[0]
    assert bls.verify(subnet.record.public_key, bls.with_domain(bls.STATE_ROOT, subnet.root_hash), subnet.signature)
    assert "nns/2" in capsys.readouterr().out


def test_a_killed_node_rejoins_with_the_same_hashes(tmp_path: Path) -> None:
    """It gets all batches again from the journal, and takes part before anyone is told that the goal is reached."""
    network = open_network(tmp_path, 4, 1)
    network.submit("set", b"v")
    network.rounds(5)
    victim = network.coordinator.network.subnets[0].nodes[1]
    network.ports.kill(victim.pid)
    network.rounds(20)
    assert victim.phase is NodePhase.LIVE
    assert (victim.height, victim.restarts) == (25, 1)
    chains = {one.replica.chain for one in network.ports.processes.values() if one.replica.config.subnet_name == "nns"}
    assert len(chains) == 1


def test_a_node_killed_while_idle_catches_up_without_new_rounds(tmp_path: Path) -> None:
    """It is live again at the height where the network rests, and certified there so that it can answer queries."""
    network = open_network(tmp_path, 4)
    network.rounds(3)
    victim = network.coordinator.network.subnets[0].nodes[0]
    network.ports.kill(victim.pid)
    network.settle()
    assert victim.phase is NodePhase.LIVE
    replica = network.ports.processes[victim.pid].replica
    assert (replica.height, replica.certified_height) == (3, 3)


def test_a_node_that_dies_in_a_round_is_not_waited_for(tmp_path: Path) -> None:
    """The round ends with the answers of the others; the dead node's restart executes the same batch."""
    network = open_network(tmp_path, 4)
    network.submit("die", bytes([4]))
    reply = network.rounds(3)
    assert isinstance(reply, cp.Advanced)
    assert network.coordinator.network.subnets[0].nodes[3].restarts == 1
    assert network.coordinator.keeper.all_live()


def test_fewer_than_the_threshold_stop_the_network_with_a_report(tmp_path: Path) -> None:
    """Two of four nodes gone at once: the report names them."""
    network = open_network(tmp_path, 4)
    network.rounds(1)
    nodes = network.coordinator.network.subnets[0].nodes
    network.ports.hold = {nodes[0].name, nodes[1].name}
    network.ports.kill(nodes[0].pid)
    network.ports.kill(nodes[1].pid)
    reply = network.rounds(5)
    assert isinstance(reply, cp.Refused)
    assert "subnet nns lost its quorum at height 1" in reply.message
    assert "not available: nns/1 (starting), nns/2 (dead: killed by SIGKILL)" in reply.message


def test_queries_move_to_another_node_when_theirs_dies(tmp_path: Path) -> None:
    """A query asked of a node that is killed before it answers is still answered."""
    network = open_network(tmp_path, 4)
    network.rounds(1)
    receiver = network.coordinator.network.subnets[0].record.range_start
    network.desk.serve(CLIENT, cp.Query(sender=receiver, receiver=receiver, method="m", arg=b"q"))
    asked = next(process for process in network.ports.processes.values() if process.inbox)
    network.ports.kill(asked.pid)
    network.settle()
    reply = network.ports.replies[-1][1]
    assert reply.reply[:1] == b"q"  # type: ignore[attr-defined]
    assert reply.reply[1] != asked.replica.config.node_index  # type: ignore[attr-defined]


@pytest.mark.parametrize("jobs", [1, 3, 8])
def test_jobs_bound_the_nodes_that_compute_and_change_nothing(tmp_path: Path, jobs: int) -> None:
    """Sandboxes per node times busy nodes never exceeds the bound; hashes equal those of an unbounded run."""
    free, bound = open_network(tmp_path / "free", 4, 4), open_network(tmp_path / "bound", 4, 4, jobs=jobs)
    for network in (free, bound):
        network.submit("send")
        network.rounds(6)
    per_node = {process.replica.config.max_in_flight for process in bound.ports.processes.values()}
    assert bound.ports.most_busy * max(per_node) <= jobs
    assert free.ports.most_busy == 8
    assert bound.hashes() == free.hashes()


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32))
def test_the_order_of_events_decides_nothing(seed: int) -> None:
    """Whatever order answers, slices and restarts come in, every height has the same hashes."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        straight = open_network(Path(one), 4, 2)
        shuffled = open_network(Path(two), 4, 2, choose=Random(seed).randrange)
        for network in (straight, shuffled):
            for number in range(6):
                network.submit("send", subnet=number % 2, nonce=bytes([number]))
                network.submit("set", bytes([number]), nonce=bytes([number]))
                if network is shuffled and number == 2:
                    network.ports.kill(network.coordinator.network.subnets[0].nodes[0].pid)
                network.rounds(2)
        assert shuffled.hashes() == straight.hashes()
        straight.close()
        shuffled.close()


def test_replay_compares_every_hash(tmp_path: Path) -> None:
    """A recorded run is made again from its journal alone, into no journal."""
    network = busy_network(tmp_path)
    hashes = network.hashes()
    network.close()
    again = FakeNetwork(small_plan(4, 2), tmp_path / "again", mode="replay", replay_dir=str(tmp_path / "run"), out_dir=None)
    reply = again.ask(cp.Advance(until_idle=True))
    assert isinstance(reply, cp.Advanced)
    assert reply.height == len(hashes)
    assert [tuple(one.state_hash for one in again.coordinator.network.subnets)] == hashes[-1:]


def busy_network(folder: Path) -> FakeNetwork:
    """A run with streams, ingress and empty rounds behind it."""
    network = open_network(folder, 4, 2)
    for number in range(5):
        network.submit("send", subnet=number % 2, nonce=bytes([number]))
        network.submit("set", bytes([number]), nonce=bytes([number]))
        network.rounds(4)
    return network


def test_a_damaged_record_is_reported_by_replay(tmp_path: Path) -> None:
    """A state hash that differs from the recorded one stops the replay with the height."""
    network = busy_network(tmp_path)
    network.coordinator.journal._db.execute("BEGIN")
    network.coordinator.journal._db.execute("UPDATE heights SET state_hash = x'00' WHERE subnet = 1 AND height = 7")
    network.close()
    again = FakeNetwork(small_plan(4, 2), tmp_path / "again", mode="replay", replay_dir=str(tmp_path / "run"), out_dir=None)
    reply = again.ask(cp.Advance(until_idle=True))
    assert isinstance(reply, cp.Refused)
    assert "subnet app-1 at height 7: state hash was 00" in reply.message
    assert reply.exit_code == 3


def test_a_continued_run_gives_the_hashes_of_an_undisturbed_one(tmp_path: Path) -> None:
    """A run that lost its coordinator goes on from its journal."""
    straight, killed = open_network(tmp_path / "a", 4, 2), open_network(tmp_path / "b", 4, 2)
    for network in (straight, killed):
        network.submit("send", nonce=b"1")
        network.rounds(6)
        network.submit("send", subnet=1, nonce=b"2")
        network.rounds(1)
    killed.coordinator.journal._db.close()
    killed.coordinator.events.close()
    resumed = FakeNetwork(small_plan(4, 2), tmp_path / "b", mode="resume")
    resumed.settle()
    assert resumed.coordinator.network.height == 7
    for network in (straight, resumed):
        network.rounds(5)
        network.submit("set", b"z")
        network.rounds(3)
    assert resumed.hashes() == straight.hashes()


def test_stop_tells_the_nodes_and_whoever_waits(tmp_path: Path) -> None:
    """A waiting client hears of the stop."""
    network = FakeNetwork(small_plan(1), tmp_path)
    network.desk.serve(CLIENT, cp.Advance(rounds=1))  # type: ignore[arg-type]
    network.ask(cp.StopNetwork("enough"))
    assert any(isinstance(reply, cp.Refused) and "enough" in reply.message for _, reply in network.ports.replies)


def test_a_silent_node_is_ended_and_started_again(tmp_path: Path) -> None:
    """The safety net: a node that owes an answer for too long is killed."""
    network = open_network(tmp_path, 4)
    victim = network.coordinator.network.subnets[0].nodes[2]
    first_pid = victim.pid
    network.desk.serve(CLIENT, cp.Advance(rounds=1))  # type: ignore[arg-type]
    network.ports.processes[first_pid].inbox.clear()
    network.settle()
    assert network.coordinator.network.height == 0
    network.ports.time += network.coordinator.config.round_timeout_s + 1
    network.coordinator.on_tick()
    network.settle()
    assert network.coordinator.network.height == 1
    assert victim.pid != first_pid


def test_a_node_lost_while_a_divergence_is_walked_down_changes_nothing(tmp_path: Path) -> None:
    """The round isn't certified by those who are left."""
    network = open_network(tmp_path, 4)
    network.submit("diverge", bytes([3]))
    network.desk.serve(CLIENT, cp.Advance(rounds=2))
    while not any(b"Inspect" in raw[:12] for one in network.ports.processes.values() for raw in one.inbox):
        network.step()
    network.ports.kill(network.coordinator.network.subnets[0].nodes[2].pid)
    network.settle()
    assert network.coordinator.network.height == 0
    assert network.coordinator.failure is not None
    assert "in the minority: node 3" in network.coordinator.failure.message


def test_a_journal_that_cannot_be_written_stops_the_network_with_a_report(tmp_path: Path) -> None:
    """No node sees the batch."""
    network = open_network(tmp_path, 1)
    network.rounds(1)
    network.submit("set", b"v")
    network.coordinator.journal._db.execute("PRAGMA query_only = 1")
    reply = network.rounds(1)
    assert isinstance(reply, cp.Refused)
    assert "can't be written" in reply.message
    assert all(process.replica.height == 1 for process in network.ports.processes.values())


def with_canister(create_arg: bytes, module: bytes) -> NetworkPlan:
    """A plan with one canister."""
    plan = small_plan(1)
    canister = CanisterPlan(
        name="ledger",
        canister_id=Principal.canister(0),
        subnet=0,
        installer="alice",
        create_arg=create_arg,
        wasm=b"hash",
        init_arg=b"",
    )
    return replace(plan, canisters=(canister,), wasms={b"hash": module})


def test_canisters_are_installed_before_anyone_is_told(tmp_path: Path) -> None:
    """Two rounds: create, install; their latency isn't counted."""
    network = FakeNetwork(with_canister(b"create", b"\0asm"), tmp_path)
    reply = network.ask(cp.Advance(until_installed=True))
    assert isinstance(reply, cp.Advanced)
    assert reply.height == 2
    assert network.coordinator.book.replied == 2
    assert not network.coordinator.book.latency_rounds


@pytest.mark.parametrize(
    ("create_arg", "module", "said"),
    [
        (REJECTED, b"\0asm", "canister ledger can't be created: as asked"),
        (b"create", bytes(9000), "canister ledger can't be installed, its module may be too large: the envelope has 9"),
    ],
)
def test_a_canister_that_cannot_be_installed_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, create_arg: bytes, module: bytes, said: str
) -> None:
    """The report names it; nobody is told that the network is idle."""
    monkeypatch.setattr(ingress_pool, "MAX_INSTALL_BYTES", 9000)
    network = FakeNetwork(with_canister(create_arg, module), tmp_path)
    reply = network.ask(cp.Advance(until_idle=True))
    assert isinstance(reply, cp.Refused)
    assert reply.exit_code == 2
    assert reply.message.startswith(said)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32))
def test_nodes_may_die_at_any_moment(seed: int) -> None:
    """One node at a time, whatever it or the coordinator is doing: the hashes are those of a quiet run, and all rejoin."""
    dice = Random(seed)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        quiet, shaken = open_network(Path(one), 4, 1), open_network(Path(two), 4, 1, choose=dice.randrange)
        for network in (quiet, shaken):
            for number in range(8):
                network.submit("send", subnet=number % 2, nonce=bytes([number]))
            network.desk.serve(CLIENT, cp.Advance(to_height=14))
            while network.step():
                if network is quiet or dice.random() > 0.03 or len(network.ports.processes) < 5:
                    continue
                if network.coordinator.keeper.all_live():
                    network.ports.kill(dice.choice(network.coordinator.network.subnets[0].nodes).pid)
            assert network.coordinator.network.height == 14
            assert network.coordinator.keeper.all_live()
        assert shaken.hashes() == quiet.hashes()
        chains = {(p.replica.config.subnet_name, p.replica.chain) for p in shaken.ports.processes.values()}
        assert len(chains) == 2
        for network in (quiet, shaken):
            network.close()
