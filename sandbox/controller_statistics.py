"""What a node's sandboxes have been through, counted.

Rule module. Local figures, never state.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.sandbox_host import SandboxHost
from sandbox.sandbox_pool import SandboxPool


@dataclass(frozen=True, slots=True)
class ControllerStatistics:
    """Counts since the start."""

    sandboxes: int
    """Alive now."""
    spawned: int
    killed: int
    """Ended by the node: evicted, replaced, failed or at the end."""
    died: int
    """Found dead."""
    evicted: int
    failures: int
    """Conversations that had to be started again."""
    speculative_hits: int
    """Answers that were there when they were asked for."""
    speculative_misses: int
    """Answers thrown away."""


def gather(pool: SandboxPool, host: SandboxHost, failures: int) -> ControllerStatistics:
    """The counts as they are now."""
    talks = [line.conversation for line in host.lines.values()]
    return ControllerStatistics(
        sandboxes=len(pool),
        spawned=pool.spawned,
        killed=pool.killed,
        died=pool.died,
        evicted=host.evicted,
        failures=failures,
        speculative_hits=host.hits + sum(talk.hits for talk in talks),
        speculative_misses=host.misses + sum(talk.misses for talk in talks),
    )
