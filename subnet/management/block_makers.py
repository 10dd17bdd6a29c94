"""Which node of the subnet made how many blocks, with one sample for each of the last days.

Rule module. Spec: interface spec, "IC method node_metrics_history". There is no consensus here that could choose a block maker:
the random tape of a batch names it, and every block that was wanted was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from ic_types import canonical
from ic_types.principal import NodeId
from ic_types.units import NS_PER_SECOND, TimeNs

MAX_SAMPLES = 60
_DAY_NS = 86_400 * NS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Sample:
    """Totals of the nodes that did something since the sample before: node, blocks proposed, proposals that failed."""

    time: TimeNs
    nodes: tuple[tuple[NodeId, int, int], ...]


@dataclass(slots=True)
class BlockMakers:
    """Totals so far, and samples at the last round of each day but the present one."""

    proposed: dict[NodeId, int] = field(default_factory=dict)
    failed: dict[NodeId, int] = field(default_factory=dict)
    last: TimeNs = TimeNs(0)
    """Time of the last block; 0 before the first."""
    days: list[Sample] = field(default_factory=list)
    """Oldest first."""
    counted: dict[NodeId, tuple[int, int]] = field(default_factory=dict)
    """Totals as of the newest of `days`."""

    def observe(self, nodes: Sequence[NodeId], randomness: bytes, time: TimeNs) -> None:
        """A block was made."""
        if self.last and self.last // _DAY_NS != time // _DAY_NS:
            self.days = [*self.days, self._today()][-(MAX_SAMPLES - 1) :]
            self.counted = {node: (count, self.failed.get(node, 0)) for node, count in self.proposed.items()}
        maker = nodes[int.from_bytes(hashlib.sha256(b"icsim block maker" + randomness).digest(), "big") % len(nodes)]
        self.proposed[maker] = self.proposed.get(maker, 0) + 1
        self.last = time

    def samples(self, start: int) -> list[Sample]:
        """Samples of this time and later, oldest first; the last is of today."""
        today = [self._today()] if self.last else []
        return [sample for sample in [*self.days, *today] if sample.time >= start]

    def _today(self) -> Sample:
        now = {node: (count, self.failed.get(node, 0)) for node, count in sorted(self.proposed.items())}
        changed = tuple((node, *counts) for node, counts in now.items() if self.counted.get(node) != counts)
        return Sample(self.last, changed)


canonical.register(BlockMakers, lambda it: (it.proposed, it.failed, it.last, it.days, it.counted))
