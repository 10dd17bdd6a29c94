"""A shorter `make chaos`, with other batch sizes and with instances that aren't reused."""

from __future__ import annotations

from typing import Any

import pytest

from tests import chaos

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 1}, {"batch_size": 7, "reuse_instances": False, "max_sandboxes": 4}],
    ids=["one by one", "small batches and evictions"],
)
def test_killed_sandboxes_change_nothing(options: dict[str, Any]) -> None:
    """Hashes, outcomes and answers of queries are those of an undisturbed run with batches of 100."""
    result = chaos.compare(wanted=50, seed=4 + len(options), rounds=12, **options)
    failed = [text for text, holds in result.checks().items() if not holds]
    if options["batch_size"] == 1:  # nothing is run ahead, so nobody can be killed between commits
        assert result.killer.passed.pop("between_commits", 0) == 0
        failed.remove("kills at every point")
    assert not failed, (failed, result.killer.killed)
