"""Brings the certified tree up to date with what a round changed.

Rule module. Spec: interface spec, "The system state tree". Costs what was touched.
"""

from __future__ import annotations

from ic_types.principal import CanisterId, Principal
from message_routing.ingress_history import IngressStatus
from scheduler.canister import Canister
from subnet.certification.state_tree import StateTree, SubnetMetrics
from subnet.state.replicated_state import ReplicatedState

BOUNDARY_NODE = Principal.self_authenticating(b"icsim api boundary node")
"""The one boundary that every network has: its gateway, on this machine."""


def set_network(state: ReplicatedState) -> None:
    """The parts that stay as they are from genesis on, until a canister is renamed."""
    own = state.own
    for node_id, key in zip(own.nodes, own.node_keys, strict=False):
        state.tree.set_node(own.subnet_id, node_id, key)
    state.tree.set_boundary_node(BOUNDARY_NODE, domain="localhost", ipv4="127.0.0.1", ipv6="::1")
    set_ranges(state)


def set_ranges(state: ReplicatedState) -> None:
    """All subnets with what they host."""
    for record in state.network.subnets:
        state.tree.set_subnet(
            record.subnet_id,
            public_key=record.public_key,
            subnet_type=record.subnet_type,
            ranges=state.routing.ranges_of(record.subnet_id),
        )


def update(
    state: ReplicatedState,
    touched: list[CanisterId],
    changed: list[tuple[bytes, IngressStatus | None]],
    previous_root: bytes | None,
) -> None:
    """The tree of this height."""
    tree = state.tree
    tree.set_time(state.time)
    tree.set_metadata(previous_root)
    for canister_id in touched:
        canister = state.canisters.get(canister_id)
        if canister is None:
            tree.delete_canister(canister_id)
        else:
            set_canister(tree, canister)
    for message_id, status in changed:
        set_status(tree, message_id, status)
    own = state.own.subnet_id
    for peer, stream in state.streams.items():
        if peer != own:
            tree.set_stream(peer, stream)
    metrics = SubnetMetrics(
        canisters=len(state.canisters),
        canister_state_bytes=0,
        consumed_cycles=state.burned(),
        update_transactions=state.messages_executed,
    )
    tree.set_metrics(own, metrics)


def set_canister(tree: StateTree, canister: Canister) -> None:
    """`/canister/<id>`."""
    execution = canister.execution
    if execution is None:
        tree.set_canister(
            canister.canister_id, controllers=canister.settings.controllers, module_hash=None, created=canister.created
        )
        return
    tree.set_canister(
        canister.canister_id,
        controllers=canister.settings.controllers,
        module_hash=execution.module.module_hash,
        certified_data=canister.certified_data,
        created=canister.created,
        last_install=canister.last_install,
        metadata={section.name: section.content for section in execution.module.custom_sections},
    )


def set_status(tree: StateTree, message_id: bytes, status: IngressStatus | None) -> None:
    """`/request_status/<id>`."""
    if status is None:
        tree.delete_request_status(message_id)
    elif status.state.value == "replied":
        tree.set_request_status(message_id, "replied", reply=status.reply)
    elif status.reject is not None:
        why = status.reject
        tree.set_request_status(
            message_id, "rejected", reject_code=why.code, reject_message=why.message, error_code=why.error_code
        )
    else:
        tree.set_request_status(message_id, status.state.value)
