"""Re-reading memory that no message touched, a share per round, so that damage in it shows.

Rule module. Every page is read and hashed again once in `rounds` rounds; a page that isn't what its digest says gets the
digest of what it is, so the node's state hash differs from the others' in that round. Canisters stand in as many buckets
as there are rounds, one bucket a round; those with large memories have a share of it read in every round instead.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from ic_types.principal import CanisterId
from sandbox.execution_state import ExecutionState
from subnet.state.replicated_state import ReplicatedState

log = structlog.get_logger("node")
LARGE = 256
"""Wasm pages (16 MiB) from which on a memory is read in shares."""


class Rehash:
    """The rotation over all memories; local, never state."""

    __slots__ = ("_buckets", "_large", "_rounds")

    def __init__(self, rounds: int) -> None:
        self._rounds = max(1, rounds)
        self._buckets: list[dict[CanisterId, None]] = [{} for _ in range(self._rounds)]
        self._large: dict[CanisterId, None] = {}

    def note(self, state: ReplicatedState, touched: Iterable[CanisterId]) -> None:
        """These canisters came, went or changed."""
        for canister_id in touched:
            canister = state.canisters.get(canister_id)
            bucket = self._buckets[(canister_id.canister_index() or 0) % self._rounds]
            bucket.pop(canister_id, None)
            self._large.pop(canister_id, None)
            if canister is None or canister.execution is None:
                continue
            pages = canister.execution.heap.wasm_pages + canister.execution.stable.wasm_pages
            (self._large if pages > LARGE else bucket)[canister_id] = None

    def run(self, state: ReplicatedState, height: int) -> None:
        """Audit this round's share."""
        turn = height % self._rounds
        for canister_id in self._buckets[turn]:
            execution = _execution(state, canister_id)
            if execution is not None:
                self._report(state, canister_id, execution.heap.audit_all() + execution.stable.audit_all())
        for canister_id in self._large:
            execution = _execution(state, canister_id)
            if execution is not None:
                for memory in (execution.heap, execution.stable):
                    self._report(state, canister_id, memory.audit_share(turn, self._rounds))

    @staticmethod
    def _report(state: ReplicatedState, canister_id: CanisterId, damaged: list[int]) -> None:
        if damaged:
            state.canisters.touch(canister_id)
            log.critical("memory.damaged", canister=str(canister_id), pages=damaged[:16], height=state.height)

    @staticmethod
    def audit_everything(state: ReplicatedState) -> list[CanisterId]:
        """Audit all memories at once, when nodes are known to differ; canisters with damage."""
        found: list[CanisterId] = []
        for canister_id in state.canisters:
            execution = state.canisters[canister_id].execution
            if execution is not None and [*execution.heap.audit_all(), *execution.stable.audit_all()]:
                found.append(canister_id)
        return found


def _execution(state: ReplicatedState, canister_id: CanisterId) -> ExecutionState | None:
    """Its code and memories; none if it was deleted or uninstalled in this very round."""
    canister = state.canisters.get(canister_id)
    return None if canister is None else canister.execution
