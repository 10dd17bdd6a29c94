"""The state at height 0: no canisters, empty streams, the registry.

Rule module. Topology canisters are created by ordinary ingress messages in the first rounds, so genesis has none.
"""

from __future__ import annotations

from ic_types import bls
from ic_types.chain_keys.registry import ChainKeys
from ic_types.units import TimeNs
from message_routing.ingress_history import IngressHistory
from message_routing.routing_table import RoutingTable
from subnet.protocol import NetworkRecord, NodeConfig, SubnetRecord
from subnet.state.replicated_state import ReplicatedState


def record_of(network: NetworkRecord, subnet_id: bytes) -> SubnetRecord:
    """The registry's record of a subnet."""
    return next(record for record in network.subnets if record.subnet_id == subnet_id)


def genesis_state(config: NodeConfig) -> ReplicatedState:
    """The state that every node of the subnet starts from."""
    own = record_of(config.network, config.subnet)
    start = own.range_start.canister_index()
    assert start is not None, "a subnet's range starts at a canister id"
    ranges = [(record.range_start, record.range_end, record.subnet_id) for record in config.network.subnets]
    state = ReplicatedState(
        network=config.network,
        own=own,
        limits=config.limits,
        fees=config.fees,
        routing=RoutingTable(own.subnet_id, ranges),
        root_key_der=bls.to_der(record_of(config.network, config.network.root).public_key),
        chain_keys=ChainKeys(config.network.chain_keys),
        next_canister_index=start,
        time=TimeNs(config.genesis_time_ns),
        history=IngressHistory(bytes_limit=config.limits.ingress_history_bytes, ttl_s=config.limits.ingress_ttl_s),
    )
    return state
