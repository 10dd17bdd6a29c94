"""`icsim.network(...)`: a network for the length of a `with` block, in plain or asynchronous code.

Plumbing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from configs.loader import load_topology, topology_from_dict
from configs.topology import Topology
from subnet.lab import run_dir
from subnet.lab.network import Network
from subnet.lab.start import RunOptions, launch, new_config
from subnet.launch import Listening

if TYPE_CHECKING:
    from subnet.lab.async_network import AsyncNetwork

TopologyLike: TypeAlias = "Topology | Mapping[str, Any] | Path | str | None"
SMALLEST: dict[str, Any] = {
    "name": "small",
    "profile": "minimal",
    "subnet": [{"name": "main", "type": "system", "nodes": 1}],
}
"""One subnet of one node, without canisters."""


class NetworkStarter:
    """What `network` returns: `with` starts the network, its end ends it; so does `async with`."""

    def __init__(
        self,
        topology: Topology,
        origin: str,
        out: Path | None,
        options: RunOptions,
        *,
        workload: bool,
        http: bool = False,
        live: bool = False,
    ) -> None:
        self.topology = topology
        self._origin = origin
        self._out = out
        self._options = options
        self._workload = workload
        self._http = http
        self._live = live
        self._network: Network | None = None
        self._async: AsyncNetwork | None = None

    def start(self) -> Network:
        """Start without a block; `close()` of what is returned ends it, and so does the end of this process.

        Raises: BadInput when the topology can't run, naming culprit and remedy.
        """
        about = run_dir.run_file(self.topology, self._origin)
        out = None if self._out is None else run_dir.new_directory(self._out)
        if out is not None:
            run_dir.write_run_file(out, about)
        config = new_config(self.topology, self._options, out, with_workload=self._workload)
        config = replace(config, live=self._live, accept_any_expiry=self._http and not self._live)
        running = launch(config, http=Listening(port=0) if self._http else None)
        try:
            network = Network(running, about, out)
            network.note(network.caller.client.advance(until_installed=True))
        except BaseException:
            running.stop("start failed")
            if out is not None:
                run_dir.release(out)
            raise
        return network

    def __enter__(self) -> Network:
        self._network = self.start()
        return self._network

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._network is not None:
            self._network.close()
            self._network = None

    async def __aenter__(self) -> AsyncNetwork:
        from subnet.lab.async_network import AsyncNetwork

        self._async = await AsyncNetwork.started(self.start)
        return self._async

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._async is not None:
            await self._async.close()
            self._async = None


def network(
    topology: TopologyLike = None,
    *,
    seed: int | None = None,
    nodes: int | None = None,
    overrides: Iterable[str] = (),
    out: Path | str | None = None,
    workload: bool = False,
    base: Path | str = ".",
    jobs: int | None = None,
    fresh_interpreters: bool = False,
    faults: Iterable[str] = (),
    trace: bool = False,
    check_invariants: bool = False,
    batch_size: int = 100,
    reuse_instances: bool = True,
    max_sandboxes: int = 500,
    http: bool = False,
    live: bool = False,
) -> NetworkStarter:
    """A network, to be used in a `with` or `async with` block.

    `topology` is a file, the values that such a file would hold, or a loaded one; without it, one subnet of one node. `seed`,
    `nodes` and `overrides` (`"subnet.app.nodes=4"`) are those of the command line. `out` is a run directory to keep; without it
    nothing is kept. With `workload` the topology's workload is driven as rounds are made. With `check_invariants` every
    invariant is checked after every round, and a breach is a NetworkError. Paths in a dict start at `base`.

    With `http` agents reach it at the `url` of the network, with `live` its time is that of the wall clock. In virtual time
    requests over HTTP never expire.

    Raises: BadInput when the topology is wrong, naming key, what was found and what is allowed.
    """
    if isinstance(topology, Topology):
        loaded, origin = topology, topology.name
    elif topology is None or isinstance(topology, Mapping):
        data = SMALLEST if topology is None else topology
        loaded, origin = topology_from_dict(data, base=base, overrides=overrides, nodes=nodes, seed=seed), "a Python dict"
    else:
        loaded, origin = load_topology(topology, overrides, nodes=nodes, seed=seed), str(topology)
    options = RunOptions(
        jobs=jobs,
        fresh_interpreters=fresh_interpreters,
        faults=tuple(faults),
        trace=trace,
        check_invariants=check_invariants,
        batch_size=batch_size,
        reuse_instances=reuse_instances,
        max_sandboxes=max_sandboxes,
    )
    return NetworkStarter(loaded, origin, None if out is None else Path(out), options, workload=workload, http=http, live=live)
