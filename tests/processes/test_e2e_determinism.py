"""The same seed gives the same state hashes at every height, whatever differs in how the processes run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ic_types.principal import ANONYMOUS
from subnet.control_protocol import Description
from subnet.lab import universal as u
from subnet.lab.universal import Program
from subnet.network_config import CoordinatorConfig
from tests.support import live_network as live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@dataclass(frozen=True, slots=True)
class Made:
    """A run and what it left."""

    folder: Path
    description: Description
    random: tuple[bytes, bytes]
    """The last raw_rand value that each of two universal canisters got."""
    totals: dict[str, int]


def make(settings: CoordinatorConfig) -> Made:
    """Run a network and look at the random bytes in it."""
    with live.running(settings) as network:
        client = network.client
        client.advance(to_height=live.HEIGHT, timeout_s=120)
        program = bytes(Program().reply(u.peek(u.scratch_address(), 39)))
        replies = [client.query(ANONYMOUS, canister, "query", program).reply for canister in (live.NEAR, live.FAR)]
        summary = client.summary()
        assert settings.out_dir is not None
        return Made(Path(settings.out_dir), client.describe(), (replies[0][-32:], replies[1][-32:]), summary["totals"])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run in which every node has a fresh interpreter with a hash seed of its own."""
    folder = tmp_path_factory.mktemp("first") / "run"
    return make(live.config(live.everything(seed=7), folder, fresh_interpreters=True))


def test_workload_reaches_everything_it_is_for(first: Made) -> None:
    """Slices, messages across subnets both ways and management calls took place."""
    assert first.totals["slices"] > first.totals["messages"] + 10
    assert first.totals["xnet_in_requests"] == 42
    assert first.totals["xnet_in_responses"] == 42
    assert first.totals["subnet_messages"] == 24, "two per canister and twelve raw_rand"
    assert all(len(nodes) == 2 for nodes in live.hashes(first.folder).values())
    assert len(set(first.random)) == 2
    assert all(any(value) for value in first.random)


def test_same_seed_again_gives_equal_hashes(first: Made, tmp_path: Path) -> None:
    """Another run in other fresh interpreters has the same hash at every height."""
    again = make(live.config(live.everything(seed=7), tmp_path / "run", fresh_interpreters=True))
    assert live.hashes(again.folder) == live.hashes(first.folder)
    assert again.random == first.random


def test_another_seed_gives_other_random_bytes_and_replays(first: Made, tmp_path: Path) -> None:
    """With identities fixed, another seed changes raw_rand and no id; its replay agrees too."""
    other = make(live.config(live.everything(seed=8), tmp_path / "run"))
    assert not set(other.random) & set(first.random)
    assert other.description.registry == first.description.registry
    assert other.description.canisters == first.description.canisters
    assert live.agreed(other.folder) != live.agreed(first.folder)
    assert replay(other.folder, tmp_path) == live.hashes(other.folder)


def test_replay_agrees_at_every_height(first: Made, tmp_path: Path) -> None:
    """What the journal holds is enough to execute the run again."""
    assert replay(first.folder, tmp_path) == live.hashes(first.folder)


def replay(folder: Path, into: Path) -> live.Hashes:
    """Execute a run again from its journal, which isn't written to."""
    before = (folder / "journal.sqlite").read_bytes()
    settings = CoordinatorConfig(
        name="replay",
        plan=b"",
        socket_dir="",
        cache_dir=live.CACHE,
        out_dir=str(into / "replayed"),
        replay_dir=str(folder),
        mode="replay",
    )
    with live.running(settings) as network:
        reached = network.client.advance(until_idle=True, timeout_s=120)
        assert reached.height == live.HEIGHT
    assert (folder / "journal.sqlite").read_bytes() == before
    return live.hashes(into / "replayed")


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1},
        {"batch_size": 7, "jobs": 1},
        {"reuse_instances": False},
        {"max_sandboxes": 2, "rehash_rounds": 3},
    ],
    ids=lambda options: "-".join(options),
)
def test_how_it_is_executed_never_shows(first: Made, tmp_path: Path, options: dict[str, Any]) -> None:
    """Batches, reused instances, evictions, rehashing and the number of sandboxes at work change no hash."""
    live.run(live.config(live.everything(seed=7), tmp_path / "run", **options))
    assert live.hashes(tmp_path / "run") == live.hashes(first.folder)
