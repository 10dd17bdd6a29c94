"""Networks whose processes are killed with kill -9: they recover with equal hashes, or end without a trace."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ic_types.envelope import build_call
from ic_types.errors import NetworkError
from ic_types.principal import Principal
from ic_types.units import TimeNs
from subnet.identities import identity_named
from subnet.lab import universal as u
from subnet.lab.universal import Program
from subnet.launch import ROOT, RunningNetwork
from subnet.network_config import CoordinatorConfig
from subnet.zygote_protocol import ChildProcess
from tests.support import live_network as live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
NODES = (1, 4)
APP = 1
"""Place of the subnet with four nodes, of which three are needed."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], str]:
    """Hashes of a run in which nobody is killed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    live.run(settings(folder))
    return live.agreed(folder)


def settings(folder: Path) -> CoordinatorConfig:
    """The same network for all tests here."""
    return live.config(live.everything(nodes=NODES), folder)


def processes(network: RunningNetwork, kind: str, owner: int | None = None) -> list[ChildProcess]:
    """Processes of a kind; sandboxes of one node."""
    found = network.client.processes().processes
    return [one for one in found if one.kind == kind and owner in (None, one.owner_pid)]


def test_a_killed_node_catches_up_and_rejoins(undisturbed: dict[tuple[str, int], str], tmp_path: Path) -> None:
    """Nodes are killed one after the other, in the middle of rounds; the others go on, and all stand together at the end."""
    folder = tmp_path / "run"
    with live.running(settings(folder)) as network:
        client = network.client
        for height, name in ((3, "app/2"), (7, "app/4"), (11, "app/2")):
            client.advance(to_height=height, timeout_s=60)
            cookie = client.start_advance(to_height=height + 3)
            victim = next(one for one in processes(network, "node") if one.name == name)
            os.kill(victim.pid, signal.SIGKILL)
            live.wait_until(lambda cookie=cookie: client.poll_advance(cookie) is not None, "rounds go on")  # type: ignore[misc]
        client.advance(to_height=live.HEIGHT, timeout_s=60)
        nodes = client.status().subnets[APP].nodes
        assert [node.restarts for node in nodes] == [0, 2, 0, 1]
        assert [node.phase for node in nodes] == ["live"] * 4
        assert [node.height for node in nodes] == [live.HEIGHT] * 4
    assert live.agreed(folder) == undisturbed
    by_height = {height: sorted(nodes) for (name, height), nodes in live.hashes(folder).items() if name == "app"}
    assert by_height[live.HEIGHT] == [1, 2, 3, 4]
    assert any(len(nodes) == 3 for nodes in by_height.values()), "rounds were made without the killed ones"


def test_too_few_nodes_are_told(tmp_path: Path) -> None:
    """With two of four nodes gone there is no quorum: the error names the subnet, the numbers and the nodes."""
    with live.running(settings(tmp_path / "run")) as network:
        network.client.advance(to_height=5, timeout_s=60)
        victims = [one for one in processes(network, "node") if one.name in ("app/1", "app/3")]
        for victim in victims:
            os.kill(victim.pid, signal.SIGSTOP)
        cookie = network.client.start_advance(to_height=live.HEIGHT)
        for victim in victims:
            os.kill(victim.pid, signal.SIGKILL)
        with pytest.raises(NetworkError, match="app lost its quorum at height 5: 3 of 4 nodes are needed; not available: app/"):
            live.wait_until(lambda: network.client.poll_advance(cookie) is not None, "told")
        assert network.client.summary()["outcome"] == "failed"


def test_a_node_that_hangs_is_replaced(undisturbed: dict[tuple[str, int], str], tmp_path: Path) -> None:
    """A node that gives no answer for longer than the round timeout is killed and started again; nothing is lost."""
    folder = tmp_path / "run"
    with live.running(replace(settings(folder), round_timeout_s=6)) as network:
        client = network.client
        client.advance(to_height=6, timeout_s=60)
        victim = next(one for one in processes(network, "node") if one.name == "app/3")
        os.kill(victim.pid, signal.SIGSTOP)
        client.advance(to_height=live.HEIGHT, timeout_s=60)
        assert client.status().subnets[APP].nodes[2].restarts >= 1
    assert live.agreed(folder) == undisturbed


def test_killed_sandboxes_never_show(undisturbed: dict[tuple[str, int], str], tmp_path: Path) -> None:
    """At every other height or so a sandbox of each node is killed, whatever it does just then; at first the compiler too."""
    folder, dice, killed, settled = tmp_path / "run", random.Random(3), 0, -1
    with live.running(settings(folder)) as network:
        client = network.client
        cookie = client.start_advance(to_height=live.HEIGHT)
        while client.poll_advance(cookie) is None:
            height = client.status().height
            if height <= settled:
                continue
            victims = [
                dice.choice(own) for node in processes(network, "node") if (own := processes(network, "sandbox", node.pid))
            ]
            for victim in victims + (processes(network, "compiler") if height < 4 else []):
                with suppress(ProcessLookupError):
                    os.kill(victim.pid, signal.SIGKILL)
                    killed += 1
            settled = client.status().height + 1  # a whole round without: three deaths at one message end a node
        assert [node.restarts for subnet in client.status().subnets for node in subnet.nodes] == [0] * 5
    assert killed > 5
    assert live.agreed(folder) == undisturbed


@pytest.mark.parametrize("victim", ["coordinator", "zygote"])
def test_what_ends_with_coordinator_and_zygote_can_be_resumed(
    undisturbed: dict[tuple[str, int], str], tmp_path: Path, victim: str
) -> None:
    """Everything ends at once and the caller is told; --resume goes on from the journal with equal hashes."""
    folder = tmp_path / "run"
    with live.running(settings(folder)) as network:
        network.client.advance(to_height=9, timeout_s=60)
        pids = live.started([one.pid for one in network.client.processes().processes])
        assert len(pids) >= 8 + len(processes(network, "sandbox"))
        cookie = network.client.start_advance(to_height=live.HEIGHT)
        os.kill(processes(network, victim)[0].pid, signal.SIGKILL)
        with pytest.raises(NetworkError, match=r"the network has ended|the zygote is gone"):
            live.wait_until(lambda: network.client.poll_advance(cookie) is not None, "ended")
        live.wait_until(lambda: not live.alive(pids), "no process is left")
        assert f"{victim} ended" in str(network.call_failed(NetworkError("?"))) or victim == "zygote"
    live.run(continued(folder))
    assert live.agreed(folder) == undisturbed


def continued(folder: Path) -> CoordinatorConfig:
    """The run in this directory goes on."""
    return CoordinatorConfig(name="resumed", plan=b"", socket_dir="", cache_dir=live.CACHE, out_dir=str(folder), mode="resume")


def test_killed_again_and_again_at_any_moment(undisturbed: dict[tuple[str, int], str], tmp_path: Path) -> None:
    """The coordinator is killed in the middle of installs, of rounds, and of its replay after a resume."""
    folder, dice = tmp_path / "run", random.Random(8)
    for attempt, height in enumerate((1, 4, 2, 14)):
        with live.running(continued(folder) if attempt else settings(folder)) as network:
            network.client.advance(to_height=height, timeout_s=60)
            cookie = network.client.start_advance(to_height=live.HEIGHT)
            for _ in range(dice.randrange(40)):
                if network.client.poll_advance(cookie) is not None:
                    break
            os.kill(processes(network, "coordinator")[0].pid, signal.SIGKILL)
            network.process.wait(timeout=20)
    live.run(continued(folder))
    assert live.agreed(folder) == undisturbed


def test_what_clients_sent_is_in_the_journal(tmp_path: Path) -> None:
    """Calls from outside arrive at some moment of the wall clock; a killed run goes on as if they were still to come."""
    folder, replayed = tmp_path / "run", tmp_path / "replayed"
    with live.running(settings(folder)) as network:
        client = network.client
        client.advance(until_installed=True, timeout_s=60)
        cookie = client.start_advance(to_height=13)
        accepted: list[bytes] = []
        last = 0
        while client.poll_advance(cookie) is None:
            status = client.status()
            if status.height == last:
                continue
            last = status.height
            program = bytes(Program().set_page_byte(len(accepted) % 64, 7).reply(u.argument()))
            envelopes = [call_of_user(status.time_ns, canister, program, len(accepted)) for canister in (live.NEAR, live.FAR)]
            accepted += [result.message_id for result in client.submit(*envelopes)]
        client.advance(until_answered=tuple(accepted), timeout_s=60)
        requests = client.requests(*accepted)
        assert {request.status for request in requests} == {"replied"}
        assert len({request.answered_height for request in requests}) > 2, "they came in over several rounds"
        reached = client.status().height
        os.kill(processes(network, "coordinator")[0].pid, signal.SIGKILL)
        network.process.wait(timeout=20)
    before = {place: found for place, found in live.agreed_in_journal(folder).items() if place[1] <= reached}
    with live.running(continued(folder)) as network:
        network.client.advance(to_height=live.HEIGHT + 5, timeout_s=60)
        answered = network.client.requests(*accepted)
        assert [(one.status, one.reply, one.answered_height) for one in answered] == [
            (one.status, one.reply, one.answered_height) for one in requests
        ]
    after = live.agreed(folder)
    assert {place: after[place] for place in before} == before
    again = replace(continued(replayed), mode="replay", replay_dir=str(folder))
    with live.running(again) as network:
        network.client.advance(until_idle=True, timeout_s=60)
    assert live.agreed(replayed) == after


def call_of_user(now: int, canister: Principal, program: bytes, nonce: int) -> bytes:
    """A signed envelope of an identity of the topology."""
    return build_call(
        identity_named(3, "user-1"),
        canister_id=canister,
        method="update",
        arg=program,
        expiry=TimeNs(now + 100_000_000_000),
        nonce=nonce.to_bytes(4, "big"),
    )


def test_nothing_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    """The launching process is killed with kill -9; every process of its network is gone a moment later."""
    program = (
        "import sys, pathlib\n"
        "from tests.support import live_network as live\n"
        f"with live.running(live.config(live.everything(nodes={NODES}), pathlib.Path(sys.argv[1]))) as network:\n"
        "    network.client.advance(to_height=6, timeout_s=60)\n"
        "    print(*[one.pid for one in network.client.processes().processes], flush=True)\n"
        "    network.client.advance(to_height=1 << 40)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "run")], cwd=ROOT, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    pids = live.started([int(pid) for pid in owner.stdout.readline().split()])
    assert len(pids) > 8
    assert live.alive(pids) == list(pids)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    live.wait_until(lambda: not live.alive(pids), "no process is left")


def test_two_networks_run_side_by_side(undisturbed: dict[tuple[str, int], str], tmp_path: Path) -> None:
    """They share the machine and the module cache, and know nothing of each other."""
    with ExitStack() as stack:
        networks = [stack.enter_context(live.running(settings(tmp_path / name))) for name in ("one", "two")]
        cookies = [network.client.start_advance(to_height=live.HEIGHT) for network in networks]
        for network, cookie in zip(networks, cookies, strict=True):
            live.wait_until(
                lambda network=network, cookie=cookie: network.client.poll_advance(cookie) is not None,  # type: ignore[misc]
                "both advance",
                60.0,
            )
    assert live.agreed(tmp_path / "one") == live.agreed(tmp_path / "two") == undisturbed
