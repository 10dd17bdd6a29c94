"""Drops best-effort messages when all of them together take more memory than the subnet has for them.

Rule module. Spec: abstract behaviour, "Call expiry" (a bounded-wait call may expire at any time, as under load); the choice
is the replica's: at the end of a round the largest message of the canister that holds most, until the rest fits. No cycles are
lost: those of a shed request in an output queue come with its reject, all others as a refund.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

from ic_types import trace
from ic_types.messages import Request
from ic_types.principal import CanisterId
from message_routing.local_reject import push_local_reject
from message_routing.message_size import memory_bytes
from message_routing.queues import CanisterQueues
from message_routing.receivers import Canisters
from message_routing.refunds import RefundPool
from message_routing.routing_table import RoutingTable
from message_routing.timeouts import TIMED_OUT

Place = tuple[int, int, bool, CanisterId]
"""Bytes, sequence number, whether it is an input, and the peer of a queued message: the last in order goes first."""


def shed_best_effort(
    canisters: Canisters, held: Iterable[tuple[CanisterId, int]], capacity: int, routing: RoutingTable, refunds: RefundPool
) -> int:
    """Shed messages until `capacity` bytes hold the rest; returns how many.

    `held`: bytes of best-effort messages of every canister that has any. Equal sizes: the higher id, the younger message.
    """
    order = sorted((size, canister_id) for canister_id, size in held)
    excess, shed = sum(size for size, _ in order) - capacity, 0
    places: dict[CanisterId, list[Place]] = {}
    while excess > 0:
        before, canister_id = order.pop()
        canister = canisters.get(canister_id)
        assert canister is not None, f"{canister_id} holds messages but is gone"
        if canister_id not in places:
            places[canister_id] = sorted(canister.queues.best_effort_places())
        _shed_largest(canister.queues, places[canister_id], routing, refunds)
        canisters.touch(canister_id)
        trace.emit("message_routing.shedding.shed_best_effort", canister_id, "shed")
        after = canister.queues.best_effort_memory()
        excess -= before - after
        shed += 1
        if after:
            insort(order, (after, canister_id))
    return shed


def _shed_largest(queues: CanisterQueues, places: list[Place], routing: RoutingTable, refunds: RefundPool) -> None:
    _, sequence, is_input, peer = places.pop()
    if not is_input:
        message = queues.drop_output(peer, sequence)
        if isinstance(message, Request):
            answer = push_local_reject(queues, message, TIMED_OUT, local=routing.is_local(message.receiver))
            if answer is not None:
                insort(places, (memory_bytes(answer[1]), answer[0], True, peer))
                return
            refunds.add(message.sender, message.payment)
        else:
            refunds.add(message.originator, message.refund)
        return
    message = queues.shed_input(peer, sequence)
    recipient, cycles = (
        (message.sender, message.payment) if isinstance(message, Request) else (message.originator, message.refund)
    )
    refunds.add(recipient, cycles)
