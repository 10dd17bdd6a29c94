"""Messages between canisters of one subnet inside a round."""

from __future__ import annotations

from configs.limits import MAX_RESPONSE_BYTES
from ic_types.messages import Request
from ic_types.principal import MANAGEMENT_CANISTER
from message_routing.local_induction import induct_on_same_subnet
from tests.support.routing_world import FakeStatus, RoutingWorld, canister_id


def test_a_call_and_its_answer_go_through_within_a_round() -> None:
    """Request there, execution, response back, execution."""
    world = RoutingWorld()
    caller, callee = world.canister(0), world.canister(1)
    world.call(caller, callee.canister_id, cycles=10)
    assert induct_on_same_subnet(world.delivery) == (callee.canister_id,)
    world.take_input(callee, accept=4)
    assert induct_on_same_subnet(world.delivery) == (caller.canister_id,)
    world.take_input(caller)
    assert caller.balance == 10**15 - 4
    assert len(caller.outcomes) == 1
    assert not caller.queues.peers
    assert not callee.queues.peers
    world.check()


def test_a_canister_sends_to_itself_first() -> None:
    """Before its lower-numbered peers get anything."""
    world = RoutingWorld()
    sender = world.canister(1)
    world.call(sender, canister_id(0, 0))
    world.call(sender, sender.canister_id)
    assert induct_on_same_subnet(world.delivery) == (sender.canister_id, canister_id(0, 0))


def test_what_cannot_be_delivered_holds_up_its_queue_only() -> None:
    """A stopped peer's queue stays for the loopback stream; others go through."""
    world = RoutingWorld()
    world.canister(1).status = FakeStatus("stopped")
    for peer in (1, 2, 1):
        world.call(world.canister(0), canister_id(0, peer))
    assert induct_on_same_subnet(world.delivery) == (canister_id(0, 2),)
    assert world.canister(0).queues.output_peers() == (canister_id(0, 1),)


def test_a_full_input_queue_takes_what_fits() -> None:
    """The rest waits at the sender, in order."""
    world = RoutingWorld(queue_capacity=2)
    callee = world.canister(1)
    for sender in (world.canister(0), world.canister(2)):
        for _ in range(2):
            world.call(sender, callee.canister_id)
    callee.queues.capacity = 1
    induct_on_same_subnet(world.delivery)
    assert world.canister(0).queues.statistics().output_requests == 1
    assert world.canister(2).queues.statistics().output_requests == 1


def test_guaranteed_requests_need_memory_for_their_response() -> None:
    """Best-effort ones don't."""
    world = RoutingWorld()
    world.memory.available = MAX_RESPONSE_BYTES
    world.call(world.canister(0), canister_id(0, 1))
    world.call(world.canister(0), canister_id(0, 2))
    world.call(world.canister(1), canister_id(0, 2), deadline_s=1100)
    assert induct_on_same_subnet(world.delivery) == (canister_id(0, 1), canister_id(0, 2))
    assert world.memory.available == 0
    assert [type(m) for m in world.canister(2).queues.peek_inputs(9)] == [Request]


def test_calls_to_the_management_canister_and_elsewhere_stay() -> None:
    """They leave through streams."""
    world = RoutingWorld()
    for peer in (MANAGEMENT_CANISTER, world.own, canister_id(1, 0), canister_id(5, 0)):
        world.call(world.canister(0), peer)
    assert induct_on_same_subnet(world.delivery) == ()
    assert world.canister(0).queues.statistics().output_requests == 4
