"""The state hash: one digest over everything that is state, kept incrementally.

Rule module. Not in the spec: the replica hashes checkpoints only. It is a Merkle map of components; below `canisters` each
canister is a map of its parts, so that two nodes that differ can be walked down to the canister and the part, and within a
memory to the page. A round costs what it touched. docs/state.md lists what is covered and what is not state.
"""

from __future__ import annotations

from operator import attrgetter

from ic_types import canonical
from ic_types.merkle import MerkleMap
from ic_types.principal import CanisterId
from message_routing.ingress_history import IngressStatus
from scheduler.canister import Callback, CallContext, Canister
from subnet.state.encoded_records import EncodedRecords
from subnet.state.replicated_state import ReplicatedState

HEAP, STABLE = b"heap", b"stable"


class StateHash:
    """Digests of one state's parts; a cache, not state itself."""

    __slots__ = ("_calls", "_canisters", "_history", "_shown", "_streams", "_top")

    def __init__(self) -> None:
        self._top = MerkleMap()
        self._canisters, self._history, self._streams = MerkleMap(), MerkleMap(), MerkleMap()
        self._shown: dict[CanisterId, dict[bytes, bytes]] = {}
        self._calls: dict[CanisterId, EncodedCalls] = {}
        for label, part in ((b"canisters", self._canisters), (b"history", self._history), (b"streams", self._streams)):
            self._top.set(label, part)

    def update(
        self, state: ReplicatedState, touched: list[CanisterId], changed: list[tuple[bytes, IngressStatus | None]]
    ) -> bytes:
        """The hash after a round that touched these canisters and changed these ingress statuses."""
        for canister_id in touched:
            self.note_canister(state, canister_id)
        for message_id, status in changed:
            if status is None:
                self._history.delete(message_id)
            else:
                self._history.set(message_id, canonical.digest(status.to_canonical()))
        for peer in sorted(state.streams):
            self._streams.set(bytes(peer), canonical.digest(state.streams[peer].to_canonical()))
        self._top.set(b"subnet", canonical.digest(subnet_part(state)))
        return self._top.root()

    def note_canister(self, state: ReplicatedState, canister_id: CanisterId) -> None:
        """Digest a touched canister again, part by part."""
        canister = state.canisters.get(canister_id)
        if canister is None:
            self._shown.pop(canister_id, None)
            self._calls.pop(canister_id, None)
            self._canisters.delete(bytes(canister_id))
            return
        shown = self._shown.setdefault(canister_id, {})
        parts = self._canisters.child(bytes(canister_id))
        calls = self._calls.get(canister_id)
        if calls is None:
            calls = self._calls[canister_id] = EncodedCalls()
        for label, digest in canister_parts(canister, calls).items():
            if shown.get(label) != digest:
                shown[label] = digest
                parts.set(label, digest)

    def components(self) -> dict[str, bytes]:
        """Digests of the components, for finding a divergence."""
        return {
            "canisters": self._canisters.root(),
            "history": self._history.root(),
            "streams": self._streams.root(),
            "subnet": self._leaf(self._top, b"subnet"),
        }

    def component_digests(self, component: bytes) -> dict[bytes, bytes]:
        """Digests of the entries of the ingress history or of the streams."""
        part = self._top.get(component)
        if not isinstance(part, MerkleMap):
            return {}
        return {label: value for label, value in part.items() if isinstance(value, bytes)}

    def canister_digests(self) -> dict[bytes, bytes]:
        """A digest per canister."""
        return {bytes(i): canonical.digest(tuple(sorted(parts.items()))) for i, parts in sorted(self._shown.items())}

    def part_digests(self, canister_id: CanisterId) -> dict[bytes, bytes]:
        """Digests of one canister's parts."""
        return dict(sorted(self._shown.get(canister_id, {}).items()))

    @staticmethod
    def _leaf(where: MerkleMap, label: bytes) -> bytes:
        value = where.get(label)
        return value if isinstance(value, bytes) else b""


PARTS: dict[bytes, tuple[str, ...]] = {
    b"settings": ("settings",),
    b"cycles": ("balance", "reserved_balance", "last_charged", "heap_delta_debit", "install_debit", "metrics", "query_totals"),
    b"running": ("status", "version", "created", "last_install", "certified_data", "global_timer", "stop_calls"),
    b"calls": ("contexts", "callbacks", "next_context_id", "next_callback_id"),
    b"scheduling": ("tasks", "low_memory_hook", "next_scheduled", "accumulated_priority", "executed_rounds"),
    b"long": ("long_execution", "long_install"),
    b"logs": ("logs",),
    b"history": ("history",),
    b"stored": ("chunk_store", "snapshots", "next_snapshot"),
}
"""Which fields of a canister's record a part covers, beside queues, code and memories."""
ELSEWHERE = ("canister_id", "queues", "execution")
_READERS = {label: attrgetter(*names) for label, names in PARTS.items() if label != b"calls"}
CALLS = attrgetter(*PARTS[b"calls"])


class EncodedCalls:
    """Open call contexts and callbacks of one canister as they were encoded last."""

    __slots__ = ("callbacks", "contexts")

    def __init__(self) -> None:
        self.contexts, self.callbacks = EncodedRecords(CallContext), EncodedRecords(Callback)


def canister_parts(canister: Canister, calls: EncodedCalls | None = None) -> dict[bytes, bytes]:
    """Digests of everything in a canister's record, by part; `calls` makes that cheap for a canister with many open calls."""
    parts = {label: canonical.digest(read(canister)) for label, read in _READERS.items()}
    if calls is None:
        calls = EncodedCalls()
    contexts, callbacks, *counters = CALLS(canister)
    parts[b"calls"] = canonical.digest((calls.contexts.of(contexts), calls.callbacks.of(callbacks), *counters))
    parts[b"queues"] = canonical.digest(canister.queues.to_canonical())
    execution = canister.execution
    if execution is None:
        parts[b"code"] = parts[HEAP] = parts[STABLE] = b""
    else:
        parts[b"code"] = canonical.digest(execution.module.module_hash, execution.globals)
        parts[HEAP], parts[STABLE] = execution.heap.root_hash(), execution.stable.root_hash()
    return parts


def subnet_names(state: ReplicatedState) -> dict[str, object]:
    """What is state beside canisters, ingress history and streams, by name."""
    return {
        "height": state.height,
        "time": state.time,
        "randomness": state.randomness,
        "next canister": state.next_canister_index,
        "messages executed": state.messages_executed,
        "compiled": tuple(sorted(state.compiled)),
        "minted": state.minted,
        "block makers": state.block_makers,
        "renamed": (state.registry_changes, tuple(sorted(state.renamed.items()))),
        "cycles flow": state.flow.to_canonical(),
        "cycles lost": state.lost.to_canonical(),
        "cycles tally": state.tally,
        "refunds": state.refunds.to_canonical(),
        "management queues": state.management_queues.to_canonical(),
        "consensus calls": state.consensus_calls.to_canonical(),
        "priority": state.scheduler.priority.canonical(),
        "heap delta": state.scheduler.heap_delta_estimate,
        "query statistics": state.query_records.to_canonical(),
        "charge points": state.scheduler.charges.timeline.canonical(),
    }


def subnet_part(state: ReplicatedState) -> tuple[object, ...]:
    """The same in order."""
    return tuple(subnet_names(state).values())
