"""Where the coordinator's time goes: wall and CPU per stage, for benchmarks.

Plumbing: reads clocks. Nothing is ever decided by these figures.
"""

from __future__ import annotations

import time
from types import TracebackType

OTHER = "other"


class StageTimes:
    """`with stages("journal"): ...` counts that stage; a stage within another is not counted in the outer one too."""

    __slots__ = ("_cpu", "_open", "_wall", "cpu_ns", "wall_ns")

    def __init__(self) -> None:
        self.wall_ns: dict[str, int] = {OTHER: 0}
        """Per stage, since this object was made; what is in no stage is `other`."""
        self.cpu_ns: dict[str, int] = {OTHER: 0}
        self._open = [OTHER]
        self._wall, self._cpu = time.perf_counter_ns(), time.thread_time_ns()

    def __call__(self, stage: str) -> StageTimes:
        """Enter a stage; it is left at the end of the `with`."""
        self._count()
        self._open.append(stage)
        return self

    def __enter__(self) -> None:
        """Entered by the call already."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._count()
        self._open.pop()

    def _count(self) -> None:
        stage, wall, cpu = self._open[-1], time.perf_counter_ns(), time.thread_time_ns()
        self.wall_ns[stage] = self.wall_ns.get(stage, 0) + wall - self._wall
        self.cpu_ns[stage] = self.cpu_ns.get(stage, 0) + cpu - self._cpu
        self._wall, self._cpu = wall, cpu
