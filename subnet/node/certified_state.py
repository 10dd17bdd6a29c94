"""What queries and acceptance of calls see: the canisters and the certificate of the last certified height.

Rule module. Spec: interface spec, "Query call" ("a current state tree, or recent enough"). Rounds go on meanwhile: canisters
are forks that nobody commits to, and certificates can be made until the tree shows the next height.
"""

from __future__ import annotations

from collections.abc import Iterable

from ic_types import hash_tree
from ic_types.fast_copy import copier
from ic_types.hash_tree import HashTree
from ic_types.merkle import MerkleMap
from ic_types.principal import CanisterId, Principal
from ic_types.units import Height, TimeNs
from scheduler import charging
from scheduler.canister import Canister, Metrics, QueryStats, Settings
from subnet.certification.certificate import Certificate, Delegation, encode_certificate
from subnet.certification.state_tree import CANISTER, TIME
from subnet.state.replicated_state import ReplicatedState

_copy_canister, _copy_settings = copier(Canister), copier(Settings)
_copy_metrics, _copy_stats = copier(Metrics), copier(QueryStats)


class CertifiedState:
    """One subnet at its last certified height."""

    def __init__(self, state: ReplicatedState) -> None:
        self._state = state
        self.height = Height(0)
        self.time: TimeNs = state.time
        self.signature = b""
        self.delegation: Delegation | None = None
        """The root subnet's word for this subnet; None on the root subnet."""
        self._canisters: dict[CanisterId, Canister] = {}
        self._waiting: dict[CanisterId, None] = {}
        """Changed since the last certified height."""
        self._paid_up: dict[CanisterId, Canister] = {}
        self._certificates: dict[CanisterId, bytes] = {}
        """Of this height, as far as they were asked for."""
        self._top = MerkleMap()
        """The certified tree's top level by digests, which stays while streams change under the live tree."""

    def note(self, touched: Iterable[CanisterId]) -> None:
        """These canisters changed in a round."""
        self._waiting.update(dict.fromkeys(touched))

    def certify(self, signature: bytes) -> None:
        """The present height of the state is certified by this signature."""
        state = self._state
        self.height, self.time, self.signature = state.height, state.time, signature
        for canister_id in self._waiting:
            canister = state.canisters.get(canister_id)
            if canister is None:
                self._canisters.pop(canister_id, None)
            else:
                self._canisters[canister_id] = frozen(canister)
        self._waiting.clear()
        self._paid_up.clear()
        self._certificates.clear()
        self._top = state.tree.map.outline((TIME,))

    def canister(self, canister_id: CanisterId) -> Canister | None:
        """A canister as it was, with what it owes for memory and compute up to that height taken off; not to be changed."""
        found = self._paid_up.get(canister_id)
        if found is not None:
            return found
        canister, state = self._canisters.get(canister_id), self._state
        if canister is None:
            return None
        found = charging.paid_up(canister, state.scheduler.charges.timeline, state.fees, self.time)
        self._paid_up[canister_id] = found
        return found

    @property
    def admins(self) -> tuple[Principal, ...]:
        """Subnet admins."""
        return self._state.own.admins

    def ids(self) -> Iterable[CanisterId]:
        """All canisters."""
        return self._canisters

    @property
    def can_certify(self) -> bool:
        """Whether certificates about canisters can be made: not once the tree shows a height that isn't certified yet."""
        digest = self._top.get(CANISTER)
        return bool(self.signature) and isinstance(digest, hash_tree.Pruned) and self._canister_tree().root() == digest.digest

    def data_certificate(self, canister_id: CanisterId) -> bytes | None:
        """Certificate of a canister's certified data; None while none can be made."""
        found = self._certificates.get(canister_id)
        if found is None and self.can_certify:
            below = self._canister_tree().witness([(bytes(canister_id), b"certified_data")])
            tree = _filled(self._top.witness([(TIME,), (CANISTER,)]), below)
            found = encode_certificate(Certificate(tree, self.signature, self.delegation))
            self._certificates[canister_id] = found
        return found

    def _canister_tree(self) -> MerkleMap:
        return self._state.tree.map.child(CANISTER)


def frozen(canister: Canister) -> Canister:
    """A copy for queries: later rounds change the original only."""
    twin = _copy_canister(canister)
    twin.execution = None if canister.execution is None else canister.execution.fork()
    twin.settings, twin.metrics = _copy_settings(canister.settings), _copy_metrics(canister.metrics)
    twin.query_totals, twin.logs = _copy_stats(canister.query_totals), canister.logs.frozen()
    twin.contexts, twin.callbacks = {}, {}
    return twin


def _filled(tree: HashTree, below: HashTree) -> HashTree:
    """The outline's witness, with this tree under the label of the canisters."""
    if isinstance(tree, hash_tree.Fork):
        return hash_tree.Fork(_filled(tree.left, below), _filled(tree.right, below))
    if isinstance(tree, hash_tree.Labeled) and tree.label == CANISTER:
        return hash_tree.Labeled(CANISTER, below)
    return tree
