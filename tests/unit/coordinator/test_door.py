"""The door with fake nodes: who is asked, in which order calls are let in, and what holds rounds up."""

from __future__ import annotations

from pathlib import Path

import pytest

from ic_types import wire
from subnet import control_protocol as cp
from subnet.protocol import AcceptanceRequest, Refusal
from tests.support.fake_network import CLIENT, FakeNetwork
from tests.support.fake_node import REQUESTS, UNWELCOME
from tests.support.plans import small_plan

NO = Refusal(reject_code=4, reject_message="not welcome", error_code="IC0406")


def open_network(folder: Path, *nodes: int) -> FakeNetwork:
    """A network whose nodes have introduced themselves."""
    network = FakeNetwork(small_plan(*nodes), folder)
    network.settle()
    return network


def submit(network: FakeNetwork, *envelopes: bytes) -> None:
    """Send envelopes together; nothing is delivered yet."""
    network.desk.serve(CLIENT, cp.Submit(envelopes=envelopes))


def submitted(network: FakeNetwork) -> list[cp.Submitted]:
    """Answers to submissions so far."""
    return [reply for _, reply in network.ports.replies if isinstance(reply, cp.Submitted)]


def asked(network: FakeNetwork) -> list[tuple[str, int]]:
    """Nodes that were asked about calls and haven't answered, and about how many."""
    found = []
    for process in network.ports.processes.values():
        for raw in process.inbox:
            request = wire.decode(raw, *REQUESTS)
            if isinstance(request, AcceptanceRequest):
                config = process.replica.config
                found.append((f"{config.subnet_name}/{config.node_index}", len(request.calls)))
    return found


def test_a_refused_call_never_gets_into_a_batch(tmp_path: Path) -> None:
    """Of three calls that came together one is refused; the others arrive, and each has its own result."""
    network = open_network(tmp_path, 4)
    calls = [network.envelope("set", arg, nonce=bytes([k])) for k, arg in enumerate((b"a", UNWELCOME, b"b"))]
    submit(network, *calls)
    network.settle()
    results = submitted(network)[0].results
    assert [one.refusal for one in results] == [None, NO, None]
    assert all(one.message_id and not one.problem for one in results)
    network.rounds(1)
    replica = next(iter(network.ports.processes.values())).replica
    assert [one.arg for one in replica.batches[0].ingress] == [b"a", b"b"]
    statuses = network.ask(cp.GetRequests(message_ids=(results[1].message_id,))).requests  # type: ignore[attr-defined]
    assert statuses[0].status == "unknown", "a refusal leaves no trace"


@pytest.mark.spec("api-request-submission", condition=3)
def test_one_node_of_each_subnet_is_asked_once(tmp_path: Path) -> None:
    """Calls to one subnet travel in one question; malformed envelopes and known calls in none."""
    network = open_network(tmp_path, 4, 4)
    here, there = network.envelope("set", b"x"), network.envelope("set", b"y", subnet=1)
    submit(network, here, there, b"garbage", network.envelope("set", b"z"))
    questions = asked(network)
    assert sorted((name.split("/")[0], count) for name, count in questions) == [("app-1", 1), ("nns", 2)]
    network.settle()
    results = submitted(network)[0].results
    assert [bool(one.problem) for one in results] == [False, False, True, False]
    submit(network, here)
    assert not asked(network)
    assert submitted(network)[1].results[0] == results[0], "sending again is safe and says the same"


def test_questions_go_round_the_nodes(tmp_path: Path) -> None:
    """Four calls, four nodes."""
    network = open_network(tmp_path, 4)
    for k in range(4):
        submit(network, network.envelope("set", b"x", nonce=bytes([k])))
    assert sorted(asked(network)) == [(f"nns/{index}", 1) for index in range(1, 5)]


def test_calls_enter_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    """The first call's node answers last; the second waits for it, and so does the next round."""
    network = open_network(tmp_path, 4)
    submit(network, network.envelope("set", b"first", nonce=b"1"))
    slow = next(one for one in network.ports.processes.values() if one.inbox)
    held, slow.inbox = slow.inbox, []
    submit(network, network.envelope("set", b"second", nonce=b"2"))
    network.desk.serve(CLIENT, cp.Advance(rounds=1))
    network.settle()
    assert not submitted(network)
    assert network.coordinator.network.height == 0
    slow.inbox = held
    network.settle()
    assert network.coordinator.network.height == 1
    assert [one.arg for one in slow.replica.batches[0].ingress] == [b"first", b"second"]


def test_another_node_is_asked_when_the_first_dies(tmp_path: Path) -> None:
    """No call is lost with a node."""
    network = open_network(tmp_path, 4)
    submit(network, network.envelope("set", b"x"))
    first = next(one for one in network.ports.processes.values() if one.inbox)
    network.ports.kill(first.pid)
    network.settle()
    assert submitted(network)[0].results[0].message_id


def test_nodes_that_start_are_asked_later(tmp_path: Path) -> None:
    """A call that comes before the nodes are there waits for them."""
    network = FakeNetwork(small_plan(4), tmp_path)
    submit(network, network.envelope("set", b"x"))
    assert not submitted(network)
    network.settle()
    assert submitted(network)[0].results[0].message_id


def test_calls_wait_while_a_run_is_replayed(tmp_path: Path) -> None:
    """Nodes on the way to where the run had stopped would judge by an old state."""
    network = open_network(tmp_path, 1)
    network.submit("set", b"x")
    network.rounds(3)
    network.close()
    again = FakeNetwork(small_plan(1), tmp_path, mode="resume")
    submit(again, again.envelope("set", UNWELCOME))
    while again.coordinator.network.height < 2:
        assert again.step()
        assert not submitted(again)
    again.settle()
    assert again.coordinator.network.height == 3
    assert submitted(again)[0].results[0].refusal == NO


def test_later_calls_do_not_hold_rounds_up(tmp_path: Path) -> None:
    """A round waits for the calls that came before it was wanted alone, or a stream of slow ones would stop the network."""
    network = open_network(tmp_path, 4)
    submit(network, network.envelope("set", b"before", nonce=b"1"))
    network.desk.serve(CLIENT, cp.Advance(rounds=1))
    first = next(one for one in network.ports.processes.values() if one.inbox)
    submit(network, network.envelope("set", b"after", nonce=b"2"))
    slow = next(one for one in network.ports.processes.values() if one.inbox and one is not first)
    held, slow.inbox = slow.inbox, []
    network.settle()
    assert network.coordinator.network.height == 1
    assert [one.arg for one in slow.replica.batches[0].ingress] == [b"before"]
    slow.inbox = held
    network.settle()
    network.rounds(1)
    assert [one.arg for one in slow.replica.batches[1].ingress] == [b"after"]
