"""Moves messages between canisters of the same subnet inside a round.

Rule module. Spec leaves delivery times free; the replica does this between the iterations of a round. Canisters ascend by
id; each first sends to itself, then to its peers in ascending order, in queue order, until a message can't be delivered: that
queue waits for the loopback stream, as calls of the management canister always do.
"""

from __future__ import annotations

from ic_types import trace
from ic_types.messages import Request
from ic_types.principal import CanisterId
from message_routing.delivery import Delivery, deliver_request, deliver_response
from message_routing.receivers import RoutableCanister


def induct_on_same_subnet(port: Delivery) -> tuple[CanisterId, ...]:
    """Deliver what canisters of this subnet have for one another; returns who got something, in order of delivery."""
    receivers: dict[CanisterId, None] = {}
    for canister in port.canisters.outputs.ascending(port.canisters.get):
        peers = canister.queues.output_peers()
        own = canister.canister_id
        if own in peers:
            _move_queue(port, canister, own, receivers)
        for peer in peers:
            if peer != own and port.routing.is_local(peer) and not port.routing.is_management(peer):
                _move_queue(port, canister, peer, receivers)
    return tuple(receivers)


def _move_queue(port: Delivery, sender: RoutableCanister, peer: CanisterId, receivers: dict[CanisterId, None]) -> None:
    queues = sender.queues
    while (message := queues.peek_output(peer)) is not None:
        if isinstance(message, Request):
            if deliver_request(port, message, local=True) is not None:
                break
            if message.deadline_s:
                port.deadlines.add_callback(message)
            queues.pop_output(peer)
        else:
            queues.pop_output(peer)
            deliver_response(port, message, local=True)
        trace.emit("message_routing.local_induction.induct_on_same_subnet", peer)
        receivers[peer] = None
        port.canisters.touch(sender.canister_id)
