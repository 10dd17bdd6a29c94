"""Named steps of installs, upgrades and loads of snapshots, at each of which a run can be told to end a node.

Rule module. A step is passed when what its name says has been done. `--fault crash:NODE,STEP@HEIGHT` ends a node there
(`subnet.node.faults`); whatever the step, all nodes agree afterwards, and on what they would have agreed on undisturbed.
"""

from __future__ import annotations

from typing import Final

from ic_types import trace
from ic_types.principal import CanisterId

_FIRST: Final = ("paid", "compiled")
_LAST: Final = ("settled", "taken_over", "recorded", "failed")
_FRESH: Final = (*_FIRST, "start", "init", "slice", *_LAST)
STEPS: Final[dict[str, tuple[str, ...]]] = {
    "install": _FRESH,
    "reinstall": _FRESH,
    "upgrade": (*_FIRST, "pre_upgrade", "start", "post_upgrade", "slice", *_LAST),
    "load": ("checked", *_FIRST[1:], "mapped", "paid", "taken_over", "recorded"),
}
"""What is done, and its steps; `slice` is passed at the end of each slice, `failed` instead of those after the failure."""
NAMES: Final = tuple(f"{work}.{step}" for work, steps in STEPS.items() for step in steps)
EVENT: Final = "subnet.management.steps.passed"


def passed(work: str, step: str, canister_id: CanisterId) -> None:
    """Tell those who watch that the canister's install, upgrade or load has passed a step."""
    trace.emit(EVENT, canister_id, f"{work}.{step}")
