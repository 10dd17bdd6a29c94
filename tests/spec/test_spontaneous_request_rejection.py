"""Abstract behaviour, "Spontaneous request rejection": what the system rejects on its own, as the replica does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.limits import MAX_RESPONSE_BYTES, MESSAGE_STRUCT_BYTES
from ic_types.candid import encoder
from ic_types.messages import Request
from ic_types.principal import Principal
from ic_types.reject import Reject, RejectCode
from ic_types.units import TimeNs
from message_routing.delivery import deliver_response
from message_routing.local_induction import induct_on_same_subnet
from sandbox.protocol import EntryPoint
from scheduler.canister import RunStatus
from subnet.management import candid_types
from tests.support.fake_executor import Script, call, raw_call, reply, trap, work
from tests.support.routing_world import SECOND, START, RoutingWorld, canister_id, rejects_of, request, response, subnet_id
from tests.support.script_subnets import SHORT_SLICES, ScriptNetwork
from xnet.stream import Stream

MIB = 1 << 20
FULL = 500


def carry(left: RoutingWorld, right: RoutingWorld) -> None:
    """Both build their streams and receive all that the other has."""
    for world in (left, right):
        world.build()
    to_left, to_right = left.slice_from(right), right.slice_from(left)
    left.receive(to_left)
    right.receive(to_right)


@pytest.mark.spec("request-rejection", condition=(1, 4))
def test_full_input_queue() -> None:
    """The 501st request of a caller to a callee that takes none is rejected with all its cycles: SYS_TRANSIENT."""
    left, right = RoutingWorld(0), RoutingWorld(1)
    caller, callee = left.canister(0), right.canister(0)
    for _ in range(FULL):
        left.call(caller, callee.canister_id)
    carry(left, right)
    right.canister(0).queues.check_invariants()
    # the caller's own slots are full too: one more from it needs one of them back
    caller.queues.capacity = FULL + 1
    left.call(caller, callee.canister_id, cycles=9)
    carry(left, right)
    carry(left, right)
    left.take_input(caller)
    (why,) = rejects_of(caller)
    assert (why.code, why.message) == (RejectCode.SYS_TRANSIENT, f"Canister {callee.canister_id} input queue is full")
    assert caller.balance == 10**15
    assert callee.queues.statistics().input_requests == FULL


@pytest.mark.spec("request-rejection", condition=5)
def test_no_slot_for_the_response() -> None:
    """500 requests that are being answered hold as many slots; another one finds none, though the input queue is empty."""
    world = RoutingWorld()
    callee, sender = world.canister(0).queues, canister_id(1, 0)
    for number in range(FULL):
        assert callee.push_input_request(request(sender, canister_id(0, 0), number), local=False) is not None
        callee.pop_input()
    assert callee.push_input_request(request(sender, canister_id(0, 0), FULL), local=False) is None
    callee.push_output_response(response(request(sender, canister_id(0, 0), 0)))
    callee.pop_output(sender)
    assert callee.push_input_request(request(sender, canister_id(0, 0), FULL), local=False) is not None


@pytest.mark.spec("request-rejection", condition=(1, 6, 7))
def test_message_memory_is_short() -> None:
    """The callee's subnet has memory for one guaranteed response: the second call is rejected, bounded-wait calls aren't."""
    left, right = RoutingWorld(0), RoutingWorld(1)
    right.memory.available = MAX_RESPONSE_BYTES
    caller, callee = left.canister(0), right.canister(0)
    for deadline_s in (0, START // SECOND + 100, 0):
        left.call(caller, callee.canister_id, cycles=3, deadline_s=deadline_s)
    carry(left, right)
    carry(left, right)
    left.take_input(caller)
    (why,) = rejects_of(caller)
    text = f"Cannot induct request. Out of memory: requested {MAX_RESPONSE_BYTES}"
    assert (why.code, why.message) == (RejectCode.CANISTER_ERROR, text)
    assert callee.queues.statistics().input_requests == 2
    assert caller.balance == 10**15 - 6
    assert right.memory.available == 0


@pytest.mark.spec("request-rejection", condition=6)
def test_large_requests_need_their_own_size() -> None:
    """A request larger than the largest response takes as much memory as it has bytes."""
    world = RoutingWorld()
    size = 5 * MIB
    world.memory.available = MESSAGE_STRUCT_BYTES + size - 1
    world.call(world.canister(0), canister_id(0, 1), arg=bytes(size - len("go")))
    induct_on_same_subnet(world.delivery)
    assert world.canister(0).queues.has_output()
    world.memory.available += 1
    induct_on_same_subnet(world.delivery)
    assert world.memory.available == 0


@pytest.mark.spec("request-rejection", condition=10)
@pytest.mark.parametrize(("size", "code"), [(2 * MIB, None), (2 * MIB + 1, RejectCode.CANISTER_ERROR)])
def test_payload_to_another_subnet(size: int, code: RejectCode | None) -> None:
    """2 MiB of method name and argument; one byte more is rejected at home, with all cycles."""
    world = RoutingWorld()
    caller = world.canister(0)
    world.call(caller, canister_id(1, 0), arg=bytes(size - len("go")), cycles=5)
    world.build()
    if code is None:
        assert len(world.streams[subnet_id(1)].messages) == 1
        return
    world.take_input(caller)
    (why,) = rejects_of(caller)
    assert (why.code, why.message) == (code, f"Request payload size ({size}) exceeds maximum allowed size: {2 * MIB}.")
    assert caller.balance == 10**15


@pytest.mark.spec("request-rejection", condition=10)
def test_payload_within_the_subnet() -> None:
    """On the way through the loopback stream there is no such limit."""
    world = RoutingWorld()
    world.call(world.canister(0), canister_id(0, 1), arg=bytes(3 * MIB))
    world.build()
    assert len(world.streams[world.own].messages) == 1


@pytest.mark.spec("request-rejection", condition=(1, 3))
def test_callee_on_no_subnet() -> None:
    """DESTINATION_INVALID, and nothing is sent."""
    world = RoutingWorld()
    caller, nowhere = world.canister(0), canister_id(7, 0)
    world.call(caller, nowhere, cycles=5)
    world.build()
    world.take_input(caller)
    (why,) = rejects_of(caller)
    assert (why.code, why.message) == (RejectCode.DESTINATION_INVALID, f"No route to canister {nowhere}")
    assert (caller.balance, world.streams) == (10**15, {})


@pytest.mark.spec("request-rejection", condition=(1, 11))
def test_request_waits_for_300_seconds() -> None:
    """At 300 s it still waits, then SYS_TRANSIENT with all cycles."""
    world = RoutingWorld(max_stream_messages=0)
    world.streams[subnet_id(1)] = Stream()
    caller = world.canister(0)
    world.call(caller, canister_id(1, 0), cycles=8)
    world.build()
    world.time = TimeNs(START + 300 * SECOND)
    assert world.expire() == 0
    assert caller.queues.drop_expired_outputs(canister_id(1, 0), world.time) == []
    world.time = TimeNs(START + 300 * SECOND + 1)
    assert world.expire() == 1
    world.take_input(caller)
    (why,) = rejects_of(caller)
    assert (why.code, why.message) == (RejectCode.SYS_TRANSIENT, "Request timed out.")
    assert caller.balance == 10**15


@pytest.mark.spec("request-rejection", condition=13)
def test_second_response_of_a_bounded_wait_call() -> None:
    """It is dropped, its cycles are credited."""
    world = RoutingWorld()
    caller = world.canister(0)
    made = world.call(caller, canister_id(1, 0), cycles=8, deadline_s=START // SECOND + 100)
    assert isinstance(made, Request)
    world.build()
    for refund in (5, 3):
        deliver_response(world.delivery, response(made, refund=refund), local=False)
    world.take_input(caller)
    assert not caller.queues.has_input()
    assert len(caller.outcomes) == 1
    assert caller.balance == 10**15


def slow(instructions: int = 500) -> Script:
    """Runs for several rounds of subnets with these limits, then replies."""
    return [work(instructions), reply(b"late")]


def two_subnets(capacity: int, **options: Any) -> ScriptNetwork:
    """Subnets `a` with plenty of message memory and `b` with so many bytes; a slice is 100 instructions."""
    network = ScriptNetwork("a", "b", limits=SHORT_SLICES, **options)
    network["b"].state.limits = replace(SHORT_SLICES, guaranteed_response_memory=capacity, scheduler_cores=1)
    return network


@pytest.mark.spec("request-rejection", condition=(6, 8))
def test_open_calls_hold_message_memory() -> None:
    """With memory for one call, a second one is rejected as long as the first isn't answered, and then accepted again."""
    network = two_subnets(MAX_RESPONSE_BYTES)
    a, b = network["a"], network["b"]
    callers, callees = [a.add() for _ in range(3)], [b.add() for _ in range(3)]
    network.round(a=[a.message(callers[0].canister_id, [call(callees[0].canister_id, slow(), on_reply=[reply(b"1")])])])
    second = a.message(
        callers[1].canister_id, [call(callees[1].canister_id, on_reject=[reply(b"refused")], on_reply=[reply()])]
    )
    network.round(a=[second])
    network.rounds(3)
    assert a.outcome(second) == b"refused"
    network.rounds(5)
    third = a.message(callers[2].canister_id, [call(callees[2].canister_id, on_reply=[reply(b"answered")])])
    network.round(a=[third])
    network.rounds(3)
    assert a.outcome(third) == b"answered"
    network.check()


@pytest.mark.spec("request-rejection", condition=8)
def test_management_calls_hold_message_memory() -> None:
    """A stop_canister call that waits takes a response at both ends; a request then finds no memory."""
    network = two_subnets(3 * MAX_RESPONSE_BYTES + 1000)
    a, b = network["a"], network["b"]
    caller, stopper, busy, callee = a.add(), b.add(), b.add(), b.add()
    busy.settings.controllers = (stopper.canister_id,)
    network.round(b=[b.message(busy.canister_id, [call(caller.canister_id, slow(1500), on_reply=[reply()])])])
    arg = encoder.encode([candid_types.CANISTER_ID], [{"canister_id": busy.canister_id}])
    stop = raw_call(bytes(0), "stop_canister", arg)
    network.round(b=[b.message(stopper.canister_id, [stop])])
    network.rounds(2)
    assert busy.status is RunStatus.STOPPING
    other = a.add()
    message = a.message(other.canister_id, [call(callee.canister_id, on_reject=[reply(b"refused")])])
    network.round(a=[message])
    network.rounds(2)
    assert a.outcome(message) == b"refused"
    network.check()


@pytest.mark.spec("request-rejection", condition=8)
def test_response_frees_memory_for_the_next_message() -> None:
    """A request that comes behind a response in the same slice gets the memory that the response doesn't need."""
    network = two_subnets(MAX_RESPONSE_BYTES + 1000)
    a, b = network["a"], network["b"]
    callee, caller, other, asker = a.add(), b.add(), b.add(), a.add()
    network.round(b=[b.message(caller.canister_id, [call(callee.canister_id, on_reply=[reply()])])])
    message = a.message(asker.canister_id, [call(other.canister_id, on_reply=[reply(b"fine")], on_reject=[reply(b"refused")])])
    network.round(a=[message])
    network.rounds(3)
    assert a.outcome(message) == b"fine"


@pytest.mark.spec("request-rejection", condition=9)
def test_system_subnets_have_no_such_limit() -> None:
    """A call to a system subnet without any message memory is answered."""
    network = two_subnets(0, system=["b"])
    a, b = network["a"], network["b"]
    caller, callee = a.add(), b.add()
    message = a.message(caller.canister_id, [call(callee.canister_id, on_reply=[reply(b"fine")])])
    network.round(a=[message])
    network.rounds(3)
    assert a.outcome(message) == b"fine"


@pytest.mark.spec("request-rejection", condition=(1, 2, 12))
def test_refusal_by_another_subnet() -> None:
    """A callee that doesn't exist there: one reject, DESTINATION_INVALID, all cycles back."""
    network = ScriptNetwork("a", "b")
    a, caller = network["a"], network["a"].add()
    nobody = Principal.canister((1 << 20) + 5)
    message = a.message(caller.canister_id, [call(nobody, cycles=7, on_reject=[trap("rejected")])])
    network.round(a=[message])
    network.rounds(3)
    assert isinstance(a.outcome(message), Reject)
    (seen,) = [one for one in a.executor.inputs if one.entry is EntryPoint.REJECT]
    assert (seen.reject_code, seen.reject_message) == (RejectCode.DESTINATION_INVALID, f"Canister {nobody} not found")
    assert seen.cycles_refunded == 7
    assert (caller.balance, caller.callbacks) == (10**15, {})
    network.check()
