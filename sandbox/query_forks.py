"""Which sandbox a fork has that a composite query works on.

Rule module. Not in the spec: a composite query's changes last until it has answered, so each of its open contexts has a fork of
the canister and a sandbox of its own. Sandboxes are passed on: a sandbox can be brought from one fork of a canister to another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from ic_types.principal import CanisterId
from sandbox.execution_state import ExecutionState

Place: TypeAlias = "tuple[str, CanisterId, int]"
"""Key of a sandbox: the how manieth of this canister's for forks."""


@dataclass(slots=True)
class QueryForks:
    """Places of the forks in use."""

    _places: dict[int, Place] = field(default_factory=dict)
    """By session of the fork."""
    _taken: dict[Place, None] = field(default_factory=dict)

    def place_of(self, fork: ExecutionState, canister_id: CanisterId) -> Place:
        """The fork's place; at first the lowest that is free."""
        found = self._places.get(fork.session)
        if found is not None:
            return found
        number = 0
        while ("fork", canister_id, number) in self._taken:
            number += 1
        place: Place = ("fork", canister_id, number)
        self._places[fork.session] = place
        self._taken[place] = None
        return place

    def release(self, fork: ExecutionState) -> Place | None:
        """Nothing runs on this fork any more; the place it had."""
        place = self._places.pop(fork.session, None)
        if place is not None:
            del self._taken[place]
        return place
