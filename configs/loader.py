"""Topology files to frozen records.

Plumbing: reads files. Every error is a ConfigError that names file, line and key, what was found and what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from configs.keys import MAX_NODES, MAX_SEED
from configs.toml_table import Source, override, read_source
from configs.topology import Topology
from configs.topology_reader import TopologyReader
from ic_types.errors import ConfigError

LOCAL = Path(__file__).parent / "local.toml"
"""The topology of a network that is started without one."""


def load_topology(
    path: Path | str, overrides: Iterable[str] = (), *, nodes: int | None = None, seed: int | None = None
) -> Topology:
    """Read a topology file; `overrides` are `key=value` texts, `nodes` holds for every subnet.

    Raises: ConfigError.
    """
    return _build(read_source(Path(path)), overrides, nodes, seed)


def topology_from_dict(
    data: Mapping[str, Any],
    *,
    base: Path | str = ".",
    overrides: Iterable[str] = (),
    nodes: int | None = None,
    seed: int | None = None,
) -> Topology:
    """A topology from the values that a file would hold; paths are relative to `base`.

    Raises: ConfigError.
    """
    return _build(Source(name="topology", data=_copied(data), base=Path(base)), overrides, nodes, seed)


def _build(source: Source, overrides: Iterable[str], nodes: int | None, seed: int | None) -> Topology:
    override(source, overrides)
    if seed is not None:
        if not 0 <= seed <= MAX_SEED:
            raise ConfigError(f"--seed {seed}: allowed is 0 to {MAX_SEED}")
        source.data["seed"] = seed
        source.overrides[("seed",)] = f"--seed {seed}"
    if nodes is not None:
        _set_nodes(source, nodes)
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", Path(source.name).stem)[:40].lstrip("-_")
    return TopologyReader(source, stem or "network").read()


def _set_nodes(source: Source, nodes: int) -> None:
    label = f"--nodes {nodes}"
    if not 1 <= nodes <= MAX_NODES:
        raise ConfigError(f"{label}: allowed is 1 to {MAX_NODES}")
    subnets = source.data.get("subnet")
    for number, subnet in enumerate(subnets if isinstance(subnets, list) else ()):
        if isinstance(subnet, dict):
            subnet["nodes"] = nodes
            source.overrides[("subnet", number, "nodes")] = label


def _copied(value: Any) -> Any:
    """Plain dicts and lists, ours to change."""
    if isinstance(value, Mapping):
        return {str(key): _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return str(value) if isinstance(value, Path) else value
