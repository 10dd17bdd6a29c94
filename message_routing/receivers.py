"""What routing asks of a canister and of the collection of canisters.

Rule module. `scheduler.canister.Canister` is a RoutableCanister by structure; the subnet's state is the Canisters. Nothing here
ever walks over all canisters: who gets a message or makes one is *touched*, and only touched canisters are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ic_types.principal import CanisterId
from ic_types.units import CallbackId, Cycles
from message_routing.queues import CanisterQueues


class Status(Protocol):
    """A run status: `running`, `stopping` or `stopped`."""

    @property
    def value(self) -> str:
        """The status as text."""


class RoutableCanister(Protocol):
    """A canister as far as messages are concerned."""

    balance: Cycles

    @property
    def canister_id(self) -> CanisterId:
        """Its id."""

    @property
    def queues(self) -> CanisterQueues:
        """Its input and output queues."""

    @property
    def status(self) -> Status:
        """Only running canisters take requests and ingress."""

    @property
    def callbacks(self) -> Mapping[CallbackId, object]:
        """Its open calls."""


class Canisters(Protocol):
    """The canisters of a subnet."""

    def get(self, canister_id: CanisterId, /) -> RoutableCanister | None:
        """The canister, or None if it isn't on this subnet."""

    def touch(self, canister_id: CanisterId, /) -> None:
        """Its state changes in this round: it is hashed again, and looked at for input and output."""

    @property
    def outputs(self) -> OutputCandidates:
        """Canisters that may have something to route."""


class OutputCandidates:
    """Canisters that may have output: those touched since they were last found without any."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[CanisterId, None] = {}

    def add(self, canister_id: CanisterId) -> None:
        """The canister may have output from now on; every `touch` says so."""
        self._known[canister_id] = None

    def ascending(self, get: Callable[[CanisterId], RoutableCanister | None]) -> list[RoutableCanister]:
        """Canisters with output, ascending by id; those without are forgotten."""
        found = []
        for canister_id in sorted(self._known):
            canister = get(canister_id)
            if canister is not None and canister.queues.output_count:
                found.append(canister)
            else:
                del self._known[canister_id]
        return found
