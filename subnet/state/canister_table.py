"""The canisters of a subnet, and which of them changed in this round.

Rule module. Everything that costs per canister (hashing, routing outputs, scheduling) goes over `touched`, never over all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ic_types.principal import CanisterId
from message_routing.receivers import OutputCandidates
from scheduler.canister import Canister
from subnet.state.usage import UsageIndex


class CanisterTable(Mapping[CanisterId, Canister]):
    """Canisters by id."""

    __slots__ = ("_canisters", "_fresh", "_uncounted", "_usage", "outputs", "touched")

    def __init__(self) -> None:
        self._canisters: dict[CanisterId, Canister] = {}
        self.outputs = OutputCandidates()
        self.touched: dict[CanisterId, None] = {}
        """Changed (or deleted) since the last state hash."""
        self._fresh: dict[CanisterId, None] = {}
        self._usage = UsageIndex()
        self._uncounted: dict[CanisterId, None] = {}

    def __getitem__(self, canister_id: CanisterId) -> Canister:
        return self._canisters[canister_id]

    def __iter__(self) -> Iterator[CanisterId]:
        return iter(self._canisters)

    def __len__(self) -> int:
        return len(self._canisters)

    def get(self, canister_id: CanisterId, /) -> Canister | None:  # type: ignore[override]
        """The canister, or None if it isn't on this subnet."""
        return self._canisters.get(canister_id)

    def add(self, canister: Canister) -> None:
        """A canister was created."""
        assert canister.canister_id not in self._canisters, f"{canister.canister_id} exists already"
        self._canisters[canister.canister_id] = canister
        self.touch(canister.canister_id)

    def remove(self, canister_id: CanisterId) -> None:
        """A canister was deleted."""
        del self._canisters[canister_id]
        self.touch(canister_id)

    def touch(self, canister_id: CanisterId, /) -> None:
        """The canister changes in this round."""
        self.touched[canister_id] = None
        self._fresh[canister_id] = None
        self._uncounted[canister_id] = None
        self.outputs.add(canister_id)

    def take_fresh(self) -> list[CanisterId]:
        """Canisters touched since the last call, in the order of their first touch."""
        fresh = list(self._fresh)
        self._fresh.clear()
        return fresh

    def usage(self) -> UsageIndex:
        """What the canisters use, as of now."""
        if self._uncounted:
            self._usage.update(self._uncounted, self._canisters)
            self._uncounted.clear()
        return self._usage

    def take_touched(self) -> list[CanisterId]:
        """Canisters changed since the last state hash, ascending."""
        touched = sorted(self.touched)
        self.touched.clear()
        return touched
