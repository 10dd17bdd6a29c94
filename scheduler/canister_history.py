"""The canister history: who changed what about a canister, and when.

Rule module. Spec: abstract behaviour, `CanisterHistory`, `Change` and "Trimming canister history"; interface spec, "IC method
canister_info". A history is a value: a change makes another one, so copies for queries cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ic_types import canonical
from ic_types.canonical import LOCAL, Encoded
from ic_types.messages import Ingress, Request
from ic_types.principal import CanisterId, Principal
from ic_types.units import TimeNs

CHANGE_BYTES = 192
"""Billed for one change. Not in the spec: about the size of the replica's record."""
PRINCIPAL_BYTES = 30
"""Billed for each controller that a change names."""


@dataclass(frozen=True, slots=True)
class ChangeOrigin:
    """Who made a change. Spec: `change_origin`."""

    principal: Principal
    by_canister: bool
    version: int | None = None
    """`sender_canister_version` of a canister's call, if it was given."""


@dataclass(frozen=True, slots=True)
class Creation:
    """The canister was created."""

    controllers: tuple[Principal, ...]
    environment_hash: bytes | None
    """Of the environment variables, if the creator gave any."""


@dataclass(frozen=True, slots=True)
class CodeUninstall:
    """The code was removed."""


@dataclass(frozen=True, slots=True)
class CodeDeployment:
    """Code was installed, reinstalled or upgraded."""

    mode: str
    module_hash: bytes


@dataclass(frozen=True, slots=True)
class LoadSnapshot:
    """A snapshot was loaded."""

    snapshot_id: bytes
    canister_version: int
    """Of the canister that the snapshot was taken of, when it was taken."""
    taken_at: TimeNs
    uploaded: bool
    from_canister: CanisterId | None
    """The canister that the snapshot belongs to, unless it is the same one."""


@dataclass(frozen=True, slots=True)
class ControllersChange:
    """There are new controllers."""

    controllers: tuple[Principal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameCanister:
    """The canister got another id, and with it the number of changes of that id."""

    canister_id: CanisterId
    total_num_changes: int
    rename_to: CanisterId
    to_version: int
    to_total_num_changes: int
    requested_by: Principal


ChangeDetails: TypeAlias = Creation | CodeUninstall | CodeDeployment | LoadSnapshot | ControllersChange | RenameCanister


@dataclass(frozen=True, slots=True)
class Change:
    """One entry."""

    time: TimeNs
    version: int
    """Of the canister, after the change."""
    origin: ChangeOrigin
    details: ChangeDetails

    def count_bytes(self) -> int:
        """Billed bytes."""
        named = self.details.controllers if isinstance(self.details, Creation | ControllersChange) else ()
        return CHANGE_BYTES + PRINCIPAL_BYTES * len(named)


@dataclass(frozen=True, slots=True)
class CanisterHistory:
    """The newest changes, oldest first, and how many there ever were."""

    changes: tuple[Change, ...] = ()
    total: int = 0
    memory_bytes: int = field(default=0, metadata=LOCAL)
    """Billed bytes."""
    _encoded: list[Encoded] = field(default_factory=list, init=False, repr=False, compare=False, metadata=LOCAL)

    def added(self, change: Change, most: int) -> CanisterHistory:
        """With one more change; the oldest go once there are more than `most`."""
        return self._with((*self.changes, change)[-most:], self.total + 1)

    def cleared(self) -> CanisterHistory:
        """Without its changes, as when a canister runs out of cycles; their number stays."""
        return self._with((), self.total)

    def renumbered(self, total: int) -> CanisterHistory:
        """With another number of changes, as when a canister is renamed."""
        return replace(self, total=total)

    def recent(self, count: int) -> tuple[Change, ...]:
        """The newest `count` changes that are left, oldest first."""
        return self.changes[max(len(self.changes) - count, 0) :]

    def encoded(self) -> Encoded:
        """Canonical bytes, made once."""
        if not self._encoded:
            self._encoded.append(Encoded(canonical.encode((self.total, self.changes))))
        return self._encoded[0]

    @staticmethod
    def _with(changes: tuple[Change, ...], total: int) -> CanisterHistory:
        return CanisterHistory(changes, total, sum(change.count_bytes() for change in changes))


canonical.register(CanisterHistory, CanisterHistory.encoded)


def origin_of(message: Ingress | Request, version: int | None) -> ChangeOrigin:
    """Spec: `change_origin`; `version`: the call's `sender_canister_version`."""
    if isinstance(message, Ingress):
        return ChangeOrigin(message.sender, False)
    return ChangeOrigin(message.sender, True, version)
