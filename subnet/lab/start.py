"""Starting networks: options, the coordinator's configuration, and the first wait.

Plumbing. What the CLI and the Python API share, so that both run networks in exactly the same way.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from configs.topology import Topology
from ic_types import wire
from ic_types.errors import BadInput, NetworkError
from subnet.coordinator.plan_reader import encode_phases, read_plan
from subnet.lab import run_dir
from subnet.launch import Listening, RunningNetwork, start_network
from subnet.network_config import CoordinatorConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a network is run; none of it changes a state hash, but for faults."""

    jobs: int | None = None
    """At most so many sandboxes compute at once."""
    fresh_interpreters: bool = False
    """Every node in an interpreter of its own, with its own hash seed."""
    faults: tuple[str, ...] = ()
    trace: bool = False
    """Trace events into the run's events."""
    check_invariants: bool = False
    """Check all invariants after every round; the first breach ends the network with a report."""
    batch_size: int = 100
    """Messages sent to a sandbox at once."""
    reuse_instances: bool = True
    max_sandboxes: int = 500
    """Sandbox processes of one node; idle ones beyond are evicted."""

    def check(self) -> None:
        """Raises: BadInput when a number is out of range."""
        for name, value in (("jobs", self.jobs), ("batch-size", self.batch_size), ("max-sandboxes", self.max_sandboxes)):
            if value is not None and not 1 <= value <= 100_000:
                raise BadInput(f"--{name} {value}: allowed is 1 to 100000")


def new_config(topology: Topology, options: RunOptions, out: Path | None, *, with_workload: bool = True) -> CoordinatorConfig:
    """A new run of a topology.

    Raises: BadInput when an argument can't be encoded or an option is out of range.
    """
    return replace(
        _base(topology.name, options),
        plan=wire.encode(read_plan(topology)),
        workload=encode_phases(topology.workload) if with_workload else b"",
        out_dir=None if out is None else str(out),
        rehash_rounds=topology.rehash_rounds,
    )


def resumed_config(folder: Path, options: RunOptions) -> CoordinatorConfig:
    """The run in a directory goes on from its last journaled height."""
    return replace(_base(folder.name, options), mode="resume", out_dir=str(folder))


def replayed_config(folder: Path, options: RunOptions, out: Path | None) -> CoordinatorConfig:
    """The run in a directory is executed again and compared."""
    out_dir = None if out is None else str(out)
    return replace(_base(folder.name, options), mode="replay", replay_dir=str(folder), out_dir=out_dir)


def _base(name: str, options: RunOptions) -> CoordinatorConfig:
    options.check()
    home = run_dir.home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        usable = os.access(home, os.W_OK)
    except OSError:
        usable = False
    if not usable:
        raise BadInput(f"{home} can't be written, where caches go; set ICSIM_HOME to a directory that can")
    return CoordinatorConfig(
        name=name,
        plan=b"",
        socket_dir="",
        cache_dir=str(home / "cache"),
        jobs=options.jobs,
        fresh_interpreters=options.fresh_interpreters,
        faults=options.faults,
        trace=options.trace,
        check_invariants=options.check_invariants,
        batch_size=options.batch_size,
        reuse_instances=options.reuse_instances,
        max_sandboxes=options.max_sandboxes,
    )


@contextlib.contextmanager
def running(config: CoordinatorConfig) -> Iterator[RunningNetwork]:
    """A network that ends with the block; its run directory is ours meanwhile.

    Raises: BadInput when the network can't be, as configured.
    """
    network = launch(config)
    try:
        yield network
    finally:
        network.stop()
        if config.out_dir is not None:
            run_dir.release(Path(config.out_dir))


def launch(config: CoordinatorConfig, *, background: bool = False, http: Listening | None = None) -> RunningNetwork:
    """Start a network and wait until it answers.

    Raises: BadInput when the network can't be, as configured; NetworkError when it ended at once.
    """
    network = start_network(config, background=background, http=http)
    try:
        if config.out_dir is not None:
            run_dir.claim(Path(config.out_dir), network.process.pid)
        try:
            network.client.describe()
        except NetworkError as error:
            raise network.call_failed(error) from None
    except BaseException:
        network.stop()
        if config.out_dir is not None:
            run_dir.release(Path(config.out_dir))
        raise
    return network
