"""How much memory a network will take, before it is started.

Rule module, but for `available_bytes`. Figures are measured private memory of the processes (docs/performance.md); an
estimate errs on the high side, as it counts the whole first heap of every canister.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from configs.topology import Topology
from ic_types.errors import ConfigError

MIB = 1 << 20
SHARED_PROCESSES = 180 * MIB
"""Zygote, coordinator and compiler."""
PER_NODE = 45 * MIB
PER_SANDBOX = 6 * MIB
MAX_SANDBOXES = 500
"""Sandboxes of one node; idle ones beyond are evicted."""
PER_CANISTER = 64 * 1024
"""Record, queues and history of a canister at its node."""
_STATE_COPIES = 2
"""A heap page may be in the node's committed memory and privately in the sandbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetEstimate:
    """One subnet: its nodes times its state, in bytes."""

    subnet: str
    nodes: int
    canisters: int
    per_node: int

    @property
    def total(self) -> int:
        """All of its nodes."""
        return self.nodes * self.per_node


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The whole network, in bytes."""

    shared: int
    subnets: tuple[SubnetEstimate, ...]

    @property
    def total(self) -> int:
        """Shared processes and all nodes."""
        return self.shared + sum(s.total for s in self.subnets)


def estimate_memory(topology: Topology) -> Estimate:
    """The memory that a topology's processes will take."""
    found = []
    for subnet in topology.subnets:
        canisters = [c for c in topology.canisters if c.subnet == subnet.name]
        heaps = sum(c.info.heap_bytes for c in canisters) * _STATE_COPIES
        modules = sum({c.info.sha256: c.info.size for c in canisters}.values())
        per_node = PER_NODE + min(len(canisters), MAX_SANDBOXES) * PER_SANDBOX + len(canisters) * PER_CANISTER + heaps + modules
        found.append(SubnetEstimate(subnet=subnet.name, nodes=subnet.nodes, canisters=len(canisters), per_node=per_node))
    return Estimate(shared=SHARED_PROCESSES, subnets=tuple(found))


def check_fits(topology: Topology, available: int) -> Estimate:
    """The estimate, if it fits into `available` bytes.

    Raises: ConfigError naming the largest subnet and what would help.
    """
    estimate = estimate_memory(topology)
    if estimate.total > available:
        largest = max(estimate.subnets, key=lambda s: s.total)
        raise ConfigError(
            f"topology {topology.name} needs about {_size(estimate.total)} of memory, {_size(available)} are available; "
            f"the most by subnet {largest.subnet}: {largest.nodes} nodes x {_size(largest.per_node)} "
            f"({largest.canisters} canisters). Take fewer nodes (--nodes) or canisters"
        )
    return estimate


def available_bytes() -> int:
    """Memory that this machine could give to new processes now; a container's limit counts."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
        found.append(int(text) - int(used.read_text(encoding="ascii")))
    return max(0, min(found)) if found else 1 << 62


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count // MIB} MiB"
