"""Stages of the coordinator: each nanosecond counts once, whatever happens inside a stage."""

from __future__ import annotations

import pytest

from subnet.coordinator.stage_times import OTHER, StageTimes


def test_a_stage_within_another_is_not_counted_twice() -> None:
    """Inner time belongs to the inner stage; after both, time is `other` again."""
    stages = StageTimes()
    with stages("outer"):
        with stages("inner"):
            pass
        before = stages.wall_ns["outer"]
    assert stages.wall_ns["outer"] >= before
    assert list(stages.wall_ns) == [OTHER, "outer", "inner"] == list(stages.cpu_ns)
    with stages("inner"):
        pass
    assert all(spent >= 0 for spent in (*stages.wall_ns.values(), *stages.cpu_ns.values()))


def test_an_error_leaves_the_stage() -> None:
    """What comes after a failed stage isn't counted as part of it."""
    stages = StageTimes()
    with pytest.raises(ValueError, match="no"), stages("failing"):
        raise ValueError("no")
    spent = stages.wall_ns["failing"]
    with stages("next"):
        pass
    assert stages.wall_ns["failing"] == spent
