"""The root subnet's delegations: certificates that let the other subnets certify for their canisters.

Rule module. Spec: interface spec, "Delegation", "Canister ranges" and "Request: Call" (which ranges an answer reveals).
"""

from __future__ import annotations

from bisect import bisect_right

from ic_types.principal import CanisterId, SubnetId
from subnet.certification.certificate import Delegation, make_certificate
from subnet.certification.state_tree import CANISTER_RANGES, SUBNET, StateTree
from subnet.protocol import SubnetDelegation


def delegate(root_state: StateTree, signature: bytes, subnet: SubnetId, *, canister_id: CanisterId | None = None) -> Delegation:
    """The delegation to a subnet, from the root subnet's tree and the signature over its root as it is.

    Reveals all ranges in one leaf, as canisters and older agents expect; with `canister_id`, only the one shard that the
    canister would be in, as newer agents do.
    """
    ranges: tuple[bytes, ...] = (SUBNET, subnet, b"canister_ranges")
    if canister_id is not None:
        ranges = (CANISTER_RANGES, subnet, shard_label(root_state, subnet, canister_id))
    return Delegation(subnet, _certify(root_state, signature, subnet, ranges))


def delegate_in_all_forms(root_state: StateTree, signature: bytes, subnet: SubnetId) -> SubnetDelegation:
    """The delegations to a subnet that its answers need: without ranges, with all of them, and shard by shard."""
    shards = root_state.ranges_of(subnet)
    labels = [] if shards is None else [label for label, _ in shards.items()]
    return SubnetDelegation(
        subnet=subnet,
        plain=_certify(root_state, signature, subnet),
        flat=_certify(root_state, signature, subnet, (SUBNET, subnet, b"canister_ranges")),
        shards=tuple((label, _certify(root_state, signature, subnet, (CANISTER_RANGES, subnet, label))) for label in labels),
    )


def _certify(root_state: StateTree, signature: bytes, subnet: SubnetId, *ranges: tuple[bytes, ...]) -> bytes:
    """Reveals key and type besides: who checks a canister signature wants to know the type."""
    paths = [(SUBNET, subnet, b"public_key"), (SUBNET, subnet, b"type"), *ranges]
    return make_certificate(root_state, paths, signature)


def shard_label(root_state: StateTree, subnet: SubnetId, canister_id: CanisterId) -> bytes:
    """Label of the shard of ranges that a canister would be in: the largest that isn't above its id."""
    shards = root_state.ranges_of(subnet)
    labels = [] if shards is None else [label for label, _ in shards.items()]
    at = bisect_right(labels, bytes(canister_id))
    return labels[max(at - 1, 0)] if labels else b""
