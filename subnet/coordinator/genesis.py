"""Genesis: keys, ids and canister ranges of a network, all derived from the identity seed.

Rule module. Spec: interface spec, "Special forms of Principals" (a subnet's id is self-authenticating) and "Certificate".
A subnet of n nodes tolerates f = (n-1)/3 faulty ones, so n-f shares make a signature, as on the Internet Computer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from configs.topology import key_seed
from ic_types import bls
from ic_types.identity import Ed25519Identity
from ic_types.principal import CanisterId, Principal
from subnet.coordinator.chain_key_secrets import deal_chain_keys
from subnet.coordinator.network_plan import NetworkPlan
from subnet.network_config import CoordinatorConfig
from subnet.protocol import NetworkRecord, NodeConfig, SubnetRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetKeys:
    """The secrets of one subnet; the simulation deals them, so it knows them all."""

    threshold: int
    shares: tuple[bytes, ...]

    def share_keys(self) -> Mapping[int, bytes]:
        """Public key of each node's share, by node index."""
        return {index: bls.public_key(share) for index, share in enumerate(self.shares, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """What every process is told, and the secrets that the nodes get one by one."""

    registry: NetworkRecord
    """The root first."""
    subnets: tuple[SubnetRecord, ...]
    """In topology order."""
    keys: tuple[SubnetKeys, ...]
    """In topology order."""


def threshold_of(nodes: int) -> int:
    """How many of n nodes make a signature: n - f with f = (n-1)/3."""
    return nodes - (nodes - 1) // 3


def canister_range(subnet_index: int, ids_per_subnet: int) -> tuple[CanisterId, CanisterId]:
    """First and last canister id of the subnet at this place of the topology."""
    first = subnet_index * ids_per_subnet
    return Principal.canister(first), Principal.canister(first + ids_per_subnet - 1)


def make_genesis(plan: NetworkPlan) -> Genesis:
    """Deal the keys and give out ids."""
    records, keys = [], []
    for place, subnet in enumerate(plan.subnets):
        threshold = threshold_of(subnet.nodes)
        public_key, shares = bls.deal(key_seed(plan.identity_seed, f"subnet {subnet.name}"), subnet.nodes, threshold)
        first, last = canister_range(place, subnet.limits.canister_ids_per_subnet)
        nodes = [_node_key(plan.identity_seed, subnet.name, index) for index in range(1, subnet.nodes + 1)]
        records.append(
            SubnetRecord(
                subnet_id=Principal.self_authenticating(bls.to_der(public_key)),
                name=subnet.name,
                subnet_type=subnet.subnet_type,
                public_key=public_key,
                nodes=tuple(one.principal for one in nodes),
                node_keys=tuple(one.public_key_der for one in nodes),
                range_start=first,
                range_end=last,
                admins=subnet.admins,
            )
        )
        keys.append(SubnetKeys(threshold=threshold, shares=shares))
    root = next(record for record in records if record.name == plan.root)
    others = [record for record in records if record is not root]
    chain_keys = deal_chain_keys(plan.identity_seed, plan.subnets, records)
    registry = NetworkRecord(subnets=(root, *others), root=root.subnet_id, chain_keys=chain_keys)
    return Genesis(registry=registry, subnets=tuple(records), keys=tuple(keys))


def _node_secret(identity_seed: int, subnet: str, index: int) -> bytes:
    return key_seed(identity_seed, f"node {subnet}/{index}")


def _node_key(identity_seed: int, subnet: str, index: int) -> Ed25519Identity:
    return Ed25519Identity(_node_secret(identity_seed, subnet, index))


def node_config(
    plan: NetworkPlan, genesis: Genesis, config: CoordinatorConfig, place: int, index: int, *, max_in_flight: int | None
) -> NodeConfig:
    """What node `index` (from 1) of the subnet at `place` is started with."""
    subnet, record, keys = plan.subnets[place], genesis.subnets[place], genesis.keys[place]
    name = f"{subnet.name}/{index}"
    return NodeConfig(
        subnet=record.subnet_id,
        subnet_name=subnet.name,
        node_index=index,
        node_id=record.nodes[index - 1],
        network=genesis.registry,
        limits=subnet.limits,
        fees=subnet.fees,
        genesis_time_ns=plan.genesis_time_ns,
        key_share=keys.shares[index - 1],
        node_secret=_node_secret(plan.identity_seed, subnet.name, index),
        threshold=keys.threshold,
        coordinator_endpoint=config.nodes_endpoint or f"ipc://{config.socket_dir}/nodes",
        socket_dir=config.socket_dir,
        compiler_endpoint=f"ipc://{config.socket_dir}/compiler",
        cache_dir=config.cache_dir,
        log_path=f"{config.out_dir}/logs/node-{name.replace('/', '-')}.jsonl" if config.out_dir else None,
        batch_size=config.batch_size,
        reuse_instances=config.reuse_instances,
        max_sandboxes=config.max_sandboxes,
        max_in_flight=max_in_flight or max(1, subnet.limits.scheduler_cores),
        rehash_rounds=plan.rehash_rounds,
        trace=config.trace,
        check_invariants=config.check_invariants,
        faults=tuple(fault for fault in config.faults if fault.partition(":")[2].split(",")[0] in (name, subnet.name)),
    )
