"""Processes of a network: named, started, ended together whoever dies, and gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ic_types import wire
from ic_types.envelope import build_call
from ic_types.errors import BadInput, NetworkError
from ic_types.principal import Principal
from ic_types.units import TimeNs
from subnet.control import ControlClient, advertise, find_network, running_networks
from subnet.coordinator.event_log import HEIGHTS_FILE
from subnet.identities import identity_named
from subnet.launch import ROOT, Entries, RunningNetwork, start_network
from subnet.network_config import CoordinatorConfig
from subnet.process_tools import remove_stale_folders, start_time
from subnet.zygote_protocol import ChildProcess
from tests.support.plans import small_plan

pytestmark = pytest.mark.slow
FAKES = Entries(
    node="tests.support.fake_node:run_node",
    sandbox="tests.support.fake_node:run_sandbox",
    compiler="tests.support.fake_node:run_compiler",
)
_PATIENCE_S = 30.0


def config_of(folder: Path, *nodes: int, **settings: object) -> CoordinatorConfig:
    """A network of fake nodes whose files are in this folder."""
    values: dict[str, object] = {"out_dir": str(folder / "run"), "cache_dir": str(folder / "cache"), "socket_dir": ""}
    plan = wire.encode(small_plan(*nodes))
    return CoordinatorConfig(name="test", plan=plan, **(values | settings))  # type: ignore[arg-type]


def start(folder: Path, *nodes: int, background: bool = False, **settings: object) -> RunningNetwork:
    """Start a network of fake nodes."""
    return start_network(config_of(folder, *nodes, **settings), entries=FAKES, background=background)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll, as processes of others can't be waited for; fails after a long time."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.01)


def call(network: RunningNetwork, method: str, arg: bytes = b"", *, subnet: int = 0) -> None:
    """Submit a call of alice's and wait for the answer."""
    client = network.client
    status, described = client.status(), client.describe()
    first = next(r.range_start for r in described.registry.subnets if r.name == status.subnets[subnet].name)
    envelope = build_call(
        identity_named(described.identity_seed, "alice"),
        canister_id=Principal(first),
        method=method,
        arg=arg,
        expiry=TimeNs(status.time_ns + 60_000_000_000),
    )
    (result,) = client.submit(envelope)
    assert not result.problem
    client.advance(until_answered=(result.message_id,))


def with_sandboxes(network: RunningNetwork) -> list[ChildProcess]:
    """Give each node a sandbox; all processes then."""
    call(network, "sandbox", b"aaaaa-aa")
    return list(network.client.processes().processes)


def all_gone(processes: list[ChildProcess]) -> bool:
    """Whether none of them runs; a zombie doesn't."""
    return all(start_time(process.pid) is None for process in processes)


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A TMPDIR of this test's own, short enough for sockets."""
    del tmp_path  # made first, in the usual place
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_titles_say_what_each_process_is(tmp: Path, tmp_path: Path) -> None:
    """`ps` shows zygote, coordinator, compiler, nodes and sandboxes by name; a clean stop leaves nothing behind."""
    with start(tmp_path, 2, 1) as network:
        processes = with_sandboxes(network)
        titles = {Path(f"/proc/{one.pid}/cmdline").read_bytes().rstrip(b"\0").decode() for one in processes}
        assert titles == {
            "icsim zygote",
            "icsim coordinator",
            "icsim compiler",
            "icsim node nns/1",
            "icsim node nns/2",
            "icsim node app-1/1",
            "icsim sandbox nns/1 aaaaa-aa",
            "icsim sandbox nns/2 aaaaa-aa",
        }
        assert network.stop() == 0
    assert all_gone(processes)
    assert not list(tmp.iterdir())


@pytest.mark.parametrize("kind", ["zygote", "coordinator"])
def test_the_end_of_zygote_or_coordinator_ends_everything(tmp: Path, tmp_path: Path, kind: str) -> None:
    """Whoever waits is told; no process and no folder is left."""
    with start(tmp_path, 2) as network:
        processes = with_sandboxes(network)
        victim = next(one for one in processes if one.kind == kind)
        cookie = network.client.start_advance(to_height=1 << 40)
        os.kill(victim.pid, signal.SIGKILL)
        with pytest.raises(NetworkError, match="has ended"):
            wait_until(lambda: network.client.poll_advance(cookie) is not None, "ended")
        wait_until(lambda: all_gone(processes), "all ended")
        with pytest.raises(NetworkError, match="ended by itself"):
            raise network.call_failed(NetworkError("?"))
    assert not list(tmp.iterdir())


def test_a_killed_node_takes_its_sandboxes_along_and_comes_back(tmp: Path, tmp_path: Path) -> None:
    """The network goes on; the new process replays the journal and has its own sandbox."""
    with start(tmp_path, 4) as network:
        before = with_sandboxes(network)
        victim = next(one for one in before if one.name == "nns/3")
        sandbox = next(one for one in before if one.owner_pid == victim.pid)
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: all_gone([victim, sandbox]), "node and sandbox ended")
        reached = network.client.advance(rounds=20)
        (subnet,) = network.client.status().subnets
        assert [node.phase for node in subnet.nodes] == ["live"] * 4
        assert [node.restarts for node in subnet.nodes] == [0, 0, 1, 0]
        assert {node.height for node in subnet.nodes} == {reached.height}
        after = {one.name: one.pid for one in network.client.processes().processes}
        assert after["nns/3"] != victim.pid
        assert after["nns/3 aaaaa-aa"] != sandbox.pid


@pytest.mark.parametrize("kind", ["sandbox", "compiler"])
def test_a_killed_sandbox_or_compiler_is_no_matter(tmp: Path, tmp_path: Path, kind: str) -> None:
    """Rounds go on; the compiler is started again."""
    with start(tmp_path, 1) as network:
        victim = next(one for one in with_sandboxes(network) if one.kind == kind)
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: all_gone([victim]), "ended")
        network.client.advance(rounds=3)

        def compilers() -> list[int]:
            return [one.pid for one in network.client.processes().processes if one.kind == "compiler"]

        wait_until(lambda: len(compilers()) == 1 and compilers() != [victim.pid], "a compiler runs")


def test_a_network_ends_with_the_process_that_started_it(tmp: Path, tmp_path: Path) -> None:
    """Even when that is killed and can't clean up."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.processes.test_processes_lifecycle import start, with_sandboxes\n"
        "network = start(Path(sys.argv[1]), 2)\n"
        "print(*(one.pid for one in with_sandboxes(network)), flush=True)\nsys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 7
    owner.kill()
    owner.communicate()
    wait_until(lambda: all(start_time(pid) is None for pid in pids), "all ended")
    wait_until(lambda: not list(tmp.iterdir()), "folder removed")


def test_ctrl_c_reaches_only_the_owner(tmp: Path, tmp_path: Path) -> None:
    """Processes of the network ignore SIGINT, so the owner can stop them cleanly."""
    with start(tmp_path, 1) as network:
        processes = with_sandboxes(network)
        for process in processes:
            os.kill(process.pid, signal.SIGINT)
        assert network.client.advance(rounds=2).height >= 2
        assert network.stop() == 0


def test_a_network_in_the_background_is_found_and_stopped(tmp: Path, tmp_path: Path) -> None:
    """Its list entry names it while it lives; a second one with the same name gets a number."""
    home = tmp_path / "home"
    networks = [start(tmp_path / str(number), 1, background=True) for number in range(2)]
    try:
        for network in networks:
            advertise(home, "demo", network.folder, "demo.toml", str(tmp_path))
        assert [one.name for one in running_networks(home)] == ["demo", "demo-2"]
        with pytest.raises(NetworkError, match=r"2 networks run \(demo, demo-2\)"):
            find_network(home)
        found = find_network(home, "demo-2")
        assert found.socket_dir == str(networks[1].folder)
        with ControlClient(found.socket_dir) as client:
            assert client.advance(rounds=1).height == 1
            client.stop()
        assert [one.name for one in running_networks(home)] == ["demo"]
        assert find_network(home).name == "demo"
    finally:
        for network in networks:
            network.stop()
    with pytest.raises(NetworkError, match="no network runs"):
        find_network(home)


def test_folders_of_dead_owners_are_removed(tmp: Path) -> None:
    """A folder whose owner's pid belongs to another process now is stale; one whose owner lives is not."""
    for name, owner in (("dead", f"{os.getpid()} 1"), ("alive", f"{os.getpid()} {start_time(os.getpid())}"), ("odd", "x")):
        (tmp / f"icsim-{name}").mkdir()
        (tmp / f"icsim-{name}" / "owner").write_text(owner)
    (tmp / "other").mkdir()
    assert [folder.name for folder in remove_stale_folders(tmp)] == ["icsim-dead"]
    assert sorted(folder.name for folder in tmp.iterdir()) == ["icsim-alive", "icsim-odd", "other"]


def test_a_tmpdir_too_long_for_sockets_is_refused(tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the folder and the length that is allowed; nothing is left in it."""
    long = tmp / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(BadInput, match=r"TMPDIR .* is too long for socket addresses: \d+ characters, at most \d+ are allowed"):
        start(tmp_path, 1)
    assert not list(long.iterdir())


def test_a_run_killed_with_its_coordinator_goes_on_with_equal_hashes(tmp: Path, tmp_path: Path) -> None:
    """kill -9, --resume, and every height's hash is that of the undisturbed run; fresh interpreters agree as well."""
    with start(tmp_path / "a", 2, 2, fresh_interpreters=True) as straight:
        call(straight, "send")
        straight.client.advance(to_height=12)
    with start(tmp_path / "b", 2, 2) as killed:
        call(killed, "send")
        killed.client.advance(to_height=6)
        victim = next(one for one in killed.client.processes().processes if one.kind == "coordinator")
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: all_gone([victim]), "ended")
    with start(tmp_path / "b", 2, 2, mode="resume") as resumed:
        resumed.client.advance(to_height=12)
    assert (tmp_path / "b" / "run" / HEIGHTS_FILE).read_text() == (tmp_path / "a" / "run" / HEIGHTS_FILE).read_text()
    with start(tmp_path / "c", 2, 2, mode="replay", replay_dir=str(tmp_path / "b" / "run")) as replayed:
        assert replayed.client.advance(until_idle=True).height == 12
    assert (tmp_path / "c" / "run" / HEIGHTS_FILE).read_text() == (tmp_path / "a" / "run" / HEIGHTS_FILE).read_text()


def test_a_run_directory_in_use_is_refused(tmp: Path, tmp_path: Path) -> None:
    """The journal of an earlier run is never overwritten."""
    with start(tmp_path, 1) as network:
        network.client.advance(rounds=1)
    with start(tmp_path, 1) as network, pytest.raises(BadInput, match="holds a run already; choose another --out"):
        network.client.status()
